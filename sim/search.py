"""The best mapping of one op in every residency: bound all candidates, then evaluate those that could still win.

The bound of a row (:mod:`sim.candidates`) is never above its score, so a row whose bound is not below the best score
found cannot win: leaving it out is exact (``tests/sim/test_search.py`` compares with evaluating everything).
"""

from __future__ import annotations

import numba
import numpy as np

from sim.candidates import (
    B_ARRAY,
    B_END_IN,
    B_END_OUT,
    B_ENDS,
    B_FIXED,
    B_HOME,
    B_HOME_IN,
    B_HOME_OUT,
    B_IN,
    B_OUT,
    B_RAW,
    B_RAW_IN,
    B_RAW_OUT,
    B_REACH,
    B_STORE,
    B_STORE_OUT,
    B_TILE,
    R_DISTANCE,
    R_K,
    R_M,
    R_N,
    R_ORDER,
    R_REUSE,
    R_REUSED,
    R_SPILLS,
    R_SPLIT_K,
    R_SPLIT_M,
    R_SPLIT_N,
    R_TILES,
    STATES,
    dram_part,
    inner_mappings,
    most_buffers,
    outermost,
    overflow,
)
from sim.designs import D_DRAM_BPC, D_HOME, D_LEVELS, L_READ_BPC, L_WRITE_BPC, LEVEL_COLUMNS
from sim.mapping import T_K, T_M, T_N, T_ORDER, TIER_COLUMNS
from sim.memory.on_chip import DRAM_COLUMNS, X_READ, X_WRITE, busy_cycles, op_cycles
from sim.memory.traffic import (
    E_BYPASS,
    E_NEST,
    E_NETWORK,
    E_READ,
    E_SINGLE,
    E_SUMS_HELD,
    E_WRITE,
)
from sim.spec import MAX_LEVELS, MAX_TIERS

LATENCY, ENERGY, EDP, TRAFFIC = range(4)
TIE = 1e-12  # weight of energy (pJ) against cycles and of cycles against bytes: breaks ties only

# Prices of a design: pJ a cycle that passes (idle PEs, leakage, background), a byte of DRAM, of the network, of levels
P_CYCLE, P_DRAM, P_NETWORK, P_LEVEL = 0, 1, 2, 3
PRICE_COLUMNS = P_LEVEL + 2 * MAX_LEVELS

# A chosen mapping
(
    M_SCORE,
    M_CYCLES,
    M_ENERGY,
    M_DRAM,
    M_BUFFERS,
    M_SINGLE,
    M_BYPASS,
    M_SPLIT_M,
    M_SPLIT_N,
    M_SPLIT_K,
) = range(10)
M_NEST = 10  # tiers 1.. : tile m, n, k, loop order
MAPPING_COLUMNS = M_NEST + MAX_TIERS * TIER_COLUMNS


@numba.njit(cache=True)
def score_of(objective, cycles, energy, dram):
    """What is minimised; ties go to less energy (or to fewer cycles)."""
    if objective == LATENCY:
        return cycles + TIE * energy
    if objective == ENERGY:
        return energy + TIE * cycles
    if objective == EDP:
        return cycles * energy
    return dram + TIE * cycles


