"""Ops of one or more runs against their machines' roofs (Williams, Waterman and Patterson, CACM 52(4), 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.reports import as_reports, names_of, op_groups
from dse.figures.style import DASHES, MARKERS, OKABE_ITO, legend_above, plain_log_ticks
from sim.counts import INDEX
from sim.designs import D_DRAM_BPC
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_NAMED = 5  # ops of each run that are named on the page's width, those that take longest


class Roofline(Figure):
    """``numbers``: bar (run), op, ops_per_byte, gops (reached), share (of the run's time), peak_gops, dram_gb_per_s.

    Operations are two a MAC done (skipped and gated zeros do not count), bytes are those of DRAM; layers of one op are
    one point, its area the share of the run's time. Ops without a MAC are left out; those that touch no DRAM have
    infinite ``ops_per_byte`` and are drawn at the right edge.

    Raises:
        InputError: no reports, labels that do not fit, or no op with a MAC.
    """

    def __init__(self, reports: Any, labels: Sequence[str] | None = None):
        found = as_reports(reports)
        self._bars = names_of(found, labels)
        rows = []
        for name, report in zip(self._bars, found, strict=True):
            ghz, total = report.clock_ghz, report.columns[:, 0].sum()
            for op, at in op_groups(report).items():
                row = report.columns[at].sum(axis=0)
                done, moved = 2.0 * row[INDEX["macs"]], row[INDEX["dram_read_bytes"]] + row[INDEX["dram_write_bytes"]]
                if done > 0:
                    rows.append(
                        {
                            "bar": name,
                            "op": op,
                            "ops_per_byte": done / moved if moved > 0 else np.inf,
                            "gops": done / row[0] * ghz,
                            "share": row[0] / total,
                            "peak_gops": report.spec.peak_tops * 1e3,
                            "dram_gb_per_s": report.detail.kernel[D_DRAM_BPC] * ghz,
                        }
                    )
        if not rows:
            raise InputError("nothing to draw: no op has a MAC")
        self.numbers = pd.DataFrame(rows)

    def height_in(self, width_in: float) -> float:
        return 2.7 + 0.14 * (len(self._bars) // (2 if width_in < 5 else 4))

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        table = self.numbers
        ridge = table["peak_gops"] / table["dram_gb_per_s"]
        known = table["ops_per_byte"][np.isfinite(table["ops_per_byte"])]
        low, high = min([*known, *ridge]) / 2.5, max([*known, *ridge]) * 3
        x = np.geomspace(low, high, 200)
        for i, bar in enumerate(self._bars):
            part = table[table["bar"] == bar]
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            peak, bandwidth = part[["peak_gops", "dram_gb_per_s"]].iloc[0]
            axis.plot(x, np.minimum(peak, bandwidth * x), color=colour, ls=DASHES[i % len(DASHES)], zorder=2)
            axis.scatter(
                part["ops_per_byte"].clip(upper=high / 1.15),
                part["gops"],
                s=12 + 90 * part["share"],
                facecolor=(colour, 0.25),  # hardly filled: points of several runs lie on each other
                edgecolor=colour,
                marker=MARKERS[i % len(MARKERS)],
                linewidth=0.9,
                label=bar,
                zorder=3,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlim(low, high)
        axis.set_ylim(table["gops"].min() / 2, table["peak_gops"].max() * 1.8)
        axis.set_xlabel("operations per DRAM byte")
        axis.set_ylabel("useful Gop/s\n(skipped zeros not counted)")
        plain_log_ticks(axis.xaxis)
        plain_log_ticks(axis.yaxis)
        handles, labels = axis.get_legend_handles_labels()
        legend_above(canvas, [_fixed_size(h) for h in handles], labels)
        if len(self._bars) == 1:
            _name_points(axis, table, high / 1.15)


def _fixed_size(handle: Any) -> Any:
    handle.set_sizes([24])
    return handle


def _name_points(axis: Axes, table: pd.DataFrame, edge: float) -> None:
    """Names beside the ops that take longest, one after another where the last one's name leaves room."""
    taken: list[tuple[float, float]] = []
    for row in table.nlargest(_NAMED + 4, "share").itertuples():
        x, y = np.log10([min(row.ops_per_byte, edge), row.gops])
        if len(taken) < _NAMED and all(abs(x - a) > 0.9 or abs(y - b) > 0.16 for a, b in taken):
            taken.append((x, y))
            left = row.ops_per_byte >= edge or x > np.log10(axis.get_xlim()).mean()
            axis.annotate(
                row.op,
                (10**x, 10**y),
                xytext=(-5, -3) if left else (5, -3),
                textcoords="offset points",
                ha="right" if left else "left",
                va="top",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4},
                zorder=2.5,  # over the roof, under the points
            )
