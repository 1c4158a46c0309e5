"""Bytes that move through every level for one tiled GEMM (``physics.md`` §3), as totals of the op.

Tier 1 holds tiles of all three operands, filled from DRAM. At each tier further in, a level either holds an operand's
tile (filled once per new tile, it serves everything below) or, too small for it, lets weights and inputs stream through
and is passed by partial sums. Partial sums that leave a level before the reduction ends are written above and read
back; finished outputs are narrowed to ``output_bits`` where the innermost level that holds them lets them go.
``resident_in`` / ``resident_out``: the op's input or output stays in tier 1 as a whole, next to its neighbours.
Several arrays: each works on its share of every tier-1 tile and owns a copy of the tiers below; an operand that the
split does not divide is delivered to all of them.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.compute.array_work import lanes_work, systolic_work
from sim.designs import (
    D_COLS,
    D_COUNT,
    D_EFFICIENCY,
    D_KIND,
    D_LEVELS,
    D_MULTICAST,
    D_ORIENTATION,
    D_ROWS,
    D_TIERS,
    L_ACCESS,
    L_BYTES,
    L_DOUBLE,
    L_KEEPS,
    L_TIER,
    LEVEL_COLUMNS,
)
from sim.mapping import OUTSIDE, T_K, T_M, T_N, T_ORDER, TIER_COLUMNS, chunks, refetch
from sim.memory.dram import RUN_BYTES
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ABITS, _OBITS, _PBITS = (position(c) for c in ("activation_bits", "output_bits", "accumulator_bits"))
_INPUT_ELEMENTS = position("input_elements")

INPUTS, WEIGHTS, OUTPUTS = range(3)

# Sparse-configuration columns of one op (built in sim/sparse_ops.py)
S_NONZEROS, S_PACKED_K, S_STORED_BYTES, S_ROOM_BYTES, S_PASS, S_RESTART, S_ARRAY_BYTES, S_CUT_PASS, S_GRAIN = range(9)
S_EFFECTUAL = 9  # share of the MACs performed that no zero gates
S_DECODED = 10  # what decoders count of one pass of the weights: stored values or elements; 0 where none is needed
SPARSE_COLUMNS = 11

# One inner mapping of a tier-1 tile: what it asks of the array and of every level, whatever the op's residency
(
    E_ARRAY,  # cycles at fold intervals
    E_DRAIN,
    E_IDEAL,
    E_EDGE,
    E_UNFILLED,
    E_WEIGHT_PASSES,
    E_SINGLE,  # levels (bits) that are double buffered but here hold one tile and are used singly
    E_SUMS_HELD,  # 1: a level inside tier 1 holds the partial sums, so tier 1 takes finished outputs only
    E_BYPASS,  # tiers (bits, from tier 2 on) whose levels partial sums pass though they could hold them
    E_NETWORK,  # bytes that cross the network between tier 1 and the arrays
    E_ACTIVE,  # arrays that have a share of the op
) = range(11)
E_READ, E_WRITE = 11, 11 + MAX_LEVELS
E_NEST = 11 + 2 * MAX_LEVELS  # tiers 2.. : tile m, n, k, loop order
ENTRY_COLUMNS = E_NEST + (MAX_TIERS - 1) * TIER_COLUMNS
SINGLE_USE = 1 << (MAX_TIERS - 1)
STAYS_INPUTS, STAYS_WEIGHTS, CAME, GOES, STARTS, ENDS = range(6)
"""What a tier-1 tile finds: the inputs, weights, sums of the tile before; and leaves: sums for the next one. Whether
its sums start from zero, and whether they end here."""
WHOLE_OP = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
MODES = 2 * SINGLE_USE
"""How inner levels are used: a bit a tier that partial sums bypass, and one that lets double-buffered levels that hold
only one tile be used as single ones. Both are the mapping's choice, so that more of either never slows an op down."""

_RUNS = len(RUN_BYTES)
_FIRST_RUN = float(np.log2(RUN_BYTES[0]))


@numba.njit(cache=True)
def whole_bytes(o, s, operand):
    """Bytes of a whole operand below DRAM, all batch items; outputs as partial sums."""
    if operand == INPUTS:
        return o[_BATCH] * o[_M] * o[_K] * o[_ABITS] / 8.0
    if operand == WEIGHTS:
        return o[_BATCH] * s[S_ARRAY_BYTES]
    return o[_BATCH] * o[_M] * o[_N] * o[_PBITS] / 8.0


