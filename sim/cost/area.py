"""Silicon area of designs, in mm2 by component, and whether a design can be built at all.

Logic is synthesised cell area over ``cell_utilisation``; SRAM is the macro plus registers for what goes in and out of
every bank in a cycle, and for its control, and a rotator where accesses may be narrower than a word. What moves data
between them is :mod:`sim.cost.transport`'s. :func:`sim.cost.labels.labels` says what is an estimate.

A lane front end, for tiles of T positions, P lanes, V activation vectors and a FIFO of D tiles, is built of

- per lane: a priority encoder, bitmap and weights of the positions it scans in registers, a feature address;
- output lanes: the tile's T x V activations in registers, and for each lane and vector a multiplexer to pick from them;
- input lanes: V crossbars P x P that scatter products into T x V accumulators, and an activation register per PE;
- the FIFO: D more tiles of the lanes' bitmaps and weights, and of the shared activations or accumulators;
- owners in an order of the mask (``assignment`` sorted or balanced): two indices a lane, this group's and the next's,
  and a crossbar that takes one vector's finished outputs (or brings its activations to input lanes) to their places;
- lanes that steal: a crossbar for weights and their positions, V more for a stolen tile's sums (output lanes) or
  activations (input lanes, whose products go anywhere as they are), and a counter of what is left a lane.

An outer-product array's own logic is :mod:`sim.cost.outer_product`'s. Levels and arrays that gate or skip by empty
tiles have units of :mod:`sim.cost.intersection`. A lane scans at most ``encoder_widest`` positions at once; what
lanes share (activations, accumulators) spans all T, and the multiplexer all T (D + 1), since lanes may be that far
apart. A FIFO entry is a whole tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.compute.precision import BRICK_BITS, COMPOSABLE, SERIAL, SERIAL_WEIGHTS
from sim.cost import outer_product, transport, units
from sim.cost.decoder import array_decoders
from sim.cost.intersection import array_unit_um2, unit_um2
from sim.cost.outer_product import is_outer
from sim.cost.technology import Floats, constant, node, sram
from sim.designs import (
    ASSIGNMENTS,
    DATAFLOWS,
    FULL_DEPTH,
    GATINGS,
    KINDS,
    ORIENTATIONS,
    OVERLAPS,
    STEALING,
    Designs,
)
from sim.groups import codes
from sim.memo import once
from sim.sparsity.lane_order import REORDERING
from sim.sparsity.stealing import STEAL_POSITIONS

UM2_PER_MM2 = 1e6


@once
def area(designs: Designs) -> dict[str, Floats]:
    """mm2 by component, each ``[designs]``; the components sum to the total.

    Keys: array, front_end, scatter, fifo, every memory level, vector, network, dma, dram_phy. Arrays and their own
    buffers are counted as often as there are arrays.
    """
    front_end, scatter, fifo = front_end_um2(designs)
    cells = {
        "array": designs["array.rows"] * designs["array.cols"] * pe_um2(designs),
        "front_end": front_end,
        "scatter": scatter,
        "fifo": fifo,
    }
    found = {name: _placed(um2) * designs["array.count"] for name, um2 in cells.items()}
    found |= {level: _level(designs, level) * copies(designs, level) for level in designs.levels}
    macs = designs["vector.lanes"] + constant("special_function_macs") * designs["vector.special_function_lanes"]
    found["vector"] = _placed(macs * units.fp16_mac())
    found["network"] = _placed(transport.network_um2(designs))
    fetching = unit_um2(designs, "dram", np.ones(len(designs)), np.zeros(len(designs)))
    found["dma"] = (
        _placed(transport.dma_logic_um2(designs) + fetching) + transport.dma_buffer_um2(designs) / UM2_PER_MM2
    )
    found["dram_phy"] = designs["dram.phy_area_mm2"]
    return found


def _placed(cell_um2: Floats) -> Floats:
    return cell_um2 / constant("cell_utilisation") / UM2_PER_MM2


def pe_um2(designs: Designs) -> Floats:
    """Cell area of one PE: dataflow, overlap, operand widths, arithmetic, n:m support."""
    weight, activation, accumulator = register_bits(designs)
    dataflow = designs["array.dataflow"]
    mac = units.multiply_accumulate(
        designs["array.arithmetic"],
        designs["array.weight_bits"],
        designs["array.activation_bits"],
        designs["array.accumulator_bits"],
    )
    shadow = designs["array.overlap"] == OVERLAPS["double_buffer"]
    chase = designs["array.overlap"] == OVERLAPS["single_buffer"]
    is_os = dataflow == DATAFLOWS["os"]
    systolic = np.where(
        is_os,
        units.output_pe(mac, weight, activation, accumulator, shadow),
        np.where(
            dataflow == DATAFLOWS["ws"],
            units.stationary_pe(mac, weight, activation, accumulator, shadow),
            units.stationary_pe(mac, activation, weight, accumulator, shadow),
        ),
    )
    systolic = systolic + units.structured_extra(is_os, designs["sparsity.m"], designs["array.activation_bits"])
    systolic = systolic + chase * units.registers(constant("single_buffer_control_bits"))
    detectors = np.where(gating_bits(designs) > 0, units.adder(np.maximum(gating_bits(designs), 1.0)), 0.0)
    alone = is_lanes(designs) | is_outer(designs)
    return np.where(alone, units.lane_pe(mac, accumulator), systolic) + detectors


def gating_bits(designs: Designs) -> Floats:
    """Bits of the operands that a PE compares with zero, to be gated by them; a comparator has an adder's area
    (assumed, as in :mod:`sim.cost.decoder`)."""
    gating = designs["sparsity.gating"].astype(np.int64)
    weights = np.where(gating & GATINGS["weights"], designs["array.weight_bits"], 0.0)
    return weights + np.where(gating & GATINGS["inputs"], designs["array.activation_bits"], 0.0)


def register_bits(designs: Designs) -> tuple[Floats, Floats, Floats]:
    """Bits a PE has registers for: (weight, activation, share of an accumulator).

    Composable: two bits of each operand for every 2-bit brick, which the narrowest operands all need. Bit-serial: a
    moving serial operand has one bit there, a held one all; ``serial_products`` PEs share an accumulator.
    """
    weight, activation = designs["array.weight_bits"], designs["array.activation_bits"]
    arithmetic = designs["array.arithmetic"]
    composable = arithmetic == COMPOSABLE
    bricks = weight * activation / BRICK_BITS**2
    serial = (arithmetic == SERIAL_WEIGHTS) | (arithmetic == SERIAL)
    weight_moves, activation_moves = moving(designs)
    accumulator = designs["array.accumulator_bits"] / np.where(serial, constant("serial_products"), 1.0)
    weight = np.where(composable, BRICK_BITS * bricks, np.where(serial & weight_moves, 1.0, weight))
    one_bit = (arithmetic == SERIAL) & activation_moves
    return weight, np.where(composable, BRICK_BITS * bricks, np.where(one_bit, 1.0, activation)), accumulator


def moving(designs: Designs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether (weights, activations) enter a PE's registers for every MAC instead of being held."""
    dataflow = designs["array.dataflow"]
    outer = is_outer(designs)
    weights = outer | (~is_lanes(designs) & (dataflow != DATAFLOWS["ws"]))
    return weights, outer | is_lanes(designs) | (dataflow != DATAFLOWS["is"])


