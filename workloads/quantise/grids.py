"""Small floating-point formats as grids: which magnitudes there are, and rounding to the nearest.

Formats of the OCP Microscaling specification v1.0 (2023), written down from memory of it: sign, exponent with bias
2^(e−1) − 1, mantissa, subnormals. Codes are the formats' own bit patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.errors import InputError, nearest

#: name -> (exponent bits, mantissa bits, top bit patterns that stand for no number)
FLOATS = {"e2m1": (2, 1, 0), "e2m3": (2, 3, 0), "e3m2": (3, 2, 0), "e4m3": (4, 3, 1), "e5m2": (5, 2, 4)}


@dataclass(frozen=True)
class Grid:
    """``values`` [codes] float32: what each code stands for; a value that stands twice belongs to its first code.

    Rounding is to the nearest value, ties to the even code (an even mantissa, where codes are bit patterns), beyond the
    ends to the ends.
    """

    values: np.ndarray
    _sorted: np.ndarray
    _edges: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Grid:
        """A grid of code -> value."""
        values = np.asarray(values, dtype=np.float32)
        _, first = np.unique(values, return_index=True)
        levels = values[first]
        edges = (levels[:-1] + levels[1:]) / 2
        upward = (first[:-1] % 2 == 1) & (first[1:] % 2 == 0)  # a tie that belongs to the level above
        edges = np.where(upward, np.nextafter(edges, np.float32(-np.inf)), edges)
        return cls(values, first.astype(np.int64), edges.astype(np.float32))

    def codes(self, x: np.ndarray) -> np.ndarray:
        """int64 codes of x's shape."""
        return self._sorted[np.searchsorted(self._edges, x, side="left")]

    @property
    def largest(self) -> float:
        """The largest value."""
        return float(self.values.max())

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (len(self.values) - 1).bit_length()


@lru_cache(maxsize=16)
def float_grid(name: str) -> Grid:
    """The grid of a format in ``FLOATS``; patterns that stand for no number decode to the largest and are not used."""
    if name not in FLOATS:
        raise InputError(f"float format {name!r} is unknown: {nearest(name, FLOATS)}")
    exponent_bits, mantissa_bits, reserved = FLOATS[name]
    pattern = np.arange(2 ** (exponent_bits + mantissa_bits))
    pattern = np.minimum(pattern, len(pattern) - 1 - reserved)
    exponent, mantissa = pattern >> mantissa_bits, pattern & (2**mantissa_bits - 1)
    fraction = mantissa / 2**mantissa_bits + (exponent > 0)
    magnitudes = np.ldexp(fraction, np.maximum(exponent, 1) - (2 ** (exponent_bits - 1) - 1))
    return Grid.of(np.concatenate([magnitudes, -magnitudes]))
