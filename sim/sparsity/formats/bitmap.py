"""Bitmap: one bit an element, and the nonzeros in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros

WINDOW = 16  # positions a bitmap decoder scans; as sim/cost prices the one in front of a systolic array


@dataclass(frozen=True)
class Bitmap(Format):
    """``nonzeros x bits + rows x columns``."""

    name: ClassVar[str] = "bitmap"

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        held = zeros.nonzeros * bits
        return held, zeros.rows * zeros.columns, 0.0

    def decoder(self, bits: int) -> Decoder:
        """The next nonzero of a window of positions, a cycle each."""
        return Decoder(1.0, "values", (Part("encoder", size=WINDOW), Part("register", bits=WINDOW)))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        return {"bitmap": metadata(codes != 0, 1), "values": values(codes[codes != 0], bits)}

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        codes = np.zeros(shape, dtype=np.int64)
        codes[streams["bitmap"].numbers.reshape(shape) > 0] = streams["values"].numbers
        return codes
