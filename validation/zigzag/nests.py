"""The reference rows, and each row's mapping as a :class:`sim.nest.Nest`."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from sim.errors import InputError, nearest
from sim.nest import Level, Nest

CSV = Path(__file__).parents[1] / "data" / "peers" / "zigzag_reference.csv"
OPERANDS = {"W": "weights", "I": "inputs", "O": "outputs"}


@dataclass(frozen=True)
class Machine:
    """Memories that keep each operand, from the array outward, and the array axes along which one is replicated.

    capacity_bits: of one replica. Source: the machine files of the package zigzag-dse 3.9.1 (MIT),
    ``zigzag/inputs/hardware/{tpu_like,gemm_l1_l3}.yaml`` (``operands``, ``size``, and ``served_dimensions``: a memory
    that serves an axis is not replicated along it). Prices and word widths in the same files are not used: they are
    read off the results (:mod:`validation.zigzag.words`).
    """

    chains: dict[str, tuple[str, ...]]
    replicated: dict[str, tuple[str, ...]]
    capacity_bits: dict[str, int]

    @property
    def outermost(self) -> str:
        """The memory that holds everything."""
        return self.chains["outputs"][-1]


MACHINES = {
    "tpu_like": Machine(
        {"weights": ("rf_128B", "dram"), "inputs": ("sram_2MB", "dram"), "outputs": ("rf_2B", "sram_2MB", "dram")},
        {"rf_128B": ("D1", "D2"), "rf_2B": ("D1", "D2")},
        {"rf_128B": 1024, "rf_2B": 16, "sram_2MB": 2**24, "dram": 10**10},
    ),
    "gemm_l1_l3": Machine(
        {"weights": ("l1", "l3"), "inputs": ("l1", "l3"), "outputs": ("reg_O", "l1", "l3")},
        {"reg_O": ("D1", "D3")},
        {"reg_O": 32, "l1": 943718, "l3": 10**10},
    ),
}


def reference(csv: Path = CSV) -> pd.DataFrame:
    """The reference rows as they are, plus ``machine``: the accelerator without the note in brackets. Raises InputError
    for an accelerator that :data:`MACHINES` does not describe."""
    frame = pd.read_csv(csv)
    frame["machine"] = frame.accelerator.str.split("[").str[0]
    for name in frame.machine.unique():
        if name not in MACHINES:
            raise InputError(f"{csv}: accelerator {name!r} is unknown: {nearest(name, MACHINES)}")
    return frame


def dimensions(rows: pd.DataFrame) -> dict[str, str]:
    """ZigZag's loop names on one machine -> m, n, k: the one assignment under which the trip counts of all its rows
    (temporal times spatial) multiply to M, N and K. Raises InputError if there is none or more than one."""
    turned = [_trips(row) for row in rows.itertuples()]
    names = sorted(set().union(*turned))
    fitting = []
    for order in itertools.permutations("mnk", len(names)):
        named = dict(zip(order, names, strict=True))
        if all(
            trips.get(named.get(dim, ""), 1) == size
            for row, trips in zip(rows.itertuples(), turned, strict=True)
            for dim, size in (("m", row.M), ("n", row.N), ("k", row.K))
        ):
            fitting.append({name: dim for dim, name in named.items()})
    if len(fitting) != 1:
        raise InputError(f"{len(fitting)} ways to read the loop names {names} as m, n, k; the rows must fix one")
    return fitting[0]


def _trips(row) -> dict[str, int]:
    trips: dict[str, int] = {}
    for name, turns in itertools.chain(*json.loads(row.temporal_mapping)["O"]):
        trips[name] = trips.get(name, 1) * turns
    for unrolled in yaml.safe_load(row.spatial_mapping).values():
        for name, factor in unrolled.items():
            trips[name] = trips.get(name, 1) * factor
    return trips


def nest_of(row, dims: dict[str, str]) -> Nest:
    """The row's mapping: loops inverted to run from the outermost inward, trip counts turned into tile sizes, and each
    memory at the place where its operand's list of loops ends."""
    listed = json.loads(row.temporal_mapping)
    spatial = {}
    for axis, unrolled in yaml.safe_load(row.spatial_mapping).items():
        for name, factor in unrolled.items():
            spatial[dims[name]] = (axis, factor)
    inward = [(dims[name], turns) for name, turns in itertools.chain(*listed["O"])]
    for letter in "WI":
        if [(dims[name], turns) for name, turns in itertools.chain(*listed[letter])] != inward:
            raise InputError(f"row {row.Index}: the loops of {letter} are not those of O")
    tile = {dim: spatial[dim][1] if dim in spatial else 1 for dim in "mnk"}
    loops = []
    for dim, turns in inward:
        loops.append((dim, tile[dim]))
        tile[dim] *= turns
    machine = MACHINES[row.machine]
    at: dict[str, dict[str, int]] = {}
    for letter, operand in OPERANDS.items():
        outside = len(loops)
        for memory, inside in zip(machine.chains[operand], listed[letter], strict=True):
            outside -= len(inside)
            at.setdefault(memory, {})[operand] = outside
    inner = sorted(at.keys() - {machine.outermost}, key=lambda memory: memory in machine.replicated)
    levels = [Level(machine.outermost)]
    levels += [Level(memory, tuple(at[memory]), at[memory], machine.replicated.get(memory, ())) for memory in inner]
    return Nest(
        sizes={"m": int(row.M), "n": int(row.N), "k": int(row.K)},
        loops=loops[::-1],
        levels=levels,
        spatial=spatial,
        latched=("weights", "inputs"),
        bits={"weights": row.w_bits, "inputs": row.i_bits, "outputs": row.w_bits, "partial_sums": row.o_psum_bits},
    )