@numba.njit(cache=True)
def final_bytes(o):
    """Bytes of the whole output at its own precision."""
    return o[_BATCH] * o[_M] * o[_N] * o[_OBITS] / 8.0


@numba.njit(cache=True)
def tile_bytes(o, s, operand, m, n, k):
    """Room for one tile of an operand; weights as provisioned, outputs as partial sums."""
    if operand == INPUTS:
        return m * k * o[_ABITS] / 8.0
    if operand == WEIGHTS:
        return s[S_ROOM_BYTES] * (n * k) / (o[_N] * o[_K])
    return m * n * o[_PBITS] / 8.0


@numba.njit(cache=True)
def share(size, tile, parts):
    """What the first of ``parts`` arrays gets of a dimension when each tile of it is split among them."""
    if parts == 1.0:
        return size
    full, rest = chunks(size, tile)
    return full * np.ceil(tile / parts) + np.ceil(rest / parts)


@numba.njit(cache=True)
def array_work(d, o, s, first, split, slow, tile_m, tile_n, tile_k):
    """(cycles, drain, ideal, edge, unfilled cycles, passes of inputs, weights and partial sums) of one array on its
    share of the op, one batch item; ``first`` [3]: the tier-1 tile, ``split`` [3]: arrays along m, n, k."""
    m, n, k = share(o[_M], first[0], split[0]), share(o[_N], first[1], split[1]), share(o[_K], first[2], split[2])
    area = n * k / (o[_N] * o[_K])
    if d[D_KIND] == 0.0:
        packed, pace = np.ceil(s[S_PACKED_K] / split[2]), slow
        if slow < 1.0:  # a PE sums several narrow products at once: K shrinks, vectors do not
            packed, pace = np.ceil(packed * slow), 1.0
        cycles, drain, unfilled, weights, inputs, sums = systolic_work(d, m, n, k, packed, pace, tile_m, tile_n, tile_k)
        ideal = o[_M] * o[_N] * s[S_PACKED_K] / (d[D_ROWS] * d[D_COLS] * d[D_COUNT]) * slow
        return cycles, drain, ideal, unfilled, unfilled, inputs, weights, sums
    owner, walked = (1, 2) if d[D_ORIENTATION] == 0.0 else (2, 1)
    owned = (o[_M], o[_N], o[_K])[owner]
    groups = np.ceil(np.ceil(owned / split[owner]) / d[D_ROWS]) / np.ceil(owned / d[D_ROWS])
    walk = groups / split[walked]  # a group's walk is one array's; more arrays take more groups, or parts of the walk
    cycles, edge, unfilled, weights, inputs, sums = lanes_work(
        d,
        m,
        n,
        k,
        s[S_NONZEROS] * area,
        s[S_PASS] * walk,
        s[S_CUT_PASS] * walk,
        s[S_RESTART],
        slow,
        tile_m,
        tile_n,
        tile_k,
    )
    ideal = o[_M] * s[S_NONZEROS] / (d[D_ROWS] * d[D_COLS] * d[D_COUNT]) * slow
    return cycles, 0.0, min(ideal, edge), edge, unfilled, inputs, weights, sums


@numba.njit(cache=True)
def fits(d, slot, tile):
    """How an inner level takes ``tile`` bytes: 0 not at all, 1 as a single buffer only, 2 as it was built."""
    capacity = d[D_LEVELS + slot * LEVEL_COLUMNS + L_BYTES]
    double = d[D_LEVELS + slot * LEVEL_COLUMNS + L_DOUBLE] > 0.0
    if tile > capacity:
        return 0
    return 1 if double and 2.0 * tile > capacity else 2


@numba.njit(cache=True)
def waste(d, o, slot, operand, k, n):
    """Bytes that a level moves per byte wanted: rows of a tile are read in whole accesses (1 for no level)."""
    access = d[D_LEVELS + slot * LEVEL_COLUMNS + L_ACCESS] if slot >= 0 else 1.0
    if access <= 1.0:
        return 1.0
    run = n * o[_OBITS] / 8.0 if operand == OUTPUTS else k * o[_ABITS] / 8.0
    return np.ceil(run / access) * access / run


