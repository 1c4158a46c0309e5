"""Blocks: dense rectangles that hold anything, each with a column index; BSR, and 1 x G along the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.csr import INDEX_BITS, POINTER_BITS, index_walk, index_width, pointers
from sim.sparsity.formats.hardware import Decoder
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros, tiled


@dataclass(frozen=True)
class Block(Format):
    """Blocks of ``block`` (out x in), stored whole at the edges too: an index of ``index_bits`` each,
    wider where the blocks of a row need it, and a pointer a row of blocks."""

    block: tuple[int, int] = (1, 4)
    index_bits: int = INDEX_BITS
    name: ClassVar[str] = "block"
    counts_suffice: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(len(self.block) == 2 and min(self.block) >= 1, "block", "two sizes of at least 1", self.block)
        require(self.index_bits in range(1, 65), "index_bits", "between 1 and 64", self.index_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        blocks = zeros.nonempty(self.block)
        held = zeros.nonzeros * bits
        indices = blocks * index_width(self.index_bits, np.ceil(zeros.columns / self.block[1]))
        pointed = (np.ceil(zeros.rows / self.block[0]) + 1.0) * POINTER_BITS
        return held, indices + pointed, blocks * (self.block[0] * self.block[1] * bits) - held

    def decoder(self, bits: int) -> Decoder:
        """A block a cycle; nothing is moved inside it."""
        return Decoder(float(self.block[0] * self.block[1]), "values", index_walk(self.index_bits))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        down, across = self._blocks(codes.shape)
        blocks = tiled(codes, self.block).reshape(down * across, -1)
        at = np.flatnonzero(blocks.any(axis=1))
        return {
            "pointers": metadata(pointers(at // across, down), POINTER_BITS),
            "columns": metadata(at % across, int(index_width(self.index_bits, across))),
            "values": values(blocks[at], bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        (height, width), (down, across) = self.block, self._blocks(shape)
        blocks = np.zeros((down, across, height, width), dtype=np.int64)
        rows = np.repeat(np.arange(down), np.diff(streams["pointers"].numbers))
        blocks[rows, streams["columns"].numbers] = streams["values"].numbers.reshape(-1, height, width)
        return blocks.swapaxes(1, 2).reshape(down * height, across * width)[: shape[0], : shape[1]]

    def _blocks(self, shape: tuple[int, int]) -> tuple[int, int]:
        return -(-shape[0] // self.block[0]), -(-shape[1] // self.block[1])
