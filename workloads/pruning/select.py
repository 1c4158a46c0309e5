"""Choose what to keep by score, exactly and repeatably.

Dequantised 4-bit weights tie in masses. Ties are broken by a fixed pseudo-random order of positions (a multiplicative
hash of the flat index), never by the index itself: "the lower index goes" would carve artificial stripes into masks,
which a lane model would then see as load imbalance.
"""

from __future__ import annotations

import numpy as np


def tie_order(count: int, first: int = 0) -> np.ndarray:
    """A fixed scrambled rank for flat indices first … first + count - 1, uint32 (murmur3's finaliser, a bijection)."""
    x = np.arange(first, first + count, dtype=np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x


def removed_count(share: float, count: int) -> int:
    """How many of ``count`` go: the nearest whole number, half up."""
    return int(np.floor(share * count + 0.5))


def keep_largest(scores: np.ndarray, remove: int) -> np.ndarray:
    """Boolean mask [rows, n]: in each row the ``remove`` smallest scores are False, exactly."""
    rows, n = scores.shape
    if remove <= 0:
        return np.ones((rows, n), bool)
    if remove >= n:
        return np.zeros((rows, n), bool)
    threshold = np.partition(scores, remove - 1, axis=1)[:, remove - 1 : remove]
    mask = scores > threshold
    tied = scores == threshold
    missing = (n - remove) - mask.sum(axis=1)
    plain = missing == tied.sum(axis=1)
    mask[plain] |= tied[plain]
    order = tie_order(rows * n).reshape(rows, n) if not plain.all() else None
    for row in np.flatnonzero(~plain):
        places = np.flatnonzero(tied[row])
        mask[row, places[np.argsort(order[row, places])[: missing[row]]]] = True
    return mask


def keep_n_of_m(scores: np.ndarray, keep: int, group: int, first: int = 0) -> np.ndarray:
    """Boolean mask of scores' shape: the ``keep`` largest of every ``group`` consecutive entries of the last axis.

    A shorter last group keeps the same share, rounded up. An entry stays when fewer than ``keep`` others beat it.
    ``first`` is the flat index of the first entry, for a matrix that comes in parts.
    """
    rows, n = scores.shape
    whole = n - n % group
    mask = np.empty((rows, n), bool)
    order = tie_order(rows * n, first).reshape(rows, n)
    for start, end, width in ((0, whole, group), (whole, n, n - whole)):
        if end == start:
            continue
        s = scores[:, start:end].reshape(rows, -1, width)
        o = order[:, start:end].reshape(rows, -1, width)
        beaten = np.zeros(s.shape, np.int8)
        for shift in range(1, width):
            s2, o2 = np.roll(s, shift, axis=2), np.roll(o, shift, axis=2)
            beaten += (s2 > s) | ((s2 == s) & (o2 < o))
        kept = keep if width == group else -(-keep * width // group)
        mask[:, start:end] = (beaten < kept).reshape(rows, -1)
    return mask
