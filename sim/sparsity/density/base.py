"""What every density model answers: how many nonzeros an aligned tile of a matrix holds, as a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.nest.parts import chunks, whole


class Occupancy(NamedTuple):
    """Distribution of the nonzeros of a tile: ``probabilities[i]`` of holding ``counts[i]``; no probability is 0."""

    counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]


class DensityModel(ABC):
    """Nonzeros of a matrix of ``shape`` (out x in, or rows x columns), as far as they are known.

    A tile is ``rows`` x ``columns`` and aligned: the matrix is cut by it from the first element on. Where it does not
    divide the matrix the last tiles are as short as they come; every answer is the mean over all tiles. A tile larger
    than the matrix is the matrix.

    >>> from sim.sparsity.density import Hypergeometric
    >>> round(Hypergeometric((4, 4), 0.25).empty(1, 2), 4)
    0.55
    """

    shape: tuple[int, int]

    @property
    @abstractmethod
    def density(self) -> float:
        """Expected nonzeros / elements of the matrix."""

    @abstractmethod
    def occupancy(self, rows: int, columns: int) -> Occupancy:
        """Distribution of the nonzeros in a tile."""

    @abstractmethod
    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """A mask of ``shape`` that the model describes (see each model for how closely); a seed gives the same one."""

    def empty(self, rows: int, columns: int) -> float:
        """Probability that a tile holds no nonzero."""
        counts, probabilities = self.occupancy(rows, columns)
        return float(probabilities[counts == 0].sum())

    def expected(self, rows: int, columns: int) -> float:
        """Mean nonzeros of a tile: density x elements, the elements of short last tiles included."""
        parts = list(self.pieces(rows, columns))
        tiles = sum(number for _, _, number in parts)
        return self.density * self.shape[0] * self.shape[1] / tiles

    def pieces(self, rows: int, columns: int) -> Iterator[tuple[int, int, int]]:
        """(rows, columns, how many) of the tiles that cut the matrix: full ones and the short last ones.

        Raises InputError for sides that are not whole numbers >= 1."""
        check_tile(rows, columns)
        for height, down in chunks(self.shape[0], min(rows, self.shape[0])):
            for width, across in chunks(self.shape[1], min(columns, self.shape[1])):
                yield height, width, down * across


class SpreadAlike(DensityModel):
    """A model in which only the number of elements of a tile matters, not where it lies or its shape."""

    @abstractmethod
    def empty_of(self, elements: int) -> float:
        """Probability that a tile of so many elements is empty."""

    @abstractmethod
    def occupancy_of(self, elements: int) -> Occupancy:
        """Distribution of the nonzeros in a tile of so many elements."""

    def empty(self, rows: int, columns: int) -> float:
        """Probability that a tile holds no nonzero."""
        parts = list(self.pieces(rows, columns))
        tiles = sum(number for _, _, number in parts)
        return sum(number * self.empty_of(height * width) for height, width, number in parts) / tiles

    def occupancy(self, rows: int, columns: int) -> Occupancy:
        """Distribution of the nonzeros in a tile."""
        return mixed(
            (self.occupancy_of(height * width), number) for height, width, number in self.pieces(rows, columns)
        )


def mixed(parts: Iterable[tuple[Occupancy, float]]) -> Occupancy:
    """One distribution of several, each with its weight (any scale)."""
    found, weights = zip(*parts, strict=True)
    counts, place = np.unique(np.concatenate([part.counts for part in found]), return_inverse=True)
    chances = np.concatenate([part.probabilities * w for part, w in zip(found, weights, strict=True)])
    chances = np.bincount(place, chances) / sum(weights)
    return Occupancy(counts[chances > 0], chances[chances > 0])


def of_tiles(nonzeros: NDArray[np.int64]) -> Occupancy:
    """The distribution over tiles whose nonzeros are known."""
    counts, times = np.unique(nonzeros, return_counts=True)
    return Occupancy(counts.astype(np.int64), times / nonzeros.size)


def check_tile(rows: int, columns: int) -> None:
    """Raise InputError unless both are whole numbers >= 1."""
    whole(rows, "rows of a tile")
    whole(columns, "columns of a tile")


def checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """``shape`` as two whole numbers >= 1; raises InputError."""
    if not isinstance(shape, list | tuple) or len(shape) != 2:
        raise InputError(f"shape must be (rows, columns), got {shape!r}")
    return whole(shape[0], "rows of the matrix"), whole(shape[1], "columns of the matrix")


def checked_density(density: float) -> float:
    """``density`` if it is in 0..1; raises InputError."""
    if isinstance(density, bool) or not isinstance(density, int | float | np.number) or not 0 <= density <= 1:
        raise InputError(f"density must be in 0..1, got {density!r}")
    return float(density)
