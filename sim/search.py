"""The best mapping of one op in every residency: bound all candidates, then evaluate those that could still win.

The bound of a row (:mod:`sim.candidates`) is never above its score, so a row whose bound is not below the best score
found cannot win: leaving it out is exact (``tests/sim/test_search.py`` compares with evaluating everything).
"""

from __future__ import annotations

import numba
import numpy as np

from sim.candidates import (
    B_ARRAY,
    B_DRAIN,
    B_END_IN,
    B_END_OUT,
    B_ENDS,
    B_FIXED,
    B_HOME,
    B_HOME_IN,
    B_HOME_OUT,
    B_IN,
    B_INPUTS,
    B_OUT,
    B_RAW,
    B_RAW_IN,
    B_RAW_OUT,
    B_REACH,
    B_STORE,
    B_STORE_OUT,
    B_SUMS,
    B_TILE,
    B_WEIGHTS,
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
    R_WEIGHT_EFF,
    R_WEIGHTS,
    STATES,
    dram_part,
    most_buffers,
    outermost,
    overflow,
)
from sim.designs import (
    D_COUNT,
    D_DRAM_BPC,
    D_HOME,
    D_KIND,
    D_LEVELS,
    D_ORIENTATION,
    L_BYTES,
    L_KEEPS,
    L_READ_BPC,
    L_TIER,
    L_WRITE_BPC,
    LEVEL_COLUMNS,
)
from sim.inner import inner_mappings
from sim.mapping import T_K, T_M, T_N, T_ORDER, TIER_COLUMNS
from sim.memory.on_chip import (
    DRAM_COLUMNS,
    X_ENDS,
    X_HOME,
    X_READ,
    X_STORE,
    X_WRITE,
    busy_cycles,
    op_cycles,
    tiled_cycles,
)
from sim.memory.traffic import (
    E_BYPASS,
    E_DRAIN,
    E_NEST,
    E_NETWORK,
    E_READ,
    E_SINGLE,
    E_SUMS_HELD,
    E_WEIGHT_PASSES,
    E_WRITE,
    S_NONZEROS,
    S_PACKED_K,
)
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))

LATENCY, ENERGY, EDP, TRAFFIC = range(4)
TIE = 1e-12  # weight of energy (pJ) against cycles and of cycles against bytes: breaks ties only

# Prices of a design: pJ a cycle that passes (idle PEs, leakage, background), a byte of DRAM, of the network, of levels
# pJ of a MAC, of its cycle beyond an idle one, a zero-skipping pop, a scattered sum, vector and special operations
P_CYCLE, P_DRAM, P_NETWORK, P_MAC, P_MAC_CYCLE, P_FRONT, P_SCATTER, P_VECTOR, P_SPECIAL, P_LEVEL = range(10)
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


@numba.njit(cache=True)
def _rate(d, slot):
    """Cycles a byte costs a level at the least."""
    at = D_LEVELS + slot * LEVEL_COLUMNS
    copies = d[D_COUNT] if d[at + L_TIER] > 1.0 else 1.0
    return 1.0 / ((d[at + L_READ_BPC] + d[at + L_WRITE_BPC]) * copies)


@numba.njit(cache=True)
def _innermost(d, operand):
    """Slot of the level nearest the array that keeps an operand."""
    best, tier = 0, 0.0
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] > tier and (int(d[at + L_KEEPS]) >> operand) & 1:
            best, tier = slot, d[at + L_TIER]
    return best


@numba.njit(cache=True)
def _fastest(d, operand):
    """Least cycles a byte over all levels that keep an operand."""
    best = np.inf
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and (int(d[at + L_KEEPS]) >> operand) & 1:
            best = min(best, _rate(d, slot))
    return best


