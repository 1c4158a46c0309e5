"""Inner mappings of one row of candidates: tiles and loop orders of tiers 2 and on, and how their levels are used.

Kept are those that no other of the row beats in every count (array cycles, drain, bytes by level and direction,
network, levels used singly, room for partial sums): they serve any bandwidth, any price and any objective.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.avoided import everything, shares
from sim.candidates import R_HOLDER, R_M, R_ORDER, R_SPLIT_K, R_SPLIT_M, grains
from sim.compute.array_work import array_work, share
from sim.designs import D_FEATURES, D_LEVELS, D_TIERS, L_BYTES, L_KEEPS, L_TIER, LEVEL_COLUMNS
from sim.mapping import COARSER, CUTS, EXHAUSTIVE, QUICK, QUICK_CUTS, inner_tile
from sim.memory.keepers import MODES, SINGLE_USE, fits, held_bytes, keeper, rooms
from sim.memory.operands import OUTPUTS
from sim.memory.traffic import (
    E_ARRAY,
    E_DECODE,
    E_NEST,
    E_NETWORK,
    E_SINGLE,
    E_SPENT,
    E_SUMS_HELD,
    E_WEIGHT_PASSES,
    ENTRY_COLUMNS,
    WHOLE_OP,
    inner_flow,
    waste,
)
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_M, _N, _K = (position(c) for c in ("m", "n", "k"))


@numba.njit(cache=True)
def inner_mappings(d, o, s, slow, r, pool, used, effort):
    """Append to ``pool`` [room, ENTRY_COLUMNS] every inner mapping of row ``r`` that no other of them beats in all
    counts, from ``used`` on. Returns (the pool, moved to a larger one if need be; how many entries there are).

    A finer cut of the innermost tier that lets no level hold more than the same cut by a smaller factor (or than no
    cut) and asks the array for no less cannot gain: no operand passes less often. Such cuts are left out
    unless the search is exhaustive or levels gate or skip: smaller tiles are empty more often."""
    tiers = int(d[D_TIERS])
    grain = grains(d, s)
    split = r[R_SPLIT_M : R_SPLIT_K + 1]
    nest = np.zeros((MAX_TIERS + 1, 3))
    trips = np.ones((MAX_TIERS + 1, 3))
    orders = np.zeros(MAX_TIERS + 1, dtype=np.int64)
    at = np.zeros(MAX_TIERS + 1, dtype=np.int64)
    e = np.empty(ENTRY_COLUMNS)
    sizes = (o[_M], o[_N], o[_K])
    for axis in range(3):
        nest[1, axis] = r[R_M + axis]
        trips[1, axis] = np.ceil(sizes[axis] / nest[1, axis])
    orders[1] = int(r[R_ORDER])
    left = np.empty((3, MAX_TIERS + 1, 3))
    everything(left)
    known, work, room = np.empty((len(CUTS), 11)), np.empty(8), np.empty(MAX_LEVELS)
    if tiers == 1:
        own = np.ceil(nest[1] / split)
        work[:] = array_work(d, o, s, nest[1], split, slow, own[0], own[1], own[2])
    start = used
    tier = 2
    while tier >= 2:
        if tier > tiers:
            if len(pool) < used + MODES:
                larger = np.empty((2 * len(pool) + MODES, ENTRY_COLUMNS))
                larger[:used] = pool[:used]
                pool = larger
            used = _enter(d, o, s, nest, room, trips, orders, split, work, int(r[R_HOLDER]), left, pool, start, used, e)
            tier -= 1
            at[tier] += 1
            continue
        if at[tier] >= len(CUTS):
            tier -= 1
            at[tier] += 1
            continue
        if effort == QUICK and not QUICK_CUTS[at[tier]]:
            at[tier] += 1
            continue
        useful = _cut(sizes, split, nest, trips, orders, tier, CUTS[at[tier]], grain)
        if tier == tiers:
            gains = _gains(d, o, s, slow, nest, split, tier, at[tier], useful, known, work)
            useful = gains or (useful and (effort == EXHAUSTIVE or d[D_FEATURES] > 0.0))
        if useful:
            tier += 1
            if tier <= tiers:
                at[tier] = 0
        else:
            at[tier] += 1
    return pool, used


@numba.njit(cache=True)
def _gains(d, o, s, slow, nest, split, tier, cut, candidate, known, work):
    """Whether a cut of the innermost tier lets its levels hold other tiles than its coarser relatives do, or asks less
    of the array; enters what it finds into ``known`` [cuts, 11]: what levels hold (a digit a level,
    :func:`sim.memory.traffic.fits`; -1 for no candidate), array cycles, drain, passes of the operands, what accesses
    waste of them here and of inputs and weights in tier 1; and all that the array does into ``work`` [8]
    (:func:`sim.memory.traffic.array_work`)."""
    known[cut, 0] = -1.0
    if not candidate:
        return False
    code = 0.0
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == tier:
            code = 3.0 * code + fits(d, slot, held_bytes(d, o, s, slot, nest, tier))
    work[:] = array_work(d, o, s, nest[1], split, slow, nest[tier, 0], nest[tier, 1], nest[tier, 2])
    mine = known[cut]
    mine[0], mine[1], mine[2] = code, work[0], work[1]
    mine[3], mine[4], mine[5] = work[5], work[6], work[7]
    for operand in range(3):
        mine[6 + operand] = waste(d, o, keeper(d, tier, operand), operand, nest[tier, 2], nest[tier, 1])
    for operand in range(2):
        mine[9 + operand] = waste(d, o, keeper(d, 1, operand), operand, nest[tier, 2], nest[tier, 1])
    coarser = COARSER[cut]
    while coarser >= 0:
        if known[coarser, 0] == code:
            beaten = True
            for i in range(1, 11):
                beaten = beaten and known[coarser, i] <= mine[i]
            if beaten:
                return False
        coarser = COARSER[coarser]
    return True


@numba.njit(cache=True)
def _cut(sizes, split, nest, trips, orders, tier, cut, grain):
    """Set a tier's tile to a cut of its parent's; False if that is no candidate."""
    for axis in range(3):
        parent = nest[tier - 1, axis]
        if tier == 2:
            parent = np.ceil(parent / split[axis])
        tile = inner_tile(parent, cut[axis], trips[tier - 1, axis] <= 1.0, grain[axis])
        if tile <= 0.0:
            return False
        nest[tier, axis] = tile
        part = share(sizes[axis], nest[1, axis], split[axis])
        trips[tier, axis] = max(trips[tier - 1, axis], np.ceil(part / tile))
    orders[tier] = int(cut[3])
    return True


@numba.njit(cache=True)
def _enter(d, o, s, nest, room, trips, orders, split, work, holder, left, pool, start, used, e):
    """Enter the modes of one inner mapping, of those in which tier ``holder`` is the innermost that holds partial sums,
    into the pool's Pareto set ``start..used``: partial sums that bypass the tiers that could hold them, levels used
    singly that hold one tile but not two."""
    rooms(d, o, s, nest, room)
    squeezed, choices, alone = False, 0, 0
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] > 1.0:
            how = fits(d, slot, room[slot])
            squeezed = squeezed or how == 1
            if how > 0 and (int(d[at + L_KEEPS]) >> OUTPUTS) & 1:
                choices |= 1 << (int(d[at + L_TIER]) - 2)
                if how == 1:
                    alone |= 1 << (int(d[at + L_TIER]) - 2)
    for mode in range(MODES if squeezed else SINGLE_USE):
        bypassed = mode % SINGLE_USE
        if bypassed & ~choices:
            continue
        holding = choices & ~bypassed & ~(0 if mode >= SINGLE_USE else alone)
        if (holding >> (holder - 1)) > 0 or (holder > 1 and not (holding >> (holder - 2)) & 1):
            continue
        if d[D_FEATURES] > 0.0:
            shares(d, o, s, nest, trips, orders, split, room, mode, left)
        inner_flow(d, o, s, nest, room, trips, orders, split, work, mode, left, WHOLE_OP, e)
        used = _insert(e, pool, start, used, E_NEST if d[D_FEATURES] > 0.0 else E_SPENT)
    return used


@numba.njit(cache=True)
def _insert(e, pool, start, used, last):
    """Keep ``e`` if no entry beats it, and drop the entries that it beats; returns the new end. ``last``: where the
    columns that count end."""
    for i in range(start, used):
        if _beats(pool[i], e, last):
            return used
    kept = start
    for i in range(start, used):
        if not _beats(e, pool[i], last):
            if kept != i:
                pool[kept] = pool[i]
            kept += 1
    pool[kept] = e
    return kept + 1


@numba.njit(cache=True)
def _beats(a, b, last):
    """Whether entry ``a`` is nowhere worse than ``b``: cycles, drain, bytes, levels used singly, room for sums."""
    if a[E_ARRAY] > b[E_ARRAY] or a[E_ARRAY + 1] > b[E_ARRAY + 1] or a[E_NETWORK] > b[E_NETWORK]:
        return False
    if a[E_SUMS_HELD] < b[E_SUMS_HELD] or int(a[E_SINGLE]) & ~int(b[E_SINGLE]):
        return False
    if a[E_WEIGHT_PASSES] > b[E_WEIGHT_PASSES]:
        return False
    for i in range(E_DECODE, last):
        if a[i] > b[i]:
            return False
    return True
