"""Sums of independent coins with different chances, many sums at a time, and of coins whose grand total is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.density.base import Occupancy

_NOISE = 1e-14  # what Fourier transforms leave of a probability of 0
_BATCH = 1 << 20  # coins at a time
_HALVINGS = 80


def mean_sum(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of 0..n heads of the rows of ``chances`` [sums, n], averaged over the rows."""
    step = max(1, _BATCH // chances.shape[1])
    parts = [sums(chances[at : at + step]).sum(axis=0) for at in range(0, len(chances), step)]
    return np.sum(parts, axis=0) / len(chances)


def sums(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """[sums, n + 1]: probabilities of 0..n heads of each row of ``chances`` [sums, n], by products of polynomials."""
    rows, coins = chances.shape
    even = 1 << (coins - 1).bit_length()
    factors = np.zeros((rows, even, 2))
    factors[..., 0] = 1.0
    factors[:, :coins, 0] -= chances
    factors[:, :coins, 1] = chances
    while factors.shape[1] > 1:
        length = 2 * factors.shape[2] - 1
        waves = np.fft.rfft(factors, length, axis=2)
        factors = np.fft.irfft(waves[:, ::2] * waves[:, 1::2], length, axis=2)
    return _clean(factors[:, 0, : coins + 1])


def sums_alike(one: NDArray[np.float64], times: int) -> NDArray[np.float64]:
    """Distribution of ``times`` independent counts, each distributed as the rows of ``one`` [cases, counts]."""
    length = (one.shape[1] - 1) * times + 1
    return _clean(np.fft.irfft(np.fft.rfft(one, length, axis=1) ** times, length, axis=1))


def sums_held(segments: NDArray[np.float64], variance: float, coins: int, total: int) -> NDArray[np.float64]:
    """[segments, n + 1]: heads of each segment [segments, n] of a line of ``coins`` coins that shows ``total`` heads,
    ``variance`` being that of the line's heads if they were free.

    A segment's own sum is exact; the rest of the line is taken as normal, and the mean of the segment is kept (the
    chances are those at which the line's mean is ``total``). A line of equal chances is the hypergeometric
    distribution; the tests say how near this comes.
    """
    free = sums(segments)
    length = segments.shape[1]
    heads = np.arange(length + 1)
    mean = segments.sum(axis=1)[:, None]
    rest = np.maximum(variance - (segments * (1 - segments)).sum(axis=1)[:, None], 1e-3)
    allowed = (heads <= total) & (heads >= total - (coins - length))
    with np.errstate(divide="ignore"):
        log = np.where(allowed, np.log(free) - (heads - mean) ** 2 / (2 * rest), -np.inf)
    low = -(length / rest + 100.0)
    high = -low
    for _ in range(_HALVINGS):
        tilt = (low + high) / 2
        over = (_share(log + tilt * heads) @ heads)[:, None] > mean
        low, high = np.where(over, low, tilt), np.where(over, tilt, high)
    return _clean(_share(log + (low + high) / 2 * heads))


def listed(chances: NDArray[np.float64]) -> Occupancy:
    """The counts that occur, of the probabilities of 0, 1, 2, ..."""
    counts = np.flatnonzero(chances)
    return Occupancy(counts, chances[counts])


def _share(log: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _clean(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    chances = np.where(chances < _NOISE, 0.0, chances)
    return chances / chances.sum(axis=1, keepdims=True)
