"""Matrices as codes: the bit pattern of every value, 0 for zero, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError

_FLOATS = {np.dtype(np.float16): (16, np.uint16), np.dtype(np.float32): (32, np.uint32)}


@dataclass(frozen=True)
class Codes:
    """``numbers`` int64 [out, in] of ``bits`` bits; ``signed``: two's complement; ``dtype``: of the matrix."""

    numbers: NDArray[np.int64]
    bits: int
    signed: bool
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.numbers.shape  # type: ignore[return-value]


def whole_bits(bits: int) -> int:
    """``bits`` if it is a whole number from 1 to 32; raises InputError."""
    if isinstance(bits, bool) or int(bits) != bits or not 1 <= bits <= 32:
        raise InputError(f"bits must be a whole number between 1 and 32, got {bits!r}")
    return int(bits)


def to_codes(matrix: ArrayLike, bits: int) -> Codes:
    """Codes of a matrix: integers in two's complement if any is negative, else unsigned; masks as 0 and 1; float16 and
    float32 as they lie in memory, with ``bits`` 16 and 32.

    Raises:
        InputError: not a matrix, another type, or a value that ``bits`` cannot hold.
    """
    matrix, bits = np.asarray(matrix), whole_bits(bits)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"matrix must be out x in with at least one element, got shape {matrix.shape}")
    if matrix.dtype in _FLOATS:
        width, pattern = _FLOATS[matrix.dtype]
        if bits != width:
            raise InputError(f"bits of {matrix.dtype} values must be {width}, got {bits}")
        numbers = np.where(matrix != 0, np.ascontiguousarray(matrix).view(pattern).astype(np.int64), 0)
        return Codes(numbers, bits, False, matrix.dtype)
    if matrix.dtype != np.bool_ and not np.issubdtype(matrix.dtype, np.integer):
        raise InputError(f"matrix must hold integers, booleans, float16 or float32, got {matrix.dtype}")
    numbers = matrix.astype(np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    signed = low < 0
    most = (1 << (bits - signed)) - 1
    if high > most or low < -most - 1:
        raise InputError(
            f"values must be between {-most - 1 if signed else 0} and {most} for {bits} bits, got {low} to {high}"
        )
    return Codes(numbers & ((1 << bits) - 1), bits, signed, matrix.dtype)


def from_codes(numbers: NDArray[np.int64], codes: Codes) -> NDArray[Any]:
    """The matrix whose codes are ``numbers``."""
    if codes.dtype in _FLOATS:
        _, pattern = _FLOATS[codes.dtype]
        return numbers.astype(pattern).view(codes.dtype)
    if codes.signed:
        numbers = np.where(numbers >> (codes.bits - 1) > 0, numbers - (1 << codes.bits), numbers)
    return numbers.astype(codes.dtype)
