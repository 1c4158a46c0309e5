"""Coordinates: the row and the column of every nonzero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.csr import INDEX_BITS, index_width
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros


@dataclass(frozen=True)
class Coo(Format):
    """``nonzeros x (bits + 2 index_bits)``, indices wider where the matrix needs it."""

    index_bits: int = INDEX_BITS
    name: ClassVar[str] = "coo"

    def __post_init__(self) -> None:
        require(self.index_bits in range(1, 65), "index_bits", "between 1 and 64", self.index_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        both = index_width(self.index_bits, zeros.rows) + index_width(self.index_bits, zeros.columns)
        return zeros.nonzeros * bits, zeros.nonzeros * both, 0.0

    def decoder(self, bits: int) -> Decoder:
        """A nonzero a cycle, both coordinates in registers."""
        return Decoder(1.0, "values", (Part("register", 2, bits=self.index_bits),))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        rows, columns = np.nonzero(codes)
        return {
            "rows": metadata(rows, int(index_width(self.index_bits, codes.shape[0]))),
            "columns": metadata(columns, int(index_width(self.index_bits, codes.shape[1]))),
            "values": values(codes[rows, columns], bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        codes = np.zeros(shape, dtype=np.int64)
        codes[streams["rows"].numbers, streams["columns"].numbers] = streams["values"].numbers
        return codes
