"""Block floating point (BFP): blocks of 16 share an 8-bit exponent, elements are signed mantissas."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.quantise.base import register, require_whole
from workloads.quantise.grids import Grid
from workloads.quantise.mx import SharedExponent, integer_grid


@register
@dataclass(frozen=True)
class Bfp(SharedExponent):
    """``bits`` of a mantissa with its sign, rounded to nearest; as MXINT but for the width and the smaller block
    (from memory of MSFP, Darvish Rouhani et al. 2020)."""

    bits: int = 4
    size: int = 16

    name = "bfp"

    def __post_init__(self) -> None:
        require_whole("bits", self.bits, 2, 8)
        require_whole("size", self.size, 1)

    @property
    def grid(self) -> Grid:
        return integer_grid(self.bits)

    def block(self, inputs: int) -> int:
        return min(self.size, inputs)