@numba.njit(cache=True)
def inner_flow(d, o, s, nest, room, trips, orders, split, work, mode, turn, e):
    """Fill ``e`` [ENTRY_COLUMNS] for an inner mapping: ``nest`` [tiers + 1, 3] tiles, ``trips``, ``orders`` as in
    :func:`sim.mapping.refetch`; ``room`` [levels]: bytes of the full tiles that each level would hold (:func:`rooms`);
    ``work`` as :func:`array_work` returns it; ``turn``: :data:`WHOLE_OP`, or what a single tier-1 tile finds and
    leaves. DRAM's own traffic is not in it."""
    batch, tiers = o[_BATCH], int(d[D_TIERS])
    e[:] = 0.0
    e[E_ARRAY], e[E_DRAIN], e[E_IDEAL] = batch * work[0], work[1], batch * work[2]
    e[E_EDGE], e[E_UNFILLED], e[E_WEIGHT_PASSES] = batch * work[3], batch * work[4], work[6] * split[0]
    e[E_ACTIVE] = split[0] * split[1] * split[2]
    single = 0
    for operand in range(3):
        whole = whole_bytes(o, s, operand)
        copies = split[OUTSIDE[operand]]
        flow = whole * copies * work[5 + operand]
        back = flow - whole * copies * turn[STARTS]
        final, quantised = 0.0, False
        for tier in range(tiers, 1, -1):
            slot = keeper(d, tier, operand)
            if slot < 0:
                continue
            how = fits(d, slot, room[slot])
            held = how == 2 or (how == 1 and mode >= SINGLE_USE)
            moved = waste(d, o, slot, operand, nest[tier, 2], nest[tier, 1])
            if operand == OUTPUTS:
                if not held or (mode >> (tier - 2)) & 1:
                    continue
            elif not held:
                e[E_READ + slot] += flow
                e[E_WRITE + slot] += flow * moved
                continue
            if how == 1:
                single = single | (1 << slot)
            visits = refetch(trips, orders, tier, operand)
            lasts = _one_tile(trips, tier, operand)
            if operand == OUTPUTS:
                first = 1.0 if lasts and turn[CAME] > 0.0 else turn[STARTS]
                last = 1.0 if lasts and turn[GOES] > 0.0 else turn[ENDS]
                down, up = whole * copies * (visits - first), whole * copies * (visits - last)
                out = up + final if quantised else up + whole * copies * turn[ENDS]
                if not quantised:  # shares of a split reduction leave as partial sums
                    final = (final_bytes(o) if copies == 1.0 else whole * copies) * turn[ENDS]
                    e[E_WRITE + slot] += flow + down * moved
                else:
                    e[E_WRITE + slot] += flow + final + down * moved
                e[E_READ + slot] += back + out * moved
                flow, back, quantised = up, down, True
            else:
                e[E_READ + slot] += flow
                known = lasts and turn[STAYS_INPUTS + operand] > 0.0
                flow = 0.0 if known else whole * copies * visits
                e[E_WRITE + slot] += flow * moved
        home = keeper(d, 1, operand)
        if operand == OUTPUTS:
            e[E_NETWORK] += flow + back + final
            meet = whole * (copies - 1.0) * turn[ENDS]  # shares of a split reduction meet in tier 1
            if quantised and copies == 1.0:
                e[E_READ + home] += back
                e[E_WRITE + home] += flow + final
                e[E_SUMS_HELD] = 1.0
            else:
                e[E_READ + home] += back + meet + whole * turn[ENDS]
                e[E_WRITE + home] += flow + final + final_bytes(o) * turn[ENDS]
        else:
            e[E_NETWORK] += flow
            once = flow / copies if d[D_MULTICAST] > 0.0 else flow
            e[E_READ + home] += once * waste(d, o, home, operand, nest[tiers, 2], nest[tiers, 1])
    e[E_SINGLE] = single
    e[E_BYPASS] = mode % SINGLE_USE
    for tier in range(2, tiers + 1):
        at = E_NEST + (tier - 2) * TIER_COLUMNS
        e[at + T_M], e[at + T_N], e[at + T_K] = nest[tier, 0], nest[tier, 1], nest[tier, 2]
        e[at + T_ORDER] = orders[tier]


@numba.njit(cache=True)
def _one_tile(trips, tier, operand):
    """Whether an operand has a single tile at ``tier`` within a tier-1 tile: what is there when it starts and stays."""
    for axis in range(3):
        if axis != OUTSIDE[operand] and trips[tier, axis] > trips[1, axis]:
            return False
    return True


