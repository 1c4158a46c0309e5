"""Orders of input features that fit masks to n:m: fewer groups of m with more than n nonzeros.

Channel permutation for n:m by greedy swaps (after Pool and Yu, NeurIPS 2021): the gain of every pair of columns comes
from one product, swaps of pairs of groups that are disjoint add up, so each sweep takes the best ones that are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.sparsity.reorder.arrangement import INPUT, Arrangement, Member

_MOST_SWEEPS = 400
_CHUNK = 8192  # rows of stacked masks that are multiplied at once


def violations(mask: NDArray[np.bool_], n: int, m: int) -> int:
    """Groups of ``m`` inputs of an output feature that hold more than ``n`` nonzeros."""
    return int(np.count_nonzero(np.add.reduceat(mask, np.arange(0, mask.shape[1], m), axis=1, dtype=np.int64) > n))


def fit(work: Arrangement, n: int, m: int) -> tuple[float, float]:
    """Permute the inputs of ``work``; (violations before, after), which never rise.

    An axis whose blocks are no multiple of ``m``, or whose units are not neighbours (rotary pairs), stays as it is.

    Raises:
        InputError: unless 0 < n < m.
    """
    if not 0 < n < m:
        raise InputError(f"n_of_m must have 0 < n < m, got {n}:{m}")
    before = float(sum(violations(mask, n, m) for mask in work.masks))
    for i, axis in enumerate(work.axes):
        members = [member for member in axis.members if member.side == INPUT]
        if not members or not all(_aligned(member, m) for member in members):
            continue
        order = np.stack([_fit_block(_stacked(work, members, block), n, m) for block in range(axis.blocks)])
        work.take(i, order)
    return before, float(sum(violations(mask, n, m) for mask in work.masks))


def _aligned(member: Member, m: int) -> bool:
    """Whether groups of m positions are groups of m slots."""
    blocks, units, _ = member.layout.shape
    neighbours = (np.diff(member.layout, axis=1) == 1).all()
    return bool(neighbours) and (blocks == member.layout.shape[2] == 1 or units % m == 0)


def _stacked(work: Arrangement, members: list[Member], block: int) -> NDArray[np.bool_]:
    """[units, rows of all members and elements] of the masks' columns."""
    parts = [
        work.masks[member.mask][:, member.layout[block, :, element]].T
        for member in members
        for element in range(member.layout.shape[2])
    ]
    return np.concatenate(parts, axis=1)


def _fit_block(columns: NDArray[np.bool_], n: int, m: int) -> NDArray[np.int64]:
    """Order [slots] of the units whose columns [units, rows] are given."""
    units = len(columns)
    slot_of = np.arange(units)  # of every unit
    surely, after = np.zeros(units), np.zeros((units, units), dtype=np.float32)
    now = np.zeros(-(-units // m))
    stale = np.ones(len(now), dtype=bool)
    for _ in range(_MOST_SWEEPS):
        _refresh(columns, slot_of // m, n, stale, surely, after, now)
        group = slot_of // m
        gain_here = (now[group] - surely)[:, None] - after
        gain = gain_here + gain_here.T
        gain[group[:, None] == group] = 0.0
        partner = gain.argmax(axis=1)
        best = gain[np.arange(units), partner]
        stale[:] = False
        for one in np.argsort(-best, kind="stable"):
            two = partner[one]
            if best[one] <= 0:
                break
            if stale[group[one]] or stale[group[two]]:
                continue
            slot_of[one], slot_of[two] = slot_of[two], slot_of[one]
            stale[group[one]] = stale[group[two]] = True
        if not stale.any():
            break
    return np.argsort(slot_of)


def _refresh(
    columns: NDArray[np.bool_],
    group: NDArray[np.int64],
    n: int,
    stale: NDArray[np.bool_],
    surely: NDArray[np.float64],
    after: NDArray[np.float32],
    now: NDArray[np.float64],
) -> None:
    """Bring what depends on the groups ``stale`` up to date: violations ``now`` [groups]; with a unit taken out of its
    group, rows that are ``surely`` [units] too full whatever comes, and those too full ``after`` [units, units] a
    given other unit came that holds something there."""
    changed = np.flatnonzero(stale[group])
    surely[changed], after[changed], now[stale] = 0.0, 0.0, 0.0
    for start in range(0, columns.shape[1], _CHUNK):
        part = columns[:, start : start + _CHUNK]
        totals = np.zeros((len(now), part.shape[1]), dtype=np.int16)
        np.add.at(totals, group[changed], part[changed])
        without = totals[group[changed]] - part[changed]
        now[stale] += (totals[stale] > n).sum(axis=1)
        surely[changed] += (without > n).sum(axis=1)
        after[changed] += (without == n).astype(np.float32) @ part.T.astype(np.float32)