def is_lanes(designs: Designs) -> NDArray[np.bool_]:
    """Designs whose array is zero-skipping lanes."""
    return designs["array.kind"] == KINDS["lanes"]


def is_output(designs: Designs) -> NDArray[np.bool_]:
    """Designs whose lanes own output features."""
    return designs["sparsity.orientation"] == ORIENTATIONS["output"]


def tile_positions(designs: Designs) -> Floats:
    """Positions between barriers that the front end is built for."""
    depth = designs["sparsity.barrier_depth"]
    return np.where(depth == FULL_DEPTH, constant("full_depth_positions"), depth)


def scanned_positions(designs: Designs) -> Floats:
    """Positions a lane sees at once: the tile, or as much of it as the widest encoder takes."""
    return np.minimum(tile_positions(designs), constant("encoder_widest"))


def select_um2(designs: Designs) -> Floats:
    """The multiplexer with which one output lane picks one vector's activation from the positions it scans."""
    return units.multiplexer(scanned_positions(designs), designs["array.activation_bits"])


def _reach_um2(designs: Designs) -> Floats:
    """That multiplexer's cells: lanes may be a tile and the FIFO's tiles apart, so it reaches over all of their
    windows.

    Its energy a selection is :func:`select_um2`'s: one path switches, whatever the reach.
    """
    reach = tile_positions(designs) * (1 + designs["sparsity.fifo_depth"])
    return units.multiplexer(reach, designs["array.activation_bits"])


