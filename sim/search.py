"""The best mapping of one op in every residency: bound all candidates, then evaluate those that could still win.

The bound of a row (:mod:`sim.candidates`) is never above its score, so a row whose bound is not below the best score
found cannot win: leaving it out is exact (``tests/sim/test_search.py`` compares with evaluating everything).
"""

from __future__ import annotations

import numba
import numpy as np

from sim.candidates import (
    B_ALONE,
    B_ARRAY,
    B_DRAIN,
    B_END_IN,
    B_END_OUT,
    B_ENDS,
    B_FIXED,
    B_IN,
    B_LEVEL,
    B_OUT,
    B_RAW,
    B_RAW_IN,
    B_RAW_OUT,
    B_REACH,
    B_STORE,
    B_STORE_OUT,
    B_TILE,
    R_K,
    R_M,
    R_N,
    R_ORDER,
    R_REUSE,
    R_REUSED,
    R_SPLIT_K,
    R_SPLIT_M,
    R_SPLIT_N,
    R_TILES,
    R_WEIGHT_EFF,
    R_WEIGHTS,
    dram_part,
    tighten,
)
from sim.designs import (
    D_COUNT,
    D_DRAM_BPC,
    D_HOME,
    D_LEVELS,
    L_BYTES,
    L_DOUBLE,
    L_KEEPS,
    L_READ_BPC,
    L_TIER,
    L_WRITE_BPC,
    LEVEL_COLUMNS,
)
from sim.fit import STATES
from sim.inner import inner_mappings
from sim.mapping import EXHAUSTIVE, T_K, T_M, T_N, T_ORDER, TIER_COLUMNS
from sim.memory.on_chip import (
    DRAM_COLUMNS,
    STEPS,
    X_ENDS,
    X_READ,
    X_STORE,
    X_WRITE,
    busy_cycles,
    op_cycles,
    tiled_cycles,
)
from sim.memory.operands import INPUTS, OUTPUTS
from sim.memory.traffic import E_BYPASS, E_DRAIN, E_NEST, E_SINGLE, ENTRY_COLUMNS
from sim.scores import LATENCY, P_CYCLE, P_DRAM, P_LEVEL, base_energy, mapping_energy, score_of
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))

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
_LOOSE = {"reassoc", "contract", "arcp", "nsz"}
_SLACK = 1.0 - 1e-13  # bounds add in another order than scores


@numba.njit(cache=True)
def _rate(d, slot):
    """Cycles a byte costs a level at the least."""
    at = D_LEVELS + slot * LEVEL_COLUMNS
    copies = d[D_COUNT] if d[at + L_TIER] > 1.0 else 1.0
    return 1.0 / ((d[at + L_READ_BPC] + d[at + L_WRITE_BPC]) * copies)


@numba.njit(cache=True)
def rates_of(d, rates):
    """Fill ``rates`` [1 + levels] with the least cycles a byte costs: DRAM, and each level."""
    rates[:] = 0.0
    rates[0] = 1.0 / d[D_DRAM_BPC]
    for slot in range(MAX_LEVELS):
        if d[D_LEVELS + slot * LEVEL_COLUMNS + L_BYTES] > 0.0:
            rates[1 + slot] = _rate(d, slot)


@numba.njit(cache=True)
def _level_parts(d, slot, state):
    """(whether tier 1's level takes inputs from DRAM in a residency, whether it gives outputs to DRAM), as numbers."""
    at = D_LEVELS + slot * LEVEL_COLUMNS
    if d[at + L_TIER] != 1.0:
        return 0.0, 0.0
    keeps = int(d[at + L_KEEPS])
    takes = 1.0 if not state & 1 and (keeps >> INPUTS) & 1 else 0.0
    return takes, (1.0 if state <= 1 and (keeps >> OUTPUTS) & 1 else 0.0)


@numba.njit(cache=True, fastmath=_LOOSE)
def _busy_rows(d, rates, b, state, busy):
    """Fill ``busy`` [rows] with the least that the array and the levels take, after :func:`busy_cycles`."""
    for i in range(len(busy)):
        busy[i] = b[B_ARRAY, i]
    for slot in range(MAX_LEVELS):
        rate = rates[1 + slot]
        if rate == 0.0:
            continue
        takes, gives = _level_parts(d, slot, state)
        takes, gives = takes * rate, gives * rate
        if d[D_LEVELS + slot * LEVEL_COLUMNS + L_DOUBLE] > 0.0:
            for i in range(len(busy)):
                level = b[B_LEVEL + slot, i] * rate + takes * b[B_RAW_IN, i] + gives * b[B_RAW_OUT, i]
                busy[i] = max(busy[i], level)
        else:
            for i in range(len(busy)):
                busy[i] += b[B_LEVEL + slot, i] * rate + takes * b[B_RAW_IN, i] + gives * b[B_RAW_OUT, i]


