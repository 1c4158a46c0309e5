"""Designs: machines as columns. One row a design, so that a million of them are a handful of arrays.

Strings become integer codes here, once. Column names are the field paths of ``sim/spec.py`` (memory levels without the
``memory.`` in front).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.compute import precision, systolic
from sim.errors import InputError, nearest
from sim.memo import once
from sim.memory.dma import effective_bytes_per_cycle
from sim.memory.dram import RUN_BYTES, efficiency_table, parameters
from sim.sparsity import formats, lane_order, stealing
from sim.sparsity.formats.numbers import to_numbers
from sim.sparsity.level_features import codes as feature_codes
from sim.spec import MAX_LEVELS, Accelerator

KINDS = {"systolic": 0, "lanes": 1, "outer_product": 2}
ARITHMETICS = {name: i for i, name in enumerate(precision.ARITHMETICS)}
DATAFLOWS = {name: i for i, name in enumerate(systolic.DATAFLOWS)}
OVERLAPS = {name: i for i, name in enumerate(systolic.OVERLAPS)}
FORMATS = {name: i for i, name in enumerate(formats.FORMATS)}
ORIENTATIONS = {"output": 0, "input": 1}
ASSIGNMENTS = {name: i for i, name in enumerate(lane_order.ALL)}
STEALING = {name: i for i, name in enumerate(stealing.STEALING)}
GATINGS = {"none": 0, "weights": 1, "inputs": 2, "both": 3}
"""Bit 0: a zero weight gates a PE, bit 1: a zero input does."""
OBJECTIVES = {"latency": 0, "energy": 1, "edp": 2, "traffic": 3}
SPLITS = {"any": 0, "m": 1, "n": 2, "k": 3}
CONFLICTS = {"none": 0, "random": 1}
FULL_DEPTH = 0  # code of barrier_depth "full"

_CODES: dict[str, Mapping[str, int]] = {
    "array.kind": KINDS,
    "array.dataflow": DATAFLOWS,
    "array.overlap": OVERLAPS,
    "array.arithmetic": ARITHMETICS,
    "array.split": SPLITS,
    "sparsity.format": FORMATS,
    "sparsity.orientation": ORIENTATIONS,
    "sparsity.assignment": ASSIGNMENTS,
    "sparsity.stealing": STEALING,
    "sparsity.gating": GATINGS,
}
_SCALARS = (
    "technology.node_nm",
    "clock_ghz",
    "array.rows",
    "array.cols",
    "array.weight_bits",
    "array.activation_bits",
    "array.accumulator_bits",
    "array.count",
    "array.outer_tile",
    "array.critical_path_ns",
    "sparsity.fifo_depth",
    "sparsity.empty_tile_cycles",
    "sparsity.block_skipping",
    "sparsity.position_skipping",
    "vector.lanes",
    "vector.special_function_lanes",
    "network.hops",
    "network.hop_mm",
    "network.energy_pj_per_bit_mm",
    "network.multicast",
    "dma.channels",
    "dma.prefetch_weights",
    "dma.stream_vector",
)
_LEVEL = ("capacity_kib", "bandwidth_gb_per_s", "banks", "ports", "access_bytes", "double_buffered")
_JOINT = ("dram.", "sparsity.", "dma.")  # parts whose fields are only right together
_WITH_SPARSITY = ("array.kind", "array.arithmetic")  # which allow some of the sparsity fields and not others


class Designs:
    """Columns of equal length, ``designs["array.rows"]``; codes for strings; DRAM standards resolved to numbers.

    ``levels``: names of the memory slots from the outside in; a design without a level has capacity 0 there.
    """

    def __init__(self, columns: dict[str, np.ndarray], levels: Sequence[str]):
        self.columns = columns
        self.memo: dict[str, Any] = {}  # what :func:`sim.memo.once` found for these columns, which do not change
        self.levels = tuple(levels)

    def __len__(self) -> int:
        return len(self.columns["clock_ghz"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @classmethod
    def from_machines(cls, machines: Sequence[Accelerator]) -> Designs:
        """One row a machine. Level names must come in one order in all of them (:class:`InputError` otherwise)."""
        levels = _merged([list(m.memory) for m in machines])
        rows = [_row(m, levels) for m in machines]
        return cls({name: np.array([r[name] for r in rows], dtype=np.float64) for name in rows[0]}, levels)

    @classmethod
    def from_grid(cls, machine: Accelerator, values: Mapping[str, Sequence[Any]]) -> Designs:
        """``machine`` with columns replaced by ``values`` (field path to one value a design, all the same length).

        Each distinct value is validated once through :meth:`Accelerator.override`, so bad values raise
        :class:`InputError`; no machine object is made per design. Fields of ``dram`` and of ``sparsity`` bear on each
        other and are validated together, per distinct combination.
        """
        size = len(next(iter(values.values()))) if values else 1
        distinct, index = {}, {}
        for path, given in values.items():
            if len(given) != size:
                raise InputError(f"sweep: '{path}' has {len(given)} values, the others have {size}")
            seen = {v: i for i, v in enumerate(dict.fromkeys(given))}
            distinct[path] = list(seen)
            index[path] = np.fromiter((seen[v] for v in given), dtype=np.int64, count=size)
        return Choices(machine, distinct).designs(index, size)

    def take(self, index: np.ndarray) -> Designs:
        """The designs at ``index``."""
        return Designs({name: column[index] for name, column in self.columns.items()}, self.levels)


class Choices:
    """A machine and values for some of its fields: any designs that pick from them, by index arrays.

    ``values``: field path to its distinct values. Each is validated once, through :meth:`Accelerator.override`; fields
    of one part that bear on each other (``dram``, ``sparsity``, ``dma``) are validated together, per combination used.
    """

    def __init__(self, machine: Accelerator, values: Mapping[str, Sequence[Any]]):
        self.machine, self.values, self.levels = machine, values, list(machine.memory)
        self._base = _row(machine, self.levels)
        parts = {path: _part(path, values) for path in values}
        self._parts = {part: [p for p in values if parts[p] == part] for part in dict.fromkeys(parts.values())}
        self._rows: dict[str, dict[int, dict[str, float]]] = {part: {} for part in self._parts}

    def check(self) -> None:
        """Validate every combination, whether it is used or not; :class:`InputError` for the first bad one."""
        for part, paths in self._parts.items():
            for code in range(math.prod(len(self.values[p]) for p in paths)):
                self._row_of(part, code)

    def designs(self, index: Mapping[str, np.ndarray], size: int) -> Designs:
        """``size`` designs; ``index`` [size] a field says which of its values each of them has."""
        columns = {name: np.full(size, value, dtype=np.float64) for name, value in self._base.items()}
        for part, paths in self._parts.items():
            code = np.zeros(size, dtype=np.int64)
            for path in paths:
                code = code * len(self.values[path]) + index[path]
            used, which = np.unique(code, return_inverse=True)
            first = np.unique(which, return_index=True)[1]
            rows = {int(used[which[at]]): self._row_of(part, int(code[at])) for at in np.sort(first)}
            for name, value in self._base.items():
                if any(row[name] != value for row in rows.values()):
                    columns[name] = np.array([rows[int(c)][name] for c in used], dtype=np.float64)[which]
        return Designs(columns, self.levels)

    def _row_of(self, part: str, code: int) -> dict[str, float]:
        rows = self._rows[part]
        if code not in rows:
            chosen, rest = {}, code
            for path in reversed(self._parts[part]):
                rest, at = divmod(rest, len(self.values[path]))
                chosen[path] = self.values[path][at]
            rows[code] = _row(self.machine.override(dict(reversed(chosen.items()))), self.levels)
        return rows[code]


def _part(path: str, values: Mapping[str, Any]) -> str:
    """What a field is validated with."""
    if path in _WITH_SPARSITY and any(other.startswith("sparsity.") for other in values):
        return "sparsity"
    return path.split(".")[0] if path.startswith(_JOINT) else path


def _merged(orders: list[list[str]]) -> list[str]:
    """One order of level names that keeps every machine's own; at most MAX_LEVELS of them."""
    merged: list[str] = []
    for order in orders:
        at = 0
        for name in order:
            if name in merged:
                if merged.index(name) < at:
                    raise InputError(f"machines compared together must order their levels alike, '{name}' differs")
                at = merged.index(name) + 1
            else:
                merged.insert(at, name)
                at += 1
    if len(merged) > MAX_LEVELS:
        raise InputError(f"machines compared together have {len(merged)} different levels, at most {MAX_LEVELS} fit")
    return merged


