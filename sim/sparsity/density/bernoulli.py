"""Independent coins: what "random sparsity" usually means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sim.nest.parts import settle
from sim.sparsity.density.base import Occupancy, SpreadAlike, checked_density, checked_shape
from sim.sparsity.density.support import likely
from sim.sparsity.estimate import bernoulli_mask


@dataclass(frozen=True)
class Bernoulli(SpreadAlike):
    """Each element is nonzero with probability ``density``, on its own: the total is not held.

    Raises InputError for a density outside of 0..1.
    """

    shape: tuple[int, int]
    density: float = 1.0

    def __post_init__(self) -> None:
        settle(self, shape=checked_shape(self.shape), density=checked_density(self.density))

    def empty_of(self, elements: int) -> float:
        """(1 - density)^n."""
        return (1.0 - self.density) ** elements

    def occupancy_of(self, elements: int) -> Occupancy:
        """Binomial."""
        spread = elements * self.density * (1.0 - self.density)
        counts = likely(elements * self.density, spread, 0, elements)
        return Occupancy(counts, binom.pmf(counts, elements, self.density))

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """Coins."""
        return bernoulli_mask(*self.shape, self.density, seed)
