"""Where the area of one or more machines goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.figures.reports import as_list, checked_labels, names_of
from dse.figures.stacked import StackedBars
from sim.cost.area import area
from sim.designs import Designs
from sim.report import Report
from sim.spec import Accelerator


class Area(StackedBars):
    """``numbers``: bar, part, mm2. Takes machines, or the reports of their runs. The DRAM PHY is a part of its own.

    Raises:
        InputError: neither, or labels that do not fit.
    """

    column, unit, label = "mm2", None, "area (mm²)"

    def __init__(self, machines: Any, labels: Sequence[str] | None = None):
        found = as_list(machines, (Accelerator, Report), "one machine or report, or a list of them")
        specs = [one.spec if isinstance(one, Report) else one for one in found]
        if labels is None and all(isinstance(one, Report) for one in found):
            names = names_of(found)
        else:
            names = checked_labels([s.name for s in specs] if labels is None else labels, len(found))
        parts = [{k: float(v[0]) for k, v in area(Designs.from_machines([s])).items()} for s in specs]
        self.set_bars(dict(zip(names, parts, strict=True)), list(dict.fromkeys(k for p in parts for k in p)))
