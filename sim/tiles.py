"""Every tier-1 tile of an op at its true size: what it loads, computes and stores, in the order of its mapping."""

from __future__ import annotations

import numba
import numpy as np

from sim.account import C_COMPUTE, C_DECODE, C_EDGE, C_FILL, C_IMBALANCE, C_LEVEL, C_NETWORK
from sim.avoided import dram_share, shares
from sim.compute.array_work import array_work, share
from sim.designs import D_AVOIDS, D_DRAM_BPC, D_LEVELS, D_TIERS, L_BYTES, L_KEEPS, L_TIER, LEVEL_COLUMNS
from sim.mapping import _AXES, T_ORDER, TIER_COLUMNS, refetch, sum_distance
from sim.memory.keepers import SINGLE_USE, rooms
from sim.memory.on_chip import DRAM_COLUMNS, STEPS, X_HOME, busy_cycles
from sim.memory.operands import INPUTS, OUTPUTS, WEIGHTS, final_bytes, input_dram_bytes, whole_bytes
from sim.memory.runs import run_efficiency, tile_runs, write_efficiency
from sim.memory.traffic import (
    CAME,
    E_ARRAY,
    E_DRAIN,
    E_EDGE,
    E_IDEAL,
    E_UNFILLED,
    ENDS,
    ENTRY_COLUMNS,
    GOES,
    STARTS,
    STAYS_INPUTS,
    STAYS_WEIGHTS,
    inner_flow,
)
from sim.search import M_BYPASS, M_NEST, M_SINGLE, M_SPLIT_K, M_SPLIT_M
from sim.sparse_columns import (
    S_ARRAY_BYTES,
    S_CUT_PASS,
    S_DECODE_CYCLES,
    S_DECODED,
    S_FOLDS,
    S_INPUT_GRANULES,
    S_NONZEROS,
    S_PACKED_K,
    S_PASS,
    S_ROOM_BYTES,
    S_STORED_BYTES,
    S_WEIGHT_FOLDS,
)
from sim.sparsity.level_features import VECTOR_SHIFT
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_WBITS, _ABITS, _OBITS, _INPUT_ELEMENTS = (
    position(c) for c in ("weight_bits", "activation_bits", "output_bits", "input_elements")
)

G_NONZEROS, G_PASS, G_CUT_PASS, G_FOLDS = range(4)
"""Columns of a weight-tile table [tiles along N, tiles along K, 4]: nonzeros, lane cycles uncut and cut, share of the
blocks that a systolic array does not skip."""
LOAD_WEIGHTS, LOAD_INPUTS, COMPUTE, STORE = range(4)


