"""Predict the perplexity of any recipe from measured ones: a ΔNLL table and what it says of several pruned types.

``d[t, v]`` is the measured ΔNLL (nats, against dense) with only matrix type t pruned as variant v. Four forms turn the
d of a recipe into its ΔNLL, compared by ``evaluate.compare_forms``:

- ``sum``: ΔNLL = Σ_t d_t, no correction; what the others have to beat.
- ``factor``: ΔNLL = Σ_t f_v(t) · d_t, f_v = ΔNLL_uniform(v) / Σ_t d[t, v]. Recipes with a single pruned type then miss
  their own measurement by f_v, and where the d are within noise of zero f_v is noise over noise.
- ``pairs``: ΔNLL = Σ_t d_t + Σ_{s<t} ½ (κ_v(s) + κ_v(t)) · √((|d_s| + ε) (|d_t| + ε)) over pruned types, κ_v solved
  from the uniform recipe. A lone type has no partner: single and uniform recipes are both exact. NLL is flat at its
  minimum, so d grows with the power of the output error; two errors of correlation ρ add as d_s + d_t + 2ρ √(d_s d_t),
  and κ is that cross term together with the growth or saturation of NLL. ε is the noise floor of one measurement: below
  it the term only hands back the error of the dense baseline, which Σ_t d_t counts once a type.
- ``learned`` (default): the law of ``compounding``, its two numbers fitted on the measured mixes and uniform recipes,
  plus what the law misses on each uniform recipe, handed back by s_v³ where s_v is the share of the uniform recipe's
  damage that the recipe holds: uniform recipes are exact, single types keep a few per cent of it.

FFN channels are measured for gate, up and down jointly and count as one term; their pairs take the partner's κ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError, nearest
from workloads.checkpoint import MATRIX_TYPES
from workloads.quality.compounding import Compounding
from workloads.quality.table import ARITHMETIC, MEASURED, read_measured
from workloads.recipe import CHANNEL_VARIANTS, DENSE, FFN_TYPES, MATRIX_VARIANTS, VARIANTS, Recipe

FORMS = ("sum", "factor", "pairs", "learned")
#: ln of SmolLM2's vocabulary: the NLL of a model that knows nothing.
GUESSING_NLL = float(np.log(49152))
#: ε in nats: standard error over windows of NLL(one type pruned by 10 %) − NLL(dense), mean of the measured rows.
NOISE_FLOOR = 0.005
_CHANNEL_CODES = np.array([VARIANTS.index(v) for v in CHANNEL_VARIANTS])
_FFN_COLUMNS = [MATRIX_TYPES.index(t) for t in FFN_TYPES]
_JOINT_COLUMN = MATRIX_TYPES.index("ffn_gate")  # holds the joint ΔNLL of FFN channels; up and down hold 0
_MAGNITUDE = np.array([v.startswith("magnitude") for v in VARIANTS])


@dataclass(frozen=True)
class Quality:
    """A predicted quality. ``label`` says that it is a prediction, of which arithmetic, or why there is none (NaN).

    ``interval`` holds the lowest and highest NLL at ``level``, calibrated on recipes that were not fitted.
    """

    recipe: str
    nll: float
    label: str
    interval: tuple[float, float] = (np.nan, np.nan)
    level: float = 0.9

    @property
    def ppl(self) -> float:
        """exp(nll)."""
        return float(np.exp(self.nll))

    @property
    def ppl_interval(self) -> tuple[float, float]:
        """exp of the interval's ends."""
        return float(np.exp(self.interval[0])), float(np.exp(self.interval[1]))


