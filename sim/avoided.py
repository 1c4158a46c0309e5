"""Shares of a mapping's transfers that gating and skipping at memory levels leave (:mod:`sim.sparsity.level_features`).

A tile of the target that moves inward from a level stays in the next one (or in the array) while the loops do not
change it; the tile of the leader is all that the loops touch of it meanwhile, so it grows with the reuse of the target.
A transfer is avoided with probability 1 - prod over leaders (1 - P(the leader's tile is empty)), leaders taken as
independent; what an outer level avoids is avoided further in as well. Source: Wu et al., MICRO 2022, sections 4-5; the
rules are those of :mod:`sim.sparsity.features.count`, which takes nests as written. Arrays that share an operand share
its fate: their leader's tile is that of all of them.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.compute import systolic
from sim.compute.precision import COMPOSABLE
from sim.designs import (
    D_ARITHMETIC,
    D_AVOIDS,
    D_COLS,
    D_DATAFLOW,
    D_FEATURES,
    D_KIND,
    D_LEVELS,
    D_MULTICAST,
    D_ORIENTATION,
    D_OUTER_TILE,
    D_ROWS,
    D_TIERS,
    L_AVOIDS,
    LEVEL_COLUMNS,
)
from sim.mapping import OUTSIDE, reuse_tier
from sim.memory.keepers import fits, holds, keeper
from sim.memory.operands import INPUTS, OUTPUTS, WEIGHTS
from sim.sparse_columns import S_EMPTY, S_GRAIN, S_PACKED_K
from sim.sparsity.emptiness import SIDES, empty_share
from sim.sparsity.level_features import LEADER_SHIFT, VECTOR_SHIFT
from sim.trace import position

_M, _N, _K = (position(c) for c in ("m", "n", "k"))
LEFT_TIME, LEFT_ENERGY, CHECKS = range(3)
"""Of transfers out of a tier: the share that takes time, the share that costs energy; look-ups of leaders' tiles an
element that would move."""
GATE, SKIP = 1, 2


@numba.njit(cache=True)
def feature_of(d, tier, operand):
    """Code of what ``tier`` (0: DRAM) does for an operand, 0 for nothing."""
    if tier == 0:
        return 0 if operand == OUTPUTS else int(d[D_AVOIDS + operand])
    slot = keeper(d, tier, operand)
    return 0 if slot < 0 else int(d[D_LEVELS + slot * LEVEL_COLUMNS + L_AVOIDS + operand])


@numba.njit(cache=True)
def everything(out):
    """Fill ``out`` as :func:`shares` does where nothing is gated or skipped."""
    for operand in range(out.shape[0]):
        for tier in range(out.shape[1]):
            out[operand, tier, LEFT_TIME] = out[operand, tier, LEFT_ENERGY] = 1.0
            out[operand, tier, CHECKS] = 0.0


@numba.njit(cache=True)
def shares(d, o, s, nest, trips, orders, split, room, mode, out):
    """Fill ``out`` [3 operands, MAX_TIERS + 1, 3] (:data:`LEFT_TIME`, :data:`LEFT_ENERGY`, :data:`CHECKS`) for
    transfers out of every tier (0: DRAM) under one inner mapping; arguments as
    :func:`sim.memory.traffic.inner_flow` has them."""
    everything(out)
    if d[D_FEATURES] == 0.0:
        return
    tiers = int(d[D_TIERS])
    tile, empty = np.empty(3), np.zeros((3, 2))
    for operand in range(3):
        empty[:] = 0.0
        for tier in range(tiers + 1):
            code = feature_of(d, tier, operand)
            if code > 0 and operand == OUTPUTS and tier > 1:
                slot = keeper(d, tier, operand)
                if not holds(d, tier, operand, fits(d, slot, room[slot]), mode):
                    code = 0
            if code > 0:
                inner = _holder(d, tier, operand, room, mode)
                _together(d, o, s, nest, trips, orders, split, inner, operand, tile)
                if tier == 1 and d[D_MULTICAST] > 0.0:
                    axis = OUTSIDE[operand]
                    tile[axis] = min(max(nest[1, axis], tile[axis]), tile[axis] * split[axis])
                out[operand, tier, CHECKS] = _judge(s, code, operand, tile, empty)
            out[operand, tier, LEFT_TIME], out[operand, tier, LEFT_ENERGY] = _left(empty)


@numba.njit(cache=True)
def dram_share(d, o, s, nest, trips, orders, split, operand):
    """Share of weights or inputs that DRAM does not skip, for a tier-1 tiling and its order."""
    code = feature_of(d, 0, operand)
    if code == 0:
        return 1.0
    tile, empty = np.empty(3), np.zeros((3, 2))
    _together(d, o, s, nest, trips, orders, split, 1, operand, tile)
    _judge(s, code, operand, tile, empty)
    return _left(empty)[0]


@numba.njit(cache=True)
def least_share(d, s, operand):
    """A share that no mapping goes below: leaders' tiles of one element, if anything may be avoided at all."""
    if d[D_FEATURES] == 0.0:
        return 1.0
    leaders = 0
    for tier in range(int(d[D_TIERS]) + 1):
        leaders = leaders | (feature_of(d, tier, operand) >> LEADER_SHIFT) & 3
    left = 1.0
    for leader in range(2):
        if (leaders >> leader) & 1:
            left *= 1.0 - _empty(s, leader, 1.0, 1.0)
    return left


