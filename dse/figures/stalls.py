"""Why each group of ops of one run takes its time: shares by cause."""

from __future__ import annotations

from typing import Any

from dse.figures.latency import every_cause
from dse.figures.reports import as_reports, op_groups
from dse.figures.stacked import StackedBars
from sim.counts import CAUSES, INDEX, named
from sim.errors import InputError

SHOWN = 12  # op groups, those that take longest


class Stalls(StackedBars):
    """``numbers``: bar (op group, with its share of the time), part (cause), percent of the group's time.

    The first bar is the whole run; then the groups that take longest, at most :data:`SHOWN`.

    Raises:
        InputError: not exactly one report.
    """

    column, unit, label = "percent", None, "share of the time (%)"

    def __init__(self, report: Any):
        found = as_reports(report)
        if len(found) != 1:
            raise InputError(f"stalls draws one report, op group by op group, got {len(found)}")
        run = found[0]
        causes = named(CAUSES, run.levels)
        total = run.columns[:, 0].sum()
        sums = {name: run.columns[rows].sum(axis=0) for name, rows in op_groups(run).items()}
        longest = sorted(sums, key=lambda name: -sums[name][0])[:SHOWN]
        bars = {"all ops": run.columns.sum(axis=0)}
        bars |= {f"{name} ({100 * sums[name][0] / total:.0f} %)": sums[name] for name in longest if sums[name][0] > 0}
        self.set_bars(
            {
                bar: {name: 100 * row[INDEX[cause]] / row[0] for cause, name in causes.items()}
                for bar, row in bars.items()
            },
            every_cause(found),
        )
