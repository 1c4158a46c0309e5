"""Bytes that move and cycles they take, for one tiled GEMM (``physics.md`` §3).

Levels: DRAM, ``shared`` (tiles of all three operands), and optional array buffers of one operand each. An array buffer
that holds its operand's tile is filled once per new tile and serves every array read; one that does not lets the
array's
reads stream through from ``shared``. Partial sums of a tile stay in the accumulator if it holds them, else in
``shared``.
``resident_in`` / ``resident_out``: the op's input or output stays in ``shared`` as a whole, next to its neighbours.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.compute.array_work import lanes_work, systolic_work
from sim.designs import (
    D_ACC,
    D_ACC_BPC,
    D_ACC_DB,
    D_COLS,
    D_DRAM_BPC,
    D_IBUF,
    D_IBUF_BPC,
    D_IBUF_DB,
    D_KIND,
    D_ROWS,
    D_SHARED_BPC,
    D_SHARED_DB,
    D_WBUF,
    D_WBUF_BPC,
    D_WBUF_DB,
)
from sim.memory.schedule import uneven
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ABITS, _OBITS, _PBITS = (position(c) for c in ("activation_bits", "output_bits", "accumulator_bits"))

# Sparse-configuration columns of one op (built in sim/sparse_ops.py)
S_NONZEROS, S_PACKED_K, S_STORED_BYTES, S_ROOM_BYTES, S_PASS, S_RESTART, S_ARRAY_BYTES, S_CUT_PASS, S_GRAIN = range(9)
SPARSE_COLUMNS = 9


MODES = ("default", "accumulator bypassed", "buffers used singly", "accumulator bypassed, buffers used singly")
"""How array buffers are used: partial sums may bypass a slow accumulator, and a double-buffered level that holds only
one tile may be used as a single one. Both are the mapping's choice, so that more of either never slows an op down."""
BYPASS_ACCUMULATOR, SINGLE_USE = 1, 2


@numba.njit(cache=True)
def tile_work(d, o, s, tile_m, tile_n, tile_k, mode):
    """All that a choice of tile sizes and of :data:`MODES` decides. Cycles and byte totals include the batch."""
    batch, m, n, k = o[_BATCH], o[_M], o[_N], o[_K]
    if d[D_KIND] == 0:
        cycles, drain, full_folds, weight_passes, input_passes, output_passes = systolic_work(
            d, m, n, k, s[S_PACKED_K], tile_m, tile_n, tile_k
        )
        edge = full_folds
        unfilled = full_folds
        ideal = m * n * s[S_PACKED_K] / (d[D_ROWS] * d[D_COLS])
    else:
        cycles, edge, unfilled, weight_passes, input_passes, output_passes = lanes_work(
            d, m, n, k, s[S_NONZEROS], s[S_PASS], s[S_CUT_PASS], s[S_RESTART], tile_m, tile_n, tile_k
        )
        drain = 0.0
        ideal = m * s[S_NONZEROS] / (d[D_ROWS] * d[D_COLS])
    tiles = batch * np.ceil(m / tile_m) * np.ceil(n / tile_n) * np.ceil(k / tile_k)
    psum_bytes = o[_PBITS] / 8.0
    input_tile = tile_m * tile_k * o[_ABITS] / 8.0
    weight_tile = s[S_ROOM_BYTES] * (tile_n * tile_k) / (n * k)
    output_tile = tile_m * tile_n * o[_OBITS] / 8.0
    psum_tile = tile_m * tile_n * psum_bytes
    weight_reads = batch * s[S_ARRAY_BYTES] * weight_passes
    input_reads = batch * m * k * o[_ABITS] / 8.0 * input_passes
    psum_writes = batch * m * n * psum_bytes * output_passes
    single = mode >= SINGLE_USE
    weight_held, weight_db = _held(d[D_WBUF], d[D_WBUF_DB], weight_tile, single)
    input_held, input_db = _held(d[D_IBUF], d[D_IBUF_DB], input_tile, single)
    psum_held, psum_db = _held(d[D_ACC], d[D_ACC_DB], psum_tile, single)
    psum_held = psum_held and mode % 2 != BYPASS_ACCUMULATOR
    return (
        tiles,
        batch * cycles,
        drain,
        batch * ideal,
        batch * edge,
        batch * unfilled,
        input_tile,
        weight_tile,
        output_tile,
        psum_tile,
        weight_reads,
        input_reads,
        psum_writes,
        weight_held,
        input_held,
        psum_held,
        weight_db,
        input_db,
        psum_db,
        weight_passes,
    )


@numba.njit(cache=True)
def _held(capacity, double_buffered, tile, single):
    """(whether an array buffer holds a tile, whether it is then double buffered)."""
    if capacity <= 0.0 or capacity < tile:
        return False, double_buffered > 0.0
    if double_buffered > 0.0 and capacity < 2.0 * tile:
        return single, not single
    return True, double_buffered > 0.0


@numba.njit(cache=True)
def single_use_possible(d, w):
    """Whether some double-buffered array buffer holds one tile but not two."""
    for capacity, double_buffered, tile in (
        (d[D_WBUF], d[D_WBUF_DB], w[7]),
        (d[D_IBUF], d[D_IBUF_DB], w[6]),
        (d[D_ACC], d[D_ACC_DB], w[9]),
    ):
        if double_buffered > 0.0 and tile <= capacity < 2.0 * tile:
            return True
    return False


