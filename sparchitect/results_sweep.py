"""A sweep's table as a page: best designs, Pareto front, what each field does, what limits, what cannot run."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sparchitect.page import Page, Part

if TYPE_CHECKING:
    import pandas as pd

GOALS = {"latency": "seconds", "energy": "energy_pj", "area": "area_mm2", "energy x delay": "edp"}
FRONT = ("seconds", "energy_pj", "area_mm2")
COLUMNS = (*FRONT, "cycles", "energy_without_leakage_pj", "dram_bytes", "macs", "feasible", "reason")
"""What an evaluation adds to a design's fields, beside ``stall_*``."""
NUMBERS = (*FRONT, "cycles", "dram_bytes")
NEEDED = (*NUMBERS, "feasible", "reason")
MOST_POINTS = 12
MOST_VALUES = 12  # of a field, in the table of what it does
_PIECE = 4000  # designs compared with each other at once


def sweep_page(path: Path, table: pd.DataFrame, about: dict[str, Any]) -> Page:
    """The page of a sweep. ``about``: what its file says of it; :class:`InputError` if it is no sweep's table."""
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        raise InputError(f"{path}: is no sweep of ours, column '{(missing or ['any row'])[0]}' is missing")
    fields = [str(name) for name in table.columns if name not in COLUMNS and not str(name).startswith("stall_")]
    for name in fields:
        if not all(isinstance(value, Hashable) for value in table[name]):
            raise InputError(f"{path}: field '{name}' must hold a number or a word in every design, not a list")
    runs = table["feasible"].astype(str).str.lower() == "true"
    good = _numbers(path, table[runs]).assign(edp=lambda t: t["energy_pj"] * t["seconds"])
    page = Page(f"Sweep {path}: {len(table):,} designs, {len(good):,} can run")
    page.facts = {"kind": "sweep", "file": str(path), "designs": len(table), "feasible": len(good), "fields": fields}
    if len(good):
        _best(page, good, fields)
        _front(page, good, fields)
        _effects(page, good, fields)
        _limits(page, good)
    _refused(page, table[~runs])
    _about(page, about)
    return page


def _numbers(path: Path, good: pd.DataFrame) -> pd.DataFrame:
    """``good`` with its results as floats; a ``stall_*`` may be empty. :class:`InputError` for other gaps, and text."""
    import pandas as pd

    causes = [str(name) for name in good.columns if str(name).startswith("stall_")]
    found = {}
    for name in (*NUMBERS, *causes):
        given = good[name]
        try:
            values = pd.to_numeric(given, errors="coerce").astype(np.float64)
        except (TypeError, ValueError, OverflowError):  # lists, objects
            raise InputError(f"{path}: column '{name}' must hold numbers") from None
        bad = ~np.isfinite(values) & (given.notna() | (name in NUMBERS))
        if bad.any():
            raise InputError(f"{path}: column '{name}' must hold numbers, got '{str(given[bad].iloc[0])[:40]}'")
        found[name] = values
    return good.assign(**found)


def _cells(row: dict[str, Any], fields: list[str]) -> tuple[str, ...]:
    return (
        *(f"{row[f]:g}" if isinstance(row[f], float) else str(row[f]) for f in fields),
        f"{row['seconds'] * 1e3:.4g}",
        f"{row['energy_pj'] * 1e-9:.4g}",
        f"{row['area_mm2']:.4g}",
        f"{row['dram_bytes'] * 1e-6:.4g}",
    )


_SHOWN = ("ms", "mJ", "mm2", "DRAM MB")


def _best(page: Page, good: pd.DataFrame, fields: list[str]) -> None:
    rows = {goal: good.loc[good[column].idxmin()].to_dict() for goal, column in GOALS.items()}
    page.facts["best"] = rows
    cells = tuple((goal, *_cells(row, fields)) for goal, row in rows.items())
    page.parts.append(Part("best designs", (), ("least", *fields, *_SHOWN), cells))


