"""Mappings: tile sizes and loop orders, tier by tier, and how often each operand passes each tier.

Tiers are counted from the outside: tier 1 holds the tiles that DRAM fills, the last tier the tiles that the array works
on. At every tier the loops over its tiles run inside one tile of the tier before; batch items (heads) are always the
outermost loop. Candidates do not depend on any capacity, so what fits a small memory is a subset of what fits a large
one, and a larger memory is never slower.

An operand comes again for every pass of the loop that does not index it (N for inputs M x K, M for weights K x N, K for
outputs M x N) unless no loop that does index it turns inside: then the tile at hand is reused. With three loops only
the innermost one decides that, so three loop orders stand for all six: one for each innermost loop, K outermost where
partial sums leave anyway (it keeps two visits to one sum farthest apart).
"""

from __future__ import annotations

import numba
import numpy as np

from sim.spec import MAX_TIERS

ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")
_AXES = np.array([["mnk".index(c) for c in order] for order in ORDERS], dtype=np.int64)
INNERMOST = (ORDERS.index("knm"), ORDERS.index("kmn"), ORDERS.index("mnk"))
"""Loop order that stands for "m (n, k) innermost"."""
OUTSIDE = (1, 0, 2)
"""Axis that inputs, weights, outputs are not indexed by."""

QUICK, FULL, EXHAUSTIVE = range(3)
EFFORTS = {"quick": QUICK, "full": FULL, "exhaustive": EXHAUSTIVE}
"""How mappings are searched: quick has every other tile size of K and no inner cuts by 8; full has all sizes, leaving
out what bounds prove to be no better; exhaustive evaluates those too, to check the bounds."""

LARGEST_LADDER = 40
GRAIN = 16  # systolic tiles are cut in multiples of this, so that common array sizes fill
SMALLEST_STREAM_TILE = 16  # rows of activations; below this a tile is all overhead
SMALLEST_TILE = 64  # weights are cut no finer, except when the dimension itself is smaller

_FACTORS = (2.0, 4.0, 8.0, 16.0)


def _cuts() -> np.ndarray:
    """[cuts, 4]: factors by which an inner tier divides its parent's m, n, k, and the loop order; first: not at all."""
    found = [(1.0, 1.0, 1.0, 0.0)]
    for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        for factor in _FACTORS:
            split = tuple(factor if a in axes else 1.0 for a in range(3))
            found += [(*split, float(INNERMOST[a])) for a in axes]
    return np.array(found)


CUTS = _cuts()


def _coarser() -> np.ndarray:
    """[cuts] the same cut with the next smaller factor; the uncut tile (0) below the smallest, -1 for that itself."""
    found = np.zeros(len(CUTS), dtype=np.int64)
    known = {tuple(cut): i for i, cut in enumerate(CUTS)}
    for i, cut in enumerate(CUTS):
        half = (*(max(1.0, f / 2.0) for f in cut[:3]), cut[3])
        found[i] = known.get(half, 0)
    found[0] = -1
    return found


COARSER = _coarser()
QUICK_CUTS = (CUTS[:, :3] != 8.0).all(axis=1)


@numba.njit(cache=True)
def ladder(size: float, smallest: float, grain: float, effort: int, out: np.ndarray) -> int:
    """Tile sizes for a dimension: the whole of it, then the equal cuts nearest to each power of two below it (quick:
    to every other one), down to ``smallest`` (tiles of one size keep buffers and bus evenly busy), rounded up to
    ``grain``; returns how many."""
    out[0] = size
    found = 1
    step = 1.0
    while step * 2.0 < size:
        step *= 2.0
    while step >= smallest and step < size and found < LARGEST_LADDER:
        tile = np.ceil(size / np.ceil(size / step) / grain) * grain
        if tile < out[found - 1]:
            out[found] = tile
            found += 1
        step /= 4.0 if effort == QUICK else 2.0
    return found


@numba.njit(cache=True)
def inner_tile(parent: float, factor: float, whole: bool, grain: float) -> float:
    """Tile of an inner tier: ``parent / factor`` in multiples of ``grain``; 0 if that is no candidate. A parent that is
    one of several must divide evenly, so that tiles of all parents line up; ``whole``: it is the only one."""
    if factor == 1.0:
        return parent
    tile = np.ceil(parent / factor / grain) * grain
    if tile >= parent or (not whole and tile * factor != parent):
        return 0.0
    return tile


@numba.njit(cache=True)
def reuse_tier(trips: np.ndarray, orders: np.ndarray, tier: int, operand: int) -> int:
    """The tier whose tile, along the dimension that does not index the operand (0 inputs, 1 weights, 2 outputs), passes
    by while one tile of the operand stays in ``tier``; 0: all of the op.

    ``trips`` [tiers + 1, 3]: tiles along m, n, k of each tier over the whole op, row 0 ones; ``orders`` [tiers + 1].
    Going outwards from the tier's own loops: a loop that does not index the operand is free until the first one that
    does.
    """
    outside = OUTSIDE[operand]
    for block in range(tier, 0, -1):
        for place in range(2, -1, -1):
            axis = _AXES[orders[block], place]
            if trips[block, axis] <= trips[block - 1, axis]:
                continue
            if axis != outside:
                return block
            for further in range(place - 1, -1, -1):
                other = _AXES[orders[block], further]
                if trips[block, other] > trips[block - 1, other]:
                    return block - 1
            break
    return 0


@numba.njit(cache=True)
def refetch(trips: np.ndarray, orders: np.ndarray, tier: int, operand: int) -> float:
    """How often the whole operand passes into ``tier`` (arguments as :func:`reuse_tier`): each trip of a loop that does
    not index it, beyond those that reuse its tile, is another pass."""
    return trips[reuse_tier(trips, orders, tier, operand), OUTSIDE[operand]]


@numba.njit(cache=True)
def sum_distance(trips: np.ndarray, orders: np.ndarray) -> float:
    """Tier-1 tiles between two visits to one output tile when its partial sums leave the chip; 0 when they stay."""
    inner = 1.0
    for place in range(2, -1, -1):
        axis = _AXES[orders[1], place]
        if axis == 2:
            return inner if inner > 1.0 and trips[1, 2] > 1.0 else 0.0
        inner *= trips[1, axis]
    return 0.0


@numba.njit(cache=True)
def innermost_reuse(trips: np.ndarray, orders: np.ndarray) -> tuple[int, float]:
    """(operand that tier 1's innermost loop of more than one trip leaves alone, that loop's trips); (0, 1) without
    loops."""
    for place in range(2, -1, -1):
        axis = _AXES[orders[1], place]
        if trips[1, axis] > 1.0:
            return OUTSIDE[axis], trips[1, axis]
    return 0, 1.0


@numba.njit(cache=True)
def chunks(size: float, tile: float) -> tuple[float, float]:
    """Full tiles along a dimension and the size of the short last one (0 if none)."""
    full = size // tile
    return full, size - full * tile


TIER_COLUMNS = 4
T_M, T_N, T_K, T_ORDER = range(TIER_COLUMNS)
NEST_COLUMNS = MAX_TIERS * TIER_COLUMNS
