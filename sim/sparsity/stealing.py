"""Work stealing between barriers: the lanes of a group, idle ones too, share out what lies between two barriers.

The stretch between two barriers is cut into *steal tiles* of :data:`STEAL_POSITIONS` positions of one owner. Of each
owner's Q tiles its own lane walks the first k; the rest are dealt, longest first, each to the lane that is free first,
for one cycle (:data:`STEAL_CYCLES`) on top of its nonzeros (the tile comes from another lane's buffer, and its sums go
to another lane's accumulator). Weights do not change, so the compiler takes whichever k in {0, Q/2, 3Q/4, Q} is
shortest (rounded up, so that few tiles are dealt); k = Q is no stealing. All lanes meet at the barrier::

    cycles = 1 + sum_t max(empty_tile_cycles, min_k makespan_k[t])

Limits: stealing stays within a group and between two barriers, a tile is never split, and there is no FIFO.

Laws, each of which a test holds to: never slower than no stealing (k = Q is among the choices); no faster than
max(mean of all lanes, longest tile); a further nonzero never makes it faster. The last one is why tiles are dealt from
a list: if the sorted loads of one schedule are nowhere above those of another, they still are after the next tile of a
list whose sizes, sorted, are nowhere above, goes to the least loaded lane. Rules that let the idlest lane rob the
busiest one break it.
"""

from __future__ import annotations

import numba
import numpy as np

STEALING = ("none", "group")
STEAL_POSITIONS = 16
STEAL_CYCLES = 1


@numba.njit(cache=True, nogil=True)
def stealing_cycles(work, stretches, starts, lanes, empty):
    """Cycles of all lane groups with stealing.

    ``work`` [steal tiles, owners] nonzeros, owners in order; stretch t between barriers has the tiles
    ``stretches[t]..stretches[t+1]-1``; group g has the owners ``starts[g]..starts[g+1]-1`` and all ``lanes``, also
    those that own nothing.
    """
    total = np.int64(starts.size - 1)
    loads = np.zeros(lanes, np.int64)
    sizes = np.zeros(STEAL_POSITIONS + 1, np.int64)
    for t in range(stretches.size - 1):
        for g in range(starts.size - 1):
            tiles = work[stretches[t] : stretches[t + 1], starts[g] : starts[g + 1]]
            total += max(_stretch(tiles, lanes, loads, sizes), empty)
    return total


@numba.njit(cache=True, nogil=True)
def _stretch(tiles, lanes, loads, sizes):
    """Cycles of one group between two barriers; ``loads`` and ``sizes`` are scratch."""
    count, owners = tiles.shape
    most, every, longest = np.int64(0), np.int64(0), np.int64(0)
    for p in range(owners):
        own = np.int64(0)
        for q in range(count):
            own += tiles[q, p]
            longest = max(longest, tiles[q, p])
        most, every = max(most, own), every + own
    least = max(longest, -(-every // lanes))
    for quarters in (1, 2, 4):  # of the tiles that are dealt
        dealt = count * quarters // 4
        if dealt and most > least:
            most = min(most, _dealt(tiles, count - dealt, lanes, loads, sizes, most))
    return most


@numba.njit(cache=True, nogil=True)
def _dealt(tiles, kept, lanes, loads, sizes, limit):
    """The longest load when each owner keeps its first ``kept`` tiles and the rest are dealt; ``limit`` if no less."""
    count, owners = tiles.shape
    loads[:] = 0
    sizes[:] = 0
    for q in range(count):
        for p in range(owners):
            if q < kept:
                loads[p] += tiles[q, p]
            else:
                sizes[tiles[q, p]] += 1
    longest = loads.max()
    for size in range(sizes.size - 1, 0, -1):
        for _ in range(sizes[size]):
            if longest >= limit:
                return limit
            free = 0
            for p in range(1, lanes):
                if loads[p] < loads[free]:
                    free = p
            loads[free] += size + STEAL_CYCLES
            longest = max(longest, loads[free])
    return min(longest, limit)
