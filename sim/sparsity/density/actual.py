"""A real mask: nothing is assumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.nest.parts import settle
from sim.sparsity.density.base import DensityModel, Occupancy, check_tile, of_tiles


@dataclass(frozen=True, eq=False)
class Actual(DensityModel):
    """The nonzeros of ``mask`` (out x in; anything but 0 counts): occupancies are shares of its tiles, exact.

    Raises InputError for what is not a matrix with elements.
    """

    mask: ArrayLike
    shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask) != 0
        if mask.ndim != 2 or not mask.size:
            raise InputError(f"mask must be a matrix (out x in) with elements, got shape {mask.shape}")
        settle(self, mask=mask, shape=mask.shape)

    @cached_property
    def density(self) -> float:
        """Nonzeros / elements."""
        return float(np.mean(self.mask))

    def nonzeros(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Nonzeros of every tile [tiles down, tiles across]."""
        check_tile(rows, columns)
        down = np.add.reduceat(self.mask, np.arange(0, self.shape[0], rows), axis=0, dtype=np.int64)
        return np.add.reduceat(down, np.arange(0, self.shape[1], columns), axis=1)

    def occupancy(self, rows: int, columns: int) -> Occupancy:
        """Shares of the tiles."""
        return of_tiles(self.nonzeros(rows, columns))

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """The mask (``seed`` changes nothing)."""
        return self.mask.copy()
