"""What a decoder unit is built of: counts of components that :mod:`sim.cost.decoder` has prices for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["encoder", "popcount", "multiplexer", "comparator", "adder", "register", "table"]


@dataclass(frozen=True)
class Part:
    """``count`` components: an ``encoder`` or ``popcount`` over ``size`` positions, a ``multiplexer`` of ``size`` words
    of ``bits``, a ``comparator``, ``adder`` or ``register`` of ``bits``, a ``table`` of ``size`` words of ``bits``."""

    kind: Kind
    count: int = 1
    size: int = 1
    bits: int = 1


def decoded_apart(name: str, lanes: bool) -> bool:
    """Whether an array needs decoders for a format: not for dense weights, nor for bitmaps behind zero-skipping lanes,
    whose encoder is part of the front end, nor for n:m in systolic arrays, whose PEs select."""
    return name not in ("dense", "bitmap" if lanes else "n_of_m")


@dataclass(frozen=True)
class Decoder:
    """One decoder unit: ``rate`` a cycle of ``per``, either ``values`` as stored (fillers and stored zeros included) or
    ``elements`` of the matrix (zeros included); infinite where there is nothing to decode."""

    rate: float
    per: Literal["values", "elements"]
    parts: tuple[Part, ...] = ()

    def cycles(self, elements: float, stored_values: float) -> float:
        """Cycles one unit takes for a matrix of so many elements, of which so many values are stored."""
        return (stored_values if self.per == "values" else elements) / self.rate