def _row(machine: Accelerator, levels: Sequence[str]) -> dict[str, float]:
    raw = machine.model_dump()
    row: dict[str, float] = {}
    for path in (*_SCALARS, *_CODES):
        node: Any = raw
        for key in path.split("."):
            node = node[key]
        row[path] = _CODES[path][node] if path in _CODES else node
    depth = machine.sparsity.barrier_depth
    row["sparsity.decoders"] = machine.sparsity.decoders or 0
    row["sparsity.barrier_depth"] = FULL_DEPTH if depth == "full" else depth
    row |= {f"sparsity.{name}": value for name, value in to_numbers(machine.sparsity.storage).items()}
    row["dma.in_flight_bytes"] = machine.dma.channels * (machine.dma.in_flight_kib or np.inf) * 1024.0
    row["network.bandwidth_gb_per_s"] = machine.network.bandwidth_gb_per_s or np.inf
    tier_of = {name: i + 1 for i, tier in enumerate(machine.tiers) for name in tier}
    row["tiers"] = len(machine.tiers)
    for name in levels:
        level = machine.memory.get(name)
        for field in _LEVEL:
            row[f"{name}.{field}"] = getattr(level, field) if level else 0
        row[f"{name}.tier"] = tier_of.get(name, 0)
        row[f"{name}.keeps"] = sum(1 << OPERAND_BITS[o] for o in level.keeps) if level else 0
        row[f"{name}.conflicts"] = CONFLICTS[level.bank_conflicts] if level else 0
        for operand, feature in feature_codes(level.features if level else "").items():
            row[f"{name}.avoids_{operand}"] = feature
    dram = machine.dram
    row |= {f"dram.{k}": v for k, v in parameters(dram.standard, dram.channels, dram.bandwidth_gb_per_s).items()}
    row |= {f"dram.avoids_{operand}": feature for operand, feature in feature_codes(dram.features).items()}
    table = efficiency_table(dram.standard, dram.channels)
    for i in range(len(RUN_BYTES)):
        row[f"dram.efficiency_{i}_read"], row[f"dram.efficiency_{i}_mixed"] = table[i]
    return row


