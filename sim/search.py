"""The best mapping of one op, and one op's full account: the kernels under both engines.

Every candidate of :mod:`sim.mapping` is tried in all four residencies (input, output in ``shared`` or not); the fewest
cycles win, ties go to less DRAM traffic. ``NaN`` cycles mean that nothing fits.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.counts import COLUMNS, INDEX
from sim.designs import (
    D_COLS,
    D_DRAM_BPC,
    D_DRAM_LATENCY,
    D_KIND,
    D_ORIENTATION,
    D_ROWS,
    D_SHARED,
    D_SHARED_BPC,
    D_SHARED_DB,
    D_SPECIAL,
    D_VECTOR,
)
from sim.mapping import (
    GRAIN,
    LARGEST_LADDER,
    ORDERS,
    SMALLEST_STREAM_TILE,
    SMALLEST_TILE,
    innermost_reuse,
    ladder,
    refetch,
)
from sim.memory.traffic import (
    MODES,
    S_GRAIN,
    S_NONZEROS,
    S_PACKED_K,
    accumulator_may_bind,
    gemm_cycles,
    level_bytes,
    on_chip_cycles,
    room,
    single_use_possible,
    tile_work,
)
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ALU, _SPECIAL, _READ, _WRITE = (position(c) for c in ("alu_ops", "special_function_ops", "read_bytes", "write_bytes"))
_DRAM_READ, _DRAM_WRITE = position("dram_read_bytes"), position("dram_write_bytes")
_LIVE_IN, _LIVE_OUT, _KIND, _REPEATS = (position(c) for c in ("live_in_bytes", "live_out_bytes", "kind", "repeats"))
_OBITS = position("output_bits")

STATES = 4  # residency: bit 0 = input resident, bit 1 = output resident
M_CYCLES, M_TILE_M, M_TILE_N, M_TILE_K, M_ORDER, M_BUFFERS, M_DRAM, M_OVERFLOW, M_MODE = range(9)
MAPPING_COLUMNS = 9
_TIE = 1e-9  # weight of DRAM bytes against cycles: breaks ties only

C_COMPUTE, C_EDGE, C_IMBALANCE, C_FILL, C_SHARED, C_WBUF, C_IBUF, C_ACC, C_DRAM, C_LATENCY, C_VECTOR, C_DEPENDENCY = (
    INDEX[c] for c in COLUMNS[1:13]
)
A_MACS, A_IDLE, A_FRONT, A_SCATTER, A_VECTOR, A_SPECIAL, A_SHARED_READ = (INDEX[c] for c in COLUMNS[13:20])
A_DRAM_READ, A_DRAM_WRITE = INDEX["dram_read_bytes"], INDEX["dram_write_bytes"]
N_COLUMNS = len(COLUMNS)


@numba.njit(cache=True)
def carried_bytes(o):
    """Activations that outlive the op besides its own output (the residual stream, say)."""
    own = o[_WRITE] if o[_KIND] == 1.0 else o[_BATCH] * o[_M] * o[_N] * o[_OBITS] / 8.0
    return max(0.0, o[_LIVE_OUT] - own)


@numba.njit(cache=True)
def reserved_bytes(o, state):
    """``shared`` bytes held by resident tensors while the op runs."""
    resident_in, resident_out = state & 1, state >> 1
    total = 0.0
    if resident_in:
        total += o[_LIVE_IN]
    if resident_out:
        total += max(0.0, o[_LIVE_OUT] - (carried_bytes(o) if resident_in else 0.0))
    return total


@numba.njit(cache=True)
def transition_bytes(o, state):
    """(DRAM reads, DRAM writes) of carried tensors when residency changes across the op."""
    carried = carried_bytes(o)
    if state == 1:
        return 0.0, carried
    if state == 2:
        return carried, 0.0
    return 0.0, 0.0


@numba.njit(cache=True)
def search_gemm(d, o, s, best):
    """Fill ``best`` [STATES, MAPPING_COLUMNS] with the best mapping of a GEMM in each residency."""
    m, n, k = o[_M], o[_N], o[_K]
    sizes_m, sizes_n, sizes_k = np.empty(LARGEST_LADDER), np.empty(LARGEST_LADDER), np.empty(LARGEST_LADDER)
    owned, walked = float(GRAIN), s[S_GRAIN]
    if d[D_KIND] == 1.0:
        owned = d[D_ROWS]
    grain_n, grain_k = (owned, walked) if d[D_KIND] == 0.0 or d[D_ORIENTATION] == 0.0 else (walked, owned)
    count_m = ladder(m, SMALLEST_STREAM_TILE, GRAIN, sizes_m)
    count_n = ladder(n, max(SMALLEST_TILE, grain_n), grain_n, sizes_n)
    count_k = ladder(k, max(SMALLEST_TILE, grain_k), grain_k, sizes_k)
    score = np.full(STATES, np.inf)
    best[:, M_CYCLES] = np.nan
    best[:, M_OVERFLOW] = np.inf
    for im in range(count_m):
        for i_n in range(count_n):
            for ik in range(count_k):
                tile_m, tile_n, tile_k = sizes_m[im], sizes_n[i_n], sizes_k[ik]
                trips_m, trips_n, trips_k = np.ceil(m / tile_m), np.ceil(n / tile_n), np.ceil(k / tile_k)
                cut = (trips_m > 1.0) + (trips_n > 1.0) + (trips_k > 1.0)
                first = tile_work(d, o, s, tile_m, tile_n, tile_k, 0)
                modes = len(MODES) if single_use_possible(d, first) else 2
                for mode in range(modes):
                    w = tile_work(d, o, s, tile_m, tile_n, tile_k, mode) if mode > 0 else first
                    if mode == 1 and not accumulator_may_bind(d, first, trips_k):
                        continue
                    for order in range(len(ORDERS) if cut > 1 else 1):
                        _try_order(d, o, s, w, tile_m, tile_n, tile_k, order, mode, best, score)


@numba.njit(cache=True)
def _try_order(d, o, s, w, tile_m, tile_n, tile_k, order, mode, best, score):
    """Enter one loop order of one tiling into ``best`` and ``score`` [STATES] wherever it wins."""
    trips_m, trips_n, trips_k = np.ceil(o[_M] / tile_m), np.ceil(o[_N] / tile_n), np.ceil(o[_K] / tile_k)
    f_in, f_weight, f_out, distance = refetch(order, trips_m, trips_n, trips_k)
    reused, reuse = innermost_reuse(order, trips_m, trips_n, trips_k)
    spills = f_out > 1.0
    for state in range(STATES):
        resident_in, resident_out = (state & 1) > 0, state > 1
        free = d[D_SHARED] - reserved_bytes(o, state)
        buffers = 2 if d[D_SHARED_DB] > 0.0 else 1
        need = room(w, buffers, spills, resident_in, resident_out)
        if buffers == 2 and (need > free or (spills and distance <= 2.0)):
            buffers = 1
            need = room(w, buffers, spills, resident_in, resident_out)
        if need > free or (spills and distance <= buffers):
            best[state, M_OVERFLOW] = min(best[state, M_OVERFLOW], need - free)
            continue
        visits = (f_out - 1.0, f_out - 1.0, 1.0, 1.0)
        moved = level_bytes(d, o, s, w, (f_in, f_weight), visits, resident_in, resident_out)
        cycles = gemm_cycles(d, o, s, w, moved, buffers, reused, reuse, f_weight, resident_in, resident_out)
        dram = moved[8] + moved[9]
        if cycles + _TIE * dram < score[state]:
            score[state] = cycles + _TIE * dram
            found = best[state]
            found[M_CYCLES], found[M_ORDER], found[M_BUFFERS], found[M_DRAM] = cycles, order, buffers, dram
            found[M_TILE_M], found[M_TILE_N], found[M_TILE_K], found[M_MODE] = tile_m, tile_n, tile_k, mode


@numba.njit(cache=True)
def vector_cycles(d, o, state):
    """(vector unit, shared, DRAM) cycles and (read, write) DRAM bytes of a vector op."""
    resident_in, resident_out = (state & 1) > 0, state > 1
    compute = o[_ALU] / d[D_VECTOR] + o[_SPECIAL] / d[D_SPECIAL]
    read = o[_DRAM_READ] + (0.0 if resident_in else o[_READ])
    write = o[_DRAM_WRITE] + (0.0 if resident_out else o[_WRITE])
    shared = (o[_READ] + o[_WRITE] + read + write) / d[D_SHARED_BPC]
    return compute, shared, (read + write) / d[D_DRAM_BPC], read, write


@numba.njit(cache=True)
def search_vector(d, o, best):
    """As :func:`search_gemm` for a vector op: it streams, so any residency that fits is one mapping."""
    for state in range(STATES):
        over = reserved_bytes(o, state) - d[D_SHARED]
        best[state, M_OVERFLOW] = over
        if over > 0.0:
            best[state, M_CYCLES] = np.nan
            continue
        compute, shared, dram, read, write = vector_cycles(d, o, state)
        best[state, M_CYCLES] = max(compute, shared, dram)
        best[state, M_BUFFERS] = 1.0
        best[state, M_DRAM] = read + write


@numba.njit(cache=True)
def op_cycles(d, o, state, best):
    """Cycles of the op in a residency, with DRAM latency and carried tensors; NaN if it does not fit."""
    read, write = transition_bytes(o, state)
    cycles = best[state, M_CYCLES] + (read + write) / d[D_DRAM_BPC]
    if best[state, M_DRAM] + read + write > 0.0:
        cycles += d[D_DRAM_LATENCY]
    return cycles


@numba.njit(cache=True)
def account_gemm(d, o, s, mapping, state, out):
    """Add one GEMM's cycles, causes and actions to ``out`` [N_COLUMNS], at its chosen mapping; times its repeats."""
    resident_in, resident_out = (state & 1) > 0, state > 1
    tile_m, tile_n, tile_k = mapping[M_TILE_M], mapping[M_TILE_N], mapping[M_TILE_K]
    w = tile_work(d, o, s, tile_m, tile_n, tile_k, int(mapping[M_MODE]))
    order = int(mapping[M_ORDER])
    trips_m, trips_n, trips_k = np.ceil(o[_M] / tile_m), np.ceil(o[_N] / tile_n), np.ceil(o[_K] / tile_k)
    f_in, f_weight, f_out, _ = refetch(order, trips_m, trips_n, trips_k)
    reused, reuse = innermost_reuse(order, trips_m, trips_n, trips_k)
    visits = (f_out - 1.0, f_out - 1.0, 1.0, 1.0)
    b = level_bytes(d, o, s, w, (f_in, f_weight), visits, resident_in, resident_out)
    buffers = int(mapping[M_BUFFERS])
    total = gemm_cycles(d, o, s, w, b, buffers, reused, reuse, f_weight, resident_in, resident_out)
    r = o[_REPEATS]
    c1, c2, c3, c4 = on_chip_cycles(d, w, b)
    drain = max(w[2], 0.0) * (w[0] if buffers == 1 else 1.0) + min(w[2], 0.0)
    out[C_COMPUTE] += r * w[3]
    out[C_EDGE] += r * (w[4] - w[3])
    out[C_IMBALANCE] += r * (w[5] - w[4])
    out[C_FILL] += r * (w[1] - w[5] + drain)
    out[C_SHARED] += r * (c1 - w[1])
    out[C_WBUF] += r * (c2 - c1)
    out[C_IBUF] += r * (c3 - c2)
    out[C_ACC] += r * (c4 - c3)
    waiting = total - c4 - drain
    bus = min(waiting, max(0.0, (b[8] + b[9]) / d[D_DRAM_BPC] - c4 - drain))
    out[C_DRAM] += r * bus
    out[C_DEPENDENCY] += r * (waiting - bus)
    macs = o[_BATCH] * o[_M] * (s[S_NONZEROS] if d[D_KIND] == 1.0 else o[_N] * s[S_PACKED_K])
    out[A_MACS] += r * macs
    out[A_IDLE] += r * max(0.0, total * d[D_ROWS] * d[D_COLS] - macs)
    if d[D_KIND] == 1.0:
        out[A_FRONT] += r * o[_BATCH] * w[19] * s[S_NONZEROS]
        if d[D_ORIENTATION] == 1.0:
            out[A_SCATTER] += r * macs
    for i in range(10):
        out[A_SHARED_READ + i] += r * b[i]
    out[0] += r * total


