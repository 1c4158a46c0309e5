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

from sim.avoided import CHECKS, LEFT_ENERGY, LEFT_TIME
from sim.compute.array_work import share
from sim.designs import (
    D_FEATURES,
    D_LEVELS,
    D_MULTICAST,
    D_TIERS,
    L_ACCESS,
    LEVEL_COLUMNS,
)
from sim.mapping import OUTSIDE, T_K, T_M, T_N, T_ORDER, TIER_COLUMNS, refetch
from sim.memory.keepers import SINGLE_USE, fits, holds, keeper
from sim.memory.operands import OUTPUTS, final_bytes, whole_bytes
from sim.sparse_columns import S_DECODE_CYCLES
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ABITS, _OBITS = position("activation_bits"), position("output_bits")

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
    E_DECODE,  # cycles of the decoders of one array
) = range(12)
E_READ, E_WRITE = 12, 12 + MAX_LEVELS  # bytes that take time
E_SPENT = 12 + 2 * MAX_LEVELS  # bytes that cost energy, as the two before: what is gated takes time alone
E_CHECKS = 12 + 4 * MAX_LEVELS  # look-ups of leaders' tiles, to gate or to skip
E_SENT = E_CHECKS + 1  # bytes of E_NETWORK that cost energy
E_NEST = E_SENT + 1  # tiers 2.. : tile m, n, k, loop order
ENTRY_COLUMNS = E_NEST + (MAX_TIERS - 1) * TIER_COLUMNS
STAYS_INPUTS, STAYS_WEIGHTS, CAME, GOES, STARTS, ENDS = range(6)
"""What a tier-1 tile finds: the inputs, weights, sums of the tile before; and leaves: sums for the next one. Whether
its sums start from zero, and whether they end here."""
WHOLE_OP = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])


@numba.njit(cache=True)
def waste(d, o, slot, operand, k, n):
    """Bytes that a level moves per byte wanted: rows of a tile are read in whole accesses (1 for no level)."""
    access = d[D_LEVELS + slot * LEVEL_COLUMNS + L_ACCESS] if slot >= 0 else 1.0
    if access <= 1.0:
        return 1.0
    run = n * o[_OBITS] / 8.0 if operand == OUTPUTS else k * o[_ABITS] / 8.0
    return np.ceil(run / access) * access / run


@numba.njit(cache=True)
def inner_flow(d, o, s, nest, room, trips, orders, split, work, mode, left, turn, e):
    """Fill ``e`` [ENTRY_COLUMNS] for an inner mapping: ``nest`` [tiers + 1, 3] tiles, ``trips``, ``orders`` as in
    :func:`sim.mapping.refetch`; ``room`` [levels]: bytes of the full tiles that each level would hold
    (:func:`sim.memory.keepers.rooms`); ``work`` as :func:`sim.compute.array_work.array_work` returns it; ``left``: what
    gating and skipping leave (:func:`sim.avoided.shares`); ``turn``: :data:`WHOLE_OP`, or what a single tier-1 tile
    finds and leaves. DRAM's own traffic is not in it."""
    batch, tiers = o[_BATCH], int(d[D_TIERS])
    e[:] = 0.0
    e[E_ARRAY], e[E_DRAIN], e[E_IDEAL] = batch * work[0], work[1], batch * work[2]
    e[E_EDGE], e[E_UNFILLED], e[E_WEIGHT_PASSES] = batch * work[3], batch * work[4], work[6] * split[0]
    e[E_ACTIVE] = split[0] * split[1] * split[2]
    part = share(o[_N], nest[1, 1], split[1]) * share(o[_K], nest[1, 2], split[2]) / (o[_N] * o[_K])
    e[E_DECODE] = batch * work[6] * s[S_DECODE_CYCLES] * part
    _flows(d, o, s, nest, room, trips, orders, split, work, mode, left, LEFT_TIME, turn, e, E_READ)
    if d[D_FEATURES] > 1.0:
        timed = e[E_NETWORK]
        _flows(d, o, s, nest, room, trips, orders, split, work, mode, left, LEFT_ENERGY, turn, e, E_SPENT)
        e[E_SENT], e[E_NETWORK] = e[E_NETWORK], timed
    else:
        e[E_SENT] = e[E_NETWORK]
        e[E_SPENT : E_SPENT + 2 * MAX_LEVELS] = e[E_READ : E_READ + 2 * MAX_LEVELS]
    e[E_BYPASS] = mode % SINGLE_USE
    for tier in range(2, tiers + 1):
        at = E_NEST + (tier - 2) * TIER_COLUMNS
        e[at + T_M], e[at + T_N], e[at + T_K] = nest[tier, 0], nest[tier, 1], nest[tier, 2]
        e[at + T_ORDER] = orders[tier]