OPERAND_BITS = {"inputs": 0, "weights": 1, "outputs": 2}

_SCALAR_KERNEL = (
    "kind",
    "rows",
    "cols",
    "dataflow",
    "overlap",
    "orientation",
    "count",
    "split",
    "arithmetic",
    "weight_bits",
    "activation_bits",
    "tiers",
    "network_bpc",
    "multicast",
    "home",
    "vector",
    "special",
    "dram_bpc",
    "dram_latency",
    "avoids_inputs",
    "avoids_weights",
    "features",
    "outer_tile",
)
(
    D_KIND,
    D_ROWS,
    D_COLS,
    D_DATAFLOW,
    D_OVERLAP,
    D_ORIENTATION,
    D_COUNT,
    D_SPLIT,
    D_ARITHMETIC,
    D_WEIGHT_BITS,
    D_ACTIVATION_BITS,
    D_TIERS,
    D_NETWORK_BPC,
    D_MULTICAST,
    D_HOME,  # slot of the outermost level that keeps inputs and outputs, -1: activations cannot stay on chip
    D_VECTOR,
    D_SPECIAL,
    D_DRAM_BPC,  # peak
    D_DRAM_LATENCY,
    D_AVOIDS,  # what DRAM skips of inputs and weights: two columns (:mod:`sim.sparsity.level_features`)
    _,
    D_FEATURES,  # 0: no level gates or skips anything, 1: some skip, 2: some gate
    D_OUTER_TILE,
) = range(len(_SCALAR_KERNEL))
D_EFFICIENCY = len(_SCALAR_KERNEL)  # [run length, (reads, mixed)], flattened
D_LEVELS = D_EFFICIENCY + 2 * len(RUN_BYTES)
L_BYTES, L_READ_BPC, L_WRITE_BPC, L_DOUBLE, L_KEEPS, L_TIER, L_ACCESS = range(7)  # write 0: shares the read port
L_AVOIDS = 7  # what the level gates or skips of inputs, weights, outputs: three columns
LEVEL_COLUMNS = 10
KERNEL_COLUMNS = D_LEVELS + MAX_LEVELS * LEVEL_COLUMNS
RATES = (  # columns that only say how fast: designs that differ in nothing else share their mappings
    [D_NETWORK_BPC, D_VECTOR, D_SPECIAL, D_DRAM_BPC, D_DRAM_LATENCY]
    + [D_LEVELS + i * LEVEL_COLUMNS + c for i in range(MAX_LEVELS) for c in (L_READ_BPC, L_WRITE_BPC)]
)
GEOMETRY = np.array([c for c in range(KERNEL_COLUMNS) if c not in RATES])


