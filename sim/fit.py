"""What fits the outermost levels of a machine: tiles in flight, beside activations that stay between ops."""

from __future__ import annotations

import numba
import numpy as np

from sim.designs import D_LEVELS, L_BYTES, L_DOUBLE, L_TIER, LEVEL_COLUMNS
from sim.memory.keepers import level_room
from sim.memory.operands import final_bytes
from sim.spec import MAX_LEVELS
from sim.trace import position

_LIVE_IN, _LIVE_OUT, _WRITE, _KIND = (position(c) for c in ("live_in_bytes", "live_out_bytes", "write_bytes", "kind"))

STATES = 4  # residency: bit 0 = input resident, bit 1 = output resident


@numba.njit(cache=True)
def carried_bytes(o):
    """Activations that outlive the op besides its own output (the residual stream, say)."""
    own = o[_WRITE] if o[_KIND] == 1.0 else final_bytes(o)
    return max(0.0, o[_LIVE_OUT] - own)


@numba.njit(cache=True)
def reserved_bytes(o, state):
    """Bytes of the level that keeps activations held by resident tensors while the op runs."""
    resident_in, resident_out = state & 1, state >> 1
    total = 0.0
    if resident_in:
        total += o[_LIVE_IN]
    if resident_out:
        total += max(0.0, o[_LIVE_OUT] - (carried_bytes(o) if resident_in else 0.0))
    return total


@numba.njit(cache=True)
def overflow(d, o, s, home, nest, sums_held, distance, spills, state, buffers):
    """Bytes by which a tier-1 level is exceeded (at most 0: it fits), and the slot that is; inf where partial sums come
    back sooner than ``buffers`` allow."""
    if spills and distance <= buffers:
        return np.inf, 0
    if state > 0 and home < 0:
        return np.inf, 0
    worst, where = -np.inf, 0
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0:
            need = level_room(d, o, s, slot, nest, buffers, sums_held, spills, (state & 1) > 0, state > 1)
            if slot == home:
                need += reserved_bytes(o, state)
            if need - d[at + L_BYTES] > worst:
                worst, where = need - d[at + L_BYTES], slot
    return worst, where


@numba.njit(cache=True)
def most_buffers(d):
    """Tiles that tier 1 can have in flight: two if all its levels are double buffered."""
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0 and d[at + L_DOUBLE] == 0.0:
            return 1
    return 2
