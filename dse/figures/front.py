"""The Pareto front of an exploration, seen along any two objectives, a third one as colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dse.figures.base import Figure
from dse.figures.studies import objective_of, read_study
from dse.figures.style import MARKERS, legend_above, plain_log_ticks
from dse.objectives import admissible
from dse.pareto import non_dominated
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D


class Front(Figure):
    """``numbers``: trial, machine, the three objectives' columns, on_front (of all objectives), best_of_two (no trial
    is better in both that span the picture), reported, and perplexity_measured where points were verified.

    Grey points are all other trials within the constraints; the staircase bounds what is dominated along the two axes.
    A plus marks points whose perplexity was measured on the real model; where perplexity is an axis it stands at the
    measured value, with a line to the predicted one.

    Raises:
        InputError: no study in the folder, an unknown objective, the same one twice, or no trial within constraints.
    """

    def __init__(self, study: Any, x: str = "latency", y: str = "energy", colour: str = "perplexity"):
        named = {"x": x, "y": y, "colour": colour}
        found = {field: objective_of(name, field) for field, name in named.items()}
        if len(set(named.values())) < 3:
            raise InputError(f"x, y and colour must be three different objectives, got {', '.join(named.values())}")
        self._x, self._y, self._colour = found.values()
        data = read_study(study)
        columns = [o.column for o in found.values()]
        good = data.trials[admissible(data.trials)]
        if good.empty:
            raise InputError(f"{data.folder}: no trial is within the constraints, there is no front")
        front = data.front.set_index("trial")
        table = good[["trial", "machine", *columns]].reset_index(drop=True)
        table["on_front"] = table["trial"].isin(front.index)
        table["best_of_two"] = non_dominated(np.ascontiguousarray(table[columns[:2]].to_numpy(dtype=float)))
        table["reported"] = table["trial"].isin(front.index[front["reported"].astype(bool)])
        if "perplexity_measured" in front:
            table["perplexity_measured"] = table["trial"].map(front["perplexity_measured"])
        self.numbers = table

    def height_in(self, width_in: float) -> float:
        return 3.1

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        table, x, y, colour = self.numbers, self._x, self._y, self._colour
        rest, front = table[~table["on_front"]], table[table["on_front"]]
        axis.plot(rest[x.column] * x.factor, rest[y.column] * y.factor, ".", color="0.75", ms=2.5, label="other trials")
        stairs = table[table["best_of_two"]].sort_values(x.column)
        axis.step(
            stairs[x.column] * x.factor,
            stairs[y.column] * y.factor,
            where="post",
            color="black",
            lw=0.7,
            ls="--",
            label="best of these two",
            zorder=2,
        )
        limits = front[colour.column].min() * colour.factor, front[colour.column].max() * colour.factor
        for i, (machine, part) in enumerate(front.groupby("machine")):
            drawn = axis.scatter(
                part[x.column] * x.factor,
                part[y.column] * y.factor,
                c=part[colour.column] * colour.factor,
                cmap="cividis",
                vmin=limits[0],
                vmax=limits[1],
                marker=MARKERS[i % len(MARKERS)],
                s=18,
                edgecolor="black",
                linewidth=0.4,
                label=machine,
                gid=MARKERS[i % len(MARKERS)],
                zorder=3,
            )
        self._verified(axis)
        axis.set_xscale("log")
        axis.set_yscale("log")
        plain_log_ticks(axis.xaxis)
        plain_log_ticks(axis.yaxis)
        axis.set_xlabel(x.label)
        axis.set_ylabel(y.label)
        bar = canvas.colorbar(drawn, ax=axis, pad=0.02)
        bar.set_label(f"{colour.label} of the front")
        bar.outline.set_linewidth(0.6)
        handles, labels = axis.get_legend_handles_labels()
        machines = set(front["machine"])
        legend_above(canvas, [_white(h) if n in machines else h for h, n in zip(handles, labels, strict=True)], labels)

    def _verified(self, axis: Axes) -> None:
        if "perplexity_measured" not in self.numbers:
            return
        known = self.numbers[self.numbers["perplexity_measured"].notna()]
        predicted = [known[o.column].to_numpy() * o.factor for o in (self._x, self._y)]
        measured = [
            known["perplexity_measured"].to_numpy() if o.column == "perplexity" else predicted[i]
            for i, o in enumerate((self._x, self._y))
        ]
        between = [np.stack([a, b]) for a, b in zip(predicted, measured, strict=True)]
        axis.plot(*between, color="black", lw=0.6, zorder=4)
        axis.plot(*measured, "+", color="white", ms=8, mew=2.0, zorder=4)  # or it is lost on dark points
        axis.plot(*measured, "+", color="black", ms=7, mew=1.0, label="perplexity measured", zorder=5)


def _white(points: PathCollection) -> Line2D:
    """The marker of coloured points for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker=points.get_gid(), mfc="white", mec="black", mew=0.6, ms=4.5)
