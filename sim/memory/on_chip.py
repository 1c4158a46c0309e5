"""Cycles of an op at one mapping: the array, every on-chip level, the network and DRAM (``physics.md`` §3)."""

from __future__ import annotations

import numba

from sim.designs import (
    D_DRAM_BPC,
    D_LEVELS,
    D_NETWORK_BPC,
    L_BYTES,
    L_DOUBLE,
    L_READ_BPC,
    L_TIER,
    L_WRITE_BPC,
    LEVEL_COLUMNS,
)
from sim.memory.schedule import uneven
from sim.memory.traffic import E_ACTIVE, E_ARRAY, E_DECODE, E_NETWORK, E_READ, E_SINGLE, E_WRITE
from sim.spec import MAX_LEVELS

# DRAM traffic of one mapping in one residency
(
    X_READ,  # bytes
    X_WRITE,
    X_LOAD,  # bytes over efficiency: what they cost of the peak bandwidth
    X_STORE,
    X_WEIGHTS,  # the weights' part of X_LOAD
    X_ENDS,  # first load and last store, the same way
) = range(6)
X_HOME = 6  # [levels, (read, write)]: what tier 1 reads and writes for DRAM's sake
DRAM_COLUMNS = X_HOME + 2 * MAX_LEVELS
STEPS = MAX_LEVELS + 3  # of :func:`busy_cycles`


@numba.njit(cache=True)
def level_cycles(d, slot, read, write, active):
    """Cycles a level needs for its bytes; buffers that every array owns serve the ``active`` arrays at once."""
    at = D_LEVELS + slot * LEVEL_COLUMNS
    copies = active if d[at + L_TIER] > 1.0 else 1.0
    if d[at + L_WRITE_BPC] > 0.0:
        return max(read / d[at + L_READ_BPC], write / d[at + L_WRITE_BPC]) / copies
    return (read + write) / d[at + L_READ_BPC] / copies


@numba.njit(cache=True)
def busy_cycles(d, e, x, steps):
    """Cycles after the array, each level, the network and the decoders in turn, written to ``steps`` [STEPS]: a
    double-buffered level hides behind the rest, another adds to it. Returns the last."""
    cycles = e[E_ARRAY]
    steps[0] = cycles
    single = int(e[E_SINGLE])
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0:
            read, write = e[E_READ + slot] + x[X_HOME + 2 * slot], e[E_WRITE + slot] + x[X_HOME + 2 * slot + 1]
            if read + write > 0.0:
                busy = level_cycles(d, slot, read, write, e[E_ACTIVE])
                hidden = d[at + L_DOUBLE] > 0.0 and not (single >> slot) & 1
                cycles = max(cycles, busy) if hidden else cycles + busy
        steps[slot + 1] = cycles
    cycles = max(cycles, e[E_NETWORK] / d[D_NETWORK_BPC])
    steps[MAX_LEVELS + 1] = cycles
    cycles = max(cycles, e[E_DECODE])
    steps[MAX_LEVELS + 2] = cycles
    return cycles


@numba.njit(cache=True)
def op_cycles(d, busy, drain, x, tiles, buffers, reused, reuse):
    """Cycles of the op by the closed form, DRAM latency apart; arguments as :func:`tiled_cycles`."""
    bus = 1.0 / d[D_DRAM_BPC]
    load, store, weights, ends = x[X_LOAD] * bus, x[X_STORE] * bus, x[X_WEIGHTS] * bus, x[X_ENDS] * bus
    return tiled_cycles(busy, drain, load, store, weights, ends, tiles, buffers, reused, reuse)


@numba.njit(cache=True)
def tiled_cycles(busy, drain, load, store, weights, ends, tiles, buffers, reused, reuse):
    """Cycles of an op whose array and levels take ``busy`` and whose DRAM loads and stores take ``load`` (``weights``
    of it) and ``store`` in all.

    ``reused``: the operand that the innermost loop with more than one trip does not index (0 inputs, 1 weights, 2
    outputs), ``reuse`` its trips: it moves only every ``reuse``-th tile, in a burst.
    """
    bursts = tiles / reuse
    if reused == 2:
        extra = store
    elif reused == 1:
        extra = weights
    else:
        extra = max(0.0, load - weights)
    calm_bus = (load + store - extra) / tiles
    burst_bus = calm_bus + extra / bursts
    return uneven(tiles, load / tiles, busy / tiles, store / tiles, drain, buffers, ends, bursts, burst_bus)
