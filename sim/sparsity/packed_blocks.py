"""What packed masks hold in groups of columns and in blocks: n:m fit, empty runs, empty blocks."""

from __future__ import annotations

import numba
import numpy as np

from sim.sparsity.bit_fields import L4, L8, L16, L32, M1, M2, M4, M8, M16, S0, S1, S2, S4, S8, S16, S32, popcount
from sim.sparsity.packing import Packed

GROUPS = (4, 8, 16, 32)
RUNS = (4, 8, 16, 32)
BLOCKS = (2, 4, 8, 16, 32, 64)
_LOWEST = np.array([2**64 - 1, M1, L4, L8, L16, L32, 1], dtype=np.uint64)  # lowest bit of groups of 1, 2, 4, ...
_CHUNK = 512  # words at a time: they and what is made of them stay in the nearest cache


@numba.njit(cache=True, nogil=True)
def _raise(best, found):
    """Element by element the larger of both, into ``best``."""
    for j in range(best.size):
        best[j] = found[j] if found[j] > best[j] else best[j]


@numba.njit(cache=True, nogil=True)
def _group_maxima(words):
    """Arrays whose largest elements are the most bits in any aligned group of 4, 8, 16 and 32 columns."""
    flat = words.ravel()
    x, even, odd = np.zeros(_CHUNK, np.uint64), np.zeros(_CHUNK, np.uint64), np.zeros(_CHUNK, np.uint64)
    even8, odd8 = even.view(np.uint8), odd.view(np.uint8)
    x8, x16, x32 = x.view(np.uint8), x.view(np.uint16), x.view(np.uint32)
    four, eight = np.zeros(8 * _CHUNK, np.uint8), np.zeros(8 * _CHUNK, np.uint8)
    sixteen, half = np.zeros(4 * _CHUNK, np.uint16), np.zeros(2 * _CHUNK, np.uint32)
    for first in range(0, flat.size, _CHUNK):
        part = flat[first : first + _CHUNK]
        for j in range(part.size, _CHUNK):
            even[j] = odd[j] = x[j] = S0
        for j in range(part.size):  # a loop each, so that each is vectorised
            y = part[j] - ((part[j] >> S1) & M1)
            y = (y & M2) + ((y >> S2) & M2)
            even[j], odd[j] = y & M4, (y >> S4) & M4
        _raise(four, even8)
        _raise(four, odd8)
        for j in range(part.size):
            x[j] = even[j] + odd[j]
        _raise(eight, x8)
        for j in range(part.size):
            x[j] = (x[j] + (x[j] >> S8)) & M8
        _raise(sixteen, x16)
        for j in range(part.size):
            x[j] = (x[j] + (x[j] >> S16)) & M16
        _raise(half, x32)
    return four, eight, sixteen, half


def group_maxima(packed: Packed) -> dict[int, int]:
    """Most bits in any aligned group of g columns: what decides whether a mask keeps at most n of every g."""
    return {g: int(most.max()) for g, most in zip(GROUPS, _group_maxima(packed.words), strict=True)}


@numba.njit(cache=True, nogil=True)
def _filled(part, steps):
    """Aligned groups of ``2 ** steps`` columns, at most 64, that hold any bit, in words [n]."""
    a = S1 if steps > 0 else S0
    b = S2 if steps > 1 else S0
    c = S4 if steps > 2 else S0
    d = S8 if steps > 3 else S0
    e = S16 if steps > 4 else S0
    f = S32 if steps > 5 else S0
    lowest = _LOWEST[steps]
    found = np.uint64(0)
    for j in range(part.size):
        x = part[j] | (part[j] >> a)
        x |= x >> b
        x |= x >> c
        x |= x >> d
        x |= x >> e
        x |= x >> f
        found += popcount(x & lowest)
    return np.int64(found)


@numba.njit(cache=True, nogil=True)
def _fold(x, shift, lowest):
    """Groups made twice as wide, in place, and how many of them hold any bit."""
    found = np.uint64(0)
    for j in range(x.size):
        x[j] |= x[j] >> shift
        found += popcount(x[j] & lowest)
    return np.int64(found)


@numba.njit(cache=True, nogil=True)
def _filled_runs(words):
    """Aligned groups of 4, 8, 16, 32 columns that hold any bit: int64 [4]."""
    flat = words.ravel()
    found, x = np.zeros(4, np.int64), np.empty(_CHUNK, np.uint64)
    for first in range(0, flat.size, _CHUNK):
        part = flat[first : first + _CHUNK]
        here = x[: part.size]
        for j in range(part.size):
            here[j] = part[j] | (part[j] >> S1)
        found[0] += _fold(here, S2, L4)
        found[1] += _fold(here, S4, L8)
        found[2] += _fold(here, S8, L16)
        found[3] += _fold(here, S16, L32)
    return found


@numba.njit(cache=True, nogil=True)
def _or_pairs(rows, count, into):
    """Neighbours of the first ``count`` rows or-ed into ``into``; how many there are then."""
    for i in range(count // 2):
        for w in range(rows.shape[1]):
            into[i, w] = rows[2 * i, w] | rows[2 * i + 1, w]
    if count % 2:
        for w in range(rows.shape[1]):
            into[count // 2, w] = rows[count - 1, w]
    return (count + 1) // 2


@numba.njit(cache=True, nogil=True)
def _filled_blocks(words):
    """Aligned blocks of 2 x 2, 4 x 4, ..., 64 x 64 that hold any bit: int64 [6]; 64 rows at a time."""
    rows, wide = words.shape
    found = np.zeros(6, np.int64)
    here, there = np.empty((64, wide), np.uint64), np.empty((64, wide), np.uint64)
    for first in range(0, rows, 64):
        count = _or_pairs(words[first : first + 64], min(64, rows - first), here)
        found[0] += _filled(here[:count].ravel(), 1)
        for step in range(1, 6):
            count = _or_pairs(here, count, there)
            here, there = there, here
            found[step] += _filled(here[:count].ravel(), step + 1)
    return found


def empty_runs(packed: Packed) -> dict[int, int]:
    """Empty 1 x g blocks along the columns, the last few columns a block too."""
    rows, columns = packed.shape
    filled = _filled_runs(packed.words)
    return {g: rows * -(-columns // g) - int(n) for g, n in zip(RUNS, filled, strict=True)}


def empty_blocks(packed: Packed) -> dict[int, int]:
    """Empty b x b blocks, the last few rows and columns a block too."""
    rows, columns = packed.shape
    filled = _filled_blocks(packed.words)
    return {b: -(-rows // b) * -(-columns // b) - int(n) for b, n in zip(BLOCKS, filled, strict=True)}
