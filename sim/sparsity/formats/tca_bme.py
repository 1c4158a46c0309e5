"""TCA-BME: bitmaps of 8 x 8 tiles, values group by group of 64 x 64 (SpInfer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.formats.base import Bits, Format, Number
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Zeros, tiled

GROUP = 64
BITMAP = 8
VECTOR = 8  # values a group is filled up to a multiple of
OFFSET_BITS = 32
MEDIANS = 4  # 16 x 64 tiles of a group


@dataclass(frozen=True)
class TcaBme(Format):
    """SpInfer (Fan et al., EuroSys 2025), as ``InitSparseMatrixA_bitmap`` in csrc/SpMM_API.cu writes it: a 64-bit
    bitmap an 8 x 8 tile, zeros that fill each 64 x 64 group up to eight values, an int32 offset a group and one more.
    ``medians``: also the offset of every 16 x 64 tile, which the code stores and the paper does not count. Matrices
    are filled up to whole groups. The order of tiles within a group does not change the bytes."""

    medians: bool = False
    name: ClassVar[str] = "tca_bme"
    counts_suffice: ClassVar[bool] = False

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        groups = zeros.tiles((GROUP, GROUP))
        offsets = groups + 1.0 + MEDIANS * self.medians * groups
        held = zeros.nonzeros * bits
        return (
            held,
            groups * GROUP**2 + offsets * OFFSET_BITS,
            zeros.short_of((GROUP, GROUP), VECTOR) * bits,
        )

    def decoder(self, bits: int) -> Decoder:
        """A row of a bitmap a cycle: how many ones stand before each position picks its value."""
        return Decoder(
            float(BITMAP),
            "elements",
            (
                Part("popcount", size=BITMAP),
                Part("multiplexer", BITMAP, size=BITMAP, bits=bits),
                Part("register", bits=BITMAP**2),
                Part("adder", bits=OFFSET_BITS),
            ),
        )

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        groups = tiled(codes, (GROUP, GROUP)).reshape(-1, GROUP // BITMAP, BITMAP, GROUP // BITMAP, BITMAP)
        cells = groups.swapaxes(2, 3).reshape(len(groups), -1)
        counts = np.count_nonzero(cells, axis=1)
        offsets = np.concatenate([[0], np.cumsum(counts + -counts % VECTOR)])
        group, place = np.nonzero(cells)
        at = offsets[group] + np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        stored = np.zeros(offsets[-1], dtype=np.int64)
        stored[at] = cells[group, place]
        found = {
            "bitmap": metadata(cells != 0, 1),
            "offsets": metadata(offsets, OFFSET_BITS),
            "values": values(stored, bits),
        }
        if self.medians:
            quarters = np.count_nonzero(cells.reshape(len(groups), MEDIANS, -1), axis=2)
            found["medians"] = metadata(np.cumsum(quarters, axis=1) - quarters, OFFSET_BITS)
        return found

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        down, across = -(-shape[0] // GROUP), -(-shape[1] // GROUP)
        held = streams["bitmap"].numbers.reshape(down * across, -1) > 0
        before = np.cumsum(held, axis=1) - 1 + streams["offsets"].numbers[:-1, None]
        cells = np.zeros(held.shape, dtype=np.int64)
        cells[held] = streams["values"].numbers[before[held]]
        tiles = cells.reshape(down, across, GROUP // BITMAP, GROUP // BITMAP, BITMAP, BITMAP)
        return tiles.transpose(0, 2, 4, 1, 3, 5).reshape(down * GROUP, -1)[: shape[0], : shape[1]]
