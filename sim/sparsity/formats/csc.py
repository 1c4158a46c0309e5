"""Compressed sparse columns: CSR of the transposed matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Number
from sim.sparsity.formats.csr import POINTER_BITS, Csr, index_width
from sim.sparsity.formats.stream import Stream
from sim.sparsity.formats.zeros import Zeros


@dataclass(frozen=True)
class Csc(Csr):
    """A row index of ``index_bits`` a nonzero, wider where the rows need it, and ``columns + 1`` column pointers."""

    name: ClassVar[str] = "csc"

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        indices = zeros.nonzeros * index_width(self.index_bits, zeros.rows)
        return zeros.nonzeros * bits, indices + (zeros.columns + 1.0) * POINTER_BITS, 0.0

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        found = super()._write(np.ascontiguousarray(codes.T), bits)
        return {"rows" if name == "columns" else name: stream for name, stream in found.items()}

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        return super()._read(streams | {"columns": streams["rows"]}, (shape[1], shape[0]), bits).T
