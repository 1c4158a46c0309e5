"""2:4 and what does not fit it: the first two nonzeros of every four as 2:4, the rest in CSR (SparTA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number
from sim.sparsity.formats.csr import INDEX_BITS, POINTER_BITS, Csr, index_width
from sim.sparsity.formats.hardware import Decoder
from sim.sparsity.formats.n_of_m import NofM
from sim.sparsity.formats.stream import Stream
from sim.sparsity.formats.zeros import Zeros


@dataclass(frozen=True)
class TwoFourResidual(Format):
    """SparTA (Zheng et al., OSDI 2022), split as ``transform`` in Flash-LLM's kernel_benchmark/sparTA.h does."""

    index_bits: int = INDEX_BITS
    name: ClassVar[str] = "two_four_residual"
    counts_suffice: ClassVar[bool] = False

    def __post_init__(self) -> None:
        Csr(self.index_bits)

    @property
    def _main(self) -> NofM:
        return NofM(2, 4)

    @property
    def _rest(self) -> Csr:
        return Csr(self.index_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        rest = zeros.beyond(4, 2)
        slots = self._main.slots(zeros)
        indices = rest * index_width(self.index_bits, zeros.columns) + (zeros.rows + 1.0) * POINTER_BITS
        return zeros.nonzeros * bits, slots * self._main.place_bits + indices, (slots - zeros.nonzeros + rest) * bits

    def decoder(self, bits: int) -> Decoder:
        """Both decoders side by side, at the rate of the 2:4 part."""
        main, rest = self._main.decoder(bits), self._rest.decoder(bits)
        return Decoder(main.rate, "values", main.parts + rest.parts)

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        groups = np.pad(codes != 0, ((0, 0), (0, -codes.shape[1] % 4))).reshape(codes.shape[0], -1, 4)
        first = (np.cumsum(groups, axis=2) <= 2).reshape(codes.shape[0], -1)[:, : codes.shape[1]]
        parts = {"main": self._main._write(codes * first, bits), "rest": self._rest._write(codes * ~first, bits)}
        return {f"{part}.{name}": stream for part, found in parts.items() for name, stream in found.items()}

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        main, rest = (
            {name.split(".")[1]: stream for name, stream in streams.items() if name.startswith(part)}
            for part in ("main", "rest")
        )
        return self._main._read(main, shape, bits) + self._rest._read(rest, shape, bits)