@numba.njit(cache=True)
def tile_times(d, o, s, slow, mapping, state, weights, writes, out):
    """[tiles, 4] cycles of every tile in order: load weights, load the rest, compute (array and on-chip levels), store;
    and the drain. Adds each tile's causes to ``out`` [N_COLUMNS]. ``weights``: see :data:`G_PASS`; ``writes``: share of
    DRAM bytes that are written, which sets its efficiency."""
    tiers = int(d[D_TIERS])
    sizes = (o[_M], o[_N], o[_K])
    split = mapping[M_SPLIT_M : M_SPLIT_K + 1]
    mode = int(mapping[M_BYPASS]) + (SINGLE_USE if mapping[M_SINGLE] > 0.0 else 0)
    tile, counts = np.empty(3), np.empty(3, dtype=np.int64)
    whole_trips = np.ones((MAX_TIERS + 1, 3))
    orders = np.zeros(MAX_TIERS + 1, dtype=np.int64)
    for tier in range(1, tiers + 1):
        orders[tier] = int(mapping[M_NEST + (tier - 1) * TIER_COLUMNS + T_ORDER])
    for axis in range(3):
        tile[axis] = mapping[M_NEST + axis]
        counts[axis] = int(np.ceil(sizes[axis] / tile[axis]))
        whole_trips[1, axis] = counts[axis]
    spills = refetch(whole_trips, orders, 1, OUTPUTS) > 1.0 and sum_distance(whole_trips, orders) > 0.0
    each = counts[0] * counts[1] * counts[2]
    total = int(o[_BATCH]) * each
    times = np.zeros((total, 4))
    resident_in, resident_out = (state & 1) > 0, state > 1
    part, own = o.copy(), s.copy()
    part[_BATCH] = 1.0
    nest, trips = np.zeros((MAX_TIERS + 1, 3)), np.ones((MAX_TIERS + 1, 3))
    e, x, steps, turn = np.empty(ENTRY_COLUMNS), np.zeros(DRAM_COLUMNS), np.empty(STEPS), np.zeros(6)
    at = np.zeros((3, 3), dtype=np.int64)  # tile indices before, now, after
    runs = tile_runs(d, o, s, tile[0], tile[1], tile[2])
    room, full = np.empty(MAX_LEVELS), np.zeros((MAX_TIERS + 1, 3))
    for tier in range(1, tiers + 1):
        full[tier] = mapping[M_NEST + (tier - 1) * TIER_COLUMNS : M_NEST + (tier - 1) * TIER_COLUMNS + 3]
    rooms(d, o, s, full, room)
    left, wanted = np.empty((3, MAX_TIERS + 1, 3)), np.empty(2)
    for tier in range(2, tiers + 1):
        for axis in range(3):
            part_of = share(sizes[axis], tile[axis], split[axis])
            whole_trips[tier, axis] = max(whole_trips[tier - 1, axis], np.ceil(part_of / full[tier, axis]))
    shares(d, o, s, full, whole_trips, orders, split, room, mode, left)
    for operand in range(2):
        wanted[operand] = dram_share(d, o, s, full, whole_trips, orders, split, operand)
    drain = 0.0
    for i in range(total):
        for step in range(3):
            place = (i + step - 1) % each
            for turned in range(2, -1, -1):
                axis = _AXES[orders[1], turned]
                at[step, axis] = place % counts[axis]
                place //= counts[axis]
        begins, closes = i % each == 0, i % each == each - 1
        for axis in range(3):
            nest[1, axis] = min(tile[axis], sizes[axis] - at[1, axis] * tile[axis])
        m, n, k = nest[1, 0], nest[1, 1], nest[1, 2]
        for tier in range(2, tiers + 1):
            for axis in range(3):
                of_array = np.ceil(nest[1, axis] / split[axis])
                nest[tier, axis] = min(mapping[M_NEST + (tier - 1) * TIER_COLUMNS + axis], of_array)
                trips[tier, axis] = max(trips[tier - 1, axis], np.ceil(of_array / nest[tier, axis]))
        turn[STAYS_INPUTS] = _same(at, 0, 0, 2, begins)
        turn[STAYS_WEIGHTS] = _same(at, 0, 1, 2, begins)
        turn[CAME] = _same(at, 0, 0, 1, begins)
        turn[GOES] = _same(at, 2, 0, 1, closes)
        turn[STARTS] = 1.0 if at[1, 2] == 0 else 0.0
        turn[ENDS] = 1.0 if at[1, 2] == counts[2] - 1 else 0.0
        area = n * k / (sizes[1] * sizes[2])
        _own_weights(s, own, weights[at[1, 1], at[1, 2]], area, o)
        own[S_INPUT_GRANULES] = s[S_INPUT_GRANULES] * m / sizes[0]
        own[S_PACKED_K] = np.ceil(k * s[S_PACKED_K] / sizes[2])
        part[_M], part[_N], part[_K] = m, n, k
        part[_INPUT_ELEMENTS] = o[_INPUT_ELEMENTS] * (m * k) / (sizes[0] * sizes[2])
        last = nest[tiers] if tiers > 1 else np.ceil(nest[1] / split)
        work = array_work(d, part, own, nest[1], split, slow, last[0], last[1], last[2])
        inner_flow(d, part, own, nest, room, trips, orders, split, work, mode, left, turn, e)
        _dram(d, part, own, turn, spills, resident_in, resident_out, runs, writes, wanted, x, times[i])
        times[i, COMPUTE] = busy_cycles(d, e, x, steps)
        out[C_COMPUTE] += e[E_IDEAL]
        out[C_EDGE] += e[E_EDGE] - e[E_IDEAL]
        out[C_IMBALANCE] += e[E_UNFILLED] - e[E_EDGE]
        out[C_FILL] += e[E_ARRAY] - e[E_UNFILLED]
        for slot in range(MAX_LEVELS):
            out[C_LEVEL + slot] += steps[slot + 1] - steps[slot]
        out[C_NETWORK] += steps[MAX_LEVELS + 1] - steps[MAX_LEVELS]
        out[C_DECODE] += steps[MAX_LEVELS + 2] - steps[MAX_LEVELS + 1]
        drain = e[E_DRAIN]
    return times, drain


