"""What formats ask of a matrix, and three that answer: a mask, a density model, and bare counts.

Tiles are ``(rows, columns)`` and cut the matrix from its first element on; the last ones are as short as they come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Number = Any
Tile = tuple[Number, Number]
ELEMENT = (1, 1)
_EMPTY = 1e-300  # less likely than this is never


def is_element(tile: Tile) -> bool:
    """Whether a tile is one element, for all matrices."""
    return bool(np.all(tile[0] == 1) and np.all(tile[1] == 1))


class Zeros(ABC):
    """``rows``, ``columns`` and ``nonzeros`` of a matrix (numbers, or arrays for many) and where its zeros lie."""

    rows: Number
    columns: Number
    nonzeros: Number

    @abstractmethod
    def nonempty(self, tile: Tile) -> Number:
        """How many tiles hold a nonzero."""

    @abstractmethod
    def short_of(self, tile: Tile, multiple: int) -> Number:
        """How many values all tiles together lack so that each holds a multiple of ``multiple``."""

    @abstractmethod
    def beyond(self, group: int, kept: int) -> Number:
        """Nonzeros beyond the first ``kept`` of every 1 x ``group`` tile."""

    @abstractmethod
    def fillers(self, tile: Tile, longest: int) -> Number:
        """Whole stretches of ``longest`` zeros in front of nonzeros, each tile read row by row from its start."""

    def tiles(self, tile: Tile) -> Number:
        """How many tiles there are."""
        return np.ceil(self.rows / tile[0]) * np.ceil(self.columns / tile[1])


class Actual(Zeros):
    """A mask; everything is counted."""

    def __init__(self, mask: NDArray[np.bool_]):
        self.mask = np.ascontiguousarray(mask)
        self.rows, self.columns = mask.shape
        self.nonzeros = int(np.count_nonzero(mask))

    def nonempty(self, tile: Tile) -> int:
        if is_element(tile):
            return self.nonzeros
        return int(np.count_nonzero(self.counts(tile)))

    def short_of(self, tile: Tile, multiple: int) -> int:
        return int((-self.counts(tile) % multiple).sum())

    def beyond(self, group: int, kept: int) -> int:
        return int(np.maximum(self.counts((1, group)) - kept, 0).sum())

    def fillers(self, tile: Tile, longest: int) -> int:
        at = np.flatnonzero(self.mask if tile == self.mask.shape else tiled(self.mask, tile))
        cells = int(tile[0] * tile[1])
        gaps = at.copy()
        gaps[1:] -= at[:-1] + 1
        if cells < self.rows * self.columns:
            tile_of = at // cells
            first = np.flatnonzero(tile_of[1:] > tile_of[:-1]) + 1  # of its tile
            gaps[first] = at[first] % cells
            gaps[:1] %= cells
        return int((gaps[gaps >= longest] // longest).sum())

    def counts(self, tile: Tile) -> NDArray[np.int32]:
        """Nonzeros of every tile."""
        height, width = int(min(tile[0], self.rows)), int(min(tile[1], self.columns))
        down, across = -(-self.rows // height), -(-self.columns // width)
        found = self.mask.view(np.uint8)
        if down * height > self.rows:
            found = np.pad(found, ((0, down * height - self.rows), (0, 0)))
        if height > 1:
            found = found.reshape(down, height, -1).sum(axis=1, dtype=np.int32)
        if across * width > self.columns:
            found = np.pad(found, ((0, 0), (0, across * width - self.columns)))
        if width > 16:
            return found.reshape(down, across, width).sum(axis=2, dtype=np.int32)
        total = found[:, ::width].astype(np.int32)
        for place in range(1, width):  # a few long additions are faster than many short sums
            total += found[:, place::width]
        return total


def tiled(matrix: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """``matrix`` filled up with zeros to whole tiles, flat, tile after tile, each row by row."""
    rows, columns = matrix.shape
    height, width = int(tile[0]), int(tile[1])
    down, across = -(-rows // height), -(-columns // width)
    padded = np.pad(matrix, ((0, down * height - rows), (0, across * width - columns)))
    return padded.reshape(down, height, across, width).swapaxes(1, 2).reshape(-1)


class Modelled(Zeros):
    """A density model (out x in) with ``shape``, ``density``, ``empty(rows, columns)`` and ``occupancy(rows,
    columns)``, both as means over all tiles; answers are means over its masks."""

    def __init__(self, model: Any):
        self.model = model
        self.rows, self.columns = model.shape
        self.nonzeros = model.density * self.rows * self.columns

    def nonempty(self, tile: Tile) -> float:
        if is_element(tile):
            return self.nonzeros
        return self.tiles(tile) * (1.0 - self.model.empty(*self._whole(tile)))

    def short_of(self, tile: Tile, multiple: int) -> float:
        counts, chances = self.model.occupancy(*self._whole(tile))
        return self.tiles(tile) * float(np.sum(-counts % multiple * chances))

    def beyond(self, group: int, kept: int) -> float:
        counts, chances = self.model.occupancy(*self._whole((1, group)))
        return self.tiles((1, group)) * float(np.sum(np.maximum(counts - kept, 0) * chances))

    def fillers(self, tile: Tile, longest: int) -> float:
        """Means over stretches: P(kL zeros, then a nonzero) summed over k and over the places a stretch may begin. The
        chance of a stretch of zeros is read, log-linearly, between those of tiles that divide this one evenly."""
        height, width = self._whole(tile)
        lengths, logs = self._empty_stretches(height, width)
        starts = np.arange(longest, height * width, longest, dtype=np.float64)
        none, one_more = (np.exp(np.interp(starts + more, lengths, logs)) for more in (0, 1))
        return self.tiles(tile) * float(np.sum((height * width - starts) * np.maximum(none - one_more, 0.0)))

    def _empty_stretches(self, height: int, width: int) -> tuple[list[int], list[float]]:
        lengths, logs = [0], [0.0]
        tiles = [(1, w) for w in _divisors(width)] + [(h, width) for h in _divisors(height)[1:]]
        for rows, columns in tiles:
            lengths.append(rows * columns)
            logs.append(min(logs[-1], float(np.log(max(self.model.empty(rows, columns), _EMPTY)))))
            if logs[-1] <= np.log(_EMPTY):
                break
        return lengths, logs

    def _whole(self, tile: Tile) -> tuple[int, int]:
        return int(min(tile[0], self.rows)), int(min(tile[1], self.columns))


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, int(np.sqrt(n)) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


class Spread(Zeros):
    """Counts alone (numbers or arrays that broadcast): every element is a nonzero with the same chance, by itself."""

    def __init__(self, rows: Number, columns: Number, nonzeros: Number):
        self.rows, self.columns, self.nonzeros = rows, columns, nonzeros

    @cached_property
    def density(self) -> Number:
        """Chance of a nonzero."""
        return np.clip(self.nonzeros / (self.rows * self.columns), 0.0, 1.0)

    def nonempty(self, tile: Tile) -> Number:
        if is_element(tile):
            return self.nonzeros
        return self._over(tile, lambda cells: 1.0 - (1.0 - self.density) ** cells)

    def short_of(self, tile: Tile, multiple: int) -> Number:
        """Of a binomial count: its distribution modulo a number is a discrete Fourier transform of its generating
        function at the roots of unity."""
        lacks = -np.arange(multiple) % multiple
        weights = np.fft.fft(lacks) / multiple
        roots = np.exp(2j * np.pi * np.arange(multiple) / multiple)

        def mean(cells: Number) -> Number:
            generated = (1.0 - self.density + self.density * r for r in roots)
            return sum((w * g**cells).real for w, g in zip(weights, generated, strict=True)) * (cells > 0)

        return self._over(tile, mean)

    def beyond(self, group: int, kept: int) -> Number:
        """Of a binomial count, term by term."""

        def mean(cells: Number) -> Number:
            total, chance = 0.0, (1.0 - self.density) ** cells
            odds = self.density / np.maximum(1.0 - self.density, 1e-300)
            for count in range(1, group + 1):
                chance = chance * odds * np.maximum(cells - count + 1, 0) / count
                total = total + np.maximum(count - kept, 0) * chance
            return np.where(self.density < 1.0, total, np.maximum(cells - kept, 0))

        return self._over((1, group), mean)

    def fillers(self, tile: Tile, longest: int) -> Number:
        """Geometric gaps; without an end where the tile is the matrix."""
        density = np.clip(self.density, 1e-12, 1.0)
        full = (1.0 - density) ** longest
        if np.all(tile[0] == self.rows) and np.all(tile[1] == self.columns):
            return self.nonzeros * (full / (1.0 - np.minimum(full, 1.0 - 1e-12)))
        cells = np.asarray(tile[0] * tile[1], dtype=np.float64)
        left = sum(
            np.maximum(1.0 - start / cells, 0.0) * full ** (start // longest)
            for start in range(longest, int(cells.max()), longest)
        )
        return self.nonzeros * left

    def _over(self, tile: Tile, mean: Any) -> Number:
        """Sum of ``mean(elements)`` over whole tiles and the short ones at both edges."""
        height, width = np.minimum(tile[0], self.rows), np.minimum(tile[1], self.columns)
        down, across = np.floor(self.rows / height), np.floor(self.columns / width)
        last, rest = self.rows % height, self.columns % width
        return (
            down * across * mean(height * width)
            + down * (rest > 0) * mean(height * rest)
            + across * (last > 0) * mean(last * width)
            + (last > 0) * (rest > 0) * mean(last * rest)
        )


class Known(Spread):
    """Counts, and how many tiles of some shapes hold a nonzero: ``tiles`` {(rows, columns): number}. ``guessed`` turns
    true once something was asked that only :class:`Spread` could answer."""

    def __init__(self, rows: Number, columns: Number, nonzeros: Number, tiles: dict[Tile, Number]):
        super().__init__(rows, columns, nonzeros)
        self.known = tiles
        self.guessed = False

    def nonempty(self, tile: Tile) -> Number:
        if not np.ndim(tile[0]) and not np.ndim(tile[1]) and tile in self.known:
            return self.known[tile]
        self.guessed |= not is_element(tile)
        return super().nonempty(tile)

    def short_of(self, tile: Tile, multiple: int) -> Number:
        self.guessed = True
        return super().short_of(tile, multiple)

    def beyond(self, group: int, kept: int) -> Number:
        self.guessed = True
        return super().beyond(group, kept)

    def fillers(self, tile: Tile, longest: int) -> Number:
        self.guessed = True
        return super().fillers(tile, longest)