@numba.njit(cache=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def bound_cycles(d, b, state, out):
    """Fill ``out`` [rows] with cycles that no mapping of the row can beat in a residency; returns the least."""
    bus = 1.0 / d[D_DRAM_BPC]
    at = D_LEVELS + outermost(d) * LEVEL_COLUMNS
    home = 1.0 / (d[at + L_READ_BPC] + d[at + L_WRITE_BPC])
    with_in = 0.0 if state & 1 else 1.0
    with_out = 0.0 if state > 1 else 1.0
    least = np.inf
    for i in range(b.shape[1]):
        ends = (b[B_ENDS, i] + with_in * b[B_END_IN, i] + with_out * b[B_END_OUT, i]) * bus
        dram = (b[B_FIXED, i] + with_in * b[B_IN, i] + with_out * b[B_OUT, i]) * bus
        store = (b[B_STORE, i] + with_out * b[B_STORE_OUT, i]) * bus
        level = (b[B_HOME, i] + with_in * b[B_HOME_IN, i] + with_out * b[B_HOME_OUT, i]) * home
        bound = max(max(b[B_ARRAY, i] + ends, level), max(dram, dram - store + b[B_TILE, i]))
        bound += b[B_REACH + state, i]
        out[i] = bound
        least = min(least, bound)
    return least


@numba.njit(cache=True)
def bound_scores(d, price, objective, b, state, out):
    """As :func:`bound_cycles`, for any objective."""
    bound_cycles(d, b, state, out)
    if objective == LATENCY:
        return
    for i in range(len(out)):
        raw = b[B_RAW, i]
        if not state & 1:
            raw += b[B_RAW_IN, i]
        if state <= 1:
            raw += b[B_RAW_OUT, i]
        energy = price[P_CYCLE] * out[i] + price[P_DRAM] * raw
        out[i] = score_of(objective, out[i], energy, raw)


@numba.njit(cache=True)
def mapping_energy(price, e, x, cycles):
    """pJ of what a mapping decides: bytes by level, network, DRAM, and cycles that pass."""
    total = price[P_CYCLE] * cycles + price[P_DRAM] * (x[X_READ] + x[X_WRITE]) + price[P_NETWORK] * e[E_NETWORK]
    for slot in range(MAX_LEVELS):
        total += price[P_LEVEL + 2 * slot] * (e[E_READ + slot] + x[6 + 2 * slot])
        total += price[P_LEVEL + 2 * slot + 1] * (e[E_WRITE + slot] + x[7 + 2 * slot])
    return total


@numba.njit(cache=True)
def evaluate_row(d, o, s, price, objective, b, r, entries, state, best, x, steps, nest):
    """Try every inner mapping of a row in a residency; enter the winner into ``best`` [MAPPING_COLUMNS]."""
    dram_part(d, b, r, state, x)
    nest[1, 0], nest[1, 1], nest[1, 2] = r[R_M], r[R_N], r[R_K]
    spills = r[R_SPILLS] > 0.0
    allowed = most_buffers(d)
    fitting = np.zeros(2, dtype=np.int64)
    for held in range(2):
        for buffers in range(allowed, 0, -1):
            over, _ = overflow(d, o, s, int(d[D_HOME]), nest, held == 1, r[R_DISTANCE], spills, state, buffers)
            if over <= 0.0:
                fitting[held] = buffers
                break
    for i in range(len(entries)):
        e = entries[i]
        buffers = fitting[int(e[E_SUMS_HELD])]
        if buffers == 0:
            continue
        busy = busy_cycles(d, e, x, steps)
        cycles = op_cycles(d, busy, e, x, r[R_TILES], buffers, int(r[R_REUSED]), r[R_REUSE])
        energy = mapping_energy(price, e, x, cycles)
        dram = x[X_READ] + x[X_WRITE]
        score = score_of(objective, cycles, energy, dram)
        if score < best[M_SCORE]:
            best[M_SCORE], best[M_CYCLES], best[M_ENERGY], best[M_DRAM] = score, cycles, energy, dram
            best[M_BUFFERS], best[M_SINGLE], best[M_BYPASS] = buffers, e[E_SINGLE], e[E_BYPASS]
            best[M_SPLIT_M], best[M_SPLIT_N], best[M_SPLIT_K] = r[R_SPLIT_M], r[R_SPLIT_N], r[R_SPLIT_K]
            best[M_NEST + T_M], best[M_NEST + T_N], best[M_NEST + T_K] = r[R_M], r[R_N], r[R_K]
            best[M_NEST + T_ORDER] = r[R_ORDER]
            best[M_NEST + TIER_COLUMNS :] = e[E_NEST : E_NEST + (MAX_TIERS - 1) * TIER_COLUMNS]


@numba.njit(cache=True)
def search(d, o, s, slow, price, objective, bounds, rows, pool, used, spans, scratch, best, exhaustive):
    """Fill ``best`` [STATES, MAPPING_COLUMNS] (score inf: nothing fits). ``pool`` and ``spans`` [rows, 2] (first entry,
    number; -1: not yet) keep inner mappings between designs of one geometry. Returns (pool, used)."""
    x, steps, nest = np.empty(DRAM_COLUMNS), np.empty(MAX_LEVELS + 2), np.zeros((MAX_TIERS + 1, 3))
    best[:] = 0.0
    count = len(rows)
    for state in range(STATES):
        best[state, M_SCORE] = np.inf
        if count == 0 or (state > 0 and d[D_HOME] < 0.0):
            continue
        bound_scores(d, price, objective, bounds, state, scratch[:count])
        first, least = -1, np.inf
        for i in range(count):
            if scratch[i] < least:
                first, least = i, scratch[i]
        if first < 0:
            continue
        at = first
        for i in range(-1, count):
            if i >= 0:
                at = i
                limit = np.inf if exhaustive else best[state, M_SCORE]
                if i == first or not scratch[i] < limit:
                    continue
            if spans[at, 1] < 0:
                spans[at, 0] = used
                pool, used = inner_mappings(d, o, s, slow, rows[at], pool, used)
                spans[at, 1] = used - spans[at, 0]
            entries = pool[spans[at, 0] : spans[at, 0] + spans[at, 1]]
            evaluate_row(
                d, o, s, price, objective, bounds[:, at], rows[at], entries, state, best[state], x, steps, nest
            )
    return pool, used
