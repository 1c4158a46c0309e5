"""The surrogate as a whole: the model, its calibrated intervals, and where its data end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.errors import InputError, nearest
from workloads.quality.evaluate import calibrated, held_out_mixes, held_out_plans
from workloads.quality.interval import Interval
from workloads.quality.layers import bundled_shares
from workloads.quality.model import Quality, QualityModel
from workloads.quality.plan import Plan
from workloads.quality.table import ARITHMETIC, read_measured
from workloads.recipe import Recipe

MODELS = ("smollm2_135m",)


@dataclass(frozen=True)
class Surrogate:
    """``known``: NLL of every measured recipe by key; ``share``: how damage spreads over layers (``layers.shares``)."""

    model: QualityModel
    known: dict[str, float]
    share: np.ndarray
    of_recipes: Interval
    of_plans: Interval

    def predict(self, what: Recipe | Plan | str, level: float = 0.9) -> Quality:
        """Quality of a recipe or a plan, with the interval that holds ``level`` of such predictions.

        A recipe that was measured is looked up (label ``measured``, an interval of no width). Beyond the largest ΔNLL
        of the held-out measurements nothing is known: NLL and interval are NaN and the label says why. Methods, levels
        and types that were not measured raise InputError, and so does a level that the held-out sample cannot support.
        """
        what = _parsed(what) if isinstance(what, str) else what
        if what.key in self.known:
            nll = self.known[what.key]
            return Quality(what.key, nll, f"measured, {ARITHMETIC}", (nll, nll), level)
        codes = np.array([what.codes()])
        if isinstance(what, Plan):
            nll, interval = float(self.model.plan_nll(codes, self.share)[0]), self.of_plans
        else:
            nll, interval = float(self.model.nll(codes)[0]), self.of_recipes
        width = float(interval.half_width(nll - self.model.dense_nll, level))
        if np.isnan(width):
            highest = self.model.dense_nll + interval.highest
            return Quality(what.key, np.nan, f"unknown: beyond the measured mixes (NLL {highest:.2f})", level=level)
        return Quality(what.key, nll, f"predicted, {ARITHMETIC}", (nll - width, nll + width), level)


def _parsed(text: str) -> Recipe | Plan:
    try:
        return Plan.parse(text) if ":" in text else Recipe.parse(text)
    except InputError as error:
        raise InputError(
            f"{error}; measured were magnitude, wanda and sparsegpt at 10 to 70 % in steps of 10, 2_4 and 4_8, and "
            "ffn_channels at 10, 20 and 30 %, and nothing is guessed beyond"
        ) from None


@lru_cache(maxsize=1)
def bundled_model() -> QualityModel:
    """``QualityModel.from_bundle()``, read once."""
    return QualityModel.from_bundle()


def bundled_surrogate(model: str = "smollm2_135m") -> Surrogate:
    """The surrogate of the bundled measurements of ``model``, read and calibrated once.

    Raises InputError for any model that was not measured; ``published.perplexity`` holds what others published.
    """
    if model not in MODELS:
        known = nearest(model, MODELS)
        raise InputError(f"model {model!r} was not measured here ({known}); workloads.published has others' numbers")
    return _bundled()


@lru_cache(maxsize=1)
def _bundled() -> Surrogate:
    measured = read_measured()
    rows = measured[measured["arithmetic"] == ARITHMETIC]
    model = bundled_model()
    return Surrogate(
        model=model,
        known=dict(zip(rows["key"], rows["nll"].astype(float), strict=True)),
        share=bundled_shares(),
        of_recipes=calibrated(held_out_mixes(measured)),
        of_plans=calibrated(held_out_plans(model)),
    )
