"""NVFP4: E2M1 elements in blocks of 16 with an E4M3 scale, and one FP32 scale a matrix.

From memory of NVIDIA's description (2025): matrix scale t = max|w| / (6 · 448), block scale max|w| / 6 / t rounded to
E4M3, element w / (block scale · t) rounded to E2M1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Quantiser, Streams, register
from workloads.quantise.blocks import divided, join, split
from workloads.quantise.grids import float_grid

SIZE = 16
_SCALE_BITS, _MATRIX_BITS = 8, 32


@register
@dataclass(frozen=True)
class NvFp4(Quantiser):
    """No options."""

    name = "nvfp4"

    @property
    def code_bits(self) -> int:
        return float_grid("e2m1").bits

    def block(self, inputs: int) -> int:
        return min(SIZE, inputs)

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        blocks, elements, scales = split(weight, self.block(weight.shape[1])), float_grid("e2m1"), float_grid("e4m3")
        largest = np.abs(blocks).max(axis=-1, keepdims=True)
        matrix_scale = np.float32(largest.max() / (elements.largest * scales.largest))
        scale_codes = scales.codes(divided(largest / np.float32(elements.largest), matrix_scale))
        codes = elements.codes(divided(blocks, scales.values[scale_codes] * matrix_scale))
        return join(codes, weight.shape[1]), {
            "scales": Stream(scale_codes.reshape(-1), _SCALE_BITS),
            "scales.matrix": Stream(np.array([matrix_scale]).view(np.uint32).astype(np.int64), _MATRIX_BITS),
        }

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        blocks = split(codes, self.block(codes.shape[1]))
        scale = float_grid("e4m3").values[streams["scales"].numbers].reshape(*blocks.shape[:2], 1)
        matrix_scale = streams["scales.matrix"].numbers.astype(np.uint32).view(np.float32)[0]
        return join(float_grid("e2m1").values[blocks] * (scale * matrix_scale), codes.shape[1])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        return {"scales": outputs * -(-inputs // self.block(inputs)) * _SCALE_BITS + _MATRIX_BITS}