@once
def kernel_matrix(designs: Designs) -> np.ndarray:
    """[designs, KERNEL_COLUMNS] float64: capacities in bytes, bandwidths in bytes per cycle, latency in cycles."""
    clock = designs["clock_ghz"]
    out = np.zeros((len(designs), KERNEL_COLUMNS))
    for at, field in (
        (D_KIND, "array.kind"),
        (D_ROWS, "array.rows"),
        (D_COLS, "array.cols"),
        (D_DATAFLOW, "array.dataflow"),
        (D_OVERLAP, "array.overlap"),
        (D_ORIENTATION, "sparsity.orientation"),
        (D_COUNT, "array.count"),
        (D_SPLIT, "array.split"),
        (D_ARITHMETIC, "array.arithmetic"),
        (D_WEIGHT_BITS, "array.weight_bits"),
        (D_ACTIVATION_BITS, "array.activation_bits"),
        (D_TIERS, "tiers"),
        (D_MULTICAST, "network.multicast"),
        (D_OUTER_TILE, "array.outer_tile"),
        (D_VECTOR, "vector.lanes"),
        (D_SPECIAL, "vector.special_function_lanes"),
    ):
        out[:, at] = designs[field]
    out[:, D_NETWORK_BPC] = designs["network.bandwidth_gb_per_s"] / clock
    out[:, D_DRAM_LATENCY] = designs["dram.latency_ns"] * clock
    out[:, D_DRAM_BPC] = designs["dram.peak_gb_per_s"] / clock
    most = effective_bytes_per_cycle(1.0, out[:, D_DRAM_LATENCY] * out[:, D_DRAM_BPC], designs["dma.in_flight_bytes"])
    for i in range(len(RUN_BYTES)):
        out[:, D_EFFICIENCY + 2 * i] = np.minimum(designs[f"dram.efficiency_{i}_read"], most)
        out[:, D_EFFICIENCY + 2 * i + 1] = np.minimum(designs[f"dram.efficiency_{i}_mixed"], most)
    out[:, D_HOME] = -1.0
    activations = (1 << OPERAND_BITS["inputs"]) + (1 << OPERAND_BITS["outputs"])
    for bit, operand in enumerate(("inputs", "weights")):
        out[:, D_AVOIDS + bit] = designs[f"dram.avoids_{operand}"]
        out[:, D_FEATURES] = np.maximum(out[:, D_FEATURES], featured(out[:, D_AVOIDS + bit]))
    for slot, name in enumerate(designs.levels):
        level = out[:, D_LEVELS + slot * LEVEL_COLUMNS : D_LEVELS + (slot + 1) * LEVEL_COLUMNS]
        level[:, L_BYTES] = designs[f"{name}.capacity_kib"] * 1024.0
        level[:, L_READ_BPC] = designs[f"{name}.bandwidth_gb_per_s"] * bank_efficiency(designs, name) / clock
        level[:, L_WRITE_BPC] = np.where(designs[f"{name}.ports"] == 2, level[:, L_READ_BPC], 0.0)
        for column, field in (
            (L_DOUBLE, "double_buffered"),
            (L_KEEPS, "keeps"),
            (L_TIER, "tier"),
            (L_ACCESS, "access_bytes"),
        ):
            level[:, column] = designs[f"{name}.{field}"]
        for operand, bit in OPERAND_BITS.items():
            feature = designs[f"{name}.avoids_{operand}"]
            level[:, L_AVOIDS + bit] = feature
            out[:, D_FEATURES] = np.maximum(out[:, D_FEATURES], featured(feature))
        keeps = designs[f"{name}.keeps"].astype(np.int64)
        home = (designs[f"{name}.tier"] == 1) & (keeps & activations == activations) & (out[:, D_HOME] < 0)
        out[home, D_HOME] = slot
    return out


def featured(feature: np.ndarray) -> np.ndarray:
    """0 for no feature, 1 for one that skips, 2 for one that gates."""
    kind = feature.astype(np.int64) & 3
    return np.where(kind == 1, 2, np.minimum(kind, 1))


def has_features(designs: Designs) -> bool:
    """Whether any design gates or skips transfers at a memory level."""
    places = ["dram", *designs.levels]
    return any((designs[f"{place}.avoids_{operand}"] > 0).any() for place in places for operand in OPERAND_BITS)


def bank_efficiency(designs: Designs, level: str) -> np.ndarray:
    """Share of a level's bandwidth left by bank conflicts: 1 if interleaved; for as many requests a cycle as banks,
    each to a random bank that serves one, the expected share of busy banks, ``1 - (1 - 1/B)^B`` (occupancy of B balls
    in B bins; Feller, An Introduction to Probability Theory, vol. 1, ch. II)."""
    banks = np.maximum(designs[f"{level}.banks"], 1.0)
    busy = 1.0 - (1.0 - 1.0 / banks) ** banks
    return np.where(designs[f"{level}.conflicts"] > 0, busy, 1.0)


def code(path: str, value: str) -> int:
    """Integer code of a categorical field's value."""
    table = _CODES[path]
    if value not in table:
        raise InputError(f"{path} must be one of {', '.join(table)}, got '{value}', {nearest(value, table)}")
    return table[value]
