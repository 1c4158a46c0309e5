"""How far estimates of lane cycles were from walks over real masks, for the labels of reports.

``data/estimate_errors.csv`` has a row an estimate, orientation, assignment and kind of waiting (barrier, FIFO,
stealing); ``python -m validation.estimate_errors --write`` measures it again.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "data" / "estimate_errors.csv"
COLUMNS = (
    "estimate", "orientation", "assignment", "waiting",
    "median_percent", "p90_percent", "worst_percent", "mean_percent", "walks",
)  # fmt: skip
ESTIMATES = {
    "counts": "estimate: maximum entropy from row and column counts",
    "density": "estimate: density, lanes assumed balanced",
}
EXACT = "row and column counts (exact)"


def waiting(settings: dict[str, Any]) -> str:
    """What lanes of this design wait for: "barrier", "fifo" or "stealing"."""
    if settings["stealing"] != "none":
        return "stealing"
    return "fifo" if settings["fifo_depth"] else "barrier"


@cache
def errors() -> dict[tuple[str, ...], dict[str, float]]:
    """Errors in per cent of the walk, by estimate, orientation, assignment and kind of waiting."""
    with TABLE.open(newline="", encoding="utf-8") as stream:
        return {
            tuple(row[c] for c in COLUMNS[:4]): {c: float(row[c]) for c in COLUMNS[4:]}
            for row in csv.DictReader(stream)
        }


def label(estimate: str, settings: dict[str, Any]) -> str:
    """What a report calls cycles of the lane design ``settings`` (:func:`sim.sparsity.lanes.walk`) found by
    ``estimate`` ("counts" or "density"), with the error that was measured on real masks."""
    key = (estimate, settings["orientation"], settings["assignment"], waiting(settings))
    if estimate == "counts" and settings["barrier_depth"] == "full" and settings["stealing"] == "none":
        return EXACT
    found = errors()[key]
    median, most = (_percent(found[f"{name}_percent"]) for name in ("median", "p90"))
    return f"{ESTIMATES[estimate]}; off by {median} in the median, {most} at the 90th percentile, on real masks"


def _percent(value: float) -> str:
    return "under 0.1 %" if value < 0.1 else f"{value:.1f} %"
