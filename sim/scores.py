"""What the search minimises, and the energy that it counts, at a design's prices (:mod:`sim.price_table`)."""

from __future__ import annotations

import numba
import numpy as np

from sim.designs import D_KIND, D_ORIENTATION, D_OUTER_TILE
from sim.memory.on_chip import X_HOME, X_READ, X_WRITE
from sim.memory.traffic import E_CHECKS, E_SENT, E_SPENT, E_WEIGHT_PASSES
from sim.sparse_columns import S_DECODED, S_EFFECTUAL, S_FOLDS, S_INPUT_DENSITY, S_NONZEROS, S_PACKED_K, S_POSITIONS
from sim.spec import MAX_LEVELS
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))

LATENCY, ENERGY, EDP, TRAFFIC = range(4)
TIE = 1e-12  # weight of energy (pJ) against cycles and of cycles against bytes: breaks ties only

# Prices of a design: pJ a cycle that passes (idle PEs, leakage, background), a byte of DRAM, of the network, of levels
# pJ of a MAC, of its cycle beyond an idle one, of a gated one's, a decoded weight, a zero-skipping pop, a scattered
# sum, vector and special operations, a look-up of a leader's tile
P_CYCLE, P_DRAM, P_NETWORK, P_MAC, P_MAC_CYCLE, P_GATED, P_DECODE, P_FRONT, P_SCATTER, P_VECTOR, P_SPECIAL = range(11)
P_CHECK, P_LEVEL = 11, 12
PRICE_COLUMNS = P_LEVEL + 2 * MAX_LEVELS


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
def macs_of(d, o, s):
    """MACs of the op: nonzero ones on lanes (of both operands in an outer-product array), zeros included in a systolic
    array; n:m pruned ones and skipped blocks not, nor skipped positions."""
    if d[D_KIND] == 2.0:
        return o[_BATCH] * o[_M] * s[S_NONZEROS] * s[S_INPUT_DENSITY]
    macs = s[S_NONZEROS] if d[D_KIND] == 1.0 else o[_N] * s[S_PACKED_K] * s[S_FOLDS]
    return o[_BATCH] * o[_M] * macs * s[S_POSITIONS]


@numba.njit(cache=True)
def base_energy(d, o, s, slow, price):
    """pJ of what no mapping changes: MACs, and sums scattered by input lanes."""
    macs = macs_of(d, o, s)
    done = s[S_EFFECTUAL]
    total = macs * (done * (price[P_MAC] + slow * price[P_MAC_CYCLE]) + (1.0 - done) * slow * price[P_GATED])
    if scatters(d):
        total += macs * price[P_SCATTER]
    return total + input_pops(d, o, s) * price[P_FRONT]


@numba.njit(cache=True)
def scatters(d):
    """Whether products find their sums through a crossbar: input lanes, outer products."""
    return d[D_KIND] == 2.0 or (d[D_KIND] == 1.0 and d[D_ORIENTATION] == 1.0)


@numba.njit(cache=True)
def input_pops(d, o, s):
    """Nonzero inputs that an outer-product array fetches: all of them for each of its tiles along N."""
    if d[D_KIND] < 2.0:
        return 0.0
    return o[_BATCH] * o[_M] * o[_K] * s[S_INPUT_DENSITY] * np.ceil(o[_N] / d[D_OUTER_TILE])


@numba.njit(cache=True)
def mapping_energy(price, o, s, e, x, cycles):
    """pJ of what a mapping decides: bytes by level, network, DRAM, pops of the front end, and cycles that pass."""
    total = price[P_CYCLE] * cycles + price[P_DRAM] * (x[X_READ] + x[X_WRITE]) + price[P_NETWORK] * e[E_SENT]
    weights = price[P_FRONT] * s[S_NONZEROS] + price[P_DECODE] * s[S_DECODED]
    total += weights * o[_BATCH] * e[E_WEIGHT_PASSES] + price[P_CHECK] * e[E_CHECKS]
    for slot in range(MAX_LEVELS):
        total += price[P_LEVEL + 2 * slot] * (e[E_SPENT + slot] + x[X_HOME + 2 * slot])
        total += price[P_LEVEL + 2 * slot + 1] * (e[E_SPENT + MAX_LEVELS + slot] + x[X_HOME + 2 * slot + 1])
    return total
