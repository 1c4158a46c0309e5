"""Dense: every element, no metadata."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number
from sim.sparsity.formats.hardware import Decoder
from sim.sparsity.formats.stream import Stream, values
from sim.sparsity.formats.zeros import Zeros


@dataclass(frozen=True)
class Dense(Format):
    """``rows x columns x bits``."""

    name: ClassVar[str] = "dense"

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        held = zeros.nonzeros * bits
        return held, 0.0, zeros.rows * zeros.columns * bits - held

    def decoder(self, bits: int) -> Decoder:
        return Decoder(inf, "elements")

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        return {"values": values(codes, bits)}

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        return streams["values"].numbers.reshape(shape)
