"""Lane cycles of one mask on the whole profile grid, from its finest tile counts."""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from sim.sparsity import packing
from sim.sparsity.lane_order import ASSIGNMENTS, lane_order
from sim.sparsity.lanes import ORIENTATIONS, barrier_cycles, fifo_cycles
from sim.sparsity.packing import Packed

LANES = (8, 16, 32, 64, 128)
DEPTHS: tuple[int | str, ...] = (16, 64, 256, "full")
FIFOS = (0, 2, 8)
SHAPE = (len(LANES), len(DEPTHS), len(ORIENTATIONS), len(ASSIGNMENTS), len(FIFOS))
"""Grid axes: lanes, barrier depth, orientation, assignment, FIFO depth (``empty_tile_cycles`` 1)."""
_FIFOS = np.array(FIFOS)


def fine_counts(packed: Packed) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Nonzeros [tiles of 16 positions, owners] by orientation: output lanes, input lanes."""
    along, down = packing.tiles_along(packed), packing.tiles_down(packed)
    return np.ascontiguousarray(along.T, dtype=np.int32), np.ascontiguousarray(down, dtype=np.int32)


def grid_cycles(fine: tuple[NDArray[np.int32], NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(cycles :data:`SHAPE`, barriers at which all lanes were empty without FIFO ``SHAPE[:4]``)."""
    cycles = np.empty(SHAPE, dtype=np.int64)
    empties = np.empty(SHAPE[:4], dtype=np.int64)
    for o, tiles in enumerate(fine):
        merges = np.array([len(tiles) if depth == "full" else int(depth) // packing.FINEST for depth in DEPTHS])
        _fill(tiles, merges, *_orders(tiles.shape[1]), _FIFOS, cycles[:, :, o], empties[:, :, o])
    return cycles, empties


@lru_cache(maxsize=64)
def _orders(owners: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Owners in lane order [lanes, assignments, owners], where groups start [lanes, assignments, most groups + 1], and
    how many groups there are [lanes]."""
    groups = np.array([-(-owners // p) for p in LANES])
    order = np.empty((len(LANES), len(ASSIGNMENTS), owners), np.int64)
    starts = np.zeros((len(LANES), len(ASSIGNMENTS), int(groups.max()) + 1), np.int64)
    for i, p in enumerate(LANES):
        for a in range(len(ASSIGNMENTS)):
            order[i, a], starts[i, a, : groups[i] + 1] = lane_order(owners, p, a)
    return order, starts, groups


@numba.njit(cache=True, nogil=True)
def _fill(fine, merges, order, starts, groups, fifos, cycles, empties):
    """The cells of one orientation: ``cycles`` [lanes, depths, assignments, FIFOs], ``empties`` [lanes, depths,
    assignments]."""
    for d in range(merges.size):
        work = _merged(fine, merges[d])
        taken = np.empty_like(work)
        for i in range(groups.size):
            for a in range(order.shape[1]):
                for t in range(work.shape[0]):
                    for n in range(work.shape[1]):
                        taken[t, n] = work[t, order[i, a, n]]
                own = starts[i, a, : groups[i] + 1]
                for f in range(fifos.size):
                    if fifos[f] == 0:
                        cycles[i, d, a, f], empties[i, d, a] = barrier_cycles(taken, own, 1)
                    else:
                        cycles[i, d, a, f] = fifo_cycles(taken, own, fifos[f], 1)


@numba.njit(cache=True, nogil=True)
def _merged(fine, every):
    """[tiles, owners] -> [ceil(tiles / every), owners]: neighbouring tiles added up, the last few too."""
    tiles, owners = fine.shape
    found = np.zeros((-(-tiles // every), owners), np.int32)
    for t in range(tiles):
        into = found[t // every]
        for n in range(owners):
            into[n] += fine[t, n]
    return found
