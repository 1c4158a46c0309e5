"""Tiled-CSL: the nonzeros of a tile, each with its place in the tile (Flash-LLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros, tiled

TILE = (128, 64)
VECTOR = 4  # entries a tile is filled up to a multiple of
PLACE_BITS = 16
OFFSET_BITS = 32
SPARE_OFFSETS = 2  # one end, one empty tile behind it


@dataclass(frozen=True)
class TiledCsl(Format):
    """Flash-LLM (Xia et al., VLDB 2024), as ``InitSparseMatrixA_API`` in csrc/SpMM_API.cu writes it: 128 x 64 tiles; a
    value and a 16-bit place an entry; zeros fill each tile up to four entries; an int32 offset a tile, and two more.
    The order within a tile, which avoids bank conflicts on a GPU, does not change its bytes."""

    name: ClassVar[str] = "tiled_csl"
    counts_suffice: ClassVar[bool] = False

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        fill = zeros.short_of(TILE, VECTOR)
        offsets = (zeros.tiles(TILE) + SPARE_OFFSETS) * OFFSET_BITS
        return zeros.nonzeros * bits, (zeros.nonzeros + fill) * PLACE_BITS + offsets, fill * bits

    def decoder(self, bits: int) -> Decoder:
        """A vector of entries a cycle, each written to its place in a tile buffer (which is not priced here)."""
        return Decoder(float(VECTOR), "values", (Part("register", VECTOR, bits=PLACE_BITS + bits),))

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        cells = tiled(codes, TILE).reshape(-1, TILE[0] * TILE[1])
        held = cells != 0
        fill = -held.sum(axis=1, keepdims=True) % VECTOR
        kept = held | (np.cumsum(~held, axis=1) <= fill)
        ends = np.cumsum(kept.sum(axis=1)) // VECTOR
        return {
            "offsets": metadata(np.concatenate([[0], ends, ends[-1:]]), OFFSET_BITS),
            "places": metadata(np.nonzero(kept)[1], PLACE_BITS),
            "values": values(cells[kept], bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        down, across = -(-shape[0] // TILE[0]), -(-shape[1] // TILE[1])
        cells = np.zeros((down * across, TILE[0] * TILE[1]), dtype=np.int64)
        tiles = np.repeat(np.arange(len(cells)), np.diff(streams["offsets"].numbers[:-1]) * VECTOR)
        cells[tiles, streams["places"].numbers] = streams["values"].numbers
        whole = cells.reshape(down, across, *TILE).swapaxes(1, 2).reshape(down * TILE[0], -1)
        return whole[: shape[0], : shape[1]]