@numba.njit(cache=True)
def _empty(s, leader, rows, columns):
    at = S_EMPTY + leader * SIDES * SIDES
    return empty_share(s[at : at + SIDES * SIDES], rows, columns)


@numba.njit(cache=True)
def _left(empty):
    """(share that is not skipped, share that is neither skipped nor gated) by emptiness [GATE or SKIP, leader]."""
    time = energy = 1.0
    for leader in range(2):
        time *= 1.0 - empty[SKIP, leader]
        energy *= 1.0 - max(empty[SKIP, leader], empty[GATE, leader])
    return time, energy


@numba.njit(cache=True)
def _judge(s, code, operand, tile, empty):
    """Enter what a feature finds empty of the leaders' tiles that go with ``tile`` (m, n, k) of the loops; returns
    look-ups an element of the target."""
    m, n, k = tile[0], tile[1], tile[2]
    if (code >> VECTOR_SHIFT) & 1 and operand != OUTPUTS:
        k = 1.0
    kind, checks = code & 3, 0.0
    for leader in range(2):
        if (code >> (LEADER_SHIFT + leader)) & 1:
            if operand == OUTPUTS and (code >> VECTOR_SHIFT) & 1:
                m, n = (1.0, tile[1]) if leader == INPUTS else (tile[0], 1.0)
            found = _empty(s, leader, m if leader == INPUTS else n, k)
            empty[kind, leader] = max(empty[kind, leader], found)
            checks += 1.0 / ((n * k) if operand == WEIGHTS else (m * k) if operand == INPUTS else (m * n))
    return checks


@numba.njit(cache=True)
def _holder(d, tier, operand, room, mode):
    """The next tier inside ``tier`` that holds tiles of an operand; past the last one: the array."""
    for inner in range(max(tier + 1, 1), int(d[D_TIERS]) + 1):
        slot = keeper(d, inner, operand)
        if slot >= 0 and (inner == 1 or holds(d, inner, operand, fits(d, slot, room[slot]), mode)):
            return inner
    return int(d[D_TIERS]) + 1


@numba.njit(cache=True)
def _together(d, o, s, nest, trips, orders, split, holder, operand, tile):
    """Fill ``tile`` [m, n, k]: what of the loops goes by while one tile of an operand stays in tier ``holder`` (past
    the last: in the array)."""
    tiers, outside = int(d[D_TIERS]), OUTSIDE[operand]
    if holder > tiers:
        inmost = nest[tiers]
        tile[:] = np.ceil(inmost / split) if tiers == 1 else inmost
        _in_array(d, o, s, tile)
        return
    tile[:] = nest[holder]
    stays = reuse_tier(trips, orders, holder, operand)
    tile[outside] = (o[_M], o[_N], o[_K])[outside] if stays == 0 else nest[stays, outside]


@numba.njit(cache=True)
def _in_array(d, o, s, tile):
    """Cut an innermost tile down to what the array works on while it holds its stationary operand."""
    rows, cols = d[D_ROWS], d[D_COLS]
    if d[D_KIND] == 2.0:
        lanes = np.array((d[D_OUTER_TILE], d[D_OUTER_TILE], tile[2]))
    elif d[D_KIND] == 1.0:
        lanes = np.array((cols, rows, s[S_GRAIN]) if d[D_ORIENTATION] == 0.0 else (cols, s[S_GRAIN], rows))
    else:
        deep = rows * o[_K] / s[S_PACKED_K]
        if d[D_ARITHMETIC] == COMPOSABLE:  # narrow operands are packed: how deep depends on their bits
            deep = tile[2]
        flow = int(d[D_DATAFLOW])
        if flow == systolic.WS:
            lanes = np.array((tile[0], cols, deep))
        elif flow == systolic.OS:
            lanes = np.array((rows, cols, tile[2]))
        else:
            lanes = np.array((cols, tile[1], deep))
    tile[:] = np.minimum(tile, lanes)
