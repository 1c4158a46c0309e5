"""What gating and skipping cost in silicon: units that look up which tiles of a leader are empty.

A level with a feature has one unit a target. It keeps :data:`FLAGS` emptiness flags of each leader in registers and,
to skip, finds the next tile that is wanted with a priority encoder and adds up its address. By vector, a crossbar
between the level's banks takes the vectors that are left to their places. Double-sided features are two targets, so
two units. An array that skips blocks of weights or positions of K has such a unit. Flags of inputs are made where
inputs are written, by comparators that are not counted here. Energy: a look-up is a share 1 / FLAGS of the unit's
cycle, estimated from area.
"""

from __future__ import annotations

import numpy as np

from sim.cost import units
from sim.cost.estimate import quiet_from_area
from sim.cost.technology import Floats, constant, node
from sim.designs import OPERAND_BITS, Designs
from sim.sparsity.level_features import KINDS, LEADER_SHIFT, VECTOR_SHIFT

FLAGS = 64
_SKIP = 1 + KINDS.index("skip")


def unit_um2(designs: Designs, place: str, ports: Floats, word_bits: Floats) -> Floats:
    """Cells of all units of one memory level, or of ``dram``; ``ports`` words of ``word_bits`` a cycle."""
    total = np.zeros(len(designs))
    for operand in OPERAND_BITS:
        feature = designs[f"{place}.avoids_{operand}"].astype(np.int64)
        leaders = (feature >> LEADER_SHIFT & 1) + (feature >> (LEADER_SHIFT + 1) & 1)
        skips = (feature & 3) == _SKIP
        vectors = skips & (feature >> VECTOR_SHIFT > 0)
        unit = units.registers(FLAGS * leaders) + skips * _next_um2() + vectors * units.crossbar(ports, word_bits)
        total = total + np.where(feature > 0, unit, 0.0)
    return total


def array_unit_um2(designs: Designs) -> Floats:
    """Cells of the units with which an array passes over blocks of zero weights, and over positions of K whose inputs
    are all zero: those take a crossbar too, which brings what is left to its rows (lanes: to the tile they scan)."""
    unit = units.registers(FLAGS) + _next_um2()
    packed = unit + units.crossbar(designs["array.rows"], designs["array.weight_bits"])
    return designs["sparsity.block_skipping"] * unit + designs["sparsity.position_skipping"] * packed


def lookup_pj(designs: Designs) -> Floats:
    """One flag looked up."""
    unit = np.full(len(designs), units.registers(FLAGS) + _next_um2())
    return quiet_from_area(unit, node(designs["technology.node_nm"])) / FLAGS


def vector_pj_per_bit(designs: Designs, level: str, ports: Floats, word_bits: Floats) -> Floats:
    """What a bit read from a level pays for its way through the crossbar of vectors; 0 where there is none."""
    found = np.zeros(len(designs))
    for operand in OPERAND_BITS:
        feature = designs[f"{level}.avoids_{operand}"].astype(np.int64)
        vectors = ((feature & 3) == _SKIP) & (feature >> VECTOR_SHIFT > 0)
        word = quiet_from_area(units.crossbar(ports, word_bits), node(designs["technology.node_nm"])) / np.maximum(
            ports, 1
        )
        found = np.maximum(found, vectors * word / np.maximum(word_bits, 1))
    return found


def position_pj(designs: Designs) -> Floats:
    """What a MAC pays for the crossbar of positions: a row's operands cross it once for all columns."""
    crossing = units.crossbar(designs["array.rows"], designs["array.weight_bits"]) / designs["array.rows"]
    pj = quiet_from_area(crossing, node(designs["technology.node_nm"]))
    return designs["sparsity.position_skipping"] * pj / designs["array.cols"]


def _next_um2() -> Floats:
    return units.encoder(FLAGS) + units.adder(constant("address_bits"))
