"""What a report must say about its cost numbers: which are scaled, estimated or assumed."""

from __future__ import annotations

from sim.compute.precision import COMPOSABLE, SERIAL, SERIAL_WEIGHTS
from sim.cost.area import is_lanes, is_output
from sim.cost.decoder import array_decoders
from sim.cost.outer_product import is_outer
from sim.cost.technology import constant, node
from sim.cost.transport import networked
from sim.designs import Designs, has_features
from sim.memory.dram import STANDARDS
from sim.spec import Accelerator

_SCALED_BELOW_NM = 22


def labels(machine: Accelerator | Designs) -> list[str]:
    """Notes on energy and area, those that hold for any of the designs given; one line each."""
    designs = machine if isinstance(machine, Designs) else Designs.from_machines([machine])
    at = node(designs["technology.node_nm"])
    notes = []
    if at < _SCALED_BELOW_NM:
        notes.append(f"SRAM at {at} nm is scaled from {_SCALED_BELOW_NM} nm, integer energies from 40 nm")
    notes += [
        f"logic area: synthesised asap7 cells / {constant('cell_utilisation'):g} utilisation (assumed), no layout",
        "vector unit: energy estimated from area; no floating-point energy model",
        f"leakage: SRAM leaks per area {constant('sram_leakage_factor'):g} x as the logic does (assumed); "
        "totals are also given without leakage",
        f"idle PEs keep {constant('idle_pe_fraction'):.0%} of a MAC's energy (assumed)",
    ]
    arithmetic = designs["array.arithmetic"]
    if (arithmetic == COMPOSABLE).any():
        factor = constant("composable_area")
        notes.append(f"composable PEs: area and multiplier energy {factor:g} x a fixed one's (assumed)")
    if ((arithmetic == SERIAL_WEIGHTS) | (arithmetic == SERIAL)).any():
        notes.append("bit-serial PEs: area and energy assembled from adders and registers, not synthesised")
    if networked(designs).any():
        notes.append("network: router and wire registers estimated, wires run over logic")
    lanes, output = is_lanes(designs), is_output(designs)
    if lanes.any():
        notes.append("sparse front end: energy estimated from area, FIFO and tile windows priced as registers")
    if (lanes & ~output).any():
        notes.append("input lanes: scatter crossbar extrapolated beyond 16 ports, energy estimated from area")
    if is_outer(designs).any():
        notes.append("outer products: crossbar extrapolated far beyond 16 ports, energy estimated from area")
    if (~lanes & (designs["sparsity.m"] > 0)).any():
        notes.append("n:m operand select: energy estimated from area")
    if array_decoders(designs)[0].any():
        notes.append("weight decoders: our own design of synthesised parts, energy partly estimated from area")
    if (designs["sparsity.gating"] > 0).any():
        notes.append("gated PEs: zero detectors taken as comparators, with an adder's area (assumed)")
    if has_features(designs) or designs["sparsity.block_skipping"].any():
        notes.append("intersection units: our own design of synthesised parts, energy estimated from area")
    if isinstance(machine, Accelerator):
        notes.append(_dram(machine))
    return notes


def _dram(machine: Accelerator) -> str:
    row = STANDARDS[machine.dram.standard]
    named = {
        "efficiency": "efficiency",
        "energy_pj_per_bit": "pJ/bit",
        "background_mw": "background power",
        "phy_area_mm2": "PHY area",
        "clock_ns": "timing",
    }
    assumed = [text for field, text in named.items() if str(row[f"{field}_source"]).startswith("assumed")]
    return f"DRAM {machine.dram.standard}: {', '.join(assumed)} assumed"
