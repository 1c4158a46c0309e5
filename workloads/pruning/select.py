"""Choose what to keep by score, exactly and repeatably.

Dequantised 4-bit weights tie in masses. Ties are broken by a fixed pseudo-random order of positions (a multiplicative
hash of the flat index), never by the index itself: "the lower index goes" would carve artificial stripes into masks,
which a lane model would then see as load imbalance.
"""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from workloads.pruning.pattern import Blocks, NofM, Pattern, Unstructured


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


def refuse_none(pattern: Pattern, count: int, what: str) -> None:
    """:class:`InputError` when the pattern's share of ``count`` rounds to none of them."""
    if removed_count(pattern.sparsity, count) == 0:
        raise InputError(f"pruning pattern '{pattern}' removes none of {count} {what}; one is {1 / count:.3g}")


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


def block_norms(scores: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Root mean square of the scores in every block of ``rows`` x ``columns``; blocks at the edge may be smaller."""
    starts = np.arange(0, scores.shape[0], rows), np.arange(0, scores.shape[1], columns)
    total = np.add.reduceat(np.add.reduceat(np.square(scores), starts[1], axis=1), starts[0], axis=0)
    high = np.minimum(starts[0] + rows, scores.shape[0]) - starts[0]
    wide = np.minimum(starts[1] + columns, scores.shape[1]) - starts[1]
    return np.sqrt(total / np.multiply.outer(high, wide).astype(scores.dtype))


def spread_blocks(kept: np.ndarray, rows: int, columns: int, shape: tuple[int, int]) -> np.ndarray:
    """A mask of blocks (bool [block rows, block columns]) as a mask of single weights of ``shape``."""
    return np.repeat(np.repeat(kept, rows, axis=0)[: shape[0]], columns, axis=1)[:, : shape[1]]


def choose(scores: np.ndarray, pattern: Pattern, per_row: bool) -> np.ndarray:
    """Mask of the weights to keep by ``scores`` (out x in, never negative): the largest stay.

    The share of an unstructured or block pattern is removed within every output (strip of blocks) when ``per_row``,
    else within the whole matrix. Blocks compare by the root mean square of their scores.
    """
    if isinstance(pattern, NofM):
        return keep_n_of_m(scores, pattern.keep, pattern.group)
    if isinstance(pattern, Blocks):
        norms = block_norms(scores, pattern.rows, pattern.columns)
        kept = choose(norms, Unstructured(pattern.sparsity), per_row)
        return spread_blocks(kept, pattern.rows, pattern.columns, scores.shape)
    rows = scores if per_row else scores.reshape(1, -1)
    return keep_largest(rows, removed_count(pattern.sparsity, rows.shape[1])).reshape(scores.shape)
