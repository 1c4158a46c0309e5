"""Which owners (output or input features) meet in a lane group, and in which order the groups run.

``contiguous`` and ``interleaved`` know nothing of the mask. ``sorted`` and ``balanced`` are permutations that the
compiler finds once, since weights do not change; the machine pays for undoing them (:mod:`sim.cost.area`):

- ``sorted``: owners by nonzeros, most first (equal ones in their own order), P to a group. A group's lanes are alike.
  Without FIFO and with one barrier a walk (depth "full") no grouping takes fewer cycles: the k-th longest of all
  groups' longest lanes cannot be shorter than the ((k - 1) P + 1)-th longest lane of all.
- ``balanced``: longest first too, but by what the lanes do between barriers. The owner with most nonzeros that is left
  opens a group; then, P - 1 times, of the next :data:`LOOK_AHEAD` groups' worth of owners the one joins that adds the
  least idleness: P times the cycles it adds to the group's sum over barriers of its longest lane, less its own nonzeros
  (of equals the one with most nonzeros). What is even is the work of a group's lanes at every barrier. At depth "full"
  this is ``sorted``.

The last group of ``sorted`` and ``balanced`` is the short one, and has the least work.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sim.compute.arguments import code, whole

ASSIGNMENTS = ("contiguous", "interleaved")
"""Assignments that no mask changes: profiles hold these."""
REORDERING = ("sorted", "balanced")
ALL = ASSIGNMENTS + REORDERING
LOOK_AHEAD = 4


def lane_groups(owners: int, lanes: int, assignment: str | int) -> NDArray[np.int64]:
    """Which owner each lane works for in each group: [groups, lanes], -1 = the lane is idle.

    ``contiguous``: group g owns g*P .. g*P + P - 1; the last may be short. ``interleaved``: with G groups, group g owns
    g, g + G, g + 2G, ... (the last lane of the later groups may be idle).

    Raises:
        InputError: an assignment that depends on the mask (:func:`work_order`), an unknown one, a number below 1.
    """
    owners, lanes = int(whole("outputs", owners)), int(whole("lanes", lanes))
    groups = -(-owners // lanes)
    lanes = min(lanes, owners)
    g, p = np.arange(groups)[:, None], np.arange(lanes)
    interleaved = code("assignment", assignment, ASSIGNMENTS) == ASSIGNMENTS.index("interleaved")
    owner = g + groups * p if interleaved else g * lanes + p
    return np.where(owner < owners, owner, -1)


def lane_order(owners: int, lanes: int, assignment: str | int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owners in the order the groups take them, and where each group starts (one more entry than groups); of the
    assignments that :func:`lane_groups` knows."""
    groups = lane_groups(owners, lanes, assignment)
    busy = groups >= 0
    return groups[busy], np.concatenate([[0], np.cumsum(busy.sum(axis=1))])


def work_order(
    work: NDArray[np.int32], lanes: int, assignment: str | int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As :func:`lane_order`, for any assignment; ``work`` [tiles, owners]: nonzeros between barriers."""
    owners, name = work.shape[1], ALL[int(code("assignment", assignment, ALL))]
    if name in ASSIGNMENTS:
        return lane_order(owners, lanes, name)
    lanes = int(whole("lanes", lanes))
    order = np.argsort(-work.sum(axis=0, dtype=np.int64), kind="stable")
    if name == "balanced" and len(work) > 1:
        order = order[_balanced(np.ascontiguousarray(work.T[order], dtype=np.int32), lanes, LOOK_AHEAD)]
    return order, np.append(np.arange(0, owners, lanes), owners)


@numba.njit(cache=True, nogil=True)
def _balanced(work, lanes, look_ahead):
    """Places in ``work`` [owners, tiles], longest first, in the order in which groups take them."""
    owners, tiles = work.shape
    left = np.arange(owners)  # left[:count]: not taken yet, longest first
    count = owners
    taken = np.empty(owners, np.int64)
    longest = np.zeros(tiles, np.int32)
    totals = np.zeros(owners, np.int64)
    for i in range(owners):
        for t in range(tiles):
            totals[i] += work[i, t]
    window = lanes * look_ahead
    for n in range(owners):
        best, least = 0, np.int64(0)
        if n % lanes == 0:
            longest[:] = 0
        else:
            for i in range(min(window, count)):
                row = work[left[i]]
                if i > 0 and least <= -totals[left[i]]:
                    break  # nor can any later one, which has no more nonzeros, leave the lanes less idle
                added = np.int64(0)
                for t in range(tiles):
                    added += max(row[t] - longest[t], 0)
                idle = lanes * added - totals[left[i]]
                if i == 0 or idle < least:
                    best, least = i, idle
        chosen = left[best]
        taken[n] = chosen
        for t in range(tiles):
            longest[t] = max(longest[t], work[chosen, t])
        for i in range(best, count - 1):
            left[i] = left[i + 1]
        count -= 1
    return taken
