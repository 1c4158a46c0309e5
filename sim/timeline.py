"""Engine 2: tile by tile, in order, with every tile at its true size; the reference for engine 1.

It takes the mappings that engine 1 chose and walks them: which operand tiles change, what each tile loads, computes and
stores, limited buffers, one DRAM bus (:func:`sim.memory.schedule.walk`). On uniform work (all tiles alike, all loading
the same) both engines agree exactly; elsewhere the difference is what averaging tiles hides.
Lane cycles of a mask are shared among tiles in proportion to their weights' count.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.analytic import Detail
from sim.compute.array_work import lanes_work
from sim.counts import INDEX
from sim.designs import D_DRAM_BPC, D_KIND, Designs, kernel_matrix
from sim.mapping import _AXES, refetch
from sim.memory.schedule import walk
from sim.memory.traffic import (
    S_ARRAY_BYTES,
    S_CUT_PASS,
    S_NONZEROS,
    S_PACKED_K,
    S_PASS,
    S_RESTART,
    S_ROOM_BYTES,
    S_STORED_BYTES,
    level_bytes,
    on_chip_cycles,
    tile_work,
)
from sim.search import C_DEPENDENCY, C_DRAM, M_BUFFERS, M_CYCLES, M_MODE, M_ORDER, M_TILE_K, M_TILE_M, M_TILE_N
from sim.trace import Trace, position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_KIND, _REPEATS = position("kind"), position("repeats")


@numba.njit(cache=True)
def _pass_cycles(d, o, s, mapping):
    """Lane cycles of one pass over all weights, restarts at the mapping's cuts included; 0 for systolic arrays."""
    if d[D_KIND] == 0.0:
        return 0.0
    work = lanes_work(
        d,
        o[_M],
        o[_N],
        o[_K],
        s[S_NONZEROS],
        s[S_PASS],
        s[S_CUT_PASS],
        s[S_RESTART],
        mapping[M_TILE_M],
        mapping[M_TILE_N],
        mapping[M_TILE_K],
    )
    return work[0] / work[3]


@numba.njit(cache=True)
def _tiles(d, o, s, mapping, state):
    """Per-tile (load, compute, store) cycles of a GEMM's mapping, in loop order, and the drain."""
    sizes = (o[_M], o[_N], o[_K])
    tile = (mapping[M_TILE_M], mapping[M_TILE_N], mapping[M_TILE_K])
    order, batch = int(mapping[M_ORDER]), int(o[_BATCH])
    trips = (int(np.ceil(sizes[0] / tile[0])), int(np.ceil(sizes[1] / tile[1])), int(np.ceil(sizes[2] / tile[2])))
    spills = refetch(order, trips[0], trips[1], trips[2])[2] > 1.0
    total = batch * trips[0] * trips[1] * trips[2]
    load, compute, store = np.zeros(total), np.zeros(total), np.zeros(total)
    resident_in, resident_out = (state & 1) > 0, state > 1
    part, weights = o.copy(), s.copy()
    part[_BATCH] = 1.0
    one_pass = _pass_cycles(d, o, s, mapping)
    inner = (_AXES[order, 0], _AXES[order, 1], _AXES[order, 2])
    now = np.zeros(3, dtype=np.int64)
    old = np.full(4, -1, dtype=np.int64)
    drain = 0.0
    for at in range(total):
        place = at
        for axis in (inner[2], inner[1], inner[0]):
            now[axis] = place % trips[axis]
            place //= trips[axis]
        m = min(tile[0], sizes[0] - now[0] * tile[0])
        n = min(tile[1], sizes[1] - now[1] * tile[1])
        k = min(tile[2], sizes[2] - now[2] * tile[2])
        share = n * k / (sizes[1] * sizes[2])
        part[_M], part[_N], part[_K] = m, n, k
        for column in (S_NONZEROS, S_STORED_BYTES, S_ROOM_BYTES, S_ARRAY_BYTES):
            weights[column] = s[column] * share
        weights[S_PASS] = weights[S_CUT_PASS] = one_pass * share
        weights[S_PACKED_K] = np.ceil(k * s[S_PACKED_K] / sizes[2])
        w = tile_work(d, part, weights, m, n, k, int(mapping[M_MODE]))
        new_item = place != old[3]
        new_in = new_item or now[0] != old[0] or now[2] != old[2]
        new_weight = new_item or now[1] != old[1] or now[2] != old[2]
        first, finished = now[2] == 0, now[2] == trips[2] - 1
        visits = (
            1.0 if spills and not first else 0.0,
            1.0 if spills and not finished else 0.0,
            1.0 if first else 0.0,
            1.0 if finished else 0.0,
        )
        moved = level_bytes(
            d, part, weights, w, (1.0 if new_in else 0.0, 1.0 if new_weight else 0.0), visits, resident_in, resident_out
        )
        load[at] = moved[8] / d[D_DRAM_BPC]
        store[at] = moved[9] / d[D_DRAM_BPC]
        compute[at] = on_chip_cycles(d, w, moved)[3]
        drain = w[2]
        old[0], old[1], old[2], old[3] = now[0], now[1], now[2], place
    return load, compute, store, drain


def run_detailed(designs: Designs, trace: Trace, detail: Detail) -> np.ndarray:
    """Engine 1's columns [ops, N_COLUMNS] with every GEMM's cycles replaced by the walked ones; the causes still add
    up.

    The difference between walked and averaged tiles is DRAM waiting (if positive, or as far as there is any) and then
    dependency: the same two causes that the closed form fills last.
    """
    d = kernel_matrix(designs)[0]
    ops = trace.numeric()
    out = detail.columns.copy()
    for i in range(len(trace)):
        if ops[i, _KIND] == 1.0:
            continue
        end, _, _ = gemm_times(d, ops[i], detail.sparse[i], detail.mappings[i], int(detail.states[i]))
        difference = (end - detail.mappings[i, M_CYCLES]) * ops[i, _REPEATS]
        out[i, INDEX["cycles"]] += difference
        _book(out[i], difference)
    return out


def gemm_times(d, o, s, mapping, state):
    """(end of the op, [tiles, 6] start/end of load, compute, store, drain) of one GEMM at a mapping, cycles."""
    load, compute, store, drain = _tiles(d, o, s, mapping, state)
    end, times = walk(load, compute, store, drain, int(mapping[M_BUFFERS]))
    return end, times, drain


def _book(row: np.ndarray, difference: float) -> None:
    """Give a difference of cycles to the causes that can hold it: extra to dependency; savings from dependency, then
    DRAM bandwidth, then whatever else waited, in the reverse order of the accounts."""
    if difference >= 0.0:
        row[C_DEPENDENCY] += difference
        return
    left = -difference
    for cause in (C_DEPENDENCY, C_DRAM, *range(C_DRAM - 1, 0, -1)):
        taken = min(left, max(0.0, row[cause]))
        row[cause] -= taken
        left -= taken
