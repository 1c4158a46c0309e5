"""Two fields swept: a cell a design, its value written in it where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.figures.base import Figure
from dse.figures.reports import as_list
from dse.figures.style import plain, prefixed
from dse.figures.swept import evaluated, field_label, grid_of, is_numeric, metric_of
from sim.errors import InputError
from sim.spec import Accelerator
from sim.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_CELL_IN = 0.36  # width that a value needs


class Heatmap(Figure):
    """``numbers``: the two fields (rows from the first, columns from the second), the metric's column, feasible,
    reason. Infeasible designs are hatched.

    Raises:
        InputError: not one machine and one trace, a grid of other than two fields, an unknown metric, a field or value
            that the machine does not take, or no feasible design at all.
    """

    def __init__(self, machine: Any, trace: Any, grid: Mapping[str, Sequence[Any]], metric: str = "utilization"):
        specs, works = as_list(machine, Accelerator, "a machine"), as_list(trace, Trace, "a trace as trace")
        if len(specs) != 1 or len(works) != 1:
            raise InputError(f"heatmap draws one machine on one trace, got {len(specs)} and {len(works)}")
        points, self._metric = grid_of(grid, 2), metric_of(metric)
        (self._down, self._rows), (self._across, self._columns) = points.values.items()
        table = evaluated(specs[0], works[0], points)
        self.numbers = table[[self._down, self._across, self._metric.column, "feasible", "reason"]]
        if not table["feasible"].any():
            raise InputError(f"no feasible design: {table['reason'].iloc[0]}")

    def height_in(self, width_in: float) -> float:
        return 1.0 + max(0.26 * len(self._rows), 1.2)

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        values = self.numbers[self._metric.column].to_numpy().reshape(len(self._rows), len(self._columns))
        most = float(np.nanmax(values))
        if self._metric.unit is None:
            factor, unit = 100.0, "%"
        else:
            factor, unit = (1.0, "mm²") if self._metric.unit == "mm²" else prefixed(most, self._metric.unit)
        drawn = np.ma.masked_invalid(values * factor)
        axis.set_facecolor("white")
        axis.patch.set(hatch="xxxx", edgecolor="0.5")
        edges = [np.arange(len(v) + 1) - 0.5 for v in (self._columns, self._rows)]
        mesh = axis.pcolormesh(*edges, drawn, cmap="cividis", edgecolor="white", linewidth=0.4)
        for path, steps, set_ticks in (
            (self._across, self._columns, axis.set_xticks),
            (self._down, self._rows, axis.set_yticks),
        ):
            set_ticks(np.arange(len(steps)), [plain(v) if is_numeric([v]) else str(v) for v in steps])
            (axis.set_xlabel if path == self._across else axis.set_ylabel)(field_label(path))
        axis.grid(visible=False)
        axis.tick_params(length=0)
        bar = canvas.colorbar(mesh, ax=axis, pad=0.02)
        bar.set_label(f"{self._metric.label} ({unit})")
        bar.outline.set_linewidth(0.6)
        if (canvas.get_figwidth() - 1.5) / len(self._columns) >= _CELL_IN:
            low, high = drawn.min(), drawn.max()
            for (i, j), value in np.ndenumerate(drawn.filled(np.nan)):
                if np.isfinite(value):
                    dark = high > low and (value - low) / (high - low) < 0.5
                    axis.text(j, i, f"{value:.3g}", ha="center", va="center", color="white" if dark else "black")
