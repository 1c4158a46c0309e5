"""BitMoD: FP3 or FP4 whose spare code, minus zero, becomes a special value that every group chooses for itself.

Chen et al. 2025, arXiv:2411.11745, grids from memory: FP3 {0, ±1, ±2, ±4} with one of ±3, ±6; FP4 {0, ±0.5, ±1, ±1.5,
±2, ±3, ±4, ±6} with one of ±5, ±8. A group of 128 takes the special value with the least squared error. Simplified:
scales are FP16 (the paper rounds them to INT8 under a scale a channel) and never clip: a scale is the least that
covers the group's largest positive and negative weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Quantiser, Streams, register, require_whole
from workloads.quantise.blocks import HALF_BITS, as_half, divided, half_stream, halves, join, split
from workloads.quantise.grids import Grid

MAGNITUDES = {3: (0, 1, 2, 4), 4: (0, 0.5, 1, 1.5, 2, 3, 4, 6)}
SPECIALS = {3: (-3, 3, -6, 6), 4: (-5, 5, -8, 8)}
SELECTOR_BITS = 2


@lru_cache(maxsize=2)
def candidates(bits: int) -> tuple[Grid, ...]:
    """One grid a special value; code = sign bit and place of the magnitude, minus zero is the special value."""
    plain = np.array(MAGNITUDES[bits], np.float32)
    return tuple(Grid.of(np.concatenate([plain, [special], -plain[1:]])) for special in SPECIALS[bits])


@register
@dataclass(frozen=True)
class BitMod(Quantiser):
    """``bits`` 3 or 4, ``group`` inputs a scale and a selector."""

    bits: int = 4
    group: int = 128

    name = "bitmod"

    def __post_init__(self) -> None:
        require_whole("bits", self.bits, 3, 4)
        require_whole("group", self.group, 1)

    @property
    def code_bits(self) -> int:
        return self.bits

    def block(self, inputs: int) -> int:
        return min(self.group, inputs)

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        blocks = split(weight, self.block(weight.shape[1]))
        high = np.maximum(blocks.max(axis=-1, keepdims=True), 0)
        low = np.maximum(-blocks.min(axis=-1, keepdims=True), 0)
        codes = np.zeros(blocks.shape, np.int64)
        scale, chosen = np.zeros_like(high), np.zeros(high.shape, np.int64)
        least = np.full(high.shape, np.inf, np.float32)
        for selector, grid in enumerate(candidates(self.bits)):
            own_scale = as_half(np.maximum(high / grid.values.max(), low / -grid.values.min()))
            own_codes = grid.codes(divided(blocks, own_scale))
            error = np.square(grid.values[own_codes] * own_scale - blocks).sum(axis=-1, keepdims=True)
            better = error < least
            least, scale = np.where(better, error, least), np.where(better, own_scale, scale)
            chosen, codes = np.where(better, selector, chosen), np.where(better, own_codes, codes)
        selectors = Stream(chosen.reshape(-1), SELECTOR_BITS)
        return join(codes, weight.shape[1]), {"scales": half_stream(scale), "selectors": selectors}

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        blocks = split(codes, self.block(codes.shape[1]))
        shape = (*blocks.shape[:2], 1)
        values = np.stack([grid.values for grid in candidates(self.bits)])
        scale = halves(streams["scales"]).reshape(shape)
        return join(values[streams["selectors"].numbers.reshape(shape), blocks] * scale, codes.shape[1])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        groups = outputs * -(-inputs // self.block(inputs))
        return {"scales": groups * HALF_BITS, "selectors": groups * SELECTOR_BITS}
