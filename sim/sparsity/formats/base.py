"""The interface of a storage format, and what it stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.sparsity.formats.codes import Codes, from_codes, to_codes, whole_bits
from sim.sparsity.formats.hardware import Decoder
from sim.sparsity.formats.stream import Stream
from sim.sparsity.formats.zeros import Actual, Modelled, Spread, Zeros

Number = Any
Bits = tuple[Number, Number, Number]
"""Bits of (values, metadata, padding)."""


@dataclass(frozen=True)
class StoredBytes:
    """Bytes of a stored matrix, fractions kept: ``values`` (of nonzeros), ``metadata`` (indices, bitmaps, pointers,
    tables, of padding too) and ``padding`` (stored zeros and alignment). Numbers, or arrays for many matrices."""

    values: Number
    metadata: Number
    padding: Number

    @classmethod
    def of_bits(cls, bits: Bits) -> StoredBytes:
        """From bits of (values, metadata, padding)."""
        return cls(*(b[()] / 8.0 for b in np.broadcast_arrays(*(np.asarray(b, dtype=np.float64) for b in bits))))

    @property
    def total(self) -> Number:
        return self.values + self.metadata + self.padding


@dataclass(frozen=True)
class Encoded:
    """A matrix as a format stores it: ``streams`` by name, each an array of numbers of a fixed width in bits."""

    format: Format
    codes: Codes
    streams: dict[str, Stream]

    def decode(self) -> NDArray[Any]:
        """The matrix that was encoded, equal element by element (out x in)."""
        return from_codes(self.format._read(self.streams, self.codes.shape, self.codes.bits), self.codes)

    def stored(self) -> StoredBytes:
        """Bytes of the streams, bit-packed."""
        streams = self.streams.values()
        metadata = sum(s.bits for s in streams if s.metadata)
        padding = sum(s.padding_bits for s in streams)
        return StoredBytes.of_bits((sum(s.bits for s in streams) - metadata - padding, metadata, padding))


class Format(ABC):
    """One way to store a sparse matrix. A subclass is one short file; it is a frozen dataclass of its options.

    1. ``bits(zeros, bits)`` is the one equation of its bytes: bits of values, metadata and padding from what ``zeros``
       (:class:`sim.sparsity.formats.zeros.Zeros`) says of the matrix. A mask, a density model and bare counts all
       answer the same questions, so :meth:`stored`, :meth:`expected` and :meth:`closed` share it.
    2. ``_write`` and ``_read`` turn codes (out x in, 0 = zero) into streams and back. They know nothing of 1.; the
       conformance suite holds the two against each other.
    3. ``decoder(bits)`` is what one unit that undoes it is built of (:mod:`sim.cost.decoder` prices it).

    ``counts_suffice``: rows, columns, nonzeros and bits alone give the bytes exactly. ``codes_values``: they
    depend on the values, so a mask says no more than counts do. A worked example is ``bitmap.py``.
    """

    name: ClassVar[str]
    counts_suffice: ClassVar[bool] = True
    codes_values: ClassVar[bool] = False

    @abstractmethod
    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        """Bits of (values, metadata, padding) for values of ``bits`` each."""

    @abstractmethod
    def decoder(self, bits: int) -> Decoder:
        """One decoder unit."""

    @abstractmethod
    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]: ...

    @abstractmethod
    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]: ...

    def check(self, mask: NDArray[np.bool_]) -> None:
        """Raise :class:`InputError` if the format cannot hold this mask."""
        return

    def encode(self, matrix: ArrayLike, bits: int) -> Encoded:
        """Store ``matrix`` (out x in: integers of ``bits`` bits, a mask, or float16/float32 of their own width).

        Raises:
            InputError: not a matrix, values that do not fit ``bits``, or a mask the format cannot hold.
        """
        codes = to_codes(matrix, bits)
        self.check(codes.numbers != 0)
        return Encoded(self, codes, self._write(codes.numbers, codes.bits))

    def stored(self, matrix: ArrayLike, bits: int) -> StoredBytes:
        """Bytes that :meth:`encode` takes for this very matrix (a mask suffices unless values are coded), counted
        without writing it down.

        Raises:
            InputError: as :meth:`encode`, but for the range of values.
        """
        mask = as_mask(matrix)
        self.check(mask)
        return StoredBytes.of_bits(self.bits(Actual(mask), whole_bits(bits)))

    def expected(self, model: Any, bits: int) -> StoredBytes:
        """Mean bytes under a density model (:mod:`sim.sparsity.density`, out x in)."""
        return StoredBytes.of_bits(self.bits(Modelled(model), whole_bits(bits)))

    def closed(self, rows: ArrayLike, columns: ArrayLike, nonzeros: ArrayLike, bits: ArrayLike) -> StoredBytes:
        """Bytes from counts, everything broadcast; exact if ``counts_suffice``, else for zeros spread at random."""
        given = (np.asarray(v, dtype=np.float64) for v in (rows, columns, nonzeros, bits))
        rows, columns, nonzeros, bits = np.broadcast_arrays(*given)
        return StoredBytes.of_bits(self.bits(Spread(rows, columns, nonzeros), bits))

    def worst(self, rows: ArrayLike, columns: ArrayLike, bits: ArrayLike) -> NDArray[np.float64]:
        """Bytes to provision so that any mask fits: those of a matrix without zeros. Adding a nonzero never lowers the
        bytes of any format, coded values aside, which are taken at their full width."""
        return np.asarray(self.closed(rows, columns, np.multiply(rows, columns), bits).total)


def as_mask(matrix: ArrayLike) -> NDArray[np.bool_]:
    """Which elements are not zero; :class:`InputError` if it is not a matrix with at least one element."""
    mask = np.asarray(matrix) != 0
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"matrix must be out x in with at least one element, got shape {mask.shape}")
    return mask


def require(ok: bool, field: str, rule: str, given: Any) -> None:
    """Raise the :class:`InputError` of an option out of range."""
    if not ok:
        raise InputError(f"{field} must be {rule}, got {given!r}")