@numba.njit(cache=True)
def account_vector(d, o, state, out):
    """As :func:`account_gemm` for a vector op."""
    r = o[_REPEATS]
    compute, shared, dram, read, write = vector_cycles(d, o, state)
    total = max(compute, shared, dram)
    out[C_VECTOR] += r * compute
    out[C_SHARED] += r * max(0.0, shared - compute)
    out[C_DRAM] += r * (total - max(compute, shared))
    out[A_VECTOR] += r * o[_ALU]
    out[A_SPECIAL] += r * o[_SPECIAL]
    out[A_IDLE] += r * total * d[D_ROWS] * d[D_COLS]
    out[A_SHARED_READ] += r * (o[_READ] + write)
    out[A_SHARED_READ + 1] += r * (o[_WRITE] + read)
    out[A_DRAM_READ] += r * read
    out[A_DRAM_WRITE] += r * write
    out[0] += r * total


@numba.njit(cache=True)
def account_rest(d, o, state, best, out):
    """Add what surrounds the op: DRAM latency once, and tensors that change residency across it."""
    r = o[_REPEATS]
    read, write = transition_bytes(o, state)
    moving = (read + write) / d[D_DRAM_BPC]
    out[C_DRAM] += r * moving
    out[A_DRAM_READ] += r * read
    out[A_DRAM_WRITE] += r * write
    out[A_SHARED_READ] += r * write
    out[A_SHARED_READ + 1] += r * read
    waiting = moving
    if best[state, M_DRAM] + read + write > 0.0:
        out[C_LATENCY] += r * d[D_DRAM_LATENCY]
        waiting += d[D_DRAM_LATENCY]
    out[A_IDLE] += r * waiting * d[D_ROWS] * d[D_COLS]
    out[0] += r * waiting
