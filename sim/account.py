"""One op's full account at its chosen mapping: every cycle to one cause, every action counted."""

from __future__ import annotations

import numba
import numpy as np

from sim.avoided import shares
from sim.candidates import BOUND_COLUMNS, R_DISTANCE, R_REUSE, R_REUSED, R_TILES, ROW_COLUMNS, add_row, dram_part
from sim.compute.array_work import array_work, share
from sim.counts import COLUMNS, INDEX
from sim.designs import (
    D_AVOIDS,
    D_COLS,
    D_COUNT,
    D_DRAM_BPC,
    D_DRAM_LATENCY,
    D_EFFICIENCY,
    D_FEATURES,
    D_HOME,
    D_KIND,
    D_LEVELS,
    D_ROWS,
    D_SPECIAL,
    D_TIERS,
    D_VECTOR,
    L_AVOIDS,
    L_BYTES,
    LEVEL_COLUMNS,
)
from sim.fit import carried_bytes, overflow, reserved_bytes
from sim.mapping import T_ORDER, TIER_COLUMNS, refetch
from sim.memory.dram import RUN_BYTES
from sim.memory.keepers import SINGLE_USE, keeper, rooms
from sim.memory.on_chip import (
    DRAM_COLUMNS,
    STEPS,
    X_HOME,
    X_LOAD,
    X_READ,
    X_STORE,
    X_WRITE,
    busy_cycles,
    level_cycles,
    op_cycles,
)
from sim.memory.operands import INPUTS, OUTPUTS
from sim.memory.runs import tile_runs
from sim.memory.traffic import (
    E_ARRAY,
    E_CHECKS,
    E_DRAIN,
    E_EDGE,
    E_IDEAL,
    E_READ,
    E_SENT,
    E_SPENT,
    E_SUMS_HELD,
    E_UNFILLED,
    E_WEIGHT_PASSES,
    ENTRY_COLUMNS,
    WHOLE_OP,
    inner_flow,
)
from sim.scores import (
    P_CYCLE,
    P_DRAM,
    P_LEVEL,
    P_SPECIAL,
    P_VECTOR,
    base_energy,
    input_pops,
    macs_of,
    mapping_energy,
    scatters,
    score_of,
)
from sim.search import M_BUFFERS, M_BYPASS, M_CYCLES, M_DRAM, M_ENERGY, M_NEST, M_SCORE, M_SINGLE, M_SPLIT_K, M_SPLIT_M
from sim.sparse_columns import S_DECODED, S_EFFECTUAL, S_FOLDS, S_NONZEROS, S_POSITIONS, S_WEIGHT_FOLDS
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ALU, _SPECIAL, _READ, _WRITE = (position(c) for c in ("alu_ops", "special_function_ops", "read_bytes", "write_bytes"))
_DRAM_READ, _DRAM_WRITE, _REPEATS = (position(c) for c in ("dram_read_bytes", "dram_write_bytes", "repeats"))

N_COLUMNS = len(COLUMNS)
C_COMPUTE, C_EDGE, C_IMBALANCE, C_FILL, C_LEVEL = (
    INDEX[c] for c in ("compute", "edge", "imbalance", "fill_drain", "level0_bandwidth")
)
C_NETWORK, C_DECODE, C_DRAM, C_LATENCY, C_VECTOR, C_DEPENDENCY = (
    INDEX[c] for c in ("network_bandwidth", "decode", "dram_bandwidth", "dram_latency", "vector", "dependency")
)
A_MACS, A_MAC_CYCLES, A_GATED, A_SKIPPED, A_IDLE, A_DECODES, A_FRONT, A_SCATTER, A_VECTOR, A_SPECIAL, A_LEVEL = (
    INDEX[c]
    for c in (
        "macs",
        "mac_cycles",
        "gated_mac_cycles",
        "skipped_macs",
        "idle_pe_cycles",
        "decodes",
        "front_end_ops",
        "scatter_ops",
        "vector_ops",
        "special_function_ops",
        "level0_read_bytes",
    )
)
A_NETWORK, A_DRAM_READ, A_DRAM_WRITE = (INDEX[c] for c in ("network_bytes", "dram_read_bytes", "dram_write_bytes"))
A_CHECKS, A_AVOIDED, A_DRAM_SKIPPED = (INDEX[c] for c in ("intersections", "level0_gated_bytes", "dram_skipped_bytes"))


