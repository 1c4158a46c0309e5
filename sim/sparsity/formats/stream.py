"""A stream: numbers of a fixed width, as they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Stream:
    """``numbers`` (int64, >= 0) of ``width`` bits each. ``metadata``: they say where values are; else they are values,
    ``padding_bits`` of them stored zeros or alignment."""

    numbers: NDArray[np.int64]
    width: int
    metadata: bool = True
    padding_bits: int = 0

    @property
    def bits(self) -> int:
        return len(self.numbers) * self.width

    def packed(self) -> bytes:
        """The numbers one after another, most significant bit first, filled up to a byte."""
        bits = np.empty((len(self.numbers), self.width), dtype=np.uint8)
        for place in range(self.width):
            bits[:, place] = self.numbers >> (self.width - 1 - place) & 1
        return np.packbits(bits).tobytes()

    def unpacked(self, data: bytes) -> Stream:
        """This stream with its numbers read from :meth:`packed` bytes."""
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=self.bits).reshape(-1, self.width)
        numbers = np.zeros(len(self.numbers), dtype=np.int64)
        for place in range(self.width):
            numbers = numbers << 1 | bits[:, place]
        return Stream(numbers, self.width, self.metadata, self.padding_bits)


def metadata(numbers: ArrayLike, width: int) -> Stream:
    """A stream that says where values are."""
    return Stream(np.asarray(numbers, dtype=np.int64).reshape(-1), width)


def values(codes: NDArray[np.int64], bits: int) -> Stream:
    """A stream of values; those that are zero are padding."""
    codes = codes.reshape(-1)
    return Stream(codes, bits, False, int(np.count_nonzero(codes == 0)) * bits)


def alignment(bits: int) -> Stream:
    """Bits that nothing uses."""
    return Stream(np.zeros(bits, dtype=np.int64), 1, False, bits)