@numba.njit(cache=True)
def accumulator_may_bind(d, w, trips_k):
    """Whether a held tile's partial sums could take the accumulator longer than the array computes."""
    if not w[15]:
        return False
    return not w[18] or 2.0 * w[12] * (1.0 + trips_k) > d[D_ACC_BPC] * w[1]


@numba.njit(cache=True)
def room(w, buffers, spills, resident_in, resident_out):
    """Bytes of ``shared`` that the tiles of one mapping take (resident tensors not counted)."""
    input_tile, weight_tile, output_tile, psum_tile, psum_held = w[6], w[7], w[8], w[9], w[15]
    need = buffers * weight_tile
    if not resident_in:
        need += buffers * input_tile
    if spills or not psum_held:
        need += buffers * psum_tile
    elif not resident_out:
        need += buffers * output_tile
    return need


@numba.njit(cache=True)
def level_bytes(d, o, s, w, fetches, visits, resident_in, resident_out):
    """Bytes by level and direction: (shared r, w, weight buffer r, w, input buffer r, w, accumulator r, w, DRAM r, w).

    ``fetches``: times the inputs, and the weights, come from DRAM. ``visits``: times the outputs' partial sums are
    (reloaded from DRAM, spilled to DRAM, started from zero, finished). A whole op: (f_out - 1, f_out - 1, 1, 1).
    """
    batch, m, n, k = o[_BATCH], o[_M], o[_N], o[_K]
    weight_reads, input_reads, psum_writes = w[10], w[11], w[12]
    weight_held, input_held, psum_held = w[13], w[14], w[15]
    input_fill = batch * m * k * o[_ABITS] / 8.0 * fetches[0]
    weight_fill = batch * s[S_STORED_BYTES] * fetches[1]
    psums = batch * m * n * o[_PBITS] / 8.0
    reloaded, spilled = psums * visits[0], psums * visits[1]
    final = batch * m * n * o[_OBITS] / 8.0 * visits[3]
    psum_reads = psum_writes - psums * visits[2]

    dram_read = weight_fill + reloaded + (0.0 if resident_in else input_fill)
    dram_write = spilled + (0.0 if resident_out else final)
    shared_write = dram_read
    shared_read = dram_write

    wbuf_read = wbuf_write = 0.0
    supply = batch * s[S_ARRAY_BYTES] * fetches[1] if weight_held else weight_reads
    shared_read += supply
    if d[D_WBUF] > 0.0:
        wbuf_write, wbuf_read = supply, weight_reads
    ibuf_read = ibuf_write = 0.0
    supply = input_fill if input_held else input_reads
    shared_read += supply
    if d[D_IBUF] > 0.0:
        ibuf_write, ibuf_read = supply, input_reads
    acc_read = acc_write = 0.0
    if psum_held:
        acc_write = psum_writes + reloaded
        acc_read = psum_reads + spilled + psums * visits[3]
        shared_write += spilled + final
        shared_read += reloaded
    else:
        shared_write += psum_writes + final
        shared_read += psum_reads + psums * visits[3]
    return (
        shared_read,
        shared_write,
        wbuf_read,
        wbuf_write,
        ibuf_read,
        ibuf_write,
        acc_read,
        acc_write,
        dram_read,
        dram_write,
    )


@numba.njit(cache=True)
def _add_level(cycles, moved, bandwidth, double_buffered):
    """Cycles after a level has served ``moved`` bytes: hidden behind the rest if double buffered, else on top."""
    if moved <= 0.0:
        return cycles
    busy = moved / bandwidth
    return max(cycles, busy) if double_buffered else cycles + busy


@numba.njit(cache=True)
def on_chip_cycles(d, w, b):
    """Cycles after each on-chip level in turn: shared, weight buffer, input buffer, accumulator."""
    c1 = _add_level(w[1], b[0] + b[1], d[D_SHARED_BPC], d[D_SHARED_DB] > 0.0)
    c2 = _add_level(c1, b[2] + b[3], d[D_WBUF_BPC], w[16])
    c3 = _add_level(c2, b[4] + b[5], d[D_IBUF_BPC], w[17])
    return c1, c2, c3, _add_level(c3, b[6] + b[7], d[D_ACC_BPC], w[18])


@numba.njit(cache=True)
def gemm_cycles(d, o, s, w, b, buffers, reused, reuse, weight_fetches, resident_in, resident_out):
    """Cycles of the op by the closed form, DRAM latency apart.

    ``reused``: the operand that the innermost loop with more than one trip does not index (0 inputs, 1 weights, 2
    outputs), ``reuse`` its trips: it moves only every ``reuse``-th tile, in a burst.
    """
    tiles, bus = w[0], d[D_DRAM_BPC]
    busy = on_chip_cycles(d, w, b)[3]
    load, store = b[8] / bus / tiles, b[9] / bus / tiles
    weights = o[_BATCH] * s[S_STORED_BYTES] * weight_fetches / bus
    inputs = 0.0 if resident_in else w[6] / bus
    share = w[7] / s[S_ROOM_BYTES]
    first_load = inputs + s[S_STORED_BYTES] * share / bus
    last_store = 0.0 if resident_out else w[8] / bus
    bursts = tiles / reuse
    if reused == 2:
        extra = b[9] / bus
    elif reused == 1:
        extra = weights
    else:
        extra = max(0.0, b[8] / bus - weights)
    calm_bus = load + store - extra / tiles
    burst_bus = calm_bus + extra / bursts
    return uneven(tiles, load, busy / tiles, store, w[2], buffers, first_load + last_store, bursts, burst_bus)