@numba.njit(cache=True)
def rebuild(d, o, s, slow, mapping, state, b, r, e, x):
    """From a mapping to its row ``b``, ``r``, entry ``e`` and DRAM traffic ``x``; returns what it lacks to fit: bytes
    (inf: partial sums come back too soon) and the slot, at most 0 if it fits in its buffers."""
    tiers = int(d[D_TIERS])
    nest, trips = np.zeros((MAX_TIERS + 1, 3)), np.ones((MAX_TIERS + 1, 3))
    orders = np.zeros(MAX_TIERS + 1, dtype=np.int64)
    split = mapping[M_SPLIT_M : M_SPLIT_K + 1]
    sizes = (o[_M], o[_N], o[_K])
    for tier in range(1, tiers + 1):
        at = M_NEST + (tier - 1) * TIER_COLUMNS
        orders[tier] = int(mapping[at + T_ORDER])
        for axis in range(3):
            nest[tier, axis] = mapping[at + axis]
            part = sizes[axis] if tier == 1 else share(sizes[axis], nest[1, axis], split[axis])
            trips[tier, axis] = max(trips[tier - 1, axis], np.ceil(part / nest[tier, axis]))
    own = np.ceil(nest[1] / split)
    uncut = array_work(d, o, s, nest[1], split, slow, own[0], own[1], own[2])
    runs = tile_runs(d, o, s, nest[1, 0], nest[1, 1], nest[1, 2])
    add_row(d, o, s, nest, split, trips, orders, uncut, runs, 1, b, r)
    dram_part(d, b, r, state, x)
    work = uncut
    if tiers > 1:
        work = array_work(d, o, s, nest[1], split, slow, nest[tiers, 0], nest[tiers, 1], nest[tiers, 2])
    mode = int(mapping[M_BYPASS]) + (SINGLE_USE if mapping[M_SINGLE] > 0.0 else 0)
    room = np.empty(MAX_LEVELS)
    rooms(d, o, s, nest, room)
    left = np.empty((3, MAX_TIERS + 1, 3))
    shares(d, o, s, nest, trips, orders, split, room, mode, left)
    inner_flow(d, o, s, nest, room, trips, orders, split, work, mode, left, WHOLE_OP, e)
    spills = refetch(trips, orders, 1, 2) > 1.0
    return overflow(
        d, o, s, int(d[D_HOME]), nest, e[E_SUMS_HELD] > 0.0, r[R_DISTANCE], spills, state, int(mapping[M_BUFFERS])
    )


@numba.njit(cache=True)
def price_mapping(d, o, s, slow, price, objective, mapping, state):
    """Fill a given mapping's score, cycles, energy and DRAM bytes; returns (bytes over, slot) as :func:`rebuild`."""
    b, r, e, x = np.empty(BOUND_COLUMNS), np.empty(ROW_COLUMNS), np.empty(ENTRY_COLUMNS), np.empty(DRAM_COLUMNS)
    over, slot = rebuild(d, o, s, slow, mapping, state, b, r, e, x)
    steps = np.empty(STEPS)
    busy = busy_cycles(d, e, x, steps)
    cycles = op_cycles(d, busy, e[E_DRAIN], x, r[R_TILES], int(mapping[M_BUFFERS]), int(r[R_REUSED]), r[R_REUSE])
    energy = base_energy(d, o, s, slow, price) + mapping_energy(price, o, s, e, x, cycles)
    mapping[M_CYCLES], mapping[M_ENERGY], mapping[M_DRAM] = cycles, energy, x[X_READ] + x[X_WRITE]
    mapping[M_SCORE] = score_of(objective, cycles, energy, x[X_READ] + x[X_WRITE])
    return over, slot


