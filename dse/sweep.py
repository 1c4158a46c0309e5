"""Grids of one machine's fields on one trace: one row a design, evaluated in pieces that fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dse.sweep_file import SweepFile, fingerprint
from sim.analytic import effort_code, objective_code
from sim.designs import Choices
from sim.errors import InputError
from sim.simulate import evaluate
from sim.spec import Accelerator
from sim.trace import Trace

PIECE = 20_000  # designs evaluated together, and rows of a row group
IN_MEMORY = 1_000_000  # designs that a sweep returns as one table, about 300 MB

Tick = Callable[[str, int, int], None]


def sweep(
    machine: Accelerator,
    trace: Trace,
    grid: Mapping[str, Sequence[Any]],
    objective: str = "latency",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Tick | None = None,
    effort: str = "full",
) -> pd.DataFrame | Path:
    """Every combination of ``grid`` (field path to values), the last path varying fastest.

    A row holds the design's values, then cycles, seconds, energy_pj, area_mm2, dram_bytes, stalls, ``feasible`` and
    ``reason``. Infeasible designs are rows with NaN, not errors. ``objective``: what each op's mapping minimises.
    ``effort``: how mappings are searched, ``quick`` has fewer tile sizes for large sweeps (``sim.mapping.EFFORTS``).

    Returns the table; or, with ``out``, the path of the ``.parquet`` file that holds it: written piece by piece into
    ``OUT.parts`` beside it and put together at the end, so that memory stays bounded (:mod:`dse.sweep_file`), what is
    finished survives a kill, and ``resume`` goes on with it. ``progress`` is called with (what, designs done, in all).

        sp.sweep(machine, trace, {"array.rows": range(8, 129, 8), "clock_ghz": [0.5, 1.0]}, objective="edp")

    Raises:
        InputError: a path without values, a value out of range, an unknown objective or effort; ``out`` of another
            suffix, taken by another sweep, already there without ``resume``, or not to be written.
    """
    points = Grid.of(grid)
    objective_code(objective)
    effort_code(effort)
    tick = progress or (lambda what, done, total: None)
    choices = Choices(machine, points.values)
    choices.check()  # before anything is written
    if out is None:
        if resume:
            raise InputError("resume needs out, the file to go on with")
        if len(points) > IN_MEMORY:
            raise InputError(f"sweep of {len(points):,} designs: more than {IN_MEMORY:,} need out, a .parquet file")
        pieces = []
        for first, last in points.pieces():
            pieces.append(_evaluated(choices, trace, points, objective, effort, first, last))
            tick("designs", last, len(points))
        return pd.concat(pieces, ignore_index=True) if len(pieces) > 1 else pieces[0]
    file = SweepFile(Path(out), fingerprint(machine, trace, points.values, objective, effort), len(points), PIECE)
    with file.opened(resume):
        done = sum(last - first for number, (first, last) in enumerate(points.pieces()) if number in file.finished)
        tick("designs", done, len(points))
        for number, (first, last) in enumerate(points.pieces()):
            if number not in file.finished:
                file.add(number, _evaluated(choices, trace, points, objective, effort, first, last))
                done += last - first
                tick("designs", done, len(points))
        file.join()
    return file.out


def _evaluated(
    choices: Choices, trace: Trace, points: Grid, objective: str, effort: str, first: int, last: int
) -> pd.DataFrame:
    index = points.index(first, last)
    table = evaluate(choices.designs(index, last - first), trace, objective=objective, effort=effort).table
    shown = {path: pd.Series(values).array.take(index[path]) for path, values in points.values.items()}
    return pd.concat([pd.DataFrame(shown), table], axis=1)


class Grid:
    """All combinations of some fields' values, as index arithmetic: nothing is made per design until it is asked for.

    ``values``: field path to its values. Design ``i`` is the i-th of ``itertools.product`` over them.
    """

    def __init__(self, values: Mapping[str, list[Any]]):
        self.values = dict(values)
        self._strides: dict[str, int] = {}
        stride = 1
        for path in reversed(self.values):
            self._strides[path] = stride
            stride *= len(self.values[path])

    def __len__(self) -> int:
        return math.prod(len(v) for v in self.values.values())

    @classmethod
    def of(cls, grid: Mapping[str, Sequence[Any]]) -> Grid:
        """:class:`InputError` for a field that is not a list, a range or an array of at least one plain value."""
        found = {}
        for path, values in grid.items():
            if isinstance(values, np.ndarray):
                values = values.tolist()
            if isinstance(values, str) or not isinstance(values, Sequence | range) or not len(values):
                raise InputError(f"sweep: '{path}' needs a list of at least one value, got {values!r}")
            found[path] = [v.item() if isinstance(v, np.generic) else v for v in values]
        return cls(found)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(first, last) design of every piece."""
        return ((first, min(first + PIECE, len(self))) for first in range(0, len(self), PIECE))

    def index(self, first: int, last: int) -> dict[str, np.ndarray]:
        """For designs ``first:last``, which of its values each field has."""
        at = np.arange(first, last, dtype=np.int64)
        return {path: at // self._strides[path] % len(values) for path, values in self.values.items()}
