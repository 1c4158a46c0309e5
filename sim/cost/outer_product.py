"""Silicon of a dual-sided outer-product array (:mod:`sim.compute.dual_sided`): what feeds its multipliers and adds up.

For tiles of ``outer_tile`` rows and features: a priority encoder over the tile's bitmap and a multiplexer for each
operand that a cycle takes (``rows`` inputs, ``cols`` weights), both tiles' values in registers; accumulators for all
sums of a tile, and a crossbar that takes the ``rows x cols`` products of a cycle to them, extrapolated from 16 ports.
Source of the organisation: Wang et al., ISCA 2021 (dual-side sparse tensor core); the units are ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.cost import units
from sim.cost.technology import Floats
from sim.designs import KINDS, Designs


def is_outer(designs: Designs) -> NDArray[np.bool_]:
    """Designs whose array multiplies nonzeros of both operands."""
    return designs["array.kind"] == KINDS["outer_product"]


def front_end_um2(designs: Designs) -> Floats:
    """Cells that find and fetch the nonzeros of a cycle."""
    tile, rows, cols = (designs[f"array.{name}"] for name in ("outer_tile", "rows", "cols"))
    weight, activation = designs["array.weight_bits"], designs["array.activation_bits"]
    finders = (rows + cols) * units.encoder(tile)
    fetch = rows * units.multiplexer(tile, activation) + cols * units.multiplexer(tile, weight)
    held = units.registers(tile * (2 + weight + activation))
    return np.where(is_outer(designs), finders + fetch + held, 0.0)


def scatter_um2(designs: Designs) -> Floats:
    """Cells that add products up: accumulators, and the way there."""
    sums = units.registers(designs["array.outer_tile"] ** 2 * designs["array.accumulator_bits"])
    return np.where(is_outer(designs), sums + products_um2(designs), 0.0)


def products_um2(designs: Designs) -> Floats:
    """The crossbar that the products of a cycle cross."""
    ports = designs["array.rows"] * designs["array.cols"]
    return units.crossbar(ports, designs["array.weight_bits"] + designs["array.activation_bits"])


def pop_um2(designs: Designs) -> Floats:
    """What switches when one nonzero is found and fetched."""
    wide = np.maximum(designs["array.weight_bits"], designs["array.activation_bits"])
    return units.encoder(designs["array.outer_tile"]) + units.multiplexer(designs["array.outer_tile"], wide)
