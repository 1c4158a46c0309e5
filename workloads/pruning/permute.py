"""Reorder rows and columns so that chosen tiles hold little: pairs of lines swap places while the loss falls.

Where tiles are fixed, the loss of a row depends only on the block row it lies in, so the gains of disjoint swaps add up
exactly and many are made at once.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 20


def block_of(count: int, size: int) -> np.ndarray:
    """The block of each of ``count`` places, ``size`` places a block."""
    return np.arange(count) // size


def settle(lost: np.ndarray, order: np.ndarray, block: np.ndarray) -> np.ndarray:
    """``order`` (the line at each place) after swaps that lower the loss until no swap of a pair does, or 20 rounds.

    ``lost`` [lines, blocks]: what line i loses in block b. ``block`` [places]: the block of each place.
    """
    order = order.copy()
    blocks = lost.shape[1]
    starts = np.searchsorted(block, np.arange(blocks))
    for _ in range(_ROUNDS):
        gain = lost[order, block][:, None] - lost[order]  # of moving the line at a place into block b
        best = np.maximum.reduceat(gain, starts, axis=0)  # [from, to]
        pair = np.triu(best + best.T, 1)
        floor = 1e-6 * max(float(np.abs(lost).max()), 1e-30)
        candidates = np.argwhere(pair > floor)
        if not len(candidates):
            break
        used = np.zeros(len(order), bool)
        for one, two in candidates[np.argsort(-pair[tuple(candidates.T)], kind="stable")]:
            here = _best_place(gain[:, two], used, block == one)
            there = _best_place(gain[:, one], used, block == two)
            if here is not None and there is not None and gain[here, two] + gain[there, one] > floor:
                order[[here, there]] = order[[there, here]]
                used[[here, there]] = True
    return order


def _best_place(gain: np.ndarray, used: np.ndarray, inside: np.ndarray) -> int | None:
    places = np.flatnonzero(inside & ~used)
    return int(places[np.argmax(gain[places])]) if len(places) else None
