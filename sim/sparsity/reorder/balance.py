"""Orders that even out lanes: owners of like work in one lane group, positions spread evenly over barriers.

Lane groups run one after another and wait for their busiest lane at every barrier (:mod:`sim.sparsity.lanes`), so a
pass costs the sum over groups and barriers of the greatest count. Greedy orders are tried on every axis, and one is
taken only if the exact cycles of all masks on the axis fall:

- *owners*: longest first, into groups that are alike: ``sorted`` and ``balanced`` of :mod:`sim.sparsity.lane_order`,
  here put into the stored order once instead of being undone by the machine;
- *positions*: longest first; each goes to the barrier that has room and whose groups' maxima it raises least (among
  equals, where its lanes have done least).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from sim.sparsity import lanes
from sim.sparsity.lane_order import ASSIGNMENTS, lane_order, work_order
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, Arrangement, Axis, Member

_ROUNDS = 2


def cycles(masks: Any, settings: dict[str, Any]) -> list[int]:
    """Exact cycles of one pass over each mask; ``settings`` as :func:`sim.sparsity.lanes.walk` takes them."""
    return [lanes.walk(mask, **settings) for mask in masks]


def balance(work: Arrangement, settings: dict[str, Any]) -> tuple[float, float]:
    """Permute ``work`` for the lanes of ``settings``; (cycles before, after), each mask by its weight.

    Cycles never rise: an axis whose orders gain nothing stays as it is.
    """
    known = cycles(work.masks, settings)
    before = _weighted(work, range(len(known)), known)
    for _ in range(_ROUNDS):
        better = False
        for i, axis in enumerate(work.axes):
            touched = sorted({member.mask for member in axis.members})
            for propose in (partial(_by_owners, how="sorted"), partial(_by_owners, how="balanced"), _by_positions):
                order = propose(work, axis, settings)
                if order is None:
                    continue
                moved = work.moved(i, order)
                found = cycles((moved[m] for m in touched), settings)
                if _weighted(work, touched, found) < _weighted(work, touched, [known[m] for m in touched]):
                    work.take(i, order)
                    better = True
                    for m, value in zip(touched, found, strict=True):
                        known[m] = value
        if not better:
            break
    return before, _weighted(work, range(len(known)), known)


def _weighted(work: Arrangement, masks: Any, found: list[int]) -> float:
    return float(sum(work.weights[m] * value for m, value in zip(masks, found, strict=True)))


def _owner_side(settings: dict[str, Any]) -> int:
    return OUTPUT if settings["orientation"] == "output" else INPUT


def _owners(axis: Axis, settings: dict[str, Any]) -> list[Member]:
    """Members whose features own lanes."""
    return [m for m in axis.members if m.side == _owner_side(settings)]


def _slots(axis: Axis, settings: dict[str, Any]) -> NDArray[np.int64]:
    """Slots of a block in the order in which lane groups take them."""
    plain = all(m.layout.shape[0] == m.layout.shape[2] == 1 for m in axis.members)
    if not plain or settings["assignment"] not in ASSIGNMENTS:
        return np.arange(axis.units)
    return lane_order(axis.units, settings["lanes"], settings["assignment"])[0]


def counts_of(owned: NDArray[np.bool_], settings: dict[str, Any]) -> NDArray[np.int32]:
    """[barriers, owners] nonzeros of a mask with lane owners as rows."""
    return np.ascontiguousarray(lanes.tile_counts(owned, settings["barrier_depth"]).T, dtype=np.int32)


def _tiles(work: Arrangement, members: list[Member], settings: dict[str, Any]) -> Iterator[NDArray[np.int64]]:
    """Of each block: work [units, elements and barriers of all members]."""
    counts = [counts_of(lanes.owners_first(work.masks[m.mask], settings["orientation"]), settings).T for m in members]
    for block in range(members[0].layout.shape[0]):
        parts = [c[m.layout[block]].reshape(m.layout.shape[1], -1) for c, m in zip(counts, members, strict=True)]
        yield np.concatenate(parts, axis=1)


def _by_owners(work: Arrangement, axis: Axis, settings: dict[str, Any], how: str) -> NDArray[np.int64] | None:
    """Units in the lane groups that ``how`` makes of them; None without a side that owns lanes."""
    members = _owners(axis, settings)
    if not members:
        return None
    slots = _slots(axis, settings)
    order = axis.identity
    for block, tiles in enumerate(_tiles(work, members, settings)):
        order[block, slots] = work_order(np.ascontiguousarray(tiles.T, dtype=np.int32), settings["lanes"], how)[0]
    return order


def _by_positions(work: Arrangement, axis: Axis, settings: dict[str, Any]) -> NDArray[np.int64] | None:
    """Units over barriers; None without barriers or without a side that lanes walk."""
    side = 1 - _owner_side(settings)
    members = [m for m in axis.members if m.side == side]
    depth = settings["barrier_depth"]
    if not members or depth in (None, "full") or depth >= axis.units:
        return None
    owner_groups, kept = [], []
    for m in members:
        mask = lanes.owners_first(work.masks[m.mask], settings["orientation"])
        taken, starts = work_order(counts_of(mask, settings), settings["lanes"], settings["assignment"])
        groups = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        by_lane = mask[taken]
        for element in range(m.layout.shape[2]):
            kept.append(by_lane[:, m.layout[:, :, element].ravel()].reshape(len(mask), *m.layout.shape[:2]))
            owner_groups.append(groups + (owner_groups[-1][-1] + 1 if owner_groups else 0))
    bits, groups = np.concatenate(kept), np.concatenate(owner_groups)
    order = axis.identity
    for block in range(axis.blocks):
        columns = np.ascontiguousarray(bits[:, block].T)
        place = _spread(columns, groups, np.argsort(-columns.sum(axis=1), kind="stable"), int(depth))
        order[block] = np.argsort(place, kind="stable")
    return order


@numba.njit(cache=True)
def _spread(columns, groups, longest_first, depth):
    """Barrier [units] of every unit. ``columns`` [units, owners] bool, ``groups`` [owners] ascending."""
    units, owners = columns.shape
    barriers = -(-units // depth)
    count = np.zeros((barriers, owners), np.int32)
    most = np.zeros((barriers, groups[-1] + 1), np.int32)
    room = np.full(barriers, depth, np.int64)
    room[-1] = units - depth * (barriers - 1)
    place = np.empty(units, np.int64)
    kept = np.empty(owners, np.int64)
    for unit in longest_first:
        size = 0
        for p in range(owners):
            if columns[unit, p]:
                kept[size] = p
                size += 1
        pick, least, least_done = -1, np.int64(0), 0.0
        for t in range(barriers):
            if room[t] == 0:
                continue
            raised, done, last = np.int64(0), np.int64(0), np.int64(-1)
            for i in range(size):
                p = kept[i]
                done += count[t, p]
                g = groups[p]
                if g != last and count[t, p] == most[t, g]:
                    raised += 1
                    last = g
            fill = float(done) / room[t]
            if pick < 0 or raised < least or (raised == least and fill < least_done):
                pick, least, least_done = t, raised, fill
        place[unit] = pick
        room[pick] -= 1
        for i in range(size):
            p = kept[i]
            count[pick, p] += 1
            most[pick, groups[p]] = max(most[pick, groups[p]], count[pick, p])
    return place
