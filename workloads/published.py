"""Published perplexities of pruned and quantised models that are too big to load here, each with its source.

``data/published/pruned_perplexity.csv``: one row a number, read in the named file at the named commit. A *family* is
what one source measured the same way: source, model, method, pattern, weight bits, text and sequence length. Levels
between two rows of a family are interpolated, NLL = ln(perplexity) linear in sparsity; NLL is convex in sparsity, so
this errs towards a worse model. Nothing is extrapolated, and the dense model is no member of a pruned family (linear
from 0 to 50 % would be far off). Sources disagree on the dense model by their sequence length: ``dense_ppl`` is the
same source's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError, nearest

TABLE = Path(__file__).parent / "data" / "published" / "pruned_perplexity.csv"
LABEL = "published"
#: What makes a family; ``eval_seqlen`` is empty where the source does not state it.
FAMILY = ("source", "model", "method", "pattern", "weight_bits", "metric", "eval_seqlen")
#: Dense rows that look mis-copied at their source (noted in the row's path): never used as a baseline.
DOUBTFUL_DENSE = {("luuyin/OWL", "LLaMA-65B")}


@dataclass(frozen=True)
class Published:
    """A published perplexity. ``dense_ppl`` is the same source's dense model on the same text, None where not given.

    ``sequence_length`` is None where the source does not state it; ``interpolated`` says that no row has this sparsity.
    """

    model: str
    method: str
    pattern: str
    sparsity: float
    weight_bits: float
    metric: str
    sequence_length: int | None
    ppl: float
    dense_ppl: float | None
    interpolated: bool
    source: str
    path: str
    commit: str
    label: str = LABEL

    @property
    def nll(self) -> float:
        """ln(ppl), nats a token."""
        return float(np.log(self.ppl))

    def __str__(self) -> str:
        dense = "" if self.dense_ppl is None else f", dense {self.dense_ppl:g}"
        how = f"{self.label}, interpolated" if self.interpolated else self.label
        return (
            f"{self.model} {self.method} {self.pattern} {self.sparsity:.3g}: perplexity {self.ppl:.4g}{dense} "
            f"({how}: {self.metric}, sequence length {self.sequence_length or 'not stated'}, "
            f"{self.weight_bits:g}-bit weights, {self.source} {self.path})"
        )


@lru_cache(maxsize=1)
def table() -> pd.DataFrame:
    """Every published row with its source columns (``source``, ``path``, ``commit``, ``read_here``)."""
    return pd.read_csv(TABLE, dtype={"commit": str, "path": str})


def perplexity(
    model: str,
    method: str,
    pattern: str | None = None,
    sparsity: float | None = None,
    sequence_length: int | None = None,
    *,
    source: str | None = None,
    metric: str | None = None,
    weight_bits: float | None = None,
) -> Published:
    """The published perplexity of ``model`` pruned by ``method``, interpolated only inside one family.

    ``model`` in the source's spelling or the zoo's (``llama2_7b``); ``pattern`` as in the table (``unstructured``,
    ``2:4``); ``sparsity`` may be left out where the family has one level. Raises InputError for unknown names, for a
    sparsity outside the family's rows, and where several families match (it names them; choose with ``pattern``,
    ``sequence_length``, ``source``, ``metric`` or ``weight_bits``).
    """
    rows = _of_model(table(), model)
    rows = _matching(rows, "method", method)
    if pattern is not None:
        rows = _matching(rows, "pattern", pattern)
    for column, wanted in (("source", source), ("metric", metric)):
        if wanted is not None:
            rows = _matching(rows, column, wanted)
    for column, number in (("eval_seqlen", sequence_length), ("weight_bits", weight_bits)):
        if number is not None:
            rows = _with_number(rows, column, number)
    families = list(rows.groupby(list(FAMILY), dropna=False, sort=False))
    if len(families) > 1:
        choices = "; ".join(" ".join(_told(v) for v in (key[0], *key[2:])) for key, _ in families)
        raise InputError(f"{model} {method}: {len(families)} published families match, choose one: {choices}")
    return _at(families[0][1].sort_values("sparsity"), sparsity)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _of_model(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    found = rows[rows["model"].map(_plain) == _plain(str(model))]
    if found.empty:
        known = nearest(str(model).lower(), rows["model"].str.lower().unique())
        raise InputError(f"model {model!r} has no published perplexity: {known}")
    return found


def _matching(rows: pd.DataFrame, column: str, wanted: str) -> pd.DataFrame:
    found = rows[rows[column].str.lower() == str(wanted).lower()]
    if found.empty:
        known = nearest(str(wanted), rows[column].unique())
        raise InputError(f"{column} {wanted!r} is not published for {rows['model'].iloc[0]}: {known}")
    return found


def _with_number(rows: pd.DataFrame, column: str, wanted: float) -> pd.DataFrame:
    found = rows[rows[column] == wanted]
    if found.empty:
        known = ", ".join(_told(v) for v in rows[column].drop_duplicates())
        row = rows.iloc[0]
        raise InputError(f"{column} {wanted!r} is not published for {row['model']} {row['method']}: {known}")
    return found


def _told(value: object) -> str:
    if isinstance(value, float):
        return "not stated" if np.isnan(value) else f"{value:g}"
    return str(value)


def _at(family: pd.DataFrame, sparsity: float | None) -> Published:
    """The family's perplexity at ``sparsity``; rows sorted by sparsity, each level once."""
    row = family.iloc[0]
    levels = family["sparsity"].to_numpy(float)
    who = f"{row['model']} {row['method']} {row['pattern']} ({row['source']})"
    known = ", ".join(f"{level:g}" for level in levels)
    if sparsity is None:
        if len(levels) > 1:
            raise InputError(f"{who}: sparsity is needed, published at {known}")
        sparsity = float(levels[0])
    if not levels[0] <= sparsity <= levels[-1]:
        raise InputError(
            f"{who}: sparsity {sparsity!r} is outside what is published ({known}); nothing is extrapolated"
        )
    exact = family[np.isclose(levels, sparsity)]
    row = row if exact.empty else exact.iloc[0]
    nll = np.interp(sparsity, levels, np.log(family["ppl"].to_numpy(float)))
    return Published(
        model=row["model"],
        method=row["method"],
        pattern=row["pattern"],
        sparsity=float(sparsity),
        weight_bits=float(row["weight_bits"]),
        metric=row["metric"],
        sequence_length=None if np.isnan(row["eval_seqlen"]) else int(row["eval_seqlen"]),
        ppl=float(np.exp(nll)) if exact.empty else float(row["ppl"]),
        dense_ppl=_dense(row),
        interpolated=exact.empty,
        source=row["source"],
        path=row["path"],
        commit=row["commit"],
    )


def _dense(row: pd.Series) -> float | None:
    """The dense perplexity of the row's own source, model, text and sequence length."""
    if (row["source"], row["model"]) in DOUBTFUL_DENSE:
        return None
    rows = table()
    same = (rows["source"] == row["source"]) & (rows["model"] == row["model"]) & (rows["metric"] == row["metric"])
    length = rows["eval_seqlen"].isna() if np.isnan(row["eval_seqlen"]) else rows["eval_seqlen"] == row["eval_seqlen"]
    found = rows[same & length & (rows["method"] == "dense") & (rows["weight_bits"] == 16)]
    return float(found["ppl"].iloc[0]) if len(found) == 1 else None
