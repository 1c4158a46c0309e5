"""Nonzeros of every row and column are known, nothing else: the least committed mask with these counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.nest.parts import chunks, settle
from sim.sparsity import estimate
from sim.sparsity.density.base import DensityModel, Occupancy, check_tile, mixed
from sim.sparsity.density.coins import listed, mean_sum, sums_alike, sums_held
from sim.sparsity.profile import Counts


@dataclass(frozen=True, eq=False)
class MaximumEntropy(DensityModel):
    """Independent coins with :func:`sim.sparsity.estimate.maximum_entropy`'s probabilities; where all rows (or all
    columns) hold the same number of nonzeros, they hold exactly that, as masks do that were pruned row by row.

    Occupancies are means over the tiles: without held counts, sums of independent coins, exact; with them, coins
    given their row's total, by the local normal approximation of the rest of the row.

    Raises InputError, at the first question, for counts that are no mask's.
    """

    counts: Counts
    shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        settle(self, shape=(len(self.counts.rows), len(self.counts.columns)))

    @cached_property
    def density(self) -> float:
        """Nonzeros / elements."""
        return float(np.sum(self.counts.rows) / (self.shape[0] * self.shape[1]))

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """Probability of every element [out, in]."""
        return estimate.maximum_entropy(self.counts)

    @property
    def held(self) -> str:
        """``rows`` or ``columns`` if these are all equal and so held exactly, else ``none``."""
        if len(set(np.asarray(self.counts.rows).tolist())) == 1:
            return "rows"
        return "columns" if len(set(np.asarray(self.counts.columns).tolist())) == 1 else "none"

    def occupancy(self, rows: int, columns: int) -> Occupancy:
        """Mean over the tiles."""
        check_tile(rows, columns)
        if self.held == "rows":
            return _in_lines(self.chances[0], int(self.counts.rows[0]), self.shape[0], rows, columns)
        if self.held == "columns":
            return _in_lines(self.chances[:, 0], int(self.counts.columns[0]), self.shape[1], columns, rows)
        found = []
        for down in _cuts(self.shape[0], rows):
            for across in _cuts(self.shape[1], columns):
                tiles = down.of(across.of(self.chances, axis=1), axis=0).transpose(0, 2, 1, 3)
                found.append(
                    (listed(mean_sum(tiles.reshape(down.tiles * across.tiles, -1))), down.tiles * across.tiles)
                )
        return mixed(found)

    def empty(self, rows: int, columns: int) -> float:
        """Probability that a tile holds no nonzero."""
        if self.held != "none":
            return super().empty(rows, columns)
        check_tile(rows, columns)
        with np.errstate(divide="ignore"):
            log = np.log1p(-self.chances)
        log = np.add.reduceat(log, np.arange(0, self.shape[0], rows), axis=0)
        return float(np.exp(np.add.reduceat(log, np.arange(0, self.shape[1], columns), axis=1)).mean())

    def draw(self, seed: int = 0) -> NDArray[np.bool_]:
        """:func:`sim.sparsity.estimate.draw`."""
        return estimate.draw(self.counts, seed)


class _Cut(NamedTuple):
    """Tiles of one length along a side."""

    start: int
    length: int
    tiles: int

    def of(self, values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """``values`` with ``axis`` split in two: the tiles, and the places in a tile."""
        part = np.take(values, range(self.start, self.start + self.length * self.tiles), axis=axis)
        return part.reshape(*part.shape[:axis], self.tiles, self.length, *part.shape[axis + 1 :])


def _cuts(extent: int, length: int) -> list[_Cut]:
    found, start = [], 0
    for size, tiles in chunks(extent, min(length, extent)):
        found.append(_Cut(start, size, tiles))
        start += size * tiles
    return found


def _in_lines(line: NDArray[np.float64], total: int, lines: int, height: int, width: int) -> Occupancy:
    """Tiles of ``height`` lines by ``width`` elements, of ``lines`` lines that are all alike: ``total`` nonzeros, with
    the chances ``line``."""
    found = []
    variance = float((line * (1 - line)).sum())
    for across in _cuts(len(line), width):
        segments = sums_held(across.of(line, axis=0), variance, len(line), total)
        for down in _cuts(lines, height):
            found.append((listed(sums_alike(segments, down.length).mean(axis=0)), down.tiles * across.tiles))
    return mixed(found)
