"""Orders that gather zeros in tiles, after TETRIS (Ji et al., NeurIPS 2018): choose tiles, swap towards them, repeat.

Searches start from the orders as they are, from lines sorted by mass, and from lines sorted by likeness. With orders
fixed, the tiles of least mass are chosen; with tiles fixed, rows and columns are swapped, the best pair first, while
mass leaves the chosen tiles. The mass of an element is 1 where the mask keeps it, or a weight's magnitude where a
pruning method wants tiles that cost least to drop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from sim.compute.arguments import whole
from sim.errors import InputError
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, Arrangement, Axis, alone
from sim.sparsity.reorder.swaps import best_swaps

_ROUNDS = 12
_STEPS = 20  # of power iteration
SHARES = (0.01, 0.05, 0.2)
"""Of all tiles, how many are aimed at when empty tiles are wanted; the best outcome is kept."""
Tile = tuple[int, int]


@numba.njit(cache=True)
def tile_mass(mass, tile):
    """float64: the sum of ``mass`` [out, in] in every ``tile`` (out x in); tiles at the edges may be short."""
    rows, columns = mass.shape
    down, across = tile
    found = np.zeros((-(-rows // down), -(-columns // across)))
    for i in range(rows):
        into = found[i // down]
        for t in range(into.size):
            for j in range(t * across, min((t + 1) * across, columns)):
                into[t] += mass[i, j]
    return found


def empty_tiles(mask: NDArray[np.bool_], tile: Tile) -> int:
    """Tiles (out x in) of ``mask`` that hold no nonzero; short ones at the edges count."""
    return int(np.count_nonzero(tile_mass(mask, tile) == 0))


def cluster(work: Arrangement, tile: Tile) -> tuple[float, float]:
    """Permute ``work`` for empty tiles (out x in); (empty tiles before, after), which never fall."""
    tile = checked_tile(tile)
    before = best = sum(empty_tiles(mask, tile) for mask in work.masks)
    kept = work.snapshot()
    for first in _starts(work):
        for share in (0.0, *SHARES):
            work.restore(first)
            if share:
                _alternate(work, tile, share)
            found = sum(empty_tiles(mask, tile) for mask in work.masks)
            if found > best:
                best, kept = found, work.snapshot()
    work.restore(kept)
    return float(before), float(best)


@dataclass(frozen=True)
class Tiling:
    """Orders of one matrix and which of its tiles to drop: ``dropped`` bool [row tiles, column tiles] of the permuted
    matrix; ``dropped_mass`` of ``total_mass`` lies in them."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    dropped_mass: float
    total_mass: float


def tiles_to_drop(magnitudes: NDArray[np.floating], tile: Tile, sparsity: float) -> Tiling:
    """Orders of ``magnitudes`` (out x in, >= 0) and the share ``sparsity`` of its tiles whose dropping costs least.

    Never dearer than dropping tiles of the matrix as it stands. :class:`InputError` for a sparsity outside 0..1, a
    tile below 1 x 1 or negative magnitudes.
    """
    tile = checked_tile(tile)
    mass = np.asarray(magnitudes, dtype=np.float64)
    if mass.ndim != 2 or not mass.size or not (mass >= 0).all():
        raise InputError(f"magnitudes must be out x in, >= 0, with at least one element, got shape {mass.shape}")
    if not 0 <= sparsity <= 1:
        raise InputError(f"sparsity must be between 0 and 1, got {sparsity}")
    work = alone([mass])
    kept = work.snapshot()
    least = np.inf
    for first in _starts(work):
        for search in (False, True):
            work.restore(first)
            if search:
                _alternate(work, tile, sparsity)
            sums = tile_mass(work.masks[0], tile)
            found = float(sums[_lightest(sums, sparsity)].sum())
            if found < least:
                least, kept = found, work.snapshot()
    work.restore(kept)
    sums = tile_mass(work.masks[0], tile)
    dropped = _lightest(sums, sparsity)
    return Tiling(
        work.permutation(0, OUTPUT), work.permutation(0, INPUT), dropped, float(sums[dropped].sum()), float(mass.sum())
    )


def checked_tile(tile: Tile) -> Tile:
    """A pair of whole numbers >= 1."""
    found = whole("tile", tile)
    if found.shape != (2,):
        raise InputError(f"tile must be a pair (outputs, inputs), got {tile!r}")
    return int(found[0]), int(found[1])


def _starts(work: Arrangement) -> list[tuple[list, list]]:
    """Where searches begin: the orders as they are, by mass, and by likeness."""
    first = work.snapshot()
    found = [first]
    for values in (_mass, _likeness):
        work.restore(first)
        for i, by_unit in enumerate(values(work)):
            work.take(i, np.argsort(by_unit, axis=1, kind="stable"))
        found.append(work.snapshot())
    work.restore(first)
    return found


