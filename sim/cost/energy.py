"""Energy of designs: pJ an action costs, and what a run of counted actions costs by component.

Integer arithmetic and registers are ``hw_components.csv``; SRAM is ``sram_grid.csv`` per byte of a word that is used in
full; DRAM is its standard's pJ/bit. Encoders, multiplexers, crossbars and the floating-point vector unit have no energy
row: they are estimated from cell area (:mod:`sim.cost.estimate`). What is gated or skipped costs nothing.

Leakage: every um2 on the die leaks as an int8 MAC does, SRAM included (``sram_leakage_factor``), since the SRAM rows
are low-standby cells and the logic rows are not. It is a component of its own, so that totals can be read without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.compute.precision import COMPOSABLE, SERIAL, SERIAL_WEIGHTS
from sim.cost import units
from sim.cost.area import (
    area,
    crossbar_um2,
    gating_bits,
    is_lanes,
    is_output,
    macro,
    macro_numbers,
    moving,
    register_bits,
    second_port,
    select_um2,
    steal_um2,
    tile_positions,
)
from sim.cost.decoder import array_decoders
from sim.cost.estimate import from_area, quiet_from_area
from sim.cost.intersection import lookup_pj, position_pj, vector_pj_per_bit
from sim.cost.outer_product import is_outer, pop_um2, products_um2
from sim.cost.technology import Floats, component, constant, leakage_mw_per_mm2, node
from sim.cost.transport import networked
from sim.counts import ACTIONS
from sim.designs import Designs
from sim.memo import once
from sim.sparsity.stealing import STEAL_POSITIONS


def components(levels: Sequence[str]) -> tuple[str, ...]:
    """What :func:`energy` splits into for machines with these memory levels; the sum is the total."""
    return (
        "array",
        "idle",
        "front_end",
        "scatter",
        "vector",
        *levels,
        "network",
        "dram",
        "leakage",
        "dram_background",
    )


@once
def prices(designs: Designs) -> dict[str, Floats]:
    """pJ for each of :data:`sim.counts.ACTIONS`, each ``[designs]``. Bytes of a level that is not there are free."""
    busy, seen = pe_cycle_pj(designs), detect_pj(designs)
    idle = constant("idle_pe_fraction") * busy
    fp16 = from_area(np.full(len(designs), units.fp16_mac()), node(designs["technology.node_nm"]))
    found = {
        "macs": mac_pj(designs) + select_pj(designs),
        "mac_cycles": busy + seen,
        "gated_mac_cycles": idle + seen,
        "idle_pe_cycles": idle,
        "decodes": array_decoders(designs)[1],
        "front_end_ops": front_end_pj(designs),
        "scatter_ops": scatter_pj(designs),
        "vector_ops": fp16,
        "special_function_ops": constant("special_function_macs") * fp16,
        "intersections": lookup_pj(designs),
    }
    found |= {action: np.zeros(len(designs)) for action in ACTIONS if action not in found}
    for slot, level in enumerate(designs.levels):
        _, width, _ = macro(designs, level)
        there = designs[f"{level}.capacity_kib"] > 0
        read, write, _ = macro_numbers(designs)[level]
        port = second_port(designs, level)
        crossed = 8 * vector_pj_per_bit(designs, level, designs[f"{level}.banks"], width)
        found[f"level{slot}_read_bytes"] = np.where(there, 8 * read / width * port + crossed, 0.0)
        found[f"level{slot}_write_bytes"] = np.where(there, 8 * write / width * port, 0.0)
    hop = designs["network.hop_mm"] * designs["network.energy_pj_per_bit_mm"] + register_pj(designs, np.array(2.0))
    found["network_bytes"] = np.where(networked(designs), 8 * designs["network.hops"] * hop, 0.0)
    found["dram_read_bytes"] = found["dram_write_bytes"] = 8 * designs["dram.energy_pj_per_bit"]
    return found


def energy(
    designs: Designs, counts: Mapping[str, NDArray[np.float64]], cycles: NDArray[np.float64]
) -> dict[str, Floats]:
    """pJ by component (:func:`components`), in the shape of ``counts``' arrays: ``[designs, ...]``.

    ``counts`` maps actions to how often they happen, ``cycles`` is how long it takes; an action left out is not done.
    """
    cycles = np.asarray(cycles, dtype=np.float64)

    def per_design(column: Floats) -> Floats:
        return column.reshape(len(designs), *[1] * (cycles.ndim - 1))

    price = prices(designs)
    spent = {a: np.asarray(counts[a]) * per_design(price[a]) for a in price if a in counts}

    def total(*actions: str) -> Floats:
        return sum((spent[a] for a in actions if a in spent), np.zeros_like(cycles))

    selecting = np.asarray(counts.get("macs", 0.0)) * per_design(select_pj(designs))
    found = {
        "array": total("macs", "mac_cycles", "gated_mac_cycles") - selecting,
        "idle": total("idle_pe_cycles"),
        "front_end": total("front_end_ops", "decodes", "intersections") + selecting,
        "scatter": total("scatter_ops"),
        "vector": total("vector_ops", "special_function_ops"),
    }
    for slot, level in enumerate(designs.levels):
        found[level] = total(f"level{slot}_read_bytes", f"level{slot}_write_bytes")
    found["network"] = total("network_bytes")
    found["dram"] = total("dram_read_bytes", "dram_write_bytes")
    time_ns = cycles / per_design(designs["clock_ghz"])  # mW x ns = pJ
    found["leakage"] = time_ns * per_design(leakage_mw(designs))
    found["dram_background"] = time_ns * per_design(designs["dram.background_mw"])
    return found


@once
def leakage_mw(designs: Designs) -> Floats:
    """Leakage of the die; the DRAM interface's is part of its background power."""
    parts = area(designs)
    logic = sum(parts[name] for name in ("array", "front_end", "scatter", "fifo", "vector", "network", "dma"))
    memory = sum((parts[level] for level in designs.levels), np.zeros(len(designs)))
    density = leakage_mw_per_mm2(node(designs["technology.node_nm"]))
    return density * (logic + constant("sram_leakage_factor") * memory)


