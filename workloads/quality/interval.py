"""Prediction intervals calibrated on recipes that the surrogate had not seen (conformal prediction).

Errors grow with damage, so each held-out error is divided by the error expected at its predicted ΔNLL; the interval is
the quantile of these scores, with the finite-sample rank ⌈(n + 1) level⌉, times the expected error (Lei et al. 2018,
"Distribution-free predictive inference for regression"; scores from leaving one mix out: the jackknife).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from workloads.quality.compounding import expected_error


def scores(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """|error| of predicted ΔNLL [n] in units of the error expected there."""
    return np.abs(predicted - measured) / expected_error(predicted)


@dataclass(frozen=True)
class Interval:
    """Calibrated on ``scores`` [n] of held-out predictions with ΔNLL up to ``highest``, the end of the data."""

    scores: np.ndarray
    highest: float

    def factor(self, level: float) -> float:
        """Half-width in units of the expected error; InputError where n scores cannot support ``level``."""
        n = len(self.scores)
        if not 0 < level <= n / (n + 1):
            raise InputError(f"level must lie between 0 and {n / (n + 1):.3f} ({n} held-out mixes), got {level!r}")
        return float(np.sort(self.scores)[math.ceil((n + 1) * level) - 1])

    def half_width(self, delta: np.ndarray, level: float = 0.9) -> np.ndarray:
        """Half-width in nats of predictions ``delta`` [n]; NaN beyond ``highest``, where nothing was measured."""
        delta = np.asarray(delta, float)
        return np.where(delta <= self.highest, self.factor(level) * expected_error(delta), np.nan)
