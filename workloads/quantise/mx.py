"""MX: blocks of 32 share a power of two, elements are small floats or integers (MXFP4/6/8, MXINT).

OCP Microscaling specification v1.0 (2023), from memory: the shared scale is an E8M0 number 2^(⌊log2 max|w|⌋ − e_max),
e_max the largest exponent of the element format; elements saturate. Element widths other than MXINT8's are ours:
``intB`` has B − 2 fraction bits and codes ±(2^(B−1) − 1).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError, nearest
from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Quantiser, Streams, register, require_whole
from workloads.quantise.blocks import join, split
from workloads.quantise.grids import FLOATS, Grid, float_grid

EXPONENT_BITS = 8
_BIAS = 127
INTEGERS = tuple(f"int{bits}" for bits in range(2, 9))


class SharedExponent(Quantiser):
    """Blocks of consecutive inputs with one power of two each."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """What an element's code stands for, before the shared power of two."""

    @property
    def code_bits(self) -> int:
        return self.grid.bits

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        blocks = split(weight, self.block(weight.shape[1]))
        largest = np.abs(blocks).max(axis=-1, keepdims=True)
        floor_log2 = np.frexp(largest)[1] - 1
        own = int(np.floor(np.log2(self.grid.largest)))
        exponent = np.where(largest > 0, np.clip(floor_log2 - own, -_BIAS, _BIAS), -_BIAS)
        codes = self.grid.codes(np.ldexp(blocks, -exponent))
        return join(codes, weight.shape[1]), {"scales": Stream((exponent + _BIAS).reshape(-1), EXPONENT_BITS)}

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        blocks = split(codes, self.block(codes.shape[1]))
        exponent = streams["scales"].numbers.reshape(*blocks.shape[:2], 1) - _BIAS
        return join(np.ldexp(self.grid.values[blocks], exponent), codes.shape[1])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        return {"scales": outputs * -(-inputs // self.block(inputs)) * EXPONENT_BITS}


def integer_grid(bits: int) -> Grid:
    """Two's complement with bits − 2 fraction bits, from −2 to 2, both exclusive: the lowest pattern is not used."""
    half = 2 ** (bits - 1)
    positive = np.arange(half)
    return Grid.of(np.concatenate([positive, [0], positive[1:] - half]) / 2.0 ** (bits - 2))


@register
@dataclass(frozen=True)
class Mx(SharedExponent):
    """``element``: e2m1 (MXFP4), e2m3 or e3m2 (MXFP6), e4m3 or e5m2 (MXFP8), or int2 … int8."""

    element: str = "e2m1"
    size: int = 32

    name = "mx"

    def __post_init__(self) -> None:
        if self.element not in (*FLOATS, *INTEGERS):
            raise InputError(f"element {self.element!r} is unknown: {nearest(self.element, (*FLOATS, *INTEGERS))}")
        require_whole("size", self.size, 1)

    @property
    def grid(self) -> Grid:
        return float_grid(self.element) if self.element in FLOATS else integer_grid(int(self.element[3:]))

    def block(self, inputs: int) -> int:
        return min(self.size, inputs)