@numba.njit(cache=True, fastmath=_LOOSE)
def _bound_rows(b, state, bus, busy, out):
    with_in = 0.0 if state & 1 else 1.0
    with_out = 0.0 if state > 1 else 1.0
    for i in range(len(out)):
        ends = (b[B_ENDS, i] + with_in * b[B_END_IN, i] + with_out * b[B_END_OUT, i]) * bus
        dram = (b[B_FIXED, i] + with_in * b[B_IN, i] + with_out * b[B_OUT, i]) * bus
        store = (b[B_STORE, i] + with_out * b[B_STORE_OUT, i]) * bus
        alone = busy[i] + b[B_DRAIN, i] + max(0.0, ends - store)
        bound = max(alone, max(dram, dram - store + b[B_TILE, i]))
        bound = max(bound, b[B_ALONE + state, i] * (busy[i] + min(b[B_DRAIN, i], 0.0) + dram))
        out[i] = bound * _SLACK + b[B_REACH + state, i]


@numba.njit(cache=True)
def bound_scores(d, rates, price, base, objective, b, state, busy, out):
    """Fill ``out`` [rows] with scores that no mapping of the row can beat in a residency, and ``busy`` [rows]."""
    _busy_rows(d, rates, b, state, busy)
    _bound_rows(b, state, rates[0], busy, out)
    if objective == LATENCY:
        return
    for i in range(len(out)):
        if out[i] < np.inf:
            out[i] = _least_score(d, price, base, objective, b, i, state, out[i])


@numba.njit(cache=True)
def _least_score(d, price, base, objective, b, i, state, cycles):
    """Score of a row in a residency at the least cycles and bytes that it may take."""
    raw = b[B_RAW, i]
    if not state & 1:
        raw += b[B_RAW_IN, i]
    if state <= 1:
        raw += b[B_RAW_OUT, i]
    energy = base + price[P_CYCLE] * cycles + price[P_DRAM] * raw
    for slot in range(MAX_LEVELS):
        cheapest = min(price[P_LEVEL + 2 * slot], price[P_LEVEL + 2 * slot + 1])
        if cheapest > 0.0:
            takes, gives = _level_parts(d, slot, state)
            energy += cheapest * (b[B_LEVEL + slot, i] + takes * b[B_RAW_IN, i] + gives * b[B_RAW_OUT, i])
    return score_of(objective, cycles, energy * _SLACK, raw * _SLACK)


@numba.njit(cache=True)
def _closer_bound(rates, b, busy, rows, i, state):
    """Cycles of a row at the least, with everything but its inner mapping as it is: the closed form on the least that
    the array and the levels can take."""
    bus = rates[0]
    with_in = 0.0 if state & 1 else 1.0
    with_out = 0.0 if state > 1 else 1.0
    tiles, reused, reuse = rows[i, R_TILES], int(rows[i, R_REUSED]), rows[i, R_REUSE]
    store = (b[B_STORE, i] + with_out * b[B_STORE_OUT, i]) * tiles * bus
    load = (b[B_FIXED, i] - b[B_STORE, i] * tiles + with_in * b[B_IN, i]) * bus
    ends = (b[B_ENDS, i] + with_in * b[B_END_IN, i] + with_out * b[B_END_OUT, i]) * bus
    stationary = rows[i, R_WEIGHTS] / rows[i, R_WEIGHT_EFF] * bus
    drain = b[B_DRAIN, i]
    cycles = load + busy[i] + store + tiles * max(drain, 0.0) + min(drain, 0.0)  # each tile after the other
    if b[B_ALONE + state, i] == 0.0:
        ahead = tiled_cycles(busy[i], drain, load, store, stationary, ends, tiles, 2, reused, reuse)
        cycles = min(cycles, ahead)
    return cycles * _SLACK


@numba.njit(cache=True)
def floor_of(entries, floor):
    """Fill ``floor`` [ENTRY_COLUMNS] with an entry that is nowhere worse than any of ``entries``."""
    floor[:] = entries[0]
    for i in range(1, len(entries)):
        floor[:] = np.minimum(floor, entries[i])


@numba.njit(cache=True)
def expand(d, o, s, slow, at, bounds, rows, pool, used, spans, effort):
    """Find the inner mappings of row ``at`` and raise its bound by what they ask for. Returns (pool, used)."""
    start = used
    pool, used = inner_mappings(d, o, s, slow, rows[at], pool, used, effort)
    spans[at, 0], spans[at, 1] = start, used - start
    if used == start:
        bounds[B_REACH : B_REACH + STATES, at] = np.inf
        return pool, used
    floor = np.empty(ENTRY_COLUMNS)
    floor_of(pool[start:used], floor)
    tighten(d, bounds[:, at], rows[at], floor)
    return pool, used


