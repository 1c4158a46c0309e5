"""Where the energy of one or more runs goes: stacked by component, or by op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.figures.reports import as_reports, names_of, op_groups
from dse.figures.stacked import StackedBars
from sim.cost import energy as energy_model
from sim.counts import COLUMNS
from sim.errors import InputError, nearest
from sim.report import Report

BY = ("component", "op")


class Energy(StackedBars):
    """``numbers``: bar, part, joules, with leakage and DRAM background. ``by="op"``: layers of one op together, each
    with the leakage and background of its own time.

    Raises:
        InputError: no reports, an unknown ``by``, labels that do not fit.
    """

    column, unit, label = "joules", "J", "energy"

    def __init__(self, reports: Any, by: str = "component", labels: Sequence[str] | None = None):
        found = as_reports(reports)
        if by not in BY:
            raise InputError(f"by must be component or op, got '{by}', {nearest(by, BY)}")
        bars = {
            name: _components(report) if by == "component" else _ops(report)
            for name, report in zip(names_of(found, labels), found, strict=True)
        }
        every = dict.fromkeys(part for r in found for part in energy_model.components(r.levels))
        self.set_bars(bars, list(every) if by == "component" else ())


def _components(report: Report) -> dict[str, float]:
    return {name: pj * 1e-12 for name, pj in report.energy.items()}


def _ops(report: Report) -> dict[str, float]:
    counts = {name: report.columns[None, :, i] for i, name in enumerate(COLUMNS)}
    pj = sum(energy_model.energy(report.designs, counts, counts["cycles"]).values())[0]
    return {name: float(pj[rows].sum()) * 1e-12 for name, rows in op_groups(report).items()}