def _front(page: Page, good: pd.DataFrame, fields: list[str]) -> None:
    """Designs that no other beats in time, energy and area at once; some that span them."""
    from dse.pareto import non_dominated, representatives

    values = good[list(FRONT)].to_numpy(np.float64)
    kept = np.arange(len(values))
    for size in (_PIECE, len(values)):
        pieces = [kept[first : first + size] for first in range(0, len(kept), size)]
        kept = np.concatenate([piece[non_dominated(np.ascontiguousarray(values[piece]))] for piece in pieces])
    front = good.iloc[kept].sort_values("seconds", kind="stable")
    page.facts["pareto_points"] = len(front)
    logs = np.log(np.maximum(front[list(FRONT)].to_numpy(np.float64), 1e-300))
    shown = front.iloc[np.sort(representatives(logs, MOST_POINTS))].to_dict("records")
    page.facts["pareto"] = shown
    said = f"{len(front):,} designs are best in some trade of time, energy and area"
    if len(shown) < len(front):
        said += f"; {len(shown)} that span them"
    cells = tuple(_cells(row, fields) for row in shown)
    page.parts.append(Part("Pareto front", (said,), (*fields, *_SHOWN), cells))


def _effects(page: Page, good: pd.DataFrame, fields: list[str]) -> None:
    """Each value of each field over the field's first value, all other fields equal: medians of the ratios."""
    rows, facts = [], []
    for field in fields:
        values = sorted(good[field].unique(), key=_place)
        if not 2 <= len(values) <= MOST_VALUES:
            continue
        others = [name for name in fields if name != field]
        first = good[good[field] == values[0]][[*others, *FRONT]]
        joined = {"on": others} if others else {"how": "cross"}
        pairs = good.merge(first, suffixes=("", "_first"), **joined)
        for name in FRONT:
            pairs[name] = pairs[name] / pairs[f"{name}_first"]
        ratios = pairs.groupby(field, sort=False)[list(FRONT)].median().to_dict("index")  # .loc takes True for a mask
        for value in values:
            if value not in ratios:  # never beside the first value
                continue
            ratio = ratios[value]
            rows.append((field, str(value), *(f"{ratio[name]:.3g} x" for name in FRONT)))
            facts.append({"field": field, "value": value, **{name: float(ratio[name]) for name in FRONT}})
    page.facts["effects"] = facts
    if rows:
        said = "over the field's first value, all other fields equal (median)"
        page.parts.append(
            Part("what each field does", (said,), ("field", "value", "time", "energy", "area"), tuple(rows))
        )


def _place(value: Any) -> tuple[bool, Any, str]:
    """Numbers by size, then words."""
    number = isinstance(value, int | float | np.number)
    return not number, value if number else 0, str(value)


def _limits(page: Page, good: pd.DataFrame) -> None:
    """The largest cause of cycles: of the fastest design, and how often it is of the others."""
    causes = [str(name) for name in good if str(name).startswith("stall_")]
    if not causes:
        return
    cycles = good[causes].fillna(0.0)
    largest = cycles.idxmax(axis=1).str.removeprefix("stall_").value_counts()
    best = cycles.loc[good["seconds"].idxmin()].sort_values(ascending=False)
    shares = {name.removeprefix("stall_"): float(v / best.sum()) for name, v in best.items() if v > 5e-4 * best.sum()}
    page.facts["limits"] = {"fastest": shares, "largest_in": {str(k): int(v) for k, v in largest.items()}}
    fastest = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    most = ", ".join(f"{name} in {count:,}" for name, count in largest.items())
    page.parts.append(Part("what limits", (f"cycles of the fastest design: {fastest}", f"largest cause: {most}")))


def _refused(page: Page, bad: pd.DataFrame) -> None:
    if bad.empty:
        return
    kinds = bad["reason"].fillna("").astype(str).str.replace(r"\d[\d.]*", "N", regex=True)
    found = {}
    for kind, count in kinds.value_counts().head(5).items():
        found[str(bad["reason"][kinds == kind].iloc[0])] = int(count)
    page.facts["cannot_run"] = found
    page.parts.append(Part("what cannot run", tuple(f"{count:,} like: {why}" for why, count in found.items())))


def _about(page: Page, about: dict[str, Any]) -> None:
    page.facts["provenance"] = about
    if not about:
        page.parts.append(
            Part("where from", ("a CSV or JSON states no version, machine or objective; a .parquet does",))
        )
        return
    lines = [
        f"sparchitect {about.get('version')}, machine {about.get('machine')}, trace {about.get('trace')}",
        f"mapped for {about.get('objective')}, effort {about.get('effort')}",
    ]
    page.parts.append(Part("where from", tuple(lines)))
