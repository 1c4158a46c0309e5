"""Where the time of one or more runs goes: stacked by cause, or by op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.figures.reports import as_reports, names_of, op_groups
from dse.figures.stacked import StackedBars
from sim.counts import CAUSES, named
from sim.errors import InputError, nearest
from sim.report import Report

BY = ("cause", "op")


class Latency(StackedBars):
    """``numbers``: bar, part, seconds. ``by="cause"``: every cycle has one cause; ``"op"``: layers of one op together.

    Raises:
        InputError: no reports, an unknown ``by``, labels that do not fit.
    """

    column, unit, label = "seconds", "s", "time"

    def __init__(self, reports: Any, by: str = "cause", labels: Sequence[str] | None = None):
        found = as_reports(reports)
        if by not in BY:
            raise InputError(f"by must be cause or op, got '{by}', {nearest(by, BY)}")
        bars = {
            name: _causes(report) if by == "cause" else _ops(report)
            for name, report in zip(names_of(found, labels), found, strict=True)
        }
        self.set_bars(bars, every_cause(found) if by == "cause" else ())


def _causes(report: Report) -> dict[str, float]:
    return {name: cycles / (report.clock_ghz * 1e9) for name, cycles in report.stalls.items()}


def _ops(report: Report) -> dict[str, float]:
    cycles = report.columns[:, 0]
    return {name: float(cycles[rows].sum()) / (report.clock_ghz * 1e9) for name, rows in op_groups(report).items()}


def every_cause(reports: Sequence[Report]) -> list[str]:
    """All causes of all the machines' levels, in the order in which they are counted."""
    return list(dict.fromkeys(name for r in reports for name in named(CAUSES, r.levels).values()))
