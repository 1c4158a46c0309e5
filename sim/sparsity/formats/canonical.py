"""Canonical Huffman codes (Huffman, Proc. IRE 1952; Schwartz and Kallick, CACM 1964): lengths, encoding, decoding."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def code_lengths(counts: Sequence[int]) -> NDArray[np.int64]:
    """Bits of each symbol's code in an optimal prefix code; ``counts`` > 0. A lone symbol takes one bit."""
    if len(counts) < 2:
        return np.ones(len(counts), dtype=np.int64)
    heap = [(int(count), i) for i, count in enumerate(counts)]
    heapq.heapify(heap)
    parents = np.zeros(2 * len(counts) - 1, dtype=np.int64)
    for node in range(len(counts), len(parents)):
        (first, a), (second, b) = heapq.heappop(heap), heapq.heappop(heap)
        parents[a] = parents[b] = node
        heapq.heappush(heap, (first + second, node))
    depth = np.zeros(len(parents), dtype=np.int64)
    for node in range(len(parents) - 2, -1, -1):
        depth[node] = depth[parents[node]] + 1
    return depth[: len(counts)]


def code_words(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Canonical codes: consecutive numbers within a length, shorter ones first, symbols in order."""
    order = np.lexsort((np.arange(len(lengths)), lengths))
    words = np.zeros(len(lengths), dtype=np.int64)
    word, before = 0, 0
    for symbol in order:
        word <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        words[symbol] = word
        word += 1
    return words


def encode(symbols: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bits (0 or 1) of ``symbols`` (indices into ``lengths``), one code after another."""
    sizes, words = lengths[symbols], code_words(lengths)[symbols]
    ends = np.cumsum(sizes)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    for place in range(int(sizes.max(initial=0))):
        longer = sizes > place
        bits[ends[longer] - 1 - place] = words[longer] >> place & 1
    return bits


def decode(bits: NDArray[np.int64], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The ``count`` symbols that :func:`encode` wrote: what starts at every bit is looked up at once, then followed."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    longest = int(lengths.max())
    padded = np.concatenate([bits, np.zeros(longest, dtype=np.int64)])
    window = np.zeros(len(bits), dtype=np.int64)
    for place in range(longest):
        window = window << 1 | padded[place : place + len(bits)]
    aligned = code_words(lengths) << (longest - lengths)
    order = np.argsort(aligned)
    starts = order[np.searchsorted(aligned[order], window, side="right") - 1]
    step, at, places = lengths[starts].tolist(), 0, []
    for _ in range(count):
        places.append(at)
        at += step[at]
    return starts[places]
