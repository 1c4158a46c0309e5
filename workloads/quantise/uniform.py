"""Evenly spaced levels with a scale (and zero point) a group of inputs: what RTN, AWQ, GWQ and GPTQ share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Quantiser, Streams, require_whole
from workloads.quantise.blocks import HALF_BITS, as_half, divided, half_stream, halves, join, split


class Levels(NamedTuple):
    """w ≈ (code − zero) · scale; both float32 [out, groups, 1], scale an FP16 number, zero a whole one."""

    scale: np.ndarray
    zero: np.ndarray


@dataclass(frozen=True)
class UniformQuantiser(Quantiser):
    """``bits`` 2..8; ``group``: inputs that share a scale, None for whole rows; the last group of a row may be short.

    ``symmetric``: codes −(2^(b−1) − 1) … 2^(b−1) − 1, scale max|w| / (2^(b−1) − 1). Else 2^b levels from min(w, 0) to
    max(w, 0) with a zero point of b bits, so that zero is always a level (a pruned weight costs no error). Scales are
    FP16 and codes are made with the rounded scale.
    """

    bits: int = 4
    group: int | None = 128
    symmetric: bool = True

    def __post_init__(self) -> None:
        require_whole("bits", self.bits, 2, 8)
        if self.group is not None:
            require_whole("group", self.group, 1)
        if not isinstance(self.symmetric, bool):
            raise InputError(f"symmetric must be True or False, got {self.symmetric!r}")

    @property
    def code_bits(self) -> int:
        return self.bits

    @property
    def _half_range(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def block(self, inputs: int) -> int:
        return inputs if self.group is None else min(self.group, inputs)

    def fit(self, grouped: np.ndarray) -> Levels:
        """Levels for weights [out, groups, size]."""
        if self.symmetric:
            scale = as_half(np.abs(grouped).max(axis=-1, keepdims=True) / np.float32(self._half_range))
            return Levels(scale, np.full_like(scale, self._half_range))
        low = np.minimum(grouped.min(axis=-1, keepdims=True), 0)
        high = np.maximum(grouped.max(axis=-1, keepdims=True), 0)
        top = np.float32(2**self.bits - 1)
        scale = as_half((high - low) / top)
        return Levels(scale, np.clip(np.rint(divided(-low, scale)), 0, top))

    def to_codes(self, weight: np.ndarray, levels: Levels) -> np.ndarray:
        """Nearest codes (ties to even), float32 of weight's shape."""
        top = 2 * self._half_range if self.symmetric else 2**self.bits - 1
        codes = np.rint(divided(weight, levels.scale))
        codes += levels.zero
        return np.clip(codes, 0, top, out=codes)

    def grouped_streams(self, weight: np.ndarray) -> tuple[np.ndarray, Streams]:
        """Codes [out, in] and streams of a matrix rounded to nearest."""
        grouped = split(weight, self.block(weight.shape[1]))
        levels = self.fit(grouped)
        return join(self.to_codes(grouped, levels), weight.shape[1]), self.level_streams(levels)

    def level_streams(self, levels: Levels) -> Streams:
        """Levels as streams; a symmetric zero point needs none."""
        streams = {"scales": half_stream(levels.scale)}
        if not self.symmetric:
            streams["zero_points"] = Stream(levels.zero.astype(np.int64).reshape(-1), self.bits)
        return streams

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        grouped = split(codes, self.block(codes.shape[1])).astype(np.float32)
        shape = (*grouped.shape[:2], 1)
        scale = halves(streams["scales"]).reshape(shape)
        if self.symmetric:
            zero = np.float32(self._half_range)
        else:
            zero = streams["zero_points"].numbers.astype(np.float32).reshape(shape)
        grouped -= zero
        grouped *= scale
        return join(grouped, codes.shape[1])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        groups = outputs * -(-inputs // self.block(inputs))
        return {"scales": groups * HALF_BITS, "zero_points": 0 if self.symmetric else groups * self.bits}

    def vector_ops(self, tokens: int, outputs: int, inputs: int, kept: int) -> float:
        """Scales, and for zero points the sum of a group's inputs once a token and a multiply-add a group and output
        (nothing when weights are expanded one by one: the subtraction joins the scaling's multiply-add)."""
        scaled = super().vector_ops(tokens, outputs, inputs, kept)
        if self.symmetric:
            return scaled
        groups = -(-inputs // self.block(inputs))
        return float(min(kept, tokens * (inputs + (2 if groups > 1 else 1) * outputs * groups)))
