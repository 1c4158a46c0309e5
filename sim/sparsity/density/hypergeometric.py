"""A known number of nonzeros, anywhere with equal chance: unstructured pruning without any other knowledge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from sim.nest.parts import settle
from sim.sparsity.density.base import Occupancy, SpreadAlike, checked_density, checked_shape
from sim.sparsity.density.support import likely

_EXPONENT = 800.0  # exp(-800) is 0 in a double


@dataclass(frozen=True)
class Hypergeometric(SpreadAlike):
    """r = ceil(density x N) nonzeros in N elements, all places alike: P(k in n) = C(r,k) C(N-r,n-k) / C(N,n)
    (Sparseloop's ``hypergeometric``). ``density`` becomes r / N.

    Raises InputError for a density outside of 0..1.
    """

    shape: tuple[int, int]
    density: float = 1.0

    def __post_init__(self) -> None:
        shape = checked_shape(self.shape)
        elements = shape[0] * shape[1]
        nonzeros = int(np.ceil(checked_density(self.density) * elements - 1e-9))
        settle(self, shape=shape, density=nonzeros / elements)

    @cached_property
    def nonzeros(self) -> int:
        """Nonzeros of the matrix."""
        return round(self.density * self.shape[0] * self.shape[1])

    def empty_of(self, elements: int) -> float:
        """C(N-r,n) / C(N,n), as the product of the shorter of the two equal rows of factors."""
        total = self.shape[0] * self.shape[1]
        fewer, more = sorted((elements, self.nonzeros))
        if fewer + more > total:
            return 0.0
        if fewer * more > _EXPONENT * total:
            return 0.0
        return float(np.exp(np.log1p(-more / (total - np.arange(fewer))).sum()))

    def occupancy_of(self, elements: int) -> Occupancy:
        """The hypergeometric distribution."""
        total, held = self.shape[0] * self.shape[1], self.nonzeros
        spread = elements * self.density * (1 - self.density) * (total - elements) / max(total - 1, 1)
        k = likely(elements * self.density, spread, max(0, elements - (total - held)), min(elements, held))
        log = (_log_choose(held, k) + _log_choose(total - held, elements - k)) - _log_choose(total, elements)
        chances = np.exp(log - log.max())
        chances /= chances.sum()
        return Occupancy(k[chances > 0], chances[chances > 0])

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """Exactly the nonzeros, shuffled."""
        mask = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        mask[: self.nonzeros] = True
        return np.random.default_rng(seed).permutation(mask).reshape(self.shape)


def _log_choose(n: int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    return gammaln(n + 1.0) - gammaln(np.asarray(k) + 1.0) - gammaln(n - np.asarray(k) + 1.0)
