"""Ternary by absolute mean: −1, 0 or 1 times the mean |w| of the group; and what products by table look-up cost.

Rounding as in BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764), from memory: round(w / mean|w|) clipped to ±1. The paper
trains with it and has one scale a matrix; here trained weights are rounded, with a scale a group (stand-in).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.quantise.base import Parts, Quantiser, Streams, register, require_whole
from workloads.quantise.blocks import HALF_BITS, as_half, divided, half_stream, halves, join, split


@register
@dataclass(frozen=True)
class Ternary(Quantiser):
    """``group``: inputs a scale, None for whole rows. Codes are value + 1, two bits each (five trits in a byte would be
    1.6 bits)."""

    group: int | None = 128

    name = "ternary"

    def __post_init__(self) -> None:
        if self.group is not None:
            require_whole("group", self.group, 1)

    @property
    def code_bits(self) -> int:
        return 2

    def block(self, inputs: int) -> int:
        return inputs if self.group is None else min(self.group, inputs)

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


@dataclass(frozen=True)
class TableCost:
    """A ternary product of one row of activations by tables of partial sums, one table a ``span`` of inputs."""

    entries: int
    build_adds: int
    lookups: int
    table_bits: int


def table_cost(outputs: int, inputs: int, span: int = 4, sum_bits: int = 16) -> TableCost:
    """Counted, in the manner of T-MAC (Wei et al. 2024) and ternary look-up engines, from memory.

    A span of g inputs has 3^g sums; all but zero come in pairs of opposite sign, so (3^g − 1) / 2 are kept, each one
    add from another (the g single inputs are copies and cost none). Each output looks one sum up a span and adds it,
    where multiply-accumulate takes g of them. ``table_bits``: storage of one row's tables.
    """
    for field, value in (("outputs", outputs), ("inputs", inputs), ("sum_bits", sum_bits)):
        require_whole(field, value, 1)
    require_whole("span", span, 1, 8)
    spans, entries = -(-inputs // span), (3**span - 1) // 2
    return TableCost(entries, spans * (entries - span), outputs * spans, spans * entries * sum_bits)
