"""Decoders of storage formats: area and energy of one unit, from the components that the format names.

Priority encoders, multiplexers, registers and adders are synthesised (``area_synthesis.csv``); registers, adders and
comparators have an energy row (``hw_components.csv``). The rest is built from these by the rules in :data:`RULES`, each
marked ``assumed``. Where there is no energy row, energy is estimated from cell area as for the sparse front end
(:mod:`sim.cost.estimate`). Buffers that a decoder reads or fills are memory levels, not part of it.
"""

from __future__ import annotations

from math import ceil, isinf, log2

import numpy as np

from sim.cost import units
from sim.cost.estimate import quiet_from_area
from sim.cost.technology import Floats, component, constant, node
from sim.designs import DATAFLOWS, FORMATS, KINDS, Designs
from sim.memo import once
from sim.sparsity.formats import Format, Part
from sim.sparsity.formats.hardware import Decoder, decoded_apart
from sim.sparsity.formats.numbers import FIELDS, of_numbers

_NAMES = {code: name for name, code in FORMATS.items()}
UM2_PER_MM2 = 1e6

RULES = {
    "encoder": "priority encoder: area_synthesis.csv prienc; energy estimated from area",
    "popcount": "prefix popcount: assumed a Sklansky tree, size/2 adders of l bits at each level l, "
    "adders extrapolated below 16 bits; energy estimated from area",
    "multiplexer": "multiplexer: a tree of area_synthesis.csv mux4; energy estimated from area",
    "comparator": "comparator: area assumed that of an adder as wide; energy hw_components.csv comparator32 per bit",
    "adder": "adder: area_synthesis.csv add, log-log in width; energy hw_components.csv add32 per bit",
    "register": "register: area_synthesis.csv regs; energy hw_components.csv register 32b per bit",
    "table": "table: assumed registers read through a multiplexer tree; energy of the tree estimated from area",
}
"""How each kind of component is priced."""


def decoder_area_mm2(chosen: Format, bits: int, count: int = 1) -> float:
    """mm2 of ``count`` decoder units for values of ``bits``: cells over ``cell_utilisation``; 0 if none is needed."""
    return count * _unit_um2(chosen.decoder(bits)) / constant("cell_utilisation") / UM2_PER_MM2


def decode_energy_pj(chosen: Format, bits: int, node_nm: int = 7) -> float:
    """pJ to decode one of what the unit's rate counts, stored values or elements (:class:`Decoder.per`): a cycle of all
    components over the rate."""
    unit = chosen.decoder(bits)
    if isinf(unit.rate):
        return 0.0
    return sum(part.count * _part_pj(part, node_nm) for part in unit.parts) / unit.rate


@once
def array_decoders(designs: Designs) -> tuple[Floats, Floats]:
    """(cell um2 of the decoders of an array, pJ of one decode), each [designs]. As many units as ``decoders`` says, or
    as keep up with the array, so that none ever stalls it: a systolic array takes a weight a column and cycle (input
    stationary: a row), a lane one nonzero (:func:`decoded_apart`)."""
    is_lanes = designs["array.kind"] != KINDS["systolic"]  # arrays that read bitmaps as they are
    by_row = (designs["array.kind"] == KINDS["lanes"]) | (designs["array.dataflow"] == DATAFLOWS["is"])
    wanted = np.where(by_row, designs["array.rows"], designs["array.cols"])
    columns = [designs["sparsity.format"], designs["array.weight_bits"], is_lanes]
    table = np.column_stack([*columns, *(designs[f"sparsity.{field}"] for field in FIELDS)])
    um2, pj = np.zeros(len(designs)), np.zeros(len(designs))
    kinds, which = np.unique(table, axis=0, return_inverse=True)
    at = node(designs["technology.node_nm"])
    for i, (code, bits, lanes, *numbers) in enumerate(kinds):
        name = _NAMES[int(code)]
        if not decoded_apart(name, bool(lanes)):
            continue
        chosen = of_numbers(name, dict(zip(FIELDS, numbers, strict=True)))
        unit, mine = chosen.decoder(int(bits)), which == i
        count = np.where(designs["sparsity.decoders"] > 0, designs["sparsity.decoders"], np.ceil(wanted / unit.rate))
        um2[mine] = count[mine] * _unit_um2(unit)
        pj[mine] = decode_energy_pj(chosen, int(bits), at)
    return um2, pj


def decoder_notes(chosen: Format, bits: int) -> list[str]:
    """The rules behind the two numbers, those that this format's decoder needs."""
    return [RULES[kind] for kind in dict.fromkeys(part.kind for part in chosen.decoder(bits).parts)]


def _unit_um2(unit: Decoder) -> float:
    return sum(part.count * _cell_um2(part) for part in unit.parts)


def _cell_um2(part: Part) -> float:
    match part.kind:
        case "encoder":
            return float(units.encoder(part.size))
        case "popcount":
            levels = range(1, ceil(log2(max(part.size, 2))) + 1)
            return float(sum(part.size / 2 * units.adder(level) for level in levels))
        case "multiplexer":
            return float(units.multiplexer(part.size, part.bits))
        case "comparator" | "adder":
            return float(units.adder(part.bits))
        case "register":
            return float(units.registers(part.bits))
        case "table":
            return float(units.registers(part.size * part.bits) + units.multiplexer(part.size, part.bits))


def _part_pj(part: Part, node_nm: int) -> float:
    rows = {"register": "register 32b", "adder": "add32", "comparator": "comparator32"}
    if part.kind in rows:
        return component(rows[part.kind], "energy_pJ", node_nm) * part.bits / 32
    read = Part("multiplexer", size=part.size, bits=part.bits) if part.kind == "table" else part
    return float(quiet_from_area(_cell_um2(read), node_nm))
