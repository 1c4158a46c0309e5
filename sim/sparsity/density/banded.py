"""Nonzeros along the diagonal only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim.nest.parts import settle, whole
from sim.sparsity.density.base import DensityModel, Occupancy, check_tile, checked_shape, of_tiles


@dataclass(frozen=True)
class Banded(DensityModel):
    """Element (i, j) is nonzero exactly where |i - j| <= ``band_width`` (Sparseloop's ``banded``, which takes square
    matrices; 0 is a diagonal). Nothing is left to chance: occupancies are shares of the tiles.

    Raises InputError for a negative band width.
    """

    shape: tuple[int, int]
    band_width: int = 0

    def __post_init__(self) -> None:
        settle(self, shape=checked_shape(self.shape), band_width=whole(self.band_width, "band_width", smallest=0))

    @cached_property
    def density(self) -> float:
        """Elements in the band / elements."""
        first, past = self._band()
        return float((past - first).sum() / (self.shape[0] * self.shape[1]))

    def occupancy(self, rows: int, columns: int) -> Occupancy:
        """Shares of the tiles, counted row by row from where the band begins and ends."""
        check_tile(rows, columns)
        first, past = self._band()
        edges = np.append(np.arange(0, self.shape[1], columns), self.shape[1])
        inside = np.diff(np.clip(edges, first[:, None], past[:, None]), axis=1)
        return of_tiles(np.add.reduceat(inside, np.arange(0, self.shape[0], rows), axis=0))

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """The band (``seed`` changes nothing)."""
        return np.abs(np.subtract.outer(*(np.arange(side) for side in self.shape))) <= self.band_width

    def _band(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First column of the band and the one past it, of each row."""
        middle = np.arange(self.shape[0])
        first = np.minimum(np.maximum(middle - self.band_width, 0), self.shape[1])
        return first, np.maximum(np.minimum(middle + self.band_width + 1, self.shape[1]), first)
