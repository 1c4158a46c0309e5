"""Mappings: tile sizes of the outermost on-chip level and the order of the loops over tiles.

A mapping cuts M, N, K into tiles of ``tile_m x tile_n x tile_k`` and walks them in one of six loop orders, outermost
first; batch items (heads) are always the outermost loop. Candidates do not depend on any capacity, so what fits a small
memory is a subset of what fits a large one, and a larger memory is never slower.
"""

from __future__ import annotations

import numba
import numpy as np

ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")
_AXES = np.array([["mnk".index(c) for c in order] for order in ORDERS], dtype=np.int64)
LARGEST_LADDER = 40
GRAIN = 16  # systolic tiles are cut in multiples of this, so that common array sizes fill
SMALLEST_STREAM_TILE = 16  # rows of activations; below this a tile is all overhead
SMALLEST_TILE = 64  # weights are cut no finer, except when the dimension itself is smaller


@numba.njit(cache=True)
def ladder(size: float, smallest: float, grain: float, out: np.ndarray) -> int:
    """Tile sizes for a dimension: the whole of it, then the equal cuts nearest to each power of two below it, down to
    ``smallest`` (tiles of one size keep buffers and bus evenly busy), rounded up to ``grain``; returns how
    many."""
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
        step /= 2.0
    return found


@numba.njit(cache=True)
def refetch(order: int, trips_m: float, trips_n: float, trips_k: float) -> tuple[float, float, float, float]:
    """How often each operand passes the level: factors for inputs, weights, outputs; and the partial-sum distance.

    An operand comes again for each pass of the loop that does not index it (N for inputs M x K, M for weights K x N,
    K for outputs M x N) if a loop that does index it turns inside. Distance: tiles between two visits to one output
    tile when partial sums leave the chip (0 when they stay).
    """
    trips = (trips_m, trips_n, trips_k)
    factors = [1.0, 1.0, 1.0]
    distance = 0.0
    for operand in range(3):
        outside = (1, 0, 2)[operand]
        inner = 1.0
        for place in range(2, -1, -1):
            axis = _AXES[order, place]
            if axis == outside:
                if inner > 1.0 and trips[outside] > 1.0:
                    factors[operand] = trips[outside]
                    if operand == 2:
                        distance = inner
                break
            inner *= trips[axis]
    return factors[0], factors[1], factors[2], distance


@numba.njit(cache=True)
def innermost_reuse(order: int, trips_m: float, trips_n: float, trips_k: float) -> tuple[int, float]:
    """(operand that the innermost loop of more than one trip leaves alone, that loop's trips); (0, 1) without loops."""
    trips = (trips_m, trips_n, trips_k)
    for place in range(2, -1, -1):
        axis = _AXES[order, place]
        if trips[axis] > 1.0:
            return (1, 0, 2)[axis], trips[axis]
    return 0, 1.0


@numba.njit(cache=True)
def chunks(size: float, tile: float) -> tuple[float, float]:
    """Full tiles along a dimension and the size of the short last one (0 if none)."""
    full = size // tile
    return full, size - full * tile


def nest(order: int, tiles: tuple[int, int, int], sizes: tuple[int, int, int]) -> str:
    """The loop nest in one line, outermost first, e.g. ``for n in 0:1536:512, for k in 0:576:576``."""
    loops = []
    for axis in _AXES[order]:
        size, tile = int(sizes[axis]), int(tiles[axis])
        if tile < size:
            loops.append(f"for {'mnk'[axis]} in 0:{size}:{tile}")
    return ", ".join(loops) if loops else "one tile"
