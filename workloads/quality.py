"""Predict the perplexity of any recipe from measured ones: a ΔNLL table with one correction a (method, level).

``d[t, v]`` is the measured ΔNLL (nats, against dense) with only matrix type t pruned as variant v. Pruning several
types is not quite the sum of pruning each, so each variant v carries one factor, solved so that its uniform recipe is
predicted exactly as measured. Three forms, compared by ``compare_forms``:

- ``sum``: ΔNLL = Σ_t d_t, no correction; what the others have to beat.
- ``factor``: ΔNLL = Σ_t f_v(t) · d_t, f_v = ΔNLL_uniform(v) / Σ_t d[t, v]. Recipes with a single pruned type then miss
  their own measurement by f_v, and where the d are within noise of zero f_v is noise over noise.
- ``pairs``: ΔNLL = Σ_t d_t + Σ_{s<t} ½ (κ_v(s) + κ_v(t)) · √((|d_s| + ε) (|d_t| + ε)) over pruned types, κ_v solved
  from the uniform recipe. A lone type has no partner: single and uniform recipes are both exact. NLL is flat at its
  minimum, so d grows with the power of the output error; two errors of correlation ρ add as d_s + d_t + 2ρ √(d_s d_t),
  and κ is that cross term together with the growth or saturation of NLL. ε is the noise floor of one measurement: below
  it the term only hands back the error of the dense baseline, which Σ_t d_t counts once a type.

FFN channels are measured for gate, up and down jointly and count as one term; their pairs take the partner's κ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError, nearest
from workloads.calibration import BUNDLE
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import CHANNEL_VARIANTS, DENSE, FFN_TYPES, MATRIX_VARIANTS, VARIANTS, Recipe

FORMS = ("sum", "factor", "pairs")
#: ε in nats: standard error over windows of NLL(one type pruned by 10 %) − NLL(dense), mean of the measured rows.
NOISE_FLOOR = 0.005
MEASURED = BUNDLE / "measured.csv"
SURROGATE_ERRORS = BUNDLE / "surrogate_errors.csv"
ARITHMETIC = "w8a8kv8"
_CHANNEL_CODES = np.array([VARIANTS.index(v) for v in CHANNEL_VARIANTS])
_FFN_COLUMNS = [MATRIX_TYPES.index(t) for t in FFN_TYPES]
_JOINT_COLUMN = MATRIX_TYPES.index("ffn_gate")  # holds the joint ΔNLL of FFN channels; up and down hold 0


def read_measured(path: Path = MEASURED) -> pd.DataFrame:
    """The measured rows; InputError when the file is missing or lacks columns."""
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run python -m workloads.measure_bundle") from None
    if lacking := {"key", "kind", "arithmetic", "nll"} - set(table.columns):
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}; run python -m workloads.measure_bundle")
    return table


@dataclass(frozen=True)
class Quality:
    """A predicted quality. ``label`` says that it is a prediction, of which arithmetic."""

    recipe: str
    nll: float
    label: str

    @property
    def ppl(self) -> float:
        """exp(nll)."""
        return float(np.exp(self.nll))


@dataclass(frozen=True)
class QualityModel:
    """Predicts NLL (nats a token) of recipes, given as places in ``VARIANTS``: codes [n, 7] -> nll [n].

    ``alone`` is d [7, variants] in nats; ``correction`` is f or κ of each variant [variants], by ``form``; ``reach`` is
    √(|d| + ε) [7, variants], 0 where nothing is pruned.
    """

    dense_nll: float
    alone: np.ndarray
    correction: np.ndarray
    reach: np.ndarray
    form: str

    @classmethod
    def from_bundle(cls, form: str = "pairs", path: Path = MEASURED) -> QualityModel:
        """The model of the bundled measurements; ``form`` is one of ``FORMS``."""
        if form not in FORMS:
            raise InputError(f"surrogate form {form!r} is unknown: {nearest(form, FORMS)}")
        return cls.fit(read_measured(path), form)

    @classmethod
    def fit(cls, measured: pd.DataFrame, form: str = "pairs") -> QualityModel:
        """Build the tables from measured rows; InputError names the first recipe that was not measured."""
        rows = measured[measured["arithmetic"] == ARITHMETIC]
        nll = dict(zip(rows["key"], rows["nll"].astype(float), strict=True))

        def delta(recipe: Recipe) -> float:
            if recipe.key not in nll:
                raise InputError(f"{recipe.key}: no {ARITHMETIC} measurement; run python -m workloads.measure_bundle")
            return nll[recipe.key] - nll[DENSE]

        delta(Recipe.uniform(DENSE))
        alone = np.zeros((len(MATRIX_TYPES), len(VARIANTS)))
        reach = np.zeros_like(alone)
        correction = np.zeros(len(VARIANTS)) if form == "pairs" else np.ones(len(VARIANTS))
        for code, variant in enumerate(VARIANTS):
            if variant in CHANNEL_VARIANTS:
                alone[_JOINT_COLUMN, code] = delta(Recipe.uniform(variant))
                reach[_JOINT_COLUMN, code] = np.sqrt(abs(alone[_JOINT_COLUMN, code]) + NOISE_FLOOR)
            elif variant in MATRIX_VARIANTS:
                d = np.array([delta(Recipe.single(t, variant)) for t in MATRIX_TYPES])
                alone[:, code] = d
                reach[:, code] = np.sqrt(np.abs(d) + NOISE_FLOOR)
                correction[code] = _solve(form, d, reach[:, code], delta(Recipe.uniform(variant)))
        return cls(nll[DENSE], alone, correction, reach, form)

    def nll(self, codes: np.ndarray) -> np.ndarray:
        """Predicted NLL [n] of recipes [n, 7] (places in ``VARIANTS``)."""
        codes = np.atleast_2d(np.asarray(codes))
        self._check(codes)
        columns = np.arange(len(MATRIX_TYPES))
        d, factor = self.alone[columns, codes], self.correction[codes]
        if self.form != "pairs":
            return self.dense_nll + (factor * d).sum(axis=1)
        root = self.reach[columns, codes]
        weighted = factor * root
        # Σ_{s<t} ½ (κ_s + κ_t) r_s r_t = ½ (Σ κ r · Σ r − Σ κ r²)
        pairs = 0.5 * (weighted.sum(axis=1) * root.sum(axis=1) - (weighted * root).sum(axis=1))
        joint = np.isin(codes[:, _JOINT_COLUMN], _CHANNEL_CODES)
        pairs += np.where(joint, 0.5 * weighted.sum(axis=1) * root[:, _JOINT_COLUMN], 0.0)
        return self.dense_nll + d.sum(axis=1) + pairs

    def ppl(self, codes: np.ndarray) -> np.ndarray:
        """Predicted perplexity [n] of recipes [n, 7]."""
        return np.exp(self.nll(codes))

    def predict(self, recipe: Recipe | str) -> Quality:
        """Predicted quality of one recipe."""
        recipe = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
        return Quality(recipe.key, float(self.nll(np.array([recipe.codes()]))[0]), f"predicted, {ARITHMETIC}")

    @staticmethod
    def _check(codes: np.ndarray) -> None:
        if codes.shape[1] != len(MATRIX_TYPES) or codes.min(initial=0) < 0 or codes.max(initial=0) >= len(VARIANTS):
            raise InputError(f"recipe codes must be [n, 7] places in VARIANTS (0..{len(VARIANTS) - 1})")
        channels = np.isin(codes, _CHANNEL_CODES)
        if not channels.any():
            return
        attention = np.delete(channels, _FFN_COLUMNS, axis=1).any()
        ffn = codes[:, _FFN_COLUMNS]
        if attention or (channels[:, _FFN_COLUMNS].any(axis=1) & (ffn != ffn[:, :1]).any(axis=1)).any():
            raise InputError("FFN channels must hold for gate, up and down together and for no other matrix")


def _solve(form: str, alone: np.ndarray, reach: np.ndarray, uniform: float) -> float:
    """f or κ that makes the uniform recipe exact; 1 for ``sum``."""
    if form == "sum":
        return 1.0
    if form == "factor":
        return uniform / alone.sum()
    return (uniform - alone.sum()) / (0.5 * (reach.sum() ** 2 - (reach**2).sum()))


@lru_cache(maxsize=1)
def bundled_model() -> QualityModel:
    """``QualityModel.from_bundle()``, read once."""
    return QualityModel.from_bundle()


def compare_forms(measured: pd.DataFrame | None = None, nll_below: float = np.inf) -> pd.DataFrame:
    """Errors of each form on the measured random mixes with NLL < ``nll_below``; nothing is fitted on mixes.

    One row a form: mixes, mean / median / p90 / worst |ΔNLL error| in nats, mean signed error, Spearman correlation.
    """
    from scipy.stats import spearmanr

    measured = read_measured() if measured is None else measured
    mixes = measured[(measured["kind"] == "mix") & (measured["nll"].astype(float) < nll_below)]
    if mixes.empty:
        raise InputError("no random mix has been measured; run python -m workloads.measure_bundle")
    codes = np.array([Recipe.parse(key).codes() for key in mixes["key"]])
    truth = mixes["nll"].to_numpy(float)
    rows = []
    for form in FORMS:
        error = QualityModel.fit(measured, form).nll(codes) - truth
        size = np.abs(error)
        rows.append(
            {
                "form": form,
                "mixes": len(truth),
                "nll_below": nll_below,
                "mean_abs_error": size.mean(),
                "median_abs_error": np.median(size),
                "p90_abs_error": np.quantile(size, 0.9),
                "worst_abs_error": size.max(),
                "mean_error": error.mean(),
                "spearman": spearmanr(error + truth, truth).statistic,
            }
        )
    return pd.DataFrame(rows)


def write_surrogate_errors(target: Path = SURROGATE_ERRORS) -> pd.DataFrame:
    """Write ``compare_forms`` over all mixes and over those that stay useful models (NLL < 5) as CSV; returns it."""
    table = pd.concat([compare_forms(nll_below=limit) for limit in (np.inf, 5.0)], ignore_index=True)
    table.to_csv(target, index=False, float_format="%.4f", lineterminator="\n")
    return table
