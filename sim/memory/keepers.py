"""Which level of a tier keeps an operand, what its tiles fill, and whether they fit."""

from __future__ import annotations

import numba

from sim.designs import D_LEVELS, L_BYTES, L_DOUBLE, L_KEEPS, L_TIER, LEVEL_COLUMNS
from sim.memory.operands import INPUTS, OUTPUTS, WEIGHTS, tile_bytes
from sim.spec import MAX_LEVELS, MAX_TIERS
from sim.trace import position

_OBITS = position("output_bits")
SINGLE_USE = 1 << (MAX_TIERS - 1)
MODES = 2 * SINGLE_USE
"""How inner levels are used: a bit a tier that partial sums bypass, and one that lets double-buffered levels that hold
only one tile be used as single ones. Both are the mapping's choice, so that more of either never slows an op down."""


@numba.njit(cache=True)
def keeper(d, tier, operand):
    """Slot of the tier's level that keeps an operand, -1 if none does."""
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == tier and (int(d[at + L_KEEPS]) >> operand) & 1:
            return slot
    return -1


@numba.njit(cache=True)
def fits(d, slot, tile):
    """How an inner level takes ``tile`` bytes: 0 not at all, 1 as a single buffer only, 2 as it was built."""
    capacity = d[D_LEVELS + slot * LEVEL_COLUMNS + L_BYTES]
    double = d[D_LEVELS + slot * LEVEL_COLUMNS + L_DOUBLE] > 0.0
    if tile > capacity:
        return 0
    return 1 if double and 2.0 * tile > capacity else 2


@numba.njit(cache=True)
def holds(d, tier, operand, how, mode):
    """Whether a tier's level, which takes its tiles in the way ``how`` (:func:`fits`), holds tiles of an operand under
    a mode of use; else the operand streams through or, partial sums, passes by."""
    held = how == 2 or (how == 1 and mode >= SINGLE_USE)
    return held and not (operand == OUTPUTS and (mode >> (tier - 2)) & 1)


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
