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
idle. Only output lanes are pinned to RTL; input lanes use the same recurrence on the transposed mask.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import code, whole
from sim.errors import InputError

ORIENTATIONS = ("output", "input")
ASSIGNMENTS = ("contiguous", "interleaved")


@numba.njit(cache=True)
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


@numba.njit(cache=True)
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


@numba.njit(cache=True)
def group_cycles(work, starts, fifo_depth, empty):
    """(cycles, all-empty tiles; the latter without FIFO only) of ``work`` [tiles, owners] int32, owners in order."""
    if fifo_depth == 0:
        return barrier_cycles(work, starts, empty)
    return fifo_cycles(work, starts, fifo_depth, empty), np.int64(0)


def lane_order(owners: int, lanes: int, assignment: str | int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owners in the order the groups take them, and where each group starts (one more entry than groups)."""
    groups = lane_groups(owners, lanes, assignment)
    busy = groups >= 0
    return groups[busy], np.concatenate([[0], np.cumsum(busy.sum(axis=1))])


def lane_groups(outputs: int, lanes: int, assignment: str | int) -> NDArray[np.int64]:
    """Which owner each lane works for in each group: [groups, lanes], -1 = the lane is idle.

    ``contiguous``: group g owns g*P .. g*P + P - 1; the last may be short. ``interleaved``: with G groups, group g owns
    g, g + G, g + 2G, ... (the last lane of the later groups may be idle).
    """
    outputs, lanes = int(whole("outputs", outputs)), int(whole("lanes", lanes))
    groups = -(-outputs // lanes)
    lanes = min(lanes, outputs)
    g, p = np.arange(groups)[:, None], np.arange(lanes)
    interleaved = code("assignment", assignment, ASSIGNMENTS) == ASSIGNMENTS.index("interleaved")
    owner = g + groups * p if interleaved else g * lanes + p
    return np.where(owner < outputs, owner, -1)


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
    _check_fifo(fifo_depth, empty_tile_cycles)
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
    positions = kept.shape[1]
    depth = positions
    if barrier_depth is not None and not (isinstance(barrier_depth, str) and barrier_depth == "full"):
        try:
            depth = min(int(whole("barrier_depth", barrier_depth)), positions)
        except InputError:
            raise InputError(f"barrier_depth must be a whole number >= 1 or 'full', got {barrier_depth!r}") from None
    return np.add.reduceat(kept, np.arange(0, positions, depth), axis=1, dtype=np.int64)


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
) -> int:
    """Exact cycles of one pass over a mask (out x in, nonzero = kept): the sum over lane groups.

    Args:
        lanes: lanes that share the broadcast operand.
        barrier_depth, orientation: see :func:`tile_counts`, the module docstring.
        assignment: see :func:`lane_groups`. fifo_depth, empty_tile_cycles: see :func:`cycles`.

    Raises:
        InputError: an empty mask or one that is not two-dimensional, an unknown name, a number out of range.
    """
    _check_fifo(fifo_depth, empty_tile_cycles)
    counts = tile_counts(owners_first(mask, orientation), barrier_depth)
    order, starts = lane_order(len(counts), lanes, assignment)
    work = np.ascontiguousarray(counts[order].T, dtype=np.int32)
    return int(group_cycles(work, starts, int(fifo_depth), empty_tile_cycles)[0])


def _check_fifo(fifo_depth: int, empty_tile_cycles: int) -> None:
    whole("fifo_depth", fifo_depth, 0)
    if empty_tile_cycles not in (0, 1):
        raise InputError(f"empty_tile_cycles must be 0 or 1, got {empty_tile_cycles}")
    if fifo_depth and empty_tile_cycles == 0:
        raise InputError("empty_tile_cycles 0 needs fifo_depth 0: a FIFO pops one tile a cycle")
