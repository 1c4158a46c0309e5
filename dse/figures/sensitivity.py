"""One field swept: a line a machine and trace."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.reports import as_list, shortened
from dse.figures.style import legend_above, line_look, plain, plain_log_ticks, prefixed
from dse.figures.swept import evaluated, field_label, grid_of, is_numeric, metric_of
from sim.errors import InputError
from sim.spec import Accelerator
from sim.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_LOG_FROM = 8.0  # largest over smallest value from which an axis is logarithmic


class Sensitivity(Figure):
    """``numbers``: machine, trace, the field, the metric's column, feasible, reason.

    A value that a machine cannot be built with or run on is a gap in its line and a cross on the lower edge.

    Raises:
        InputError: no machines or traces, two of one name, a grid of other than one field, an unknown metric, a field
            or value that a machine does not take, or no feasible design at all.
    """

    def __init__(self, machines: Any, traces: Any, grid: Mapping[str, Sequence[Any]], metric: str = "latency"):
        specs = as_list(machines, Accelerator, "one machine or a list of them (sp.accelerator)")
        works = as_list(traces, Trace, "one trace or a list of them as traces")
        points, self._metric = grid_of(grid, 1), metric_of(metric)
        self._field = next(iter(points.values))
        self._values = points.values[self._field]
        names = shortened([work.name for work in works])
        for what, found in (("machine", [s.name for s in specs]), ("trace", names)):
            if len(set(found)) < len(found):
                raise InputError(f"the same {what} is there twice: {', '.join(found)}")
        tables = []
        for spec, (work, name) in itertools.product(specs, zip(works, names, strict=True)):
            table = evaluated(spec, work, points)[[self._field, self._metric.column, "feasible", "reason"]]
            tables.append(table.assign(machine=spec.name, trace=name))
        self.numbers = pd.concat(tables, ignore_index=True)[
            ["machine", "trace", self._field, self._metric.column, "feasible", "reason"]
        ]
        if not self.numbers["feasible"].any():
            raise InputError(f"no feasible design: {self.numbers['reason'].iloc[0]}")

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        column = self._metric.column
        factor, unit = (100.0, "%") if self._metric.unit is None else _scale(self.numbers[column], self._metric.unit)
        numeric = is_numeric(self._values)
        x = np.array(self._values, dtype=float) if numeric else np.arange(len(self._values), dtype=float)
        order = np.argsort(x, kind="stable")  # values may come in any order, a line goes from left to right
        one_machine, one_trace = (self.numbers[c].nunique() == 1 for c in ("machine", "trace"))
        lines = self.numbers.groupby(["machine", "trace"]).ngroups
        for i, ((machine, trace), part) in enumerate(self.numbers.groupby(["machine", "trace"], sort=False)):
            name = trace if one_machine and not one_trace else machine if one_trace else f"{machine}, {trace}"
            look = line_look(i) if numeric else line_look(i) | {"linestyle": "none"}
            at = x if numeric else x + 0.4 * ((i + 0.5) / lines - 0.5)  # side by side: nothing lies between names
            axis.plot(at[order], part[column].to_numpy()[order] * factor, label=name, **look)
            bad = ~part["feasible"].to_numpy()
            (crosses,) = axis.plot(
                at[bad], np.zeros(bad.sum()), "kx", transform=axis.get_xaxis_transform(), clip_on=False
            )
            crosses.set_in_layout(False)
        y = self.numbers[column].dropna()
        if y.max() / max(y.min(), 1e-300) >= _LOG_FROM and self._metric.unit is not None:
            axis.set_yscale("log")
            plain_log_ticks(axis.yaxis)
        else:
            axis.set_ylim(0, y.max() * factor * 1.08)
        if numeric and x.min() > 0 and x.max() / x.min() >= _LOG_FROM:
            axis.set_xscale("log")
        if not numeric or len(x) <= 8:
            axis.set_xticks(x, [plain(v) if numeric else str(v) for v in self._values])
            axis.minorticks_off()
        elif axis.get_xscale() == "log":
            plain_log_ticks(axis.xaxis)
        if not numeric:
            axis.set_xlim(-0.5, len(x) - 0.5)
        axis.set_xlabel(field_label(self._field))
        axis.set_ylabel(f"{self._metric.label} ({unit})")
        legend_above(canvas, *axis.get_legend_handles_labels())


def _scale(values: pd.Series, unit: str) -> tuple[float, str]:
    return (1.0, unit) if unit == "mm²" else prefixed(float(values.max()), unit)
