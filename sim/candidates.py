"""The candidate mappings of one op on one machine's geometry, as a table: what each costs, and a bound on its time.

A row is a tier-1 tiling, a loop order, a split over arrays and the innermost tier that holds partial sums. Its bound
needs no inner mapping: the array's cycles with uncut tiles, DRAM bytes and ends, the least that every level can see.
Inner mappings (:mod:`sim.inner`) are found once a row is wanted. Geometry is everything but rates
(:data:`sim.designs.RATES`): designs that differ in rates share the table.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.avoided import dram_share, least_share
from sim.compute import systolic
from sim.compute.array_work import array_work
from sim.designs import (
    D_COLS,
    D_COUNT,
    D_DATAFLOW,
    D_HOME,
    D_KIND,
    D_LEVELS,
    D_MULTICAST,
    D_ORIENTATION,
    D_OUTER_TILE,
    D_ROWS,
    D_SPLIT,
    D_TIERS,
    L_BYTES,
    L_KEEPS,
    L_TIER,
    LEVEL_COLUMNS,
)
from sim.fit import STATES, most_buffers, overflow
from sim.mapping import (
    FULL,
    GRAIN,
    INNERMOST,
    LARGEST_LADDER,
    OUTSIDE,
    SMALLEST_STREAM_TILE,
    SMALLEST_TILE,
    innermost_reuse,
    ladder,
    refetch,
    sum_distance,
)
from sim.memory.keepers import keeper
from sim.memory.on_chip import X_ENDS, X_HOME, X_LOAD, X_READ, X_STORE, X_WEIGHTS, X_WRITE
from sim.memory.operands import INPUTS, OUTPUTS, WEIGHTS, final_bytes, input_dram_bytes, whole_bytes
from sim.memory.runs import tile_runs, write_efficiency
from sim.memory.traffic import E_ARRAY, E_DRAIN, E_SPENT
from sim.sparse_columns import S_GRAIN, S_STORED_BYTES
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ABITS, _OBITS = position("activation_bits"), position("output_bits")
_LIVE_IN, _LIVE_OUT, _WRITE, _KIND = (position(c) for c in ("live_in_bytes", "live_out_bytes", "write_bytes", "kind"))

# What bounds a row, one array a column so that a bound is a pass over contiguous memory. "Effective" bytes are bytes
# over DRAM efficiency.
(
    B_ARRAY,  # array cycles with uncut tiles
    B_TILE,  # array cycles of one tile, and the drain
    B_DRAIN,  # the drain at the least; before inner mappings are known what an early tail may save, at most 0
    B_FIXED,  # effective DRAM bytes of weights and spilled sums
    B_IN,
    B_OUT,
    B_ENDS,  # effective bytes of the first weights
    B_END_IN,
    B_END_OUT,
    B_STORE,  # effective bytes stored a tile
    B_STORE_OUT,
    B_RAW,  # DRAM bytes as they are
    B_RAW_IN,
    B_RAW_OUT,
    B_REACH,  # [STATES]: 0 where the row may fit in a residency, inf where it cannot
) = range(15)
B_ALONE = B_REACH + STATES  # [STATES]: 1 where only one tile fits at a time, so that nothing overlaps
B_LEVEL = B_ALONE + STATES  # [levels]: least bytes through each level, inputs and outputs from and to DRAM apart
BOUND_COLUMNS = B_LEVEL + MAX_LEVELS
# The rest of a row
(
    R_M,
    R_N,
    R_K,
    R_ORDER,
    R_SPLIT_M,
    R_SPLIT_N,
    R_SPLIT_K,
    R_TILES,
    R_REUSED,
    R_REUSE,
    R_SPILLS,
    R_DISTANCE,
    R_IN_EFF,
    R_OUT_EFF,
    R_WEIGHT_EFF,
    R_SPILLED,  # bytes of partial sums that leave, each way
    R_IN,
    R_OUT,
    R_WEIGHTS,
    R_HOLDER,  # innermost tier that holds partial sums; 1: none inside tier 1 does
    R_SUM_EFF,  # of partial sums that come back
) = range(21)
ROW_COLUMNS = 21


@numba.njit(cache=True)
def tiles_in_flight(d, o, s, nest, r, state):
    """Tiles in flight that fit a row in a residency: 2, 1 or 0."""
    held = r[R_HOLDER] > 1.0 and r[R_SPLIT_K] == 1.0
    for buffers in range(most_buffers(d), 0, -1):
        over, _ = overflow(d, o, s, int(d[D_HOME]), nest, held, r[R_DISTANCE], r[R_SPILLS] > 0.0, state, buffers)
        if over <= 0.0:
            return buffers
    return 0


@numba.njit(cache=True)
def grains(d, s):
    """Multiples in which tiles of M, N and K are cut: whole lane groups and whole barriers, or the array's own
    sides, so that no fold is cut short inside the op; the common grain where a side is shorter, and for what
    streams."""
    rows, cols, common = d[D_ROWS], d[D_COLS], float(GRAIN)
    if d[D_KIND] == 1.0:
        n, k = (rows, s[S_GRAIN]) if d[D_ORIENTATION] == 0.0 else (s[S_GRAIN], rows)
        return common, n, k
    if d[D_KIND] == 2.0:
        return max(d[D_OUTER_TILE], common), max(d[D_OUTER_TILE], common), common
    down, across = max(rows, common), max(cols, common)
    if d[D_DATAFLOW] == systolic.OS:
        return down, across, max(common, s[S_GRAIN])
    deep = np.ceil(down / s[S_GRAIN]) * s[S_GRAIN]  # whole n:m groups too
    if d[D_DATAFLOW] == systolic.WS:
        return common, across, deep
    return across, common, deep


@numba.njit(cache=True)
def splits(d, o, out):
    """Ways to split an op over the arrays: all along one axis, or (m, n) as near to square as factors allow; a
    dimension shorter than the number of arrays leaves some of them idle."""
    count, only = d[D_COUNT], int(d[D_SPLIT])
    sizes = (o[_M], o[_N], o[_K])
    if count == 1.0:
        out[0, :] = 1.0
        return 1
    found = 0
    for axis in range(3):
        if only in (0, axis + 1):
            out[found, :] = 1.0
            out[found, axis] = min(count, sizes[axis])
            found += 1
    if only == 0:
        side = np.floor(np.sqrt(count))
        while count % side != 0.0:
            side -= 1.0
        if side > 1.0 and side <= o[_M] and count / side <= o[_N]:
            out[found, 0], out[found, 1], out[found, 2] = side, count / side, 1.0
            found += 1
    return found


@numba.njit(cache=True)
def build(d, o, s, slow, effort):
    """(bounds [BOUND_COLUMNS, rows], rows [rows, ROW_COLUMNS], least overflow bytes and its slot by state [STATES, 2])
    of an op. Only rows that fit in some residency are kept."""
    m, n, k = o[_M], o[_N], o[_K]
    sizes_m, sizes_n, sizes_k = np.empty(LARGEST_LADDER), np.empty(LARGEST_LADDER), np.empty(LARGEST_LADDER)
    grain_m, grain_n, grain_k = grains(d, s)
    count_m = ladder(m, max(SMALLEST_STREAM_TILE, grain_m), grain_m, FULL, sizes_m)
    count_n = ladder(n, max(SMALLEST_TILE, grain_n), grain_n, FULL, sizes_n)
    count_k = ladder(k, max(SMALLEST_TILE, grain_k), grain_k, effort, sizes_k)
    ways = np.ones((4, 3))
    many = splits(d, o, ways)
    most = count_m * count_n * count_k * 3 * many * int(d[D_TIERS])
    bounds, rows = np.empty((BOUND_COLUMNS, most)), np.empty((most, ROW_COLUMNS))
    short = np.full((STATES, 2), np.inf)
    nest = np.zeros((MAX_TIERS + 1, 3))
    trips = np.ones((MAX_TIERS + 1, 3))
    orders = np.zeros(MAX_TIERS + 1, dtype=np.int64)
    found = 0
    for im in range(count_m):
        for i_n in range(count_n):
            for ik in range(count_k):
                nest[1, 0], nest[1, 1], nest[1, 2] = sizes_m[im], sizes_n[i_n], sizes_k[ik]
                for way in range(many):
                    found = add_rows(d, o, s, slow, nest, ways[way], trips, orders, short, bounds, rows, found)
    return bounds[:, :found].copy(), rows[:found].copy(), short


@numba.njit(cache=True)
def add_rows(d, o, s, slow, nest, split, trips, orders, short, bounds, rows, found):
    """Append the loop orders of one tier-1 tiling that may fit; returns how many rows there are then."""
    tm, tn, tk = nest[1, 0], nest[1, 1], nest[1, 2]
    if (split[0] > 1.0 and tm < split[0]) or (split[1] > 1.0 and tn < split[1]) or (split[2] > 1.0 and tk < split[2]):
        return found
    trips[1, 0], trips[1, 1], trips[1, 2] = np.ceil(o[_M] / tm), np.ceil(o[_N] / tn), np.ceil(o[_K] / tk)
    cut = (trips[1, 0] > 1.0) + (trips[1, 1] > 1.0) + (trips[1, 2] > 1.0)
    own = np.ceil(nest[1] / split)
    work, known = np.empty(8), False
    for holder in range(1, int(d[D_TIERS]) + 1):
        if keeper(d, holder, OUTPUTS) < 0:
            continue
        states = 0
        for state in range(STATES if d[D_HOME] >= 0.0 else 1):
            over, slot = overflow(
                d, o, s, int(d[D_HOME]), nest, holder > 1 and split[2] == 1.0, np.inf, False, state, 1
            )
            if over <= 0.0:
                states |= 1 << state
            elif over < short[state, 0]:
                short[state, 0], short[state, 1] = over, slot
        if states == 0:
            continue
        if not known:
            work[:] = array_work(d, o, s, nest[1], split, slow, own[0], own[1], own[2])
            runs, known = tile_runs(d, o, s, tm, tn, tk), True
        for axis in range(3):
            if trips[1, axis] <= 1.0 and not (cut == 0 and axis == 2):
                continue
            orders[1] = INNERMOST[axis]
            b, r = bounds[:, found], rows[found]
            add_row(d, o, s, nest, split, trips, orders, work, runs, holder, b, r)
            for state in range(STATES):
                most = tiles_in_flight(d, o, s, nest, r, state) if (states >> state) & 1 else 0
                b[B_REACH + state] = 0.0 if most > 0 else np.inf
                b[B_ALONE + state] = 1.0 if most == 1 else 0.0
            found += 1
    return found


@numba.njit(cache=True)
def least_level_bytes(d, o, s, split, work, fills, holder, out):
    """Fill ``out`` [levels] with the least bytes that any inner mapping of a row moves through each level (DRAM's own
    traffic apart). Inputs and weights pass every level that keeps them, ``fills`` times in and on; the level nearest
    the arrays is read for every pass of theirs (``work``), the one that all arrays share once for all of them if it
    multicasts. Partial sums go to and fro at the tier that holds them; shares of a split reduction meet in tier 1."""
    out[:] = 0.0
    for operand in range(2):
        copies = split[OUTSIDE[operand]]
        whole = whole_bytes(o, s, operand) * least_share(d, s, operand)
        shared = whole if d[D_MULTICAST] > 0.0 else whole * copies
        nearest = True
        for tier in range(int(d[D_TIERS]), 0, -1):
            slot = keeper(d, tier, operand)
            if slot < 0:
                continue
            reads = work[5 + operand] if nearest else fills[operand]
            out[slot] += shared * reads if tier == 1 else whole * copies * (reads + fills[operand])
            nearest = False
    whole = whole_bytes(o, s, OUTPUTS) * split[2]
    home = keeper(d, 1, OUTPUTS)
    out[keeper(d, holder, OUTPUTS)] += 2.0 * whole * work[7] * least_share(d, s, OUTPUTS)
    out[home] += final_bytes(o)
    if holder > 1 and split[2] > 1.0:
        out[home] += 2.0 * whole


@numba.njit(cache=True)
def add_row(d, o, s, nest, split, trips, orders, work, runs, holder, b, r):
    """One row, but for where it fits: ``b`` [BOUND_COLUMNS] and ``r`` [ROW_COLUMNS]."""
    tm, tn, tk = nest[1, 0], nest[1, 1], nest[1, 2]
    batch = o[_BATCH]
    tiles = batch * trips[1, 0] * trips[1, 1] * trips[1, 2]
    f_in, f_weight, f_out = refetch(trips, orders, 1, 0), refetch(trips, orders, 1, 1), refetch(trips, orders, 1, 2)
    distance = sum_distance(trips, orders)
    reused, reuse = innermost_reuse(trips, orders)
    spilled = whole_bytes(o, s, OUTPUTS) * (f_out - 1.0)
    wanted_in = dram_share(d, o, s, nest, trips, orders, split, INPUTS)
    wanted_weights = dram_share(d, o, s, nest, trips, orders, split, WEIGHTS)
    inputs, final = wanted_in * input_dram_bytes(o) * f_in, final_bytes(o)
    weights = wanted_weights * batch * s[S_STORED_BYTES] * f_weight
    writes = (spilled + final) / (weights + inputs + final + 2.0 * spilled)
    weight_tile = wanted_weights * s[S_STORED_BYTES] * (tn * tk) / (o[_N] * o[_K])
    in_eff, sum_eff, weight_eff = runs[0][0], runs[1][0], runs[2][0]
    out_eff = write_efficiency(runs[1], writes)
    first_in = wanted_in * input_dram_bytes(o) / batch * (tm * tk) / (o[_M] * o[_K])
    array, drain = batch * work[0], work[1]
    b[B_ARRAY] = array
    b[B_TILE] = array / tiles + min(drain, 0.0)
    b[B_DRAIN] = min(drain, 0.0)
    b[B_FIXED] = weights / weight_eff + spilled / sum_eff + spilled / out_eff
    b[B_IN], b[B_OUT] = inputs / in_eff, final / out_eff
    b[B_ENDS], b[B_END_IN] = weight_tile / weight_eff, first_in / in_eff
    b[B_END_OUT] = tm * tn * o[_OBITS] / 8.0 / out_eff
    b[B_STORE], b[B_STORE_OUT] = spilled / out_eff / tiles, final / out_eff / tiles
    b[B_RAW], b[B_RAW_IN], b[B_RAW_OUT] = weights + 2.0 * spilled, inputs, final
    least_level_bytes(d, o, s, split, work, (f_in, f_weight), holder, b[B_LEVEL : B_LEVEL + MAX_LEVELS])
    add_dram_side(d, b, weights, spilled)
    r[R_M], r[R_N], r[R_K], r[R_ORDER] = tm, tn, tk, orders[1]
    r[R_SPLIT_M], r[R_SPLIT_N], r[R_SPLIT_K] = split[0], split[1], split[2]
    r[R_TILES], r[R_REUSED], r[R_REUSE] = tiles, reused, reuse
    r[R_SPILLS], r[R_DISTANCE] = (1.0 if f_out > 1.0 else 0.0), distance
    r[R_IN_EFF], r[R_OUT_EFF], r[R_WEIGHT_EFF], r[R_SUM_EFF] = in_eff, out_eff, weight_eff, sum_eff
    r[R_SPILLED], r[R_IN], r[R_OUT], r[R_WEIGHTS] = spilled, inputs, final, weights
    r[R_HOLDER] = holder


@numba.njit(cache=True)
def add_dram_side(d, b, weights, spilled):
    """Add to a row's bound what tier 1 moves for DRAM's sake whatever is resident: weights in, sums out and back."""
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0:
            keeps = int(d[at + L_KEEPS])
            if (keeps >> WEIGHTS) & 1:
                b[B_LEVEL + slot] += weights
            if (keeps >> OUTPUTS) & 1:
                b[B_LEVEL + slot] += 2.0 * spilled


@numba.njit(cache=True)
def tighten(d, b, r, floor):
    """Raise a row's bound to what its inner mappings' ``floor`` asks of the array and the levels at the least."""
    b[B_ARRAY], b[B_DRAIN] = floor[E_ARRAY], floor[E_DRAIN]
    b[B_TILE] = b[B_ARRAY] / r[R_TILES] + min(floor[E_DRAIN], 0.0)
    for slot in range(MAX_LEVELS):
        b[B_LEVEL + slot] = floor[E_SPENT + slot] + floor[E_SPENT + MAX_LEVELS + slot]
    add_dram_side(d, b, r[R_WEIGHTS], r[R_SPILLED])


@numba.njit(cache=True)
def dram_part(d, b, r, state, x):
    """Fill ``x`` [DRAM_COLUMNS]: a row's DRAM traffic in a residency, and what tier 1 reads and writes for it."""
    inputs = 0.0 if state & 1 else r[R_IN]
    final = 0.0 if state > 1 else r[R_OUT]
    spilled = r[R_SPILLED]
    x[:] = 0.0
    x[X_READ], x[X_WRITE] = r[R_WEIGHTS] + inputs + spilled, final + spilled
    x[X_WEIGHTS] = r[R_WEIGHTS] / r[R_WEIGHT_EFF]
    x[X_STORE] = (final + spilled) / r[R_OUT_EFF]
    x[X_LOAD] = x[X_WEIGHTS] + inputs / r[R_IN_EFF] + spilled / r[R_SUM_EFF]
    x[X_ENDS] = b[B_ENDS] + (0.0 if state & 1 else b[B_END_IN]) + (0.0 if state > 1 else b[B_END_OUT])
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0:
            keeps = int(d[at + L_KEEPS])
            read, write = X_HOME + 2 * slot, X_HOME + 2 * slot + 1
            if (keeps >> INPUTS) & 1:
                x[write] += inputs
            if (keeps >> WEIGHTS) & 1:
                x[write] += r[R_WEIGHTS]
            if (keeps >> OUTPUTS) & 1:
                x[write] += spilled
                x[read] += final + spilled
