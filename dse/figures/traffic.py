"""Bytes that every memory level moves: a panel a level, each with its own scale from 0, reads and writes stacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.reports import as_reports, names_of
from dse.figures.style import bar_look, legend_above, prefixed
from sim.counts import INDEX
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_ACROSS = 2  # panels in a column's width


class Traffic(Figure):
    """``numbers``: level, bar, read_bytes, written_bytes; DRAM first, then the machines' levels from the outside in.

    Raises:
        InputError: no reports, or labels that do not fit.
    """

    def __init__(self, reports: Any, labels: Sequence[str] | None = None):
        found = as_reports(reports)
        self._bars = names_of(found, labels)
        rows = []
        for name, report in zip(self._bars, found, strict=True):
            totals = report.columns.sum(axis=0)
            places = {"DRAM": "dram"} | {level: f"level{i}" for i, level in enumerate(report.levels)}
            rows += [
                (level, name, totals[INDEX[f"{place}_read_bytes"]], totals[INDEX[f"{place}_write_bytes"]])
                for level, place in places.items()
            ]
        table = pd.DataFrame(rows, columns=["level", "bar", "read_bytes", "written_bytes"])
        moved = table.groupby("level")[["read_bytes", "written_bytes"]].transform("sum").sum(axis=1) > 0
        if not moved.any():
            raise InputError("nothing to draw: no level moves a byte")
        self.numbers = table[moved].reset_index(drop=True)
        self._levels = list(dict.fromkeys(self.numbers["level"]))

    def _grid(self, width_in: float) -> tuple[int, int]:
        across = min(len(self._levels), _ACROSS if width_in < 5 else 2 * _ACROSS)
        return -(-len(self._levels) // across), across

    def height_in(self, width_in: float) -> float:
        return 0.35 + self._grid(width_in)[0] * (0.62 + 0.2 * len(self._bars))

    def draw(self, canvas: Canvas) -> None:
        rows, across = self._grid(canvas.get_figwidth())
        panels = canvas.subplots(rows, across, squeeze=False)
        at = np.arange(len(self._bars))
        for i, axis in enumerate(panels.flat):
            if i >= len(self._levels):
                axis.set_visible(False)
                continue
            part = self.numbers[self.numbers["level"] == self._levels[i]].set_index("bar").reindex(self._bars)
            both = part[["read_bytes", "written_bytes"]].sum(axis=1)
            factor, unit = prefixed(float(both.max()), "B")
            read, written = (part[c].fillna(0.0).to_numpy() * factor for c in ("read_bytes", "written_bytes"))
            axis.barh(at, read, 0.68, label="read", **bar_look(0))
            axis.barh(at, written, 0.68, left=read, label="written", **bar_look(1))
            axis.set_yticks(at, self._bars if i % across == 0 else [""] * len(at))
            axis.set_ylim(len(at) - 0.5, -0.5)
            axis.set_xlim(0, (read + written).max() * 1.05)
            axis.grid(axis="y", visible=False)
            axis.set_xlabel(f"{self._levels[i].replace('_', ' ')} ({unit})")
        legend_above(canvas, *panels.flat[0].get_legend_handles_labels())
