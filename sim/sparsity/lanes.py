"""Cycles of zero-skipping lanes, exact against RTL (``validation/data/rtl/zero_skip_cycles.csv``).

``P`` lanes share a broadcast operand and walk tiles of ``barrier_depth`` positions; lane ``p`` has ``n[p, t]``
nonzeros in tile ``t`` and works ``w = max(n, empty_tile_cycles)`` cycles on it::

    no FIFO (all lanes meet after every tile)   cycles = 1 + sum_t max_p w[p, t]
    FIFO of D >= 1 tiles                        d[t]      = max(d[t-1] + 1, max_p pop[p, t-D] + 1),  d[0] = 0
                                                pop[p, t] = max(d[t] + 1, e[p, t-1]);  e[p, t] = pop[p, t] + w[p, t]
                                                cycles    = max e + 1

A FIFO repairs imbalance that changes from tile to tile, not a lane that is always busier. It costs one cycle to enter,
and with D = 1 every tile takes at least two cycles, so D = 1 can lose to the barrier.

A matrix (mask, out x in) is walked in *lane groups*, one after another, each from a fresh start: "output" lanes own
rows (output features) and walk the inputs, "input" lanes own columns and walk the outputs. A short group leaves lanes
idle. Which owners meet in a group is :mod:`sim.sparsity.lane_order`'s; lanes that help each other out between barriers
are :mod:`sim.sparsity.stealing`'s. Only output lanes are pinned to RTL; input lanes use the same recurrence on the
transposed mask.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import code, whole
from sim.errors import InputError
from sim.sparsity.lane_order import ASSIGNMENTS as ASSIGNMENTS
from sim.sparsity.lane_order import lane_groups as lane_groups
from sim.sparsity.lane_order import lane_order as lane_order
from sim.sparsity.lane_order import work_order
from sim.sparsity.stealing import STEAL_POSITIONS, STEALING, stealing_cycles

ORIENTATIONS = ("output", "input")


@numba.njit(cache=True, nogil=True)
def barrier_cycles(work, starts, empty):
    """All lane groups without FIFO: (cycles, tiles of a group in which every lane is empty).

    ``work`` [tiles, owners] nonzeros; group g is owners ``starts[g]..starts[g+1]-1``, each the work of one lane. Lanes
    that a short group leaves idle are simply absent: they would never be the last.
    """
    total, empties = np.int64(starts.size - 1), np.int64(0)
    for t in range(work.shape[0]):
        for g in range(starts.size - 1):
            tile = work[t, starts[g] : starts[g + 1]]
            most = tile[0]
            for p in range(tile.size):
                most = max(most, tile[p])
            empties += most == 0
            total += max(most, empty)
    return total, empties


@numba.njit(cache=True, nogil=True)
def fifo_cycles(work, starts, depth, empty):
    """Cycles of all lane groups, each behind a FIFO of ``depth`` >= 1 tiles; arguments as :func:`barrier_cycles`.

    ``max_p pop[p, t]`` needs no lane: it is ``max(d[t] + 1, max_p e[p, t-1])``.
    """
    groups = starts.size - 1
    ends = np.zeros(work.shape[1], np.int32)
    latest = np.zeros(groups, np.int32)
    enter = np.full(groups, -1, np.int32)
    popped = np.zeros((min(depth, work.shape[0]), groups), np.int32)
    least = np.int32(empty)
    one = np.int32(1)
    for t in range(work.shape[0]):
        slot = popped[t % popped.shape[0]]
        for g in range(groups):
            delivered = enter[g] + one
            if t >= depth:
                delivered = max(delivered, slot[g] + one)
            enter[g] = delivered
            ready = delivered + one
            late = latest[g]
            slot[g] = max(ready, late)
            mine, tile = ends[starts[g] : starts[g + 1]], work[t, starts[g] : starts[g + 1]]
            for p in range(mine.size):
                end = max(ready, mine[p]) + max(tile[p], least)
                mine[p] = end
                late = max(late, end)
            latest[g] = late
    return latest.astype(np.int64).sum() + groups


@numba.njit(cache=True, nogil=True)
def group_cycles(work, starts, fifo_depth, empty):
    """(cycles, all-empty tiles; the latter without FIFO only) of ``work`` [tiles, owners] int32, owners in order."""
    if fifo_depth == 0:
        return barrier_cycles(work, starts, empty)
    return fifo_cycles(work, starts, fifo_depth, empty), np.int64(0)


def cycles(nnz: ArrayLike, fifo_depth: int, empty_tile_cycles: int = 1) -> NDArray[np.int64] | np.int64:
    """Cycles of lane groups that run on their own.

    Args:
        nnz: [..., lanes, tiles] nonzeros, whole numbers >= 0.
        fifo_depth: tiles a lane may run ahead; 0 = a barrier after every tile.
        empty_tile_cycles: what an empty tile costs, 0 or 1; 0 needs ``fifo_depth`` 0.

    Returns:
        int64 [...].

    Raises:
        InputError: not whole numbers, negative ones, or no lane or no tile.
    """
    given = np.asarray(nnz)
    if given.ndim < 2 or given.dtype.kind not in "iub" or given.size == 0 or given.min() < 0:
        raise InputError(
            f"nnz must be whole numbers >= 0 of shape [..., lanes, tiles], got {given.dtype} {given.shape}"
            + (f" with {given.min()}" if given.dtype.kind == "i" and given.size else "")
        )
    check_settings(fifo_depth, empty_tile_cycles, "none")
    if given.max(axis=-2).astype(float).sum(axis=-1).max() + 2 * given.shape[-1] > np.iinfo(np.int32).max:
        raise InputError("nnz must add up to less than 2^31 cycles a group")
    work = np.ascontiguousarray(np.swapaxes(given, -1, -2), dtype=np.int32)
    flat = work.reshape(-1, *work.shape[-2:])
    starts = np.array([0, work.shape[-1]])
    out = np.array([group_cycles(one, starts, int(fifo_depth), empty_tile_cycles)[0] for one in flat], dtype=np.int64)
    return out.reshape(given.shape[:-2])[()]


def tile_counts(mask: ArrayLike, barrier_depth: int | str | None) -> NDArray[np.int64]:
    """Nonzeros [owners, tiles] of a mask [owners, positions], the last tile possibly short.

    Depth "full" (or None) is one tile, as is any depth beyond the positions.

    Raises:
        InputError: a depth that is neither a whole number >= 1 nor "full".
    """
    kept = np.asarray(mask) != 0
    starts = np.arange(0, kept.shape[1], positions_between(barrier_depth, kept.shape[1]))
    return np.add.reduceat(kept, starts, axis=1, dtype=np.int64)


def positions_between(barrier_depth: int | str | None, positions: int) -> int:
    """Positions between two barriers of a walk over ``positions``; see :func:`tile_counts`."""
    if barrier_depth is None or (isinstance(barrier_depth, str) and barrier_depth == "full"):
        return positions
    try:
        return min(int(whole("barrier_depth", barrier_depth)), positions)
    except InputError:
        raise InputError(f"barrier_depth must be a whole number >= 1 or 'full', got {barrier_depth!r}") from None


def owners_first(mask: ArrayLike, orientation: str | int) -> NDArray[Any]:
    """The mask (out x in) with lane owners as rows."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"mask must be out x in with at least one element, got shape {mask.shape}")
    return mask if code("orientation", orientation, ORIENTATIONS) == 0 else mask.T


