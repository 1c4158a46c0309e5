"""Masks as packed bits, and kernels that count them a 64-bit word at a time.

``words`` [rows, ceil(columns / 64)] uint64: bit j of word w is column 64 w + j; the bits beyond the last column are 0.
Counts inside a word are sums of neighbouring fields (Warren, Hacker's Delight, ch. 5); whole words are counted by the
processor's population count (LLVM ``ctpop``). Columns are counted by carry-save adders over sixteen rows, bit by bit,
whose five sums are then spread to bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.sparsity.bit_fields import L8, M1, M2, M4, M8, S1, S2, S3, S4, S7, S8, S16, S32, popcount

WORD = 64
FINEST = 16  # rows or columns of a tile of :func:`tiles_along` and :func:`tiles_down`
_DIAGONAL = np.uint64(0x8040201008040201)
_LOW7 = np.uint64(0x7F7F7F7F7F7F7F7F)
_BYTE = np.uint64(0xFF)


@dataclass(frozen=True)
class Packed:
    """A mask [rows, columns] as bits."""

    words: NDArray[np.uint64]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.words), self.columns

    def unpacked(self) -> NDArray[np.bool_]:
        """The mask, bool [rows, columns]."""
        bits = np.unpackbits(self.words.view(np.uint8), axis=1, count=self.columns, bitorder="little")
        return bits.view(np.bool_)


def pack(mask: ArrayLike) -> Packed:
    """A mask (nonzero = kept) as bits.

    Raises:
        InputError: not two-dimensional, or empty.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"mask must be out x in with at least one element, got shape {mask.shape}")
    return _words(np.packbits(mask != 0, axis=1, bitorder="little"), mask.shape[1])


def from_packbits(packed: NDArray[np.uint8], columns: int) -> Packed:
    """What ``np.packbits(mask, axis=1)`` made (first column in the highest bit), without unpacking it.

    Raises:
        InputError: not as many bytes a row as ``columns`` need.
    """
    if packed.ndim != 2 or packed.dtype != np.uint8 or packed.shape[1] != -(-columns // 8):
        raise InputError(f"packed rows of {columns} columns must be uint8 [rows, {-(-columns // 8)}]")
    return _words(_REVERSED[packed], columns)


_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def _words(packed: NDArray[np.uint8], columns: int) -> Packed:
    padded = np.zeros((len(packed), -(-columns // WORD) * 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return Packed(padded.view(np.uint64), columns)


@numba.njit(cache=True, nogil=True)
def total(words):
    """Bits set in ``words`` of any shape."""
    found = np.uint64(0)
    for word in words.ravel():
        found += popcount(word)
    return np.int64(found)


@numba.njit(cache=True, nogil=True)
def row_counts(words):
    """Bits set in every row: int64 [rows]."""
    found = np.empty(words.shape[0], np.int64)
    for i in range(words.shape[0]):
        row = np.uint64(0)
        for w in range(words.shape[1]):
            row += popcount(words[i, w])
        found[i] = row
    return found


@numba.njit(cache=True, nogil=True)
def _fields(word):
    """Four 16-bit counts of a word's quarters."""
    x = word - ((word >> S1) & M1)
    x = (x & M2) + ((x >> S2) & M2)
    x = (x + (x >> S4)) & M4
    return (x + (x >> S8)) & M8


@numba.njit(cache=True, nogil=True)
def _tiles_along(words):
    """Bits of every 16 columns: uint8 [rows * words, 4]."""
    flat = words.ravel()
    found = np.empty((flat.size, 4), np.uint8)
    for i in range(flat.size):
        x = _fields(flat[i])
        found[i, 0] = x & _BYTE
        found[i, 1] = (x >> S16) & _BYTE
        found[i, 2] = (x >> S32) & _BYTE
        found[i, 3] = (x >> np.uint64(48)) & _BYTE
    return found


def tiles_along(packed: Packed) -> NDArray[np.uint8]:
    """Bits of every row in every 16 columns (the last few too): [rows, ceil(columns / 16)]."""
    rows, columns = packed.shape
    return _tiles_along(packed.words).reshape(rows, -1)[:, : -(-columns // FINEST)]


@numba.njit(cache=True, nogil=True, inline="always")
def _spread(plane, first):
    """Eight bits of a word, from bit ``first`` on, as eight bytes, 0 or 1."""
    x = ((plane >> first) & _BYTE) * L8 & _DIAGONAL
    return ((x + _LOW7) >> S7) & L8


@numba.njit(cache=True, nogil=True)
def _tile_bytes(words, first, last, sums, into):
    """Bits of every column in at most sixteen rows, a byte a column, into ``into`` [8, words]: byte j of ``into[b, w]``
    is column 64 w + 8 b + j. ``sums`` [5, words] is scratch: ones, twos, ..., sixteens of every column."""
    sums[:] = 0
    for i in range(first, last):
        for w in range(words.shape[1]):
            ones = words[i, w]
            twos = sums[0, w] & ones
            sums[0, w] ^= ones
            fours = sums[1, w] & twos
            sums[1, w] ^= twos
            eights = sums[2, w] & fours
            sums[2, w] ^= fours
            sums[4, w] |= sums[3, w] & eights
            sums[3, w] ^= eights
    for b in range(8):
        at = np.uint64(8 * b)
        for w in range(words.shape[1]):
            low = _spread(sums[0, w], at) + (_spread(sums[1, w], at) << S1)
            high = (_spread(sums[2, w], at) << S2) + (_spread(sums[3, w], at) << S3)
            into[b, w] = low + high + (_spread(sums[4, w], at) << S4)


@numba.njit(cache=True, nogil=True)
def _tiles_down(words):
    """[tiles, words, 8] of :func:`_tile_bytes`."""
    rows, wide = words.shape
    found = np.empty((-(-rows // 16), wide, 8), np.uint64)
    sums, some = np.empty((5, wide), np.uint64), np.empty((8, wide), np.uint64)
    for t in range(len(found)):
        _tile_bytes(words, 16 * t, min(16 * t + 16, rows), sums, some)
        for w in range(wide):
            for b in range(8):
                found[t, w, b] = some[b, w]
    return found


def tiles_down(packed: Packed) -> NDArray[np.uint8]:
    """Bits of every column in every 16 rows (the last few too): [ceil(rows / 16), columns]."""
    found = _tiles_down(packed.words)
    return found.view(np.uint8).reshape(len(found), -1)[:, : packed.columns]


@numba.njit(cache=True, nogil=True)
def _column_counts(words):
    """[words, 8, 8]: bytes of a word, columns of a byte."""
    rows, wide = words.shape
    found = np.zeros((wide, 8, 8), np.int64)
    held, some, sums = np.zeros((8, wide), np.uint64), np.empty((8, wide), np.uint64), np.empty((5, wide), np.uint64)
    tiles = -(-rows // 16)
    for t in range(tiles):
        _tile_bytes(words, 16 * t, min(16 * t + 16, rows), sums, some)
        held += some
        if t % 15 == 14 or t == tiles - 1:  # fifteen times sixteen still fits a byte
            for w in range(wide):
                for b in range(8):
                    for j in range(8):
                        found[w, b, j] += (held[b, w] >> np.uint64(8 * j)) & _BYTE
            held[:] = 0
    return found


def column_counts(packed: Packed) -> NDArray[np.int64]:
    """Bits set in every column: [columns]."""
    return _column_counts(packed.words).reshape(-1)[: packed.columns]
