"""Run length: how many zeros, then a value, row by row through the whole matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, alignment, metadata, values
from sim.sparsity.formats.zeros import Zeros

RUN_BITS = 5  # zeros before a value, as in Eyeriss' run-length code
POSITION_BITS = 16


@dataclass(frozen=True)
class RunLength(Format):
    """Pairs (zeros before, value) of ``run_bits`` and ``bits``. A run of 2^run_bits zeros or more needs filler pairs:
    the longest run and a zero value, 2^run_bits zeros each. Zeros after the last nonzero are not stored.

    ``word_bits``: pairs do not cross words of so many bits (0: packed without gaps). Eyeriss (Chen et al., JSSC 2017)
    has 16-bit values, 5-bit runs and three pairs in 64 bits.
    """

    run_bits: int = RUN_BITS
    word_bits: int = 0
    name: ClassVar[str] = "run_length"
    counts_suffice: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.run_bits in range(1, 33), "run_bits", "between 1 and 32", self.run_bits)
        require(self.word_bits in range(1025), "word_bits", "between 0 and 1024", self.word_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        fillers = zeros.fillers((zeros.rows, zeros.columns), 1 << self.run_bits)
        pairs = zeros.nonzeros + fillers
        pair = bits + self.run_bits
        gaps = np.ceil(pairs / self._pairs_a_word(bits)) * self.word_bits - pairs * pair if self.word_bits else 0.0
        return zeros.nonzeros * bits, pairs * self.run_bits, fillers * bits + gaps

    def _pairs_a_word(self, bits: Number) -> Number:
        pair = bits + self.run_bits
        require(
            bool(np.all(pair <= self.word_bits)), "word_bits", f"at least {np.max(pair):g}, one pair", self.word_bits
        )
        return self.word_bits // pair

    def decoder(self, bits: int) -> Decoder:
        """A pair a cycle; an adder keeps the position."""
        return Decoder(1.0, "values", (Part("adder", bits=POSITION_BITS), Part("register", bits=POSITION_BITS)))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        runs, pairs = run_pairs(codes.reshape(-1), 1 << self.run_bits)
        found = {"runs": metadata(runs, self.run_bits), "values": values(pairs, bits)}
        if self.word_bits:
            words = -(-len(runs) // self._pairs_a_word(bits))
            found["gaps"] = alignment(words * self.word_bits - len(runs) * (bits + self.run_bits))
        return found

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        codes = np.zeros(shape[0] * shape[1], dtype=np.int64)
        codes[np.cumsum(streams["runs"].numbers + 1) - 1] = streams["values"].numbers
        return codes.reshape(shape)


def run_pairs(codes: NDArray[np.int64], longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(zeros before, value) of every pair of a flat array, fillers of ``longest`` zeros included."""
    at = np.flatnonzero(codes)
    gaps = np.diff(at, prepend=-1) - 1
    last = np.cumsum(gaps // longest + 1) - 1  # where each nonzero's own pair stands
    runs = np.full(last[-1] + 1 if len(last) else 0, longest - 1, dtype=np.int64)
    found = np.zeros(len(runs), dtype=np.int64)
    runs[last], found[last] = gaps % longest, codes[at]
    return runs, found