@numba.njit(cache=True)
def account_gemm(d, o, s, slow, mapping, state, out):
    """Add one GEMM's cycles, causes and actions to ``out`` [N_COLUMNS], at its chosen mapping, once."""
    b, rr, e, x = np.empty(BOUND_COLUMNS), np.empty(ROW_COLUMNS), np.empty(ENTRY_COLUMNS), np.empty(DRAM_COLUMNS)
    rebuild(d, o, s, slow, mapping, state, b, rr, e, x)
    steps = np.empty(STEPS)
    busy = busy_cycles(d, e, x, steps)
    buffers = int(mapping[M_BUFFERS])
    total = op_cycles(d, busy, e[E_DRAIN], x, rr[R_TILES], buffers, int(rr[R_REUSED]), rr[R_REUSE])
    drain = max(e[E_DRAIN], 0.0) * (rr[R_TILES] if buffers == 1 else 1.0) + min(e[E_DRAIN], 0.0)
    out[C_COMPUTE] += e[E_IDEAL]
    out[C_EDGE] += e[E_EDGE] - e[E_IDEAL]
    out[C_IMBALANCE] += e[E_UNFILLED] - e[E_EDGE]
    out[C_FILL] += e[E_ARRAY] - e[E_UNFILLED] + drain
    for slot in range(MAX_LEVELS):
        out[C_LEVEL + slot] += steps[slot + 1] - steps[slot]
    out[C_NETWORK] += steps[MAX_LEVELS + 1] - steps[MAX_LEVELS]
    out[C_DECODE] += steps[MAX_LEVELS + 2] - steps[MAX_LEVELS + 1]
    waiting = total - busy - drain
    bus = min(waiting, max(0.0, (x[X_LOAD] + x[X_STORE]) / d[D_DRAM_BPC] - busy - drain))
    out[C_DRAM] += bus
    out[C_DEPENDENCY] += waiting - bus
    macs = macs_of(d, o, s)
    out[A_MACS] += macs * s[S_EFFECTUAL]
    out[A_MAC_CYCLES] += macs * s[S_EFFECTUAL] * slow
    out[A_GATED] += macs * (1.0 - s[S_EFFECTUAL]) * slow
    out[A_SKIPPED] += o[_BATCH] * o[_M] * o[_N] * o[_K] - macs
    out[A_IDLE] += max(0.0, total * d[D_ROWS] * d[D_COLS] * d[D_COUNT] - macs * slow)
    out[A_DECODES] += o[_BATCH] * e[E_WEIGHT_PASSES] * s[S_DECODED]
    if d[D_KIND] > 0.0:
        out[A_FRONT] += o[_BATCH] * e[E_WEIGHT_PASSES] * s[S_NONZEROS] + input_pops(d, o, s)
        if scatters(d):
            out[A_SCATTER] += macs
    for i in range(MAX_LEVELS):
        out[A_LEVEL + 2 * i] += e[E_SPENT + i] + x[X_HOME + 2 * i]
        out[A_LEVEL + 2 * i + 1] += e[E_SPENT + MAX_LEVELS + i] + x[X_HOME + 2 * i + 1]
    out[A_NETWORK] += e[E_SENT]
    out[A_DRAM_READ] += x[X_READ]
    out[A_DRAM_WRITE] += x[X_WRITE]
    out[A_CHECKS] += e[E_CHECKS]
    if d[D_FEATURES] > 0.0 or s[S_POSITIONS] < 1.0 or s[S_FOLDS] < 1.0:
        _count_avoided(d, o, s, slow, mapping, state, e, x, out)
    out[0] += total


@numba.njit(cache=True)
def _count_avoided(d, o, s, slow, mapping, state, e, x, out):
    """Add the bytes that levels gate and skip: what the same mapping moves without any features, less what it does."""
    plain, dense = d.copy(), s.copy()
    plain[D_AVOIDS : D_FEATURES + 1] = 0.0
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS + L_AVOIDS
        plain[at : at + 3] = 0.0
    dense[S_FOLDS] = dense[S_WEIGHT_FOLDS] = dense[S_POSITIONS] = 1.0
    b, r, all_e, all_x = np.empty(BOUND_COLUMNS), np.empty(ROW_COLUMNS), np.empty(ENTRY_COLUMNS), np.empty(DRAM_COLUMNS)
    rebuild(plain, o, dense, slow, mapping, state, b, r, all_e, all_x)
    for i in range(MAX_LEVELS):
        home = X_HOME + 2 * i
        timed = e[E_READ + i] + e[E_READ + MAX_LEVELS + i]
        moved = all_e[E_READ + i] + all_e[E_READ + MAX_LEVELS + i] + all_x[home] + all_x[home + 1]
        out[A_AVOIDED + 2 * i] += max(0.0, timed - e[E_SPENT + i] - e[E_SPENT + MAX_LEVELS + i])
        out[A_AVOIDED + 2 * i + 1] += max(0.0, moved - timed - x[home] - x[home + 1])
    out[A_DRAM_SKIPPED] += max(0.0, all_x[X_READ] + all_x[X_WRITE] - x[X_READ] - x[X_WRITE])


@numba.njit(cache=True)
def stream_bpc(d):
    """Bytes a cycle that DRAM gives a long stream."""
    return d[D_DRAM_BPC] * d[D_EFFICIENCY + 2 * (len(RUN_BYTES) - 1)]


@numba.njit(cache=True)
def vector_cycles(d, o, state):
    """(vector unit, tier 1, DRAM) cycles and (read, write) DRAM bytes of a vector op; tier 1 as the slot that keeps
    inputs, what it reads and writes, and the same of the slot that keeps outputs (all at the first if one keeps both).
    """
    resident_in, resident_out = (state & 1) > 0, state > 1
    compute = o[_ALU] / d[D_VECTOR] + o[_SPECIAL] / d[D_SPECIAL]
    read = o[_DRAM_READ] + (0.0 if resident_in else o[_READ])
    write = o[_DRAM_WRITE] + (0.0 if resident_out else o[_WRITE])
    in_slot, out_slot = keeper(d, 1, INPUTS), keeper(d, 1, OUTPUTS)
    in_read, in_write, out_read, out_write = o[_READ], read, write, o[_WRITE]
    if in_slot == out_slot:
        in_read, in_write, out_read, out_write = in_read + out_read, in_write + out_write, 0.0, 0.0
    level = level_cycles(d, in_slot, in_read, in_write, 1.0)
    if in_slot != out_slot:
        level = max(level, level_cycles(d, out_slot, out_read, out_write, 1.0))
    dram = (read + write) / stream_bpc(d)
    return compute, level, dram, read, write, in_slot, in_read, in_write, out_slot, out_read, out_write