def _mass(work: Arrangement) -> list[NDArray[np.float64]]:
    """Of every axis: mass of every unit [blocks, units]."""
    return [
        sum(work.masks[m.mask].sum(axis=1 - m.side, dtype=np.float64)[m.layout].sum(axis=2) for m in axis.members)
        for axis in work.axes
    ]


def _likeness(work: Arrangement) -> list[NDArray[np.float64]]:
    """Of every axis: the leading singular vector of what is beyond rows' and columns' mass, which parts units that lie
    in different places. Power iteration through all masks at once."""
    rng = np.random.default_rng(0)
    of_units = [rng.normal(size=axis.identity.shape) for axis in work.axes]
    margins = [(mask.sum(axis=1, dtype=np.float64), mask.sum(axis=0, dtype=np.float64)) for mask in work.masks]
    for _ in range(_STEPS):
        lines = {}
        for axis, values in zip(work.axes, of_units, strict=True):
            for m in axis.members:
                line = lines.setdefault((m.mask, m.side), np.zeros(work.masks[m.mask].shape[m.side]))
                line[m.layout] += values[:, :, None]
        pulled = {}
        for (i, side), line in lines.items():
            mass = work.masks[i].astype(np.float32)
            across = (mass if side == INPUT else mass.T) @ line.astype(np.float32)
            expected = margins[i][1 - side] * (margins[i][side] @ line) / max(margins[i][0].sum(), 1e-300)
            pulled[i, 1 - side] = across - expected
        for at, axis in enumerate(work.axes):
            parts = [pulled[m.mask, m.side][m.layout].sum(axis=2) for m in axis.members if (m.mask, m.side) in pulled]
            norm = np.linalg.norm(parts := sum(parts)) if parts else 0.0
            if norm > 0:
                of_units[at] = parts / norm
    return of_units


def _lightest(sums: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    chosen = np.zeros(sums.size, dtype=bool)
    chosen[np.argsort(sums, axis=None, kind="stable")[: round(share * sums.size)]] = True
    return chosen.reshape(sums.shape)


def _alternate(work: Arrangement, tile: Tile, share: float) -> None:
    """Until no swap gains or the chosen tiles' mass stops falling."""
    least = np.inf
    kept = work.snapshot()
    for _ in range(_ROUNDS):
        sums = [tile_mass(mask, tile) for mask in work.masks]
        chosen = [_lightest(s, share) for s in sums]
        mass = float(sum(s[c].sum() for s, c in zip(sums, chosen, strict=True)))
        if not mass < least:
            work.restore(kept)
            return
        least, kept = mass, work.snapshot()
        if sum(_swap(work, i, tile, chosen) for i in range(len(work.axes))) == 0:
            return
    if sum(s[_lightest(s, share)].sum() for s in (tile_mass(mask, tile) for mask in work.masks)) > least:
        work.restore(kept)


def _swap(work: Arrangement, i: int, tile: Tile, chosen: list[NDArray[np.bool_]]) -> int:
    """Best swaps on one axis with the tiles fixed; how many."""
    axis = work.axes[i]
    members = [m for m in axis.members if tile[m.side] > 1]  # lines that are tiles by themselves gain nothing
    if not members:
        return 0
    order, swaps = axis.identity, 0
    costs = [_line_cost(work.masks[m.mask], m.side, tile, chosen[m.mask]) for m in members]
    for block in range(axis.blocks):
        cost, places = _unit_cost(axis, members, costs, tile, block)
        order[block], done = best_swaps(cost, places)
        swaps += done
    if swaps:
        work.take(i, order)
    return swaps


def _line_cost(mask: NDArray[np.generic], side: int, tile: Tile, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[lines, tiles along the side]: mass of a line that falls into chosen tiles if it lies there."""
    sums = tile_mass(mask, (1, tile[1]) if side == OUTPUT else (tile[0], 1)).astype(np.float32)
    aimed = chosen.astype(np.float32)
    return sums @ aimed.T if side == OUTPUT else sums.T @ aimed


def _unit_cost(
    axis: Axis, members: list, costs: list[NDArray[np.float32]], tile: Tile, block: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cost [units, kinds] of the units of a block and the kind [slots] of every slot: which tiles its elements meet."""
    tiles_of = [m.layout[block] // tile[m.side] for m in members]
    kinds, places = np.unique(np.concatenate(tiles_of, axis=1), axis=0, return_inverse=True)
    cost = np.zeros((axis.units, len(kinds)), dtype=np.float32)
    column = 0
    for m, line_cost in zip(members, costs, strict=True):
        for element in range(m.layout.shape[2]):
            cost += line_cost[np.ix_(m.layout[block, :, element], kinds[:, column])]
            column += 1
    return cost, places.reshape(-1)