def pe_cycle_pj(designs: Designs) -> Floats:
    """A PE at work for a cycle: multiply (or the bits of it that a serial PE does), add, and the registers that an
    operand or a sum enters every cycle; no operand selection."""
    at = node(designs["technology.node_nm"])
    arithmetic = designs["array.arithmetic"]
    product_bits = designs["array.weight_bits"] * designs["array.activation_bits"]
    side = np.where(arithmetic == SERIAL, 1.0, designs["array.activation_bits"])
    serial = (arithmetic == SERIAL_WEIGHTS) | (arithmetic == SERIAL)
    multiply = np.where(serial, side, product_bits) * component("int8 mul", "energy_pJ", at) / 64
    multiply = multiply * np.where(arithmetic == COMPOSABLE, constant("composable_area"), 1.0)
    weight, activation, accumulator = register_bits(designs)
    add_bits = accumulator + np.where(serial, side + 1, 0.0)
    add = component("add32", "energy_pJ", at) * add_bits / 32
    weight_moves, activation_moves = moving(designs)
    every_cycle = activation_moves & (arithmetic != SERIAL_WEIGHTS)
    return multiply + add + register_pj(designs, accumulator + weight * weight_moves + activation * every_cycle)


def detect_pj(designs: Designs) -> Floats:
    """Finding the zeros that gate a PE, a cycle: a comparator as wide as each operand that may."""
    return component("comparator32", "energy_pJ", node(designs["technology.node_nm"])) * gating_bits(designs) / 32


def mac_pj(designs: Designs) -> Floats:
    """What a MAC costs once, however many cycles it takes: the operand that waits while the other comes bit by bit."""
    _, activation_moves = moving(designs)
    waits = activation_moves & (designs["array.arithmetic"] == SERIAL_WEIGHTS)
    return register_pj(designs, designs["array.activation_bits"] * waits)


def register_pj(designs: Designs, bits: Floats) -> Floats:
    """Writing registers."""
    return component("register 32b", "energy_pJ", node(designs["technology.node_nm"])) * bits / 32


def _estimate_quiet(designs: Designs, cell_um2: Floats) -> Floats:
    return quiet_from_area(cell_um2, node(designs["technology.node_nm"]))


@once
def select_pj(designs: Designs) -> Floats:
    """Picking a MAC's activation: from the window of an output lane, from the group of an n:m PE, or from the positions
    that are left."""
    group = units.multiplexer(designs["sparsity.m"], designs["array.activation_bits"])
    lanes = np.where(is_output(designs), select_um2(designs), 0.0)
    return _estimate_quiet(designs, np.where(is_lanes(designs), lanes, group)) + position_pj(designs)


def front_end_pj(designs: Designs) -> Floats:
    """One lane takes one nonzero: encoder, its position and weight into registers, the FIFO's read multiplexer. One
    operand of an outer product: encoder, multiplexer, register.

    Where lanes steal, each weight crosses a lane's share of the crossbars, and each tile, taken as half kept, what its
    vectors need: as if every tile were dealt, so no less than it can be.
    """
    tile = tile_positions(designs)
    weight = designs["array.weight_bits"]
    fifo = units.multiplexer(designs["sparsity.fifo_depth"] + 1, weight)
    taken = register_pj(designs, weight + np.log2(tile))
    weights, vectors = steal_um2(designs)
    dealt = (weights + vectors / (STEAL_POSITIONS / 2)) / designs["array.rows"]
    pop = _estimate_quiet(designs, units.encoder(tile) + fifo + dealt) + taken
    operand = register_pj(designs, np.maximum(weight, designs["array.activation_bits"]))
    outer = _estimate_quiet(designs, pop_um2(designs)) + operand
    return np.where(is_lanes(designs), pop, np.where(is_outer(designs), outer, 0.0))


def scatter_pj(designs: Designs) -> Floats:
    """One partial sum crosses its share of the crossbar (of input lanes, of outer products) and is written back to a
    shared accumulator."""
    outer = products_um2(designs) / (designs["array.rows"] * designs["array.cols"])
    share = np.where(is_outer(designs), outer, crossbar_um2(designs) / designs["array.rows"])
    pj = _estimate_quiet(designs, share) + register_pj(designs, designs["array.accumulator_bits"])
    return np.where(is_outer(designs) | (is_lanes(designs) & ~is_output(designs)), pj, 0.0)