@dataclass(frozen=True)
class QualityModel:
    """Predicts NLL (nats a token) of recipes, given as places in ``VARIANTS``: codes [n, 7] -> nll [n].

    ``alone`` is d [7, variants] in nats; ``correction`` is f, κ or (``learned``) what the law misses on the uniform
    recipe of each variant [variants], by ``form``; ``reach`` is √(|d| + ε) [7, variants], 0 where nothing is pruned;
    ``highest_nll`` is the worst measured mix.
    """

    dense_nll: float
    alone: np.ndarray
    correction: np.ndarray
    reach: np.ndarray
    form: str
    law: Compounding | None = None
    highest_nll: float = np.inf

    @classmethod
    def from_bundle(cls, form: str = "learned", path: Path = MEASURED) -> QualityModel:
        """The model of the bundled measurements; ``form`` is one of ``FORMS``."""
        if form not in FORMS:
            raise InputError(f"surrogate form {form!r} is unknown: {nearest(form, FORMS)}")
        return cls.fit(read_measured(path), form)

    @classmethod
    def fit(cls, measured: pd.DataFrame, form: str = "learned") -> QualityModel:
        """Build the tables from measured rows; InputError names the first recipe that was not measured.

        ``learned`` also fits its law, on the rows of kind ``mix`` (as many as there are) and ``uniform``.
        """
        rows = measured[measured["arithmetic"] == ARITHMETIC]
        nll = dict(zip(rows["key"], rows["nll"].astype(float), strict=True))

        def delta(recipe: Recipe) -> float:
            if recipe.key not in nll:
                raise InputError(f"{recipe.key}: no {ARITHMETIC} measurement; run python -m workloads.measure_bundle")
            return nll[recipe.key] - nll[DENSE]

        delta(Recipe.uniform(DENSE))
        alone = np.zeros((len(MATRIX_TYPES), len(VARIANTS)))
        reach = np.zeros_like(alone)
        correction = np.zeros(len(VARIANTS)) if form in ("pairs", "learned") else np.ones(len(VARIANTS))
        for code, variant in enumerate(VARIANTS):
            if variant in CHANNEL_VARIANTS:
                alone[_JOINT_COLUMN, code] = delta(Recipe.uniform(variant))
                reach[_JOINT_COLUMN, code] = np.sqrt(abs(alone[_JOINT_COLUMN, code]) + NOISE_FLOOR)
            elif variant in MATRIX_VARIANTS:
                d = np.array([delta(Recipe.single(t, variant)) for t in MATRIX_TYPES])
                alone[:, code] = d
                reach[:, code] = np.sqrt(np.abs(d) + NOISE_FLOOR)
                if form != "learned":
                    correction[code] = _solve(form, d, reach[:, code], delta(Recipe.uniform(variant)))
        model = cls(nll[DENSE], alone, correction, reach, form)
        return model.relearned(rows) if form == "learned" else model

    def relearned(self, rows: pd.DataFrame) -> QualityModel:
        """This model with its law fitted on measured mixes and uniform recipes, and what it misses on the latter."""
        known = rows[rows["kind"].isin(("mix", "uniform"))]
        codes = np.array([Recipe.parse(key).codes() for key in known["key"]])
        delta = known["nll"].to_numpy(float) - self.dense_nll
        law = Compounding.fit(self._parts(codes), delta, GUESSING_NLL - self.dense_nll)
        uniform = (known["kind"] == "uniform").to_numpy() & (codes == codes[:, :1]).all(axis=1)
        missed = np.zeros(len(VARIANTS))
        missed[codes[uniform, 0]] = delta[uniform] - law(self._parts(codes[uniform]))
        mixes = delta[(known["kind"] == "mix").to_numpy()]
        highest = self.dense_nll + mixes.max() if len(mixes) else np.inf
        return replace(self, law=law, correction=missed, highest_nll=float(highest))

    def _parts(self, codes: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
        """ΔNLL [n, 2, 7] of each type's layers pruned by magnitude and by other methods, in nats.

        codes [n, 7], or [n, layers, 7] with ``share`` [variants, layers, 7].
        """
        columns = np.arange(len(MATRIX_TYPES))
        d = self.alone[columns, codes]
        if share is not None:
            d = d * share[codes, np.arange(share.shape[1])[:, None], columns]
        by_magnitude = np.where(_MAGNITUDE[codes], d, 0.0)
        parts = np.stack([by_magnitude, d - by_magnitude], axis=1)
        return parts if share is None else parts.sum(axis=2)

    def _remembered(self, codes: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
        """Σ_v correction_v s_v³ [n]: what uniform recipes taught beyond the law; arguments as ``_parts`` takes them."""
        positive = np.maximum(self.alone, 1e-6)
        weight = (positive / positive.sum(axis=0)).T  # [variants, 7]
        if share is None:
            held = weight[codes, np.arange(len(MATRIX_TYPES))]
        else:
            held = (weight[:, None, :] * share)[codes, np.arange(share.shape[1])[:, None], np.arange(len(MATRIX_TYPES))]
        flat = codes.reshape(len(codes), -1)
        place = flat + len(VARIANTS) * np.arange(len(codes))[:, None]
        total = np.bincount(place.ravel(), held.ravel(), minlength=len(codes) * len(VARIANTS))
        return total.reshape(len(codes), -1) ** 3 @ self.correction

    def nll(self, codes: np.ndarray) -> np.ndarray:
        """Predicted NLL [n] of recipes [n, 7] (places in ``VARIANTS``)."""
        codes = np.atleast_2d(np.asarray(codes))
        self._check(codes)
        if self.law is not None:
            return self.dense_nll + self.law(self._parts(codes)) + self._remembered(codes)
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

    def plan_nll(self, codes: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Predicted NLL [n] of plans [n, layers, 7] with ``layers.shares`` [variants, layers, 7]; ``learned`` only.

        Raises InputError for codes that are no places in ``VARIANTS`` or of another number of layers.
        """
        codes = np.asarray(codes)
        if self.law is None:
            raise InputError(f"form {self.form!r} knows no layers; use 'learned'")
        if codes.ndim != 3 or codes.shape[1] != share.shape[1]:
            raise InputError(f"a plan has one recipe for each of {share.shape[1]} layers, got {codes.shape[1:2]}")
        self._check(codes.reshape(-1, codes.shape[-1]))
        return self.dense_nll + self.law(self._parts(codes, share)) + self._remembered(codes, share)

    def beyond(self, nll: np.ndarray) -> np.ndarray:
        """Whether predictions [n] lie beyond every measured mix, where they are extrapolated, bool [n]."""
        return np.asarray(nll) > self.highest_nll

    def ppl(self, codes: np.ndarray) -> np.ndarray:
        """Predicted perplexity [n] of recipes [n, 7]."""
        return np.exp(self.nll(codes))

    def predict(self, recipe: Recipe | str) -> Quality:
        """Predicted quality of one recipe, without an interval; ``surrogate.predict`` gives both."""
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