@numba.njit(cache=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def _bound_rows(b, state, bus, home, inputs, weights, sums, out):
    with_in = 0.0 if state & 1 else 1.0
    with_out = 0.0 if state > 1 else 1.0
    for i in range(b.shape[1]):
        ends = (b[B_ENDS, i] + with_in * b[B_END_IN, i] + with_out * b[B_END_OUT, i]) * bus
        dram = (b[B_FIXED, i] + with_in * b[B_IN, i] + with_out * b[B_OUT, i]) * bus
        store = (b[B_STORE, i] + with_out * b[B_STORE_OUT, i]) * bus
        level = (b[B_HOME, i] + with_in * b[B_HOME_IN, i] + with_out * b[B_HOME_OUT, i]) * home
        level = max(level, b[B_INPUTS, i] * inputs)
        level = max(level, max(b[B_WEIGHTS, i] * weights, b[B_SUMS, i] * sums))
        busy = max(b[B_ARRAY, i], level + b[B_DRAIN, i])
        bound = max(busy + max(0.0, ends - store), max(dram, dram - store + b[B_TILE, i]))
        out[i] = bound + b[B_REACH + state, i]


@numba.njit(cache=True)
def rates_of(d):
    """Least cycles a byte costs: DRAM, the outermost level, and the levels nearest the array that keep inputs, weights,
    partial sums (which may pass a slow one)."""
    inputs, weights = _rate(d, _innermost(d, 0)), _rate(d, _innermost(d, 1))
    return 1.0 / d[D_DRAM_BPC], _rate(d, outermost(d)), inputs, weights, _fastest(d, 2)


@numba.njit(cache=True)
def bound_scores(rates, price, objective, b, state, out):
    """Fill ``out`` [rows] with scores that no mapping of the row can beat in a residency."""
    bus, home, inputs, weights, sums = rates
    _bound_rows(b, state, bus, home, inputs, weights, sums, out)
    if objective == LATENCY:
        return
    for i in range(len(out)):
        raw = _raw(b, i, state)
        energy = price[P_CYCLE] * out[i] + price[P_DRAM] * raw
        out[i] = score_of(objective, out[i], energy, raw)


@numba.njit(cache=True)
def _raw(b, i, state):
    """DRAM bytes of a row in a residency."""
    raw = b[B_RAW, i]
    if not state & 1:
        raw += b[B_RAW_IN, i]
    if state <= 1:
        raw += b[B_RAW_OUT, i]
    return raw


@numba.njit(cache=True)
def _closer_bound(rates, price, objective, b, r, i, state):
    """A row's bound with everything but its inner mapping as it is: the closed form on the least that the array and the
    levels can take."""
    bus, home, inputs, weights, sums = rates
    with_in = 0.0 if state & 1 else 1.0
    with_out = 0.0 if state > 1 else 1.0
    tiles, reused, reuse = r[R_TILES], int(r[R_REUSED]), r[R_REUSE]
    busy = max(b[B_ARRAY, i] - b[B_DRAIN, i], b[B_INPUTS, i] * inputs)
    busy = max(busy, max(b[B_WEIGHTS, i] * weights, b[B_SUMS, i] * sums))
    busy = max(busy, (b[B_HOME, i] + with_in * b[B_HOME_IN, i] + with_out * b[B_HOME_OUT, i]) * home)
    store = (b[B_STORE, i] + with_out * b[B_STORE_OUT, i]) * tiles * bus
    load = (b[B_FIXED, i] - b[B_STORE, i] * tiles + with_in * b[B_IN, i]) * bus
    ends = (b[B_ENDS, i] + with_in * b[B_END_IN, i] + with_out * b[B_END_OUT, i]) * bus
    stationary = r[R_WEIGHTS] / r[R_WEIGHT_EFF] * bus
    drain = b[B_DRAIN, i]
    cycles = tiled_cycles(busy, drain, load, store, stationary, ends, tiles, 2, reused, reuse)
    cycles = min(cycles, tiled_cycles(busy, drain, load, store, stationary, ends, tiles, 1, reused, reuse))
    cycles *= 1.0 - 1e-12  # sums in another order
    if objective == LATENCY:
        return cycles
    raw = _raw(b, i, state)
    return score_of(objective, cycles, price[P_CYCLE] * cycles + price[P_DRAM] * raw, raw)


@numba.njit(cache=True)
def macs_of(d, o, s):
    """MACs of the op: nonzero ones on lanes, zeros included in a systolic array, n:m pruned ones not."""
    return o[_BATCH] * o[_M] * (s[S_NONZEROS] if d[D_KIND] == 1.0 else o[_N] * s[S_PACKED_K])


@numba.njit(cache=True)
def base_energy(d, o, s, slow, price):
    """pJ of what no mapping changes: MACs, and sums scattered by input lanes."""
    macs = macs_of(d, o, s)
    total = macs * (price[P_MAC] + slow * price[P_MAC_CYCLE])
    if d[D_KIND] == 1.0 and d[D_ORIENTATION] == 1.0:
        total += macs * price[P_SCATTER]
    return total


@numba.njit(cache=True)
def mapping_energy(price, o, s, e, x, cycles):
    """pJ of what a mapping decides: bytes by level, network, DRAM, pops of the front end, and cycles that pass."""
    total = price[P_CYCLE] * cycles + price[P_DRAM] * (x[X_READ] + x[X_WRITE]) + price[P_NETWORK] * e[E_NETWORK]
    total += price[P_FRONT] * o[_BATCH] * e[E_WEIGHT_PASSES] * s[S_NONZEROS]
    for slot in range(MAX_LEVELS):
        total += price[P_LEVEL + 2 * slot] * (e[E_READ + slot] + x[X_HOME + 2 * slot])
        total += price[P_LEVEL + 2 * slot + 1] * (e[E_WRITE + slot] + x[X_HOME + 2 * slot + 1])
    return total


@numba.njit(cache=True)
def add_floor(pool, start, used):
    """Append to entries ``start..used`` of the pool one that is nowhere worse than any of them. Returns (pool,
    used)."""
    if len(pool) == used:
        larger = np.empty((2 * used + 1, pool.shape[1]))
        larger[:used] = pool
        pool = larger
    floor = pool[used]
    floor[:] = pool[start]
    for i in range(start + 1, used):
        floor[:] = np.minimum(floor, pool[i])
    floor[E_SINGLE] = 0.0
    return pool, used + 1


@numba.njit(cache=True)
def _most(d, o, s, nest, r, state, sums_held):
    """Tiles in flight that fit a row in a residency: 2, 1 or 0."""
    for buffers in range(most_buffers(d), 0, -1):
        over, _ = overflow(d, o, s, int(d[D_HOME]), nest, sums_held, r[R_DISTANCE], r[R_SPILLS] > 0.0, state, buffers)
        if over <= 0.0:
            return buffers
    return 0


@numba.njit(cache=True)
def evaluate_row(d, o, s, price, objective, b, r, entries, state, best, at, winner, base, x, steps, nest):
    """Try every inner mapping of row ``at`` in a residency (``entries``, their floor last); enter the winner into
    ``best`` [MAPPING_COLUMNS], which row ``winner`` holds so far. Returns whether the row won."""
    won = False
    dram_part(d, b, r, state, x)
    nest[1, 0], nest[1, 1], nest[1, 2] = r[R_M], r[R_N], r[R_K]
    loose, held = _most(d, o, s, nest, r, state, False), _most(d, o, s, nest, r, state, True)
    fast = objective == LATENCY
    reused, reuse, tiles = int(r[R_REUSED]), r[R_REUSE], r[R_TILES]
    ends, dram = x[X_ENDS] / d[D_DRAM_BPC], x[X_READ] + x[X_WRITE]
    for i in range(len(entries) - 1, -1, -1):  # the floor first: what it cannot beat, no entry can
        e = entries[i]
        floor = i == len(entries) - 1
        buffers = max(held, loose) if floor else (held if e[E_SUMS_HELD] > 0.0 else loose)
        if buffers == 0:
            continue
        busy = busy_cycles(d, e, x, steps)
        if fast and busy + min(e[E_DRAIN], 0.0) + ends - x[X_STORE] / d[D_DRAM_BPC] / tiles > best[M_SCORE]:
            if floor:
                break
            continue
        cycles = op_cycles(d, busy, e[E_DRAIN], x, tiles, buffers, reused, reuse)
        if buffers == 2:  # running ahead can delay a store: the better of two and one
            alone = op_cycles(d, busy, e[E_DRAIN], x, tiles, 1, reused, reuse)
            if alone < cycles:
                cycles, buffers = alone, 1
        if fast and cycles > best[M_SCORE]:
            if floor:
                break
            continue
        energy = base + mapping_energy(price, o, s, e, x, cycles)
        score = score_of(objective, cycles, energy, dram)
        if floor:
            if score * (1.0 - 1e-12) > best[M_SCORE]:
                break
            continue
        if score < best[M_SCORE] or (score == best[M_SCORE] and at < winner and not won):
            won = True
            best[M_SCORE], best[M_CYCLES], best[M_ENERGY], best[M_DRAM] = score, cycles, energy, dram
            best[M_BUFFERS], best[M_SINGLE], best[M_BYPASS] = buffers, e[E_SINGLE], e[E_BYPASS]
            best[M_SPLIT_M], best[M_SPLIT_N], best[M_SPLIT_K] = r[R_SPLIT_M], r[R_SPLIT_N], r[R_SPLIT_K]
            best[M_NEST + T_M], best[M_NEST + T_N], best[M_NEST + T_K] = r[R_M], r[R_N], r[R_K]
            best[M_NEST + T_ORDER] = r[R_ORDER]
            best[M_NEST + TIER_COLUMNS :] = e[E_NEST : E_NEST + (MAX_TIERS - 1) * TIER_COLUMNS]
    return won


@numba.njit(cache=True)
def search(d, o, s, slow, price, objective, bounds, rows, reach, hint, pool, used, spans, scratch, best, exhaustive):
    """Fill ``best`` [STATES, MAPPING_COLUMNS] (score inf: nothing fits), rows in the order of their bounds. ``reach``
    [STATES]: residencies that some row may fit; ``hint`` [STATES]: rows to try first (-1: none), left at the winners.
    ``pool`` and ``spans`` [rows, 2] (first entry,
    number; -1: not yet) keep inner mappings between designs of one geometry. Returns (pool, used)."""
    waiting = np.empty(len(rows) + 1, dtype=np.int64)
    x, steps, nest = np.empty(DRAM_COLUMNS), np.empty(MAX_LEVELS + 2), np.zeros((MAX_TIERS + 1, 3))
    best[:] = 0.0
    rates, base = rates_of(d), base_energy(d, o, s, slow, price)
    count = len(rows)
    for state in range(STATES):
        best[state, M_SCORE] = np.inf
        if count == 0 or (state > 0 and d[D_HOME] < 0.0):
            continue
        if not reach[state]:
            continue
        bound_scores(rates, price, objective, bounds, state, scratch)
        at = hint[state] if hint[state] >= 0 else np.argmin(scratch)
        left, winner = 1, -1
        waiting[0] = at
        for turn in range(count + 1):
            # the neighbour's winner or the most promising row sets a mark; then those not above it by a closer bound,
            # best first; of equal scores the first row's counts, so that no design depends on its company
            mark = np.inf if exhaustive else best[state, M_SCORE]
            pick = 0 if turn == 0 else -1
            for i in range(left if turn > 0 else 0):
                if scratch[waiting[i]] <= mark and (pick < 0 or scratch[waiting[i]] < scratch[waiting[pick]]):
                    pick = i
            if pick < 0:
                break
            at = waiting[pick]
            left -= 1
            waiting[pick] = waiting[left]
            if spans[at, 1] < 0:
                spans[at, 0] = used
                pool, used = inner_mappings(d, o, s, slow, rows[at], pool, used, exhaustive)
                spans[at, 1] = used - spans[at, 0]
                pool, used = add_floor(pool, spans[at, 0], used)
            entries = pool[spans[at, 0] : spans[at, 0] + spans[at, 1] + 1]
            b = bounds[:, at]
            if evaluate_row(
                d, o, s, price, objective, b, rows[at], entries, state, best[state], at, winner, base, x, steps, nest
            ):
                winner = at
            if turn == 0:
                mark = np.inf if exhaustive else best[state, M_SCORE]
                for i in range(count):
                    if scratch[i] <= mark and scratch[i] < np.inf and i != at:
                        scratch[i] = _closer_bound(rates, price, objective, bounds, rows[i], i, state)
                        if scratch[i] <= mark:
                            waiting[left] = i
                            left += 1
        hint[state] = winner
    return pool, used
