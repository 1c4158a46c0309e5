"""Compressed sparse rows, and its transpose: compressed sparse columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros

INDEX_BITS = 32  # column indices of CSR, CSC and COO, as the common libraries store them
POINTER_BITS = 32  # where a line starts; narrow ones could not count a large layer's nonzeros


@dataclass(frozen=True)
class Csr(Format):
    """A column index of ``index_bits`` a nonzero, wider where the columns need it, and ``rows + 1`` row pointers."""

    index_bits: int = INDEX_BITS
    name: ClassVar[str] = "csr"

    def __post_init__(self) -> None:
        require(self.index_bits in range(1, 65), "index_bits", "between 1 and 64", self.index_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        indices = zeros.nonzeros * index_width(self.index_bits, zeros.columns)
        return zeros.nonzeros * bits, indices + (zeros.rows + 1.0) * POINTER_BITS, 0.0

    def decoder(self, bits: int) -> Decoder:
        """A nonzero a cycle; the row ends where the count meets the next pointer."""
        return Decoder(1.0, "values", index_walk(self.index_bits))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        rows, columns = np.nonzero(codes)
        return {
            "pointers": metadata(pointers(rows, codes.shape[0]), POINTER_BITS),
            "columns": metadata(columns, int(index_width(self.index_bits, codes.shape[1]))),
            "values": values(codes[rows, columns], bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        codes = np.zeros(shape, dtype=np.int64)
        rows = np.repeat(np.arange(shape[0]), np.diff(streams["pointers"].numbers))
        codes[rows, streams["columns"].numbers] = streams["values"].numbers
        return codes


def index_width(index_bits: int, positions: Number) -> Number:
    """Bits of an index: as asked, or more where so many positions need them."""
    return np.maximum(index_bits, np.ceil(np.log2(np.maximum(positions, 1))))


def pointers(lines: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Where each of ``count`` lines starts among entries sorted by line, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.bincount(lines, minlength=count))])


POINTER_WALK = (
    Part("register", 3, bits=POINTER_BITS),
    Part("adder", bits=POINTER_BITS),
    Part("comparator", bits=POINTER_BITS),
)
"""Two pointers and an entry counter in registers, and a comparator for the end of a line."""


def index_walk(index_bits: int) -> tuple[Part, ...]:
    """A pointer walk that also holds the index of an entry."""
    return (Part("register", bits=index_bits), *POINTER_WALK)