def walk(
    mask: ArrayLike,
    lanes: int,
    barrier_depth: int | str | None,
    orientation: str | int = "output",
    assignment: str | int = "contiguous",
    fifo_depth: int = 0,
    empty_tile_cycles: int = 1,
    stealing: str | int = "none",
) -> int:
    """Exact cycles of one pass over a mask (out x in, nonzero = kept): the sum over lane groups.

    Args:
        lanes: lanes that share the broadcast operand.
        barrier_depth, orientation: see :func:`tile_counts`, the module docstring.
        assignment: see :mod:`sim.sparsity.lane_order`. fifo_depth, empty_tile_cycles: see :func:`cycles`.
        stealing: "none" or "group", see :mod:`sim.sparsity.stealing`.

    Raises:
        InputError: an empty mask or one that is not two-dimensional, an unknown name, a number out of range, stealing
            with a FIFO.
    """
    steals = check_settings(fifo_depth, empty_tile_cycles, stealing)
    owned = owners_first(mask, orientation)
    depth = positions_between(barrier_depth, owned.shape[1])
    tiles = walk_tiles(owned.shape[1], depth, steals)
    counts = np.ascontiguousarray(np.add.reduceat(owned != 0, tiles, axis=1, dtype=np.int32).T)
    return tile_cycles(counts, tiles, depth, lanes, assignment, int(fifo_depth), empty_tile_cycles, steals)


def walk_tiles(positions: int, depth: int, steals: bool) -> NDArray[np.int64]:
    """Where the tiles of a walk start: at barriers, and between them at steal tiles when lanes steal."""
    starts = np.arange(0, positions, depth)
    if not steals:
        return starts
    inner = np.arange(0, depth, STEAL_POSITIONS)
    found = (starts[:, None] + inner).ravel()
    return found[found < positions]


def tile_cycles(
    counts: NDArray[np.int32],
    tiles: NDArray[np.int64],
    depth: int,
    lanes: int,
    assignment: str | int,
    fifo_depth: int,
    empty_tile_cycles: int,
    steals: bool,
) -> int:
    """Cycles of one pass over ``counts`` [tiles, owners], nonzeros of the tiles that start at ``tiles``
    (:func:`walk_tiles` of the same ``depth`` and ``steals``)."""
    if not steals:
        order, starts = work_order(counts, lanes, assignment)
        return int(group_cycles(np.take(counts, order, axis=1), starts, fifo_depth, empty_tile_cycles)[0])
    first = np.flatnonzero(tiles % depth == 0)
    order, starts = work_order(np.add.reduceat(counts, first, axis=0), lanes, assignment)
    taken, stretches = np.take(counts, order, axis=1), np.append(first, len(tiles))
    return int(stealing_cycles(taken, stretches, starts, int(lanes), empty_tile_cycles))


def check_settings(fifo_depth: int, empty_tile_cycles: int, stealing: str | int) -> bool:
    """Whether lanes steal; :class:`InputError` for settings that no machine has together."""
    whole("fifo_depth", fifo_depth, 0)
    steals = bool(code("stealing", stealing, STEALING))
    if empty_tile_cycles not in (0, 1):
        raise InputError(f"empty_tile_cycles must be 0 or 1, got {empty_tile_cycles}")
    if fifo_depth and empty_tile_cycles == 0:
        raise InputError("empty_tile_cycles 0 needs fifo_depth 0: a FIFO pops one tile a cycle")
    if fifo_depth and steals:
        raise InputError("stealing 'group' needs fifo_depth 0: lanes share what lies between two barriers")
    return steals
