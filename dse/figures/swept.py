"""Designs of a small grid with what sweep figures draw of them, and how fields and metrics are called on an axis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dse.sweep import PIECE, Grid
from sim.designs import Choices
from sim.errors import InputError, nearest
from sim.simulate import evaluate
from sim.spec import Accelerator
from sim.trace import Trace


@dataclass(frozen=True)
class Metric:
    """A column of :func:`evaluated`, its label, and its unit (None: a share, drawn in per cent)."""

    column: str
    label: str
    unit: str | None


METRICS = {
    "latency": Metric("seconds", "latency", "s"),
    "energy": Metric("joules", "energy", "J"),
    "edp": Metric("joule_seconds", "energy × delay", "Js"),
    "area": Metric("area_mm2", "area", "mm²"),
    "traffic": Metric("dram_bytes", "DRAM traffic", "B"),
    "utilization": Metric("utilization", "PE utilization", None),
}
_UNITS = {"kib": "KiB", "ghz": "GHz", "gb_per_s": "GB/s", "bits": "bits", "ns": "ns", "bytes": "B", "nm": "nm"}


def metric_of(name: str) -> Metric:
    """:class:`InputError` for a name that is not in :data:`METRICS`."""
    if name not in METRICS:
        raise InputError(f"metric '{name}' is unknown, {nearest(name, METRICS)}")
    return METRICS[name]


def grid_of(grid: Any, fields: int) -> Grid:
    """A grid of exactly so many fields, each with at least two values, none of them twice."""
    many = {1: "one field", 2: "two fields"}[fields]
    if not isinstance(grid, Mapping) or len(grid) != fields:
        got = f"{len(grid)}" if isinstance(grid, Mapping) else type(grid).__name__
        raise InputError(f"grid needs {many} with a list of values, like {{'array.rows': [8, 16, 32]}}, got {got}")
    found = Grid.of(grid)
    for path, values in found.values.items():
        if len(values) < 2 or len({str(v) for v in values}) < len(values):
            raise InputError(f"grid: '{path}' needs at least two values, none of them twice, got {values}")
    if len(found) > PIECE:
        raise InputError(f"grid has {len(found):,} designs, a figure draws at most {PIECE:,}")
    return found


def evaluated(machine: Accelerator, trace: Trace, grid: Grid) -> pd.DataFrame:
    """One row a design: its values, the columns of :data:`METRICS` (NaN where infeasible), feasible, reason."""
    choices = Choices(machine, grid.values)
    choices.check()
    index = grid.index(0, len(grid))
    designs = choices.designs(index, len(grid))
    found = evaluate(designs, trace)
    pes = designs["array.rows"] * designs["array.cols"] * designs["array.count"]
    busy = found.totals["mac_cycles"] / np.maximum(pes * found.totals["cycles"], 1e-30)
    table = found.table
    columns: dict[str, Any] = {path: [values[i] for i in index[path]] for path, values in grid.values.items()}
    columns |= {
        "seconds": table["seconds"],
        "joules": table["energy_pj"] * 1e-12,
        "joule_seconds": table["energy_pj"] * 1e-12 * table["seconds"],
        "area_mm2": table["area_mm2"].where(table["feasible"]),
        "dram_bytes": table["dram_bytes"],
        "utilization": np.where(table["feasible"], busy, np.nan),
        "feasible": table["feasible"],
        "reason": table["reason"],
    }
    return pd.DataFrame(columns)


def field_label(path: str) -> str:
    """A field path with its unit in brackets: ``memory.shared.capacity (KiB)``."""
    found = re.fullmatch(rf"(.+)_({'|'.join(_UNITS)})", path)
    return f"{found[1]} ({_UNITS[found[2]]})" if found else path


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether all are numbers (no booleans, no text)."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
