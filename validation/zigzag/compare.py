"""All reference rows against their nests: our value beside ZigZag's, and where the two part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError
from sim.nest import Nest
from sim.nest.room import tile_elements, width
from validation.zigzag.nests import CSV, MACHINES, OPERANDS, dimensions, nest_of, reference
from validation.zigzag.words import PORT, ports, prices, transfers, words


@dataclass(frozen=True)
class Comparison:
    """rows: one line a reference row. moved: every transfer. room: every memory's occupancy. ports (granule, word:
    bits) and prices (read, write: pJ a word; ``mac_pj``): what was read off the reference's results."""

    rows: pd.DataFrame
    moved: pd.DataFrame
    room: pd.DataFrame
    ports: pd.DataFrame
    prices: pd.DataFrame
    mac_pj: float


def compare(csv: Path = CSV) -> Comparison:
    """Evaluate all rows of a table with the reference's columns.

    Columns of ``rows``: our value and ``zigzag_*`` side by side for the words of each operand at DRAM, ideal cycles of
    the full array, array steps, first load, last store and energy in pJ. ``energy_pj`` prices the words that
    ``Nest.accesses`` moves; ``same_rules_pj`` those by ZigZag's rules, which add ``rounding_pj`` (whole granules and
    words) and ``sums_pj`` (partial sums read at the first visit, and sent back to every replica). ``port_cycles``:
    words at DRAM, of which its one port moves one a cycle.
    """
    rows = reference(csv)
    dims = {machine: dimensions(part) for machine, part in rows.groupby("machine")}
    nests = {row.Index: nest_of(row, dims[row.machine]) for row in rows.itertuples()}
    moved = pd.DataFrame([record for row in rows.itertuples() for record in transfers(row, nests[row.Index])])
    bits, price = ports(moved), prices(rows, moved)
    moved = _counted(moved, bits, price)
    mac = float(np.linalg.lstsq(rows[["macs"]].to_numpy(float), rows.energy_mac_pJ.to_numpy(), rcond=None)[0][0])

    found = rows[["accelerator", "gemm", "M", "opt"]].copy()
    outermost = rows.machine.map(lambda name: MACHINES[name].outermost)
    outer = moved[(moved.memory == moved.row.map(outermost)) & (moved.bits > 0)]
    for operand in OPERANDS.values():
        part = outer[outer.operand == operand].groupby("row")
        found[operand], found[f"zigzag_{operand}"] = part.exact_words.sum(), part.zigzag_words.sum()
    macs = pd.Series({i: nest.macs() for i, nest in nests.items()})
    found["steps"], found["zigzag_steps"] = (
        pd.Series({i: n.steps() for i, n in nests.items()}),
        rows.ideal_temporal_cycle,
    )
    units = (macs // found.steps).groupby(rows.machine).transform("max")
    found["ideal"], found["zigzag_ideal"] = -(-macs // units), rows.ideal_cycle
    found["first_load"], found["zigzag_first_load"] = _first_load(rows, outer), rows.onload_cycle
    last = outer[outer.operand == "outputs"].groupby("row").first_words.sum()
    found["last_store"], found["zigzag_last_store"] = last + 1, rows.offload_cycle
    for column, counted in (("energy_pj", "exact_words"), ("same_rules_pj", "words")):
        found[column] = (moved[counted] * moved.price).groupby(moved.row).sum() + mac * rows.macs
    found["zigzag_energy_pj"] = rows.energy_total_pJ
    for column, extra in (
        ("rounding_pj", moved.words - moved.unrounded),
        ("sums_pj", moved.unrounded - moved.exact_words),
    ):
        found[column] = (extra * moved.price).groupby(moved.row).sum()
    found["port_cycles"], found["zigzag_latency"] = outer.groupby("row").words.sum(), rows.latency_total2
    room = pd.DataFrame([record for row in rows.itertuples() for record in occupancy(row, nests[row.Index])])
    return Comparison(found, moved, room, bits, price, mac)


def _counted(moved: pd.DataFrame, bits: pd.DataFrame, price: pd.DataFrame) -> pd.DataFrame:
    """``moved`` with words by ZigZag's rules, of one tile, and by the nest's elements, and the price of each."""
    moved = moved.merge(bits.reset_index(), on=PORT, how="left")
    if (moved.bits[moved.word.isna()] > 0).any():
        raise InputError("a port that moves data here never moves any in the reference")
    moved = moved.fillna({"granule": 1, "word": 1})
    moved["words"] = words(moved.tile, moved.bits, moved.times, moved.granule, moved.word)
    moved["first_words"] = words(moved.tile, moved.bits, 1, moved.granule, moved.word)
    moved["unrounded"] = moved.tile * moved.bits * moved.times / moved.word
    moved["exact_words"] = moved.moved * moved.bits / moved.word
    moved["way"] = np.where(moved.direction.str.startswith("rd"), "read", "write")
    cost = price.stack().rename("price").rename_axis(["machine", "memory", "way"]).reset_index()
    return moved.merge(cost, on=["machine", "memory", "way"])


def _first_load(rows: pd.DataFrame, outer: pd.DataFrame) -> pd.Series:
    """DRAM cycles before the first step: the first tiles of weights and inputs; their sum where both enter one memory,
    the longer one where they enter two (ZigZag's rule, though one DRAM port feeds both)."""
    tiles = outer[outer.operand != "outputs"].groupby("row").first_words
    into = {name: {machine.chains[x][-2] for x in ("weights", "inputs")} for name, machine in MACHINES.items()}
    return tiles.sum().where(rows.machine.map(lambda name: len(into[name]) == 1), tiles.max())


def occupancy(row, nest: Nest) -> list[dict]:
    """One record a memory of a row: the share of its capacity that the tiles take. ``same_rules``: outputs at the width
    with which they leave, as ZigZag counts them; ``share``: at the width in which they rest (wider while partial)."""
    listed = json.loads(row.mem_util)
    machine = MACHINES[row.machine]
    found = {}
    for letter, operand in OPERANDS.items():
        chain = nest.chain(operand)
        for place, level in enumerate(chain):
            outputs = operand == "outputs"
            rests = width(nest, level, operand)
            leaves = (width(nest, chain[place - 1], operand) if place else nest.bits["outputs"]) if outputs else rests
            elements = tile_elements(nest, level, operand)
            record = found.setdefault(level.name, {"share": 0.0, "same_rules": 0.0})
            record["share"] += elements * rests / machine.capacity_bits[level.name]
            record["same_rules"] += elements * leaves / machine.capacity_bits[level.name]
            record["zigzag"] = listed[letter][len(chain) - 1 - place]
    return [{"row": row.Index, "memory": memory} | record for memory, record in found.items()]
