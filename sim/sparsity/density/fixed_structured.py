"""Every tile holds the same share of nonzeros, as N:M pruning leaves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.nest.parts import settle
from sim.sparsity.density.base import Occupancy, SpreadAlike, checked_density, checked_shape


@dataclass(frozen=True)
class FixedStructured(SpreadAlike):
    """A tile of n elements holds n x density nonzeros, rounded down or up so that the mean is exact (Sparseloop's
    ``fixed_structured``; Wu et al., MICRO 2022).

    Raises InputError for a density outside of 0..1.
    """

    shape: tuple[int, int]
    density: float = 1.0

    def __post_init__(self) -> None:
        settle(self, shape=checked_shape(self.shape), density=checked_density(self.density))

    def empty_of(self, elements: int) -> float:
        """1 - n x density where a tile holds one nonzero or none, else 0."""
        return max(0.0, 1.0 - elements * self.density)

    def occupancy_of(self, elements: int) -> Occupancy:
        """Floor and ceil of n x density."""
        mean = elements * self.density
        nearest = round(mean)
        if abs(mean - nearest) < 1e-9 * max(1.0, mean):
            return Occupancy(np.array([nearest]), np.array([1.0]))
        floor = int(mean)
        return Occupancy(np.array([floor, floor + 1]), np.array([1.0 - (mean - floor), mean - floor]))

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """Evenly spaced nonzeros, each row with a random offset: tiles of one row are as the model has them; the rows
        of taller ones add up independently (the same mean, a wider distribution)."""
        offsets = np.random.default_rng(seed).random((self.shape[0], 1))
        marks = np.floor(offsets + self.density * np.arange(self.shape[1] + 1) + 1e-12)
        return np.diff(marks, axis=1) > 0