@numba.njit(cache=True)
def _flows(d, o, s, nest, room, trips, orders, split, work, mode, left, which, turn, e, at):
    """Bytes that every level reads (``e`` from column ``at`` on) and writes, and what crosses the network: the shares
    ``which`` of ``left`` of all transfers. Notes what is used singly, where sums are held, and look-ups."""
    tiers = int(d[D_TIERS])
    read, write = at, at + MAX_LEVELS
    e[E_NETWORK] = e[E_CHECKS] = 0.0
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
            inward, outward = left[operand, tier, which], left[operand, tier - 1, which]
            how = fits(d, slot, room[slot])
            held = holds(d, tier, operand, how, mode)
            moved = waste(d, o, slot, operand, nest[tier, 2], nest[tier, 1])
            if operand == OUTPUTS and not held:
                continue
            _look_up(o, left, operand, tier, flow, whole, e, read + slot)
            if not held:
                e[read + slot] += flow * inward
                e[write + slot] += flow * moved * outward
                continue
            if how == 1:
                single = single | (1 << slot)
            visits = refetch(trips, orders, tier, operand)
            lasts = _one_tile(trips, tier, operand)
            if operand == OUTPUTS:
                first = 1.0 if lasts and turn[CAME] > 0.0 else turn[STARTS]
                last = 1.0 if lasts and turn[GOES] > 0.0 else turn[ENDS]
                down, up = whole * copies * (visits - first), whole * copies * (visits - last)
                out = up * outward + (final if quantised else whole * copies * turn[ENDS])
                if not quantised:  # shares of a split reduction leave as partial sums
                    final = (final_bytes(o) if copies == 1.0 else whole * copies) * turn[ENDS]
                    e[write + slot] += flow * inward + down * outward * moved
                else:
                    e[write + slot] += flow * inward + final + down * outward * moved
                e[read + slot] += back * inward + out * moved
                flow, back, quantised = up, down, True
            else:
                e[read + slot] += flow * inward
                known = lasts and turn[STAYS_INPUTS + operand] > 0.0
                flow = 0.0 if known else whole * copies * visits
                e[write + slot] += flow * moved * outward
        home, inward = keeper(d, 1, operand), left[operand, 1, which]
        _look_up(o, left, operand, 1, flow, whole, e, read + home)
        if operand == OUTPUTS:
            e[E_NETWORK] += (flow + back) * inward + final
            meet = whole * (copies - 1.0) * turn[ENDS]  # shares of a split reduction meet in tier 1
            if quantised and copies == 1.0:
                e[read + home] += back * inward
                e[write + home] += flow * inward + final
                e[E_SUMS_HELD] = 1.0
            else:
                e[read + home] += back * inward + meet + whole * turn[ENDS]
                e[write + home] += flow * inward + final + final_bytes(o) * turn[ENDS]
        else:
            e[E_NETWORK] += flow * inward
            once = (flow / copies if d[D_MULTICAST] > 0.0 else flow) * inward
            e[read + home] += once * waste(d, o, home, operand, nest[tiers, 2], nest[tiers, 1])
            if turn[STAYS_INPUTS + operand] == 0.0:
                _look_up(o, left, operand, 0, refetch(trips, orders, 1, operand), 1.0, e, read + home)
    e[E_SINGLE] = single


@numba.njit(cache=True)
def _look_up(o, left, operand, tier, flow, whole, e, column):
    """Count the look-ups that ``flow`` bytes of an operand out of a tier need, ``whole`` bytes being all of it once,
    and their bits as bytes of a level."""
    checks = left[operand, tier, CHECKS]
    if checks > 0.0 and whole > 0.0:
        sides = (o[_M] * o[_K], o[_K] * o[_N], o[_M] * o[_N])
        found = checks * flow / whole * o[_BATCH] * sides[operand]
        e[E_CHECKS] += found
        e[column] += found / 8.0


@numba.njit(cache=True)
def _one_tile(trips, tier, operand):
    """Whether an operand has a single tile at ``tier`` within a tier-1 tile: what is there when it starts and stays."""
    for axis in range(3):
        if axis != OUTSIDE[operand] and trips[tier, axis] > trips[1, axis]:
            return False
    return True
