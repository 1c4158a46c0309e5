"""Ternary by absolute mean: −1, 0 or 1 times the mean |w| of the group. Products by table look-up: ``lookup.py``.

Rounding as in BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764), from memory: round(w / mean|w|) clipped to ±1. The paper
trains with it and has one scale a matrix; here trained weights are rounded, with a scale a group (stand-in).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Quantiser, Streams, register, require_whole
from workloads.quantise.blocks import HALF_BITS, as_half, divided, half_stream, halves, join, split

TRITS = 5  # in a byte


@register
@dataclass(frozen=True)
class Ternary(Quantiser):
    """``group``: inputs a scale, None for whole rows. Codes are value + 1, two bits each; ``packed``: five of them in a
    byte in memory (3^5 = 243), 1.6 bits each."""

    group: int | None = 128
    packed: bool = False

    name = "ternary"

    def __post_init__(self) -> None:
        if self.group is not None:
            require_whole("group", self.group, 1)
        if not isinstance(self.packed, bool):
            raise InputError(f"packed must be True or False, got {self.packed!r}")

    @property
    def code_bits(self) -> int:
        return 2

    def block(self, inputs: int) -> int:
        return inputs if self.group is None else min(self.group, inputs)

    def value_bits(self, kept: int) -> int:
        return -(-kept // TRITS) * 8 if self.packed else super().value_bits(kept)

    def _pack(self, codes: np.ndarray) -> Stream:
        if not self.packed:
            return super()._pack(codes)
        fives = np.pad(codes, (0, -len(codes) % TRITS)).reshape(-1, TRITS)
        return Stream(fives @ 3 ** np.arange(TRITS), 8, metadata=False)

    def _unpack(self, stream: Stream, count: int) -> np.ndarray:
        if not self.packed:
            return super()._unpack(stream, count)
        return (stream.numbers[:, None] // 3 ** np.arange(TRITS) % 3).reshape(-1)[:count]

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        size = self.block(weight.shape[1])
        blocks, count = split(weight, size), split(kept, size).sum(axis=-1, keepdims=True)
        scale = as_half(np.abs(blocks).sum(axis=-1, keepdims=True) / np.maximum(count, 1))
        codes = np.clip(np.rint(divided(blocks, scale)), -1, 1) + 1
        return join(codes, weight.shape[1]), {"scales": half_stream(scale)}

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        blocks = split(codes, self.block(codes.shape[1])) - 1
        scale = halves(streams["scales"]).reshape(*blocks.shape[:2], 1)
        return join(blocks.astype(np.float32) * scale, codes.shape[1])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        return {"scales": outputs * -(-inputs // self.block(inputs)) * HALF_BITS}