@numba.njit(cache=True)
def evaluate_row(d, o, s, price, objective, b, r, entries, state, best, at, winner, base, x, steps):
    """Try every inner mapping (``entries``) of row ``at`` in a residency; enter the winner into ``best``
    [MAPPING_COLUMNS], which row ``winner`` holds so far. Returns whether the row won."""
    won = False
    dram_part(d, b, r, state, x)
    fast = objective == LATENCY
    reused, reuse, tiles = int(r[R_REUSED]), r[R_REUSE], r[R_TILES]
    ends, dram = x[X_ENDS] / d[D_DRAM_BPC], x[X_READ] + x[X_WRITE]
    most = 1 if b[B_ALONE + state] > 0.0 else 2
    if np.isinf(b[B_REACH + state]):
        return False
    for i in range(len(entries)):
        e, buffers = entries[i], most
        busy = busy_cycles(d, e, x, steps)
        if fast and busy + min(e[E_DRAIN], 0.0) + ends - x[X_STORE] / d[D_DRAM_BPC] / tiles > best[M_SCORE]:
            continue
        cycles = op_cycles(d, busy, e[E_DRAIN], x, tiles, buffers, reused, reuse)
        if buffers == 2:  # running ahead can delay a store: the better of two and one
            alone = op_cycles(d, busy, e[E_DRAIN], x, tiles, 1, reused, reuse)
            if alone < cycles:
                cycles, buffers = alone, 1
        if fast and cycles > best[M_SCORE]:
            continue
        energy = base + mapping_energy(price, o, s, e, x, cycles)
        score = score_of(objective, cycles, energy, dram)
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
def search(d, o, s, slow, price, objective, bounds, rows, reach, hint, pool, used, spans, scratch, best, effort):
    """Fill ``best`` [STATES, MAPPING_COLUMNS] (score inf: nothing fits), rows in the order of their bounds. ``reach``
    [STATES]: residencies that some row may fit; ``hint`` [STATES]: rows to try first (-1: none), left at the winners.
    ``pool`` and ``spans`` [rows, 2] (first entry, number; -1: not yet) keep inner mappings between designs of one
    geometry, ``scratch`` [3, rows + 1] is overwritten. Returns (pool, used)."""
    count = len(rows)
    busy, score, waiting = scratch[0, :count], scratch[1, :count], scratch[2]
    x, steps, rates = np.empty(DRAM_COLUMNS), np.empty(STEPS), np.empty(1 + MAX_LEVELS)
    rates_of(d, rates)
    base = base_energy(d, o, s, slow, price)
    best[:] = 0.0
    for state in range(STATES):
        best[state, M_SCORE] = np.inf
        if not reach[state] or (state > 0 and d[D_HOME] < 0.0):
            continue
        bound_scores(d, rates, price, base, objective, bounds, state, busy, score)
        at = hint[state] if hint[state] >= 0 else np.argmin(score)
        left, winner = 1, -1
        waiting[0] = at
        for turn in range(count + 1):
            # the neighbour's winner or the most promising row sets a mark; then those not above it by a closer bound,
            # best first; of equal scores the first row's counts, so that no design depends on its company
            mark = np.inf if effort == EXHAUSTIVE else best[state, M_SCORE]
            pick = 0 if turn == 0 else -1
            least = np.inf
            for i in range(left if turn > 0 else 0):
                found = score[int(waiting[i])]
                if found <= mark and (found < least or pick < 0):
                    pick, least = i, found
            if pick < 0:
                break
            at = int(waiting[pick])
            left -= 1
            waiting[pick] = waiting[left]
            if spans[at, 1] < 0:
                pool, used = expand(d, o, s, slow, at, bounds, rows, pool, used, spans, effort)
            entries = pool[spans[at, 0] : spans[at, 0] + spans[at, 1]]
            if evaluate_row(
                d,
                o,
                s,
                price,
                objective,
                bounds[:, at],
                rows[at],
                entries,
                state,
                best[state],
                at,
                winner,
                base,
                x,
                steps,
            ):
                winner = at
            if turn == 0:
                mark = np.inf if effort == EXHAUSTIVE else best[state, M_SCORE]
                for i in range(count):
                    if score[i] <= mark and score[i] < np.inf and i != at:
                        cycles = _closer_bound(rates, bounds, busy, rows, i, state)
                        if objective == LATENCY and cycles > mark:
                            continue
                        score[i] = _least_score(d, price, base, objective, bounds, i, state, cycles)
                        if score[i] <= mark:
                            waiting[left] = i
                            left += 1
        hint[state] = winner
    return pool, used
