"""Cycles of zero-skipping lanes, exact against RTL (``validation/data/rtl/zero_skip_cycles.csv``).

``P`` lanes share a broadcast operand and walk tiles of ``barrier_depth`` positions; lane ``p`` has ``n[p, t]`` nonzeros in
tile ``t`` and works ``w = max(n, empty_tile_cycles)`` cycles on it (``physics.md`` §2)::

    no FIFO (all lanes meet after every tile)   cycles = 1 + sum_t max_p w[p, t]
    FIFO of D >= 1 tiles                        d[t]      = max(d[t-1] + 1, max_p pop[p, t-D] + 1),  d[0] = 0
                                                pop[p, t] = max(d[t] + 1, e[p, t-1]);  e[p, t] = pop[p, t] + w[p, t]
                                                cycles    = max e + 1

A matrix (mask, out x in) is walked in *lane groups*, one after another, each from a fresh start: "output" lanes own rows
(output features) and walk the inputs, "input" lanes own columns and walk the outputs. A short last group leaves lanes
idle. Only output lanes are pinned to RTL; input lanes use the same recurrence on the transposed mask.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError, nearest

ORIENTATIONS = ("output", "input")
ASSIGNMENTS = ("contiguous", "interleaved")


@numba.njit(cache=True)
def _barrier(counts, first, step, size, empty):
    """One lane group without FIFO: (cycles, tiles in which every lane is empty). Lanes: rows first, first + step, ..."""
    total, empties = 1, 0
    for t in range(counts.shape[1]):
        most = 0
        for p in range(size):
            most = max(most, counts[first + p * step, t])
        if most == 0:
            empties += 1
        total += max(most, empty)
    return total, empties


@numba.njit(cache=True)
def _fifo(counts, first, step, size, depth, empty, pops, ends):
    """One lane group with a FIFO of ``depth`` tiles. ``pops`` [depth] and ``ends`` [lanes] are scratch."""
    ends[:size] = 0
    last = -1
    finish = 0
    for t in range(counts.shape[1]):
        start = last + 1
        if t >= depth:
            start = max(start, pops[t % depth] + 1)
        latest = 0
        for p in range(size):
            pop = start + 1
            if t > 0:
                pop = max(pop, ends[p])
            ends[p] = pop + max(counts[first + p * step, t], empty)
            latest = max(latest, pop)
            finish = max(finish, ends[p])
        pops[t % depth] = latest
        last = start
    return finish + 1


@numba.njit(cache=True)
def matrix_cycles(counts, lanes, interleaved, fifo_depth, empty):
    """All lane groups over ``counts`` [owners, tiles]: (cycles, all-empty tiles; the latter without FIFO only)."""
    owners = counts.shape[0]
    groups = -(-owners // lanes)
    pops, ends = np.empty(max(fifo_depth, 1), dtype=np.int64), np.empty(lanes, dtype=np.int64)
    total, empties = 0, 0
    for g in range(groups):
        if interleaved:
            first, step, size = g, groups, -(-(owners - g) // groups)
        else:
            first, step, size = g * lanes, 1, min(lanes, owners - g * lanes)
        if fifo_depth == 0:
            cycles, none = _barrier(counts, first, step, size, empty)
            empties += none
        else:
            cycles = _fifo(counts, first, step, size, fifo_depth, empty, pops, ends)
        total += cycles
    return total, empties


def cycles(nnz: ArrayLike, fifo_depth: int, empty_tile_cycles: int = 1) -> NDArray[np.int64] | np.int64:
    """Cycles of lane groups that run on their own.

    Args:
        nnz: [..., lanes, tiles] nonzeros, whole numbers >= 0.
        fifo_depth: tiles a lane may run ahead; 0 = a barrier after every tile.
        empty_tile_cycles: what an empty tile costs, 0 or 1; 0 needs ``fifo_depth`` 0.

    Returns:
        int64 [...].
    """
    given = np.asarray(nnz)
    if (
        given.ndim < 2
        or given.dtype.kind not in "iub"
        or given.size == 0
        or (given.dtype.kind == "i" and given.min() < 0)
    ):
        raise InputError(
            f"nnz must be whole numbers >= 0 of shape [..., lanes, tiles], got {given.dtype} {given.shape}"
        )
    _check_fifo(fifo_depth, empty_tile_cycles)
    flat = given.reshape(-1, *given.shape[-2:]).astype(np.int64)
    out = np.array(
        [matrix_cycles(g, g.shape[0], False, fifo_depth, empty_tile_cycles)[0] for g in flat], dtype=np.int64
    )
    return out.reshape(given.shape[:-2])[()]


def tile_counts(mask: ArrayLike, barrier_depth: int | str | None) -> NDArray[np.int64]:
    """Nonzeros [owners, tiles] of a mask [owners, positions]; depth "full" (or None) is one tile."""
    mask = np.asarray(mask)
    positions = mask.shape[1]
    depth = positions if barrier_depth in (None, "full") else int(barrier_depth)
    if depth < 1:
        raise InputError(f"barrier_depth must be >= 1 or 'full', got {barrier_depth}")
    return np.add.reduceat(mask.astype(np.int64), np.arange(0, positions, depth), axis=1)


def owners_first(mask: ArrayLike, orientation: str) -> NDArray[Any]:
    """The mask (out x in) with lane owners as rows."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"mask must be out x in with at least one element, got shape {mask.shape}")
    if orientation not in ORIENTATIONS:
        raise InputError(
            f"orientation must be one of {', '.join(ORIENTATIONS)}, got '{orientation}', {nearest(orientation, ORIENTATIONS)}"
        )
    return mask if orientation == "output" else mask.T


def walk(
    mask: ArrayLike,
    lanes: int,
    barrier_depth: int | str | None,
    orientation: str = "output",
    assignment: str = "contiguous",
    fifo_depth: int = 0,
    empty_tile_cycles: int = 1,
) -> int:
    """Exact cycles of one pass over a mask (out x in): the sum over lane groups.

    ``contiguous``: group g is owners g*P .. g*P + P - 1. ``interleaved``: with G groups, group g is owners g, g + G, ...
    """
    if int(lanes) != lanes or lanes < 1:
        raise InputError(f"lanes must be a whole number >= 1, got {lanes}")
    if assignment not in ASSIGNMENTS:
        raise InputError(
            f"assignment must be one of {', '.join(ASSIGNMENTS)}, got '{assignment}', {nearest(assignment, ASSIGNMENTS)}"
        )
    _check_fifo(fifo_depth, empty_tile_cycles)
    counts = tile_counts(owners_first(mask, orientation), barrier_depth)
    return int(matrix_cycles(counts, int(lanes), assignment == "interleaved", fifo_depth, empty_tile_cycles)[0])


def _check_fifo(fifo_depth: int, empty_tile_cycles: int) -> None:
    if int(fifo_depth) != fifo_depth or fifo_depth < 0:
        raise InputError(f"fifo_depth must be a whole number >= 0, got {fifo_depth}")
    if empty_tile_cycles not in (0, 1):
        raise InputError(f"empty_tile_cycles must be 0 or 1, got {empty_tile_cycles}")
    if fifo_depth and empty_tile_cycles == 0:
        raise InputError("empty_tile_cycles 0 needs fifo_depth 0: a FIFO pops one tile a cycle")
