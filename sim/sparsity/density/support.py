"""The counts of a distribution that are worth listing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DEVIATIONS = 40  # beyond them (and some counts more, for small variances) no double holds the probability


def likely(mean: float, variance: float, smallest: int, largest: int) -> NDArray[np.int64]:
    """Counts from ``smallest`` to ``largest`` within 40 standard deviations + 40 of the mean."""
    reach = _DEVIATIONS * (variance**0.5 + 1.0)
    return np.arange(max(smallest, int(mean - reach)), min(largest, int(mean + reach) + 1) + 1)