@numba.njit(cache=True)
def _same(at, other, a, b, alone):
    """1 if the tile before (or after) has the same indices along two axes, 0 if not or if there is none."""
    return 1.0 if not alone and at[other, a] == at[1, a] and at[other, b] == at[1, b] else 0.0


@numba.njit(cache=True)
def _own_weights(s, own, found, area, o):
    """A tile's own share of the op's weights: nonzeros and lane cycles as counted, values by nonzeros and metadata by
    area where the store is compressed, everything by area where it is not."""
    own[S_NONZEROS], own[S_PASS], own[S_CUT_PASS] = found[G_NONZEROS], found[G_PASS], found[G_CUT_PASS]
    own[S_FOLDS] = found[G_FOLDS]
    if s[S_WEIGHT_FOLDS] < 1.0:
        own[S_WEIGHT_FOLDS] = found[G_FOLDS]
    own[S_ROOM_BYTES] = s[S_ROOM_BYTES] * area
    per_value = s[S_DECODED] == s[S_NONZEROS] and s[S_NONZEROS] > 0.0
    own[S_DECODE_CYCLES] = s[S_DECODE_CYCLES] * (found[G_NONZEROS] / s[S_NONZEROS] if per_value else area)
    portion = area
    dense = s[S_ROOM_BYTES]
    if s[S_ARRAY_BYTES] < dense and s[S_NONZEROS] > 0.0 and s[S_PACKED_K] == o[_K]:
        values = min(s[S_NONZEROS] * o[_WBITS] / 8.0, s[S_ARRAY_BYTES])
        portion = (values * found[G_NONZEROS] / s[S_NONZEROS] + (s[S_ARRAY_BYTES] - values) * area) / s[S_ARRAY_BYTES]
    own[S_ARRAY_BYTES] = s[S_ARRAY_BYTES] * portion
    own[S_STORED_BYTES] = s[S_STORED_BYTES] * portion


@numba.njit(cache=True)
def _dram(d, part, own, turn, spills, resident_in, resident_out, runs, writes, wanted, x, times):
    """One tile's DRAM cycles into ``times`` and what tier 1 reads and writes for them into ``x``; ``wanted``: shares of
    inputs and weights that DRAM does not skip."""
    weights = 0.0 if turn[STAYS_WEIGHTS] > 0.0 else own[S_STORED_BYTES] * wanted[WEIGHTS]
    inputs = 0.0 if resident_in or turn[STAYS_INPUTS] > 0.0 else input_dram_bytes(part) * wanted[INPUTS]
    sums = whole_bytes(part, own, OUTPUTS)
    reload = sums if spills and turn[STARTS] == 0.0 and turn[CAME] == 0.0 else 0.0
    spill = sums if spills and turn[ENDS] == 0.0 and turn[GOES] == 0.0 else 0.0
    final = 0.0 if resident_out else final_bytes(part) * turn[ENDS]
    bus = d[D_DRAM_BPC]
    out_eff = write_efficiency(runs[1], writes)
    run = own[S_STORED_BYTES]  # a tile's weights lie together
    if int(d[D_AVOIDS + WEIGHTS]) >> VECTOR_SHIFT:
        run /= part[_K]
    times[LOAD_WEIGHTS] = weights / run_efficiency(d, run)[0] / bus
    times[LOAD_INPUTS] = (inputs / runs[0][0] + reload / runs[1][0]) / bus
    times[STORE] = (spill + final) / out_eff / bus
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        x[X_HOME + 2 * slot] = x[X_HOME + 2 * slot + 1] = 0.0
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0:
            keeps = int(d[at + L_KEEPS])
            if (keeps >> INPUTS) & 1:
                x[X_HOME + 2 * slot + 1] += inputs
            if (keeps >> WEIGHTS) & 1:
                x[X_HOME + 2 * slot + 1] += weights
            if (keeps >> OUTPUTS) & 1:
                x[X_HOME + 2 * slot + 1] += reload
                x[X_HOME + 2 * slot] += spill + final