@numba.njit(cache=True)
def keeper(d, tier, operand):
    """Slot of the tier's level that keeps an operand, -1 if none does."""
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == tier and (int(d[at + L_KEEPS]) >> operand) & 1:
            return slot
    return -1


@numba.njit(cache=True)
def held_bytes(d, o, s, slot, nest, tier):
    """Bytes of all tiles that an inner level keeps at once."""
    keeps = int(d[D_LEVELS + slot * LEVEL_COLUMNS + L_KEEPS])
    total = 0.0
    for operand in range(3):
        if (keeps >> operand) & 1:
            total += tile_bytes(o, s, operand, nest[tier, 0], nest[tier, 1], nest[tier, 2])
    return total


@numba.njit(cache=True)
def rooms(d, o, s, nest, out):
    """Fill ``out`` [levels] with the bytes of the tiles that each inner level would hold."""
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        out[slot] = 0.0
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] > 1.0:
            out[slot] = held_bytes(d, o, s, slot, nest, int(d[at + L_TIER]))


@numba.njit(cache=True)
def run_efficiency(d, run_bytes):
    """(achieved over peak bandwidth, how much of it a third of writes costs) for runs of ``run_bytes`` contiguous
    bytes. Between the lengths of :func:`sim.memory.dram.efficiency_table`, powers of two, the time of a run is linear
    in its length (something fixed and something a byte), so a longer run never takes less."""
    at = min(max(np.log2(max(run_bytes, 1.0)) - _FIRST_RUN, 0.0), _RUNS - 1.0)
    low = min(int(at), _RUNS - 2)
    part = min(max(run_bytes * 2.0 ** -(_FIRST_RUN + low) - 1.0, 0.0), 1.0)
    short, long = D_EFFICIENCY + 2 * low, D_EFFICIENCY + 2 * low + 2
    reads = (1.0 + part) / ((1.0 - part) / d[short] + 2.0 * part / d[long])
    mixed = (1.0 + part) / ((1.0 - part) / d[short + 1] + 2.0 * part / d[long + 1])
    return reads, reads - mixed


@numba.njit(cache=True)
def with_writes(pair, write_fraction):
    """A :func:`run_efficiency` at a share of writes: linear up to the third that the table was made for."""
    return pair[0] - pair[1] * min(1.0, 3.0 * write_fraction)


@numba.njit(cache=True)
def tile_runs(d, o, s, m, n, k):
    """:func:`run_efficiency` of the runs that a tile's inputs, outputs and weights make in DRAM: rows of row-major
    matrices, which merge where the tile spans them, and weights stored tile by tile."""
    in_run = k * o[_ABITS] / 8.0 * (m if k >= o[_K] else 1.0)
    out_run = n * o[_OBITS] / 8.0 * (m if n >= o[_N] else 1.0)
    weight_run = s[S_STORED_BYTES] * (n * k) / (o[_N] * o[_K])
    return run_efficiency(d, in_run), run_efficiency(d, out_run), run_efficiency(d, weight_run)


@numba.njit(cache=True)
def input_dram_bytes(o):
    """Bytes of inputs that one pass over them fetches from DRAM: distinct elements only (a convolution's patches
    overlap)."""
    elements = o[_INPUT_ELEMENTS] if o[_INPUT_ELEMENTS] > 0.0 else o[_M] * o[_K]
    return o[_BATCH] * elements * o[_ABITS] / 8.0


@numba.njit(cache=True)
def level_room(d, o, s, slot, nest, buffers, sums_held, spills, resident_in, resident_out):
    """Bytes that a tier-1 level gives to the tiles of one mapping (resident tensors not counted)."""
    keeps = int(d[D_LEVELS + slot * LEVEL_COLUMNS + L_KEEPS])
    m, n, k = nest[1, 0], nest[1, 1], nest[1, 2]
    need = 0.0
    if (keeps >> WEIGHTS) & 1:
        need += buffers * tile_bytes(o, s, WEIGHTS, m, n, k)
    if (keeps >> INPUTS) & 1 and not resident_in:
        need += buffers * tile_bytes(o, s, INPUTS, m, n, k)
    if (keeps >> OUTPUTS) & 1:
        if spills or not sums_held:
            need += buffers * tile_bytes(o, s, OUTPUTS, m, n, k)
        elif not resident_out:
            need += buffers * m * n * o[_OBITS] / 8.0
    return need
