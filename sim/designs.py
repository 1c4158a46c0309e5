"""Designs: machines as columns. One row a design, so that a million of them are a handful of arrays.

Strings become integer codes here, once. Column names are the field paths of ``sim/spec.py``, with memory levels named
by role (``shared``, ``weight_buffer``, ``input_buffer``, ``accumulator``); a missing buffer has capacity 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.compute import systolic
from sim.errors import InputError, nearest
from sim.memory.dram import parameters
from sim.spec import Accelerator

KINDS = {"systolic": 0, "lanes": 1}
DATAFLOWS = {name: i for i, name in enumerate(systolic.DATAFLOWS)}
OVERLAPS = {name: i for i, name in enumerate(systolic.OVERLAPS)}
FORMATS = {"dense": 0, "bitmap": 1, "n_of_m": 2}
ORIENTATIONS = {"output": 0, "input": 1}
ASSIGNMENTS = {"contiguous": 0, "interleaved": 1}
ROLES = ("shared", "weight_buffer", "input_buffer", "accumulator")
FULL_DEPTH = 0  # code of barrier_depth "full"

_CODES: dict[str, Mapping[str, int]] = {
    "array.kind": KINDS,
    "array.dataflow": DATAFLOWS,
    "array.overlap": OVERLAPS,
    "sparsity.format": FORMATS,
    "sparsity.orientation": ORIENTATIONS,
    "sparsity.assignment": ASSIGNMENTS,
}
_SCALARS = (
    "technology.node_nm",
    "clock_ghz",
    "array.rows",
    "array.cols",
    "array.weight_bits",
    "array.activation_bits",
    "array.accumulator_bits",
    "array.critical_path_ns",
    "sparsity.fifo_depth",
    "sparsity.empty_tile_cycles",
    "vector.lanes",
    "vector.special_function_lanes",
)
_LEVEL = ("capacity_kib", "bandwidth_gb_per_s", "banks", "double_buffered")
_JOINT = ("dram.", "sparsity.")  # parts whose fields are only right together


class Designs:
    """Columns of equal length, ``designs["array.rows"]``; codes for strings; DRAM standards resolved to numbers."""

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["clock_ghz"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @classmethod
    def from_machines(cls, machines: Sequence[Accelerator]) -> Designs:
        """One row a machine."""
        rows = [_row(m) for m in machines]
        return cls({name: np.array([r[name] for r in rows], dtype=np.float64) for name in rows[0]})

    @classmethod
    def from_grid(cls, machine: Accelerator, values: Mapping[str, Sequence[Any]]) -> Designs:
        """``machine`` with columns replaced by ``values`` (field path to one value a design, all the same length).

        Each distinct value is validated once through :meth:`Accelerator.override`, so bad values raise
        :class:`InputError`; no machine object is made per design. Fields of ``dram`` and of ``sparsity`` bear on each
        other and are validated together, per distinct combination.
        """
        size = len(next(iter(values.values()))) if values else 1
        base = _row(machine)
        columns = {name: np.full(size, value, dtype=np.float64) for name, value in base.items()}
        for path, given in values.items():
            if len(given) != size:
                raise InputError(f"sweep: '{path}' has {len(given)} values, the others have {size}")
        parts = dict.fromkeys(path.split(".")[0] if path.startswith(_JOINT) else path for path in values)
        for part in parts:
            paths = [path for path in values if path == part or path.startswith(f"{part}.")]
            given = list(zip(*(values[path] for path in paths), strict=True))
            distinct = {v: i for i, v in enumerate(dict.fromkeys(given))}
            which = np.fromiter((distinct[v] for v in given), dtype=np.int64, count=size)
            rows = [_row(machine.override(dict(zip(paths, v, strict=True)))) for v in distinct]
            for name in rows[0]:
                if any(r[name] != base[name] for r in rows):
                    columns[name] = np.array([r[name] for r in rows], dtype=np.float64)[which]
        return cls(columns)

    def take(self, index: np.ndarray) -> Designs:
        """The designs at ``index``."""
        return Designs({name: column[index] for name, column in self.columns.items()})


def _row(machine: Accelerator) -> dict[str, float]:
    raw = machine.model_dump()
    row: dict[str, float] = {}
    for path in (*_SCALARS, *_CODES):
        node: Any = raw
        for key in path.split("."):
            node = node[key]
        row[path] = _CODES[path][node] if path in _CODES else node
    depth = machine.sparsity.barrier_depth
    row["sparsity.barrier_depth"] = FULL_DEPTH if depth == "full" else depth
    row["sparsity.n"], row["sparsity.m"] = machine.sparsity.nm
    roles = machine.roles
    for role in ROLES:
        level = machine.memory[roles[role]] if role in roles else None
        for name in _LEVEL:
            row[f"{role}.{name}"] = getattr(level, name) if level else 0
    row |= {
        f"dram.{k}": v
        for k, v in parameters(machine.dram.standard, machine.dram.channels, machine.dram.bandwidth_gb_per_s).items()
    }
    return row


KERNEL = (
    "kind",
    "rows",
    "cols",
    "dataflow",
    "overlap",
    "shared_bytes",
    "shared_bpc",
    "shared_db",
    "wbuf_bytes",
    "wbuf_bpc",
    "wbuf_db",
    "ibuf_bytes",
    "ibuf_bpc",
    "ibuf_db",
    "acc_bytes",
    "acc_bpc",
    "acc_db",
    "dram_bpc",
    "dram_latency",
    "vector_lanes",
    "special_lanes",
    "orientation",
)
"""Columns the engines' kernels read: capacities in bytes, bandwidths in bytes per cycle, latency in cycles."""
(
    D_KIND,
    D_ROWS,
    D_COLS,
    D_DATAFLOW,
    D_OVERLAP,
    D_SHARED,
    D_SHARED_BPC,
    D_SHARED_DB,
    D_WBUF,
    D_WBUF_BPC,
    D_WBUF_DB,
    D_IBUF,
    D_IBUF_BPC,
    D_IBUF_DB,
    D_ACC,
    D_ACC_BPC,
    D_ACC_DB,
    D_DRAM_BPC,
    D_DRAM_LATENCY,
    D_VECTOR,
    D_SPECIAL,
    D_ORIENTATION,
) = range(len(KERNEL))


def kernel_matrix(designs: Designs) -> np.ndarray:
    """[designs, len(KERNEL)] float64."""
    clock = designs["clock_ghz"]
    columns = [designs[f"array.{c}"] for c in ("kind", "rows", "cols", "dataflow", "overlap")]
    for role in ROLES:
        columns += [
            designs[f"{role}.capacity_kib"] * 1024.0,
            designs[f"{role}.bandwidth_gb_per_s"] / clock,
            designs[f"{role}.double_buffered"],
        ]
    columns += [
        designs["dram.peak_gb_per_s"] * designs["dram.efficiency"] / clock,
        designs["dram.latency_ns"] * clock,
        designs["vector.lanes"],
        designs["vector.special_function_lanes"],
        designs["sparsity.orientation"],
    ]
    return np.ascontiguousarray(np.column_stack(columns), dtype=np.float64)


def code(path: str, value: str) -> int:
    """Integer code of a categorical field's value."""
    table = _CODES[path]
    if value not in table:
        raise InputError(f"{path} must be one of {', '.join(table)}, got '{value}', {nearest(value, table)}")
    return table[value]