def crossbar_um2(designs: Designs) -> Floats:
    """One vector's crossbar from input lanes to accumulators; it carries products."""
    return units.crossbar(designs["array.rows"], designs["array.weight_bits"] + designs["array.activation_bits"])


def front_end_um2(designs: Designs) -> tuple[Floats, Floats, Floats]:
    """Cell areas of (front end with decoders of the weight format, scatter network, FIFO); zero for a dense systolic
    array."""
    lanes, vectors = designs["array.rows"], designs["array.cols"]
    activation = designs["array.activation_bits"]
    tile = tile_positions(designs)
    output, lane_array = is_output(designs), is_lanes(designs)

    lane_tile = units.registers(scanned_positions(designs) * (1 + designs["array.weight_bits"]))
    strided = designs["sparsity.assignment"] == ASSIGNMENTS["interleaved"]
    skips_empty = designs["sparsity.empty_tile_cycles"] == 0
    per_lane = units.encoder(tile) + lane_tile + strided * units.adder(constant("address_bits"))
    per_lane = per_lane + skips_empty * units.encoder(constant("decoder_positions"))
    reordered = np.isin(designs["sparsity.assignment"], [ASSIGNMENTS[name] for name in REORDERING])
    per_lane = per_lane + reordered * units.registers(2 * constant("address_bits"))
    per_lane = per_lane + steals(designs) * units.registers(constant("address_bits"))
    window = units.registers(tile * vectors * activation)
    operands = np.where(
        output,
        window + lanes * vectors * _reach_um2(designs),
        units.registers(lanes * vectors * activation),
    )
    accumulators = units.registers(tile * vectors * designs["array.accumulator_bits"])
    scatter = np.where(lane_array & ~output, vectors * crossbar_um2(designs) + accumulators, 0.0)
    shared_tile = np.where(output, window, accumulators)
    whole_tile = units.registers(tile * (1 + designs["array.weight_bits"]))
    fifo = np.where(lane_array, designs["sparsity.fifo_depth"] * (lanes * whole_tile + shared_tile), 0.0)
    decoders = array_decoders(designs)[0]
    shared = reordered * units.crossbar(lanes, moved_bits(designs)) + sum(steal_um2(designs))
    cells = np.where(lane_array, lanes * per_lane + operands + shared, 0.0)
    cells = cells + decoders + array_unit_um2(designs) + outer_product.front_end_um2(designs)
    return cells, scatter + outer_product.scatter_um2(designs), fifo


def steals(designs: Designs) -> NDArray[np.bool_]:
    """Designs whose lanes steal tiles from each other."""
    return is_lanes(designs) & (designs["sparsity.stealing"] == STEALING["group"])


def moved_bits(designs: Designs) -> Floats:
    """Bits of what finds its own way in and out of a lane, one vector: an output lane's sum, an input lane's
    activation."""
    return np.where(is_output(designs), designs["array.accumulator_bits"], designs["array.activation_bits"])


def steal_um2(designs: Designs) -> tuple[Floats, Floats]:
    """Crossbars between lanes that steal: for weights with their positions, and for what a tile's vectors need."""
    lanes = designs["array.rows"]
    weights = units.crossbar(lanes, designs["array.weight_bits"] + np.log2(STEAL_POSITIONS))
    vectors = designs["array.cols"] * units.crossbar(lanes, moved_bits(designs))
    return steals(designs) * weights, steals(designs) * vectors


def copies(designs: Designs, level: str) -> Floats:
    """How many of a level are built: levels inside the outermost belong to an array each."""
    return np.where(designs[f"{level}.tier"] > 1, designs["array.count"], 1.0)


