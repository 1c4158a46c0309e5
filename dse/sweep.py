"""Grids of one machine's fields on one trace: one row a design, all evaluated at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sim.designs import Designs
from sim.errors import InputError
from sim.simulate import evaluate
from sim.spec import Accelerator
from sim.trace import Trace


def sweep(machine: Accelerator, trace: Trace, grid: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Every combination of ``grid`` (field path to values): its columns, then cycles, seconds, energy_pj, area_mm2,
    stalls,
    ``feasible`` and ``reason``. Infeasible designs are rows with NaN, not errors; values out of range are
    InputError."""
    for path, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence | range) or not len(values):
            raise InputError(f"sweep: '{path}' needs a list of at least one value, got {values!r}")
    combos = list(itertools.product(*grid.values()))
    columns = {path: [c[i] for c in combos] for i, path in enumerate(grid)}
    table = evaluate(Designs.from_grid(machine, columns), trace).table
    return pd.concat([pd.DataFrame(columns), table], axis=1)