@numba.njit(cache=True)
def search_vector(d, o, price, objective, best):
    """As :func:`sim.search.search` for a vector op: it streams, so any residency that fits is one mapping. Returns the
    least overflow in bytes."""
    least = np.inf
    home = int(d[D_HOME])
    best[:] = 0.0
    for state in range(4):
        best[state, M_SCORE] = np.inf
        over = 0.0
        if state > 0:
            over = np.inf
            if home >= 0:
                over = reserved_bytes(o, state) - d[D_LEVELS + home * LEVEL_COLUMNS + L_BYTES]
        least = min(least, over)
        if over > 0.0:
            continue
        compute, level, dram, read, write, a, a_read, a_write, b, b_read, b_write = vector_cycles(d, o, state)
        cycles = max(compute, level, dram)
        energy = price[P_CYCLE] * cycles + price[P_DRAM] * (read + write)
        energy += price[P_LEVEL + 2 * a] * a_read + price[P_LEVEL + 2 * a + 1] * a_write
        energy += price[P_LEVEL + 2 * b] * b_read + price[P_LEVEL + 2 * b + 1] * b_write
        energy += price[P_VECTOR] * o[_ALU] + price[P_SPECIAL] * o[_SPECIAL]
        best[state, M_CYCLES], best[state, M_ENERGY], best[state, M_DRAM] = cycles, energy, read + write
        best[state, M_SCORE] = score_of(objective, cycles, energy, read + write)
        best[state, M_BUFFERS] = 1.0
    return least


@numba.njit(cache=True)
def account_vector(d, o, state, out):
    """As :func:`account_gemm` for a vector op."""
    r = o[_REPEATS]
    compute, level, dram, read, write, a, a_read, a_write, b, b_read, b_write = vector_cycles(d, o, state)
    total = max(compute, level, dram)
    out[C_VECTOR] += r * compute
    slowest = a if level_cycles(d, a, a_read, a_write, 1.0) >= level else b
    out[C_LEVEL + slowest] += r * max(0.0, level - compute)
    out[C_DRAM] += r * (total - max(compute, level))
    out[A_VECTOR] += r * o[_ALU]
    out[A_SPECIAL] += r * o[_SPECIAL]
    out[A_IDLE] += r * total * d[D_ROWS] * d[D_COLS] * d[D_COUNT]
    out[A_LEVEL + 2 * a] += r * a_read
    out[A_LEVEL + 2 * a + 1] += r * a_write
    out[A_LEVEL + 2 * b] += r * b_read
    out[A_LEVEL + 2 * b + 1] += r * b_write
    out[A_DRAM_READ] += r * read
    out[A_DRAM_WRITE] += r * write
    out[0] += r * total


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
def around(d, o, state, dram):
    """(cycles, DRAM reads, DRAM writes) around an op that moves ``dram`` bytes itself: its first access's latency, and
    tensors that change residency."""
    read, write = transition_bytes(o, state)
    cycles = (read + write) / stream_bpc(d)
    if dram + read + write > 0.0:
        cycles += d[D_DRAM_LATENCY]
    return cycles, read, write


@numba.njit(cache=True)
def state_score(d, o, price, objective, state, mapping):
    """Score of the op in a residency with what surrounds it; inf if it does not fit."""
    if np.isinf(mapping[M_SCORE]):
        return np.inf
    cycles, read, write = around(d, o, state, mapping[M_DRAM])
    energy = price[P_CYCLE] * cycles + price[P_DRAM] * (read + write)
    return score_of(objective, mapping[M_CYCLES] + cycles, mapping[M_ENERGY] + energy, mapping[M_DRAM] + read + write)


@numba.njit(cache=True)
def account_rest(d, o, state, mapping, out):
    """Add what surrounds the op: DRAM latency once, and tensors that change residency across it."""
    r = o[_REPEATS]
    cycles, read, write = around(d, o, state, mapping[M_DRAM])
    moving = (read + write) / stream_bpc(d)
    slot = keeper(d, 1, OUTPUTS)
    out[C_DRAM] += r * moving
    out[C_LATENCY] += r * (cycles - moving)
    out[A_DRAM_READ] += r * read
    out[A_DRAM_WRITE] += r * write
    out[A_LEVEL + 2 * slot] += r * write
    out[A_LEVEL + 2 * slot + 1] += r * read
    out[A_IDLE] += r * cycles * d[D_ROWS] * d[D_COLS] * d[D_COUNT]
    out[0] += r * cycles