def second_port(designs: Designs, level: str) -> Floats:
    """Factor on a level's macro area and access energy for a second port."""
    return np.where(designs[f"{level}.ports"] > 1, constant("second_port"), 1.0)


def word_bits(designs: Designs, level: str) -> Floats:
    """Bits a bank of a level moves a cycle at full bandwidth, as the design asks for it."""
    banks = np.maximum(designs[f"{level}.banks"], 1)
    return 8 * designs[f"{level}.bandwidth_gb_per_s"] / (designs["clock_ghz"] * banks)


def macro(designs: Designs, level: str) -> tuple[Floats, Floats, Floats]:
    """(capacity KiB, word bits, banks) of a level's macro: words are no narrower and no wider than the SRAM grid.

    A level that asks for less than the narrowest word a cycle reads such a word and uses it over several cycles.
    Levels that are not there get the smallest macro, for the caller to mask out.
    """
    table = sram(node(designs["technology.node_nm"]))
    capacity = designs[f"{level}.capacity_kib"]
    width = np.clip(word_bits(designs, level), table.narrowest_bits, table.widest_bits)
    return np.where(capacity > 0, capacity, table.capacities_kib[0]), width, np.maximum(designs[f"{level}.banks"], 1)


@once
def macro_numbers(designs: Designs) -> dict[str, tuple[Floats, Floats, Floats]]:
    """(read pJ, write pJ, um2) of every level's macro: an access is one word, the area that of all banks."""
    table = sram(node(designs["technology.node_nm"]))
    return {
        level: tuple(table.at(*macro(designs, level), "read_pJ", "write_pJ", "area_um2")) for level in designs.levels
    }


def _level(designs: Designs, level: str) -> Floats:
    _, width, banks = macro(designs, level)
    _, _, cell = macro_numbers(designs)[level]
    control = banks * (2 * word_bits(designs, level) + constant("bank_control_bits"))
    control = control + designs[f"{level}.double_buffered"] * constant("double_buffer_control_bits")
    finest = np.maximum(designs[f"{level}.access_bytes"], 1)
    stages = np.log2(np.maximum(width / 8 / finest, 1))  # of a rotator that aligns accesses narrower than a word
    logic = units.registers(control) + banks * stages * units.multiplexer(2, width)
    logic = logic + unit_um2(designs, level, banks, width)
    mm2 = cell * second_port(designs, level) / UM2_PER_MM2 + _placed(logic)
    return np.where(designs[f"{level}.capacity_kib"] > 0, mm2, 0.0)


@once
def feasible(designs: Designs) -> tuple[NDArray[np.bool_], list[str]]:
    """Which designs can be built, and for the others why not (an empty text where they can)."""
    ok = np.ones(len(designs), dtype=np.bool_)
    reasons = np.full(len(designs), "", dtype=object)

    def refuse(bad: NDArray[np.bool_], text: str, *numbers: Floats) -> None:
        if not bad.any():
            return
        shown = np.column_stack([column[bad] for column in numbers])
        code = codes([shown])
        first = np.unique(code, return_index=True)[1]  # each distinct text is written once
        texts = np.array([text.format(*row) for row in shown[first]], dtype=object)[code]
        before = reasons[bad]
        reasons[bad] = np.where(ok[bad], texts, before + "; " + texts)
        ok[bad] = False

    path = designs["array.critical_path_ns"]
    refuse(
        designs["clock_ghz"] * path > 1,
        "clock_ghz {:g} is above 1 / array.critical_path_ns = {:.3g}",
        designs["clock_ghz"],
        1 / path,
    )
    table = sram(node(designs["technology.node_nm"]))
    for level in designs.levels:
        there = designs[f"{level}.capacity_kib"] > 0
        asked = word_bits(designs, level)
        too_wide = there & (asked > table.widest_bits * (1 + 1e-9))
        refuse(
            too_wide,
            f"memory.{level} needs {{:.0f}}-bit words a bank, {table.widest_bits:.0f} is the widest: "
            "more banks or less bandwidth",
            asked,
        )
    return ok, reasons.tolist()
