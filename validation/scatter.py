"""Predicted against reference, a point a row of a validation table: one figure for every table that has both.

References, by name (``AGAINST``):

- ``rtl``: cycles of systolic arrays and zero-skipping lanes in Verilator, all sizes and overlaps; nothing is fitted;
- ``gemmini``: FireSim cycles of a Gemmini SoC; ours with four memory latencies fitted on the *other* layers' rows;
- ``dram``: efficiency of DRAM by DRAMsim3, patterns, maps and device families, against the closed form;
- ``eyeriss``: DRAM compression of the Eyeriss chip; ``eyeriss_v2``: cycles of a processing element of Eyeriss v2;
  ``dstc``: latency of a dual-side sparse tensor core over dense (read from a chart);
- ``zigzag``: energy of whole nests by ZigZag, ours with the words that its exact tiles move;
- ``surrogate``: measured ΔNLL of pruned models that the quality model had not seen, with its 90 % intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.style import MARKERS, OKABE_ITO, legend_above, plain, plain_log_ticks
from sim.errors import InputError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_RTL = Path(__file__).parent / "data" / "rtl"


@dataclass(frozen=True)
class Reference:
    """``rows()``: series, reference, predicted (and half_width of an interval); ``what``: quantity with unit."""

    rows: Callable[[], pd.DataFrame]
    what: str
    reference: str
    log: bool = True


class Scatter(Figure):
    """``numbers``: series, reference, predicted (half_width), and each series' rows, median and largest |error| in %.

    Raises:
        InputError: an unknown reference, or data (there are none to give).
    """

    def __init__(self, data: Any = None, against: str = "rtl"):
        if data is not None:
            raise InputError("validation takes no data, say against='rtl' or another reference")
        if against not in AGAINST:
            raise InputError(f"against '{against}' is unknown, {nearest(against, AGAINST)}")
        self._of = AGAINST[against]
        found = self._of.rows()
        error = 100 * (found["predicted"] / found["reference"] - 1).abs()
        groups = error.groupby(found["series"])
        self.numbers = found.assign(
            rows=groups.transform("size"),
            median_error_percent=groups.transform("median"),
            largest_error_percent=groups.transform("max"),
        ).reset_index(drop=True)

    def height_in(self, width_in: float) -> float:
        return 3.1 + 0.16 * self.numbers["series"].nunique() / (1 if width_in < 5 else 3)

    def draw(self, canvas: Canvas) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axis = canvas.subplots()
        values = self.numbers[["reference", "predicted"]].to_numpy()
        if self._of.log:
            axis.set_xscale("log")
            axis.set_yscale("log")
            ends = values.min() / 1.4, values.max() * 1.4
        else:
            ends = 0.0, values.max() * 1.05
        axis.plot(ends, ends, color="0.5", lw=0.8, zorder=1, label="equal")
        for i, (name, part) in enumerate(self.numbers.groupby("series", sort=False)):
            first = part.iloc[0]
            label = f"{name} ({len(part)}): median {_percent(first['median_error_percent'])}"
            label += f", worst {_percent(first['largest_error_percent'])}"
            axis.errorbar(
                part["reference"],
                part["predicted"],
                yerr=part.get("half_width"),
                fmt=MARKERS[i % len(MARKERS)],
                ms=3.2,
                mew=0.4,
                mec="black",
                lw=0.5,
                color=OKABE_ITO[i % len(OKABE_ITO)],
                label=label,
                zorder=2 + 0.01 * i,
            )
        axis.set(xlim=ends, ylim=ends)
        axis.set_xlabel(f"{self._of.what}, {self._of.reference}")
        axis.set_ylabel(f"{self._of.what}, predicted")
        if self._of.log:
            plain_log_ticks(axis.xaxis)
            plain_log_ticks(axis.yaxis)
        else:
            for one in (axis.xaxis, axis.yaxis):
                one.set_major_locator(MaxNLocator(6))
                one.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        legend_above(canvas, *axis.get_legend_handles_labels())


def _percent(value: float) -> str:
    return f"{value:.3g} %" if value >= 0.05 or value == 0 else "< 0.05 %"


def _series(parts: dict[str, tuple[Any, Any]]) -> pd.DataFrame:
    """Name -> (reference, predicted)."""
    return pd.concat(
        [
            pd.DataFrame({"series": name, "reference": np.asarray(a, float), "predicted": np.asarray(b, float)})
            for name, (a, b) in parts.items()
        ],
        ignore_index=True,
    )


def _rtl() -> pd.DataFrame:
    from validation.rtl import arrays, zero_skip

    systolic, lanes = (pd.read_csv(_RTL / f"own_{name}_cycles.csv") for name in ("arrays", "zero_skip"))
    dense = ~systolic["dataflow"].str.endswith("24")
    return _series(
        {
            "systolic arrays": (systolic["cycles"][dense], arrays.predicted(systolic[dense])),
            "2:4 arrays": (systolic["cycles"][~dense], arrays.predicted(systolic[~dense])),
            "zero-skipping lanes": (lanes["cycles"], zero_skip.predicted(lanes, zero_skip.masks())),
        }
    )


def _gemmini() -> pd.DataFrame:
    from validation.gemmini import leave_one_shape_out, load_runs

    runs = load_runs()
    return _series(
        {
            "Timeloop": (runs["rtl"], runs["timeloop"]),
            "ours, layer left out": (runs["rtl"], leave_one_shape_out(runs)[0]),
        }
    )


def _dram() -> pd.DataFrame:
    from validation.dram import closed_form, saturated

    rows = saturated()
    found = rows.apply(closed_form, axis=1)
    families = dict.fromkeys(rows["family"])
    at = {family: rows["family"] == family for family in families}
    return _series({family: (100 * rows["efficiency"][i], 100 * found[i]) for family, i in at.items()})


def _eyeriss() -> pd.DataFrame:
    from validation.sparseloop.eyeriss import compare

    found = compare()
    return _series({"Sparseloop": (found["chip"], found["sparseloop"]), "ours": (found["chip"], found["ours"])})


def _eyeriss_v2() -> pd.DataFrame:
    from validation.sparseloop.eyeriss_v2 import compare

    found = compare()
    return _series({"Sparseloop": (found["truth"], found["sparseloop"]), "ours": (found["truth"], found["ours"])})


def _dstc() -> pd.DataFrame:
    from validation.sparseloop.dstc import compare

    found = compare()
    found = found[(found["A_density"] < 1) | (found["B_density"] < 1)]
    return _series(
        {"product of densities": (found["chart"], found["product"]), "ours": (found["chart"], found["ours"])}
    )


def _zigzag() -> pd.DataFrame:
    from validation.zigzag.compare import compare

    found = compare().rows
    machines = found["accelerator"].str.partition("[")[0]  # in brackets: what its mapping was free to do
    return _series(
        {
            str(name): (part["zigzag_energy_pj"] * 1e-6, part["energy_pj"] * 1e-6)
            for name, part in found.groupby(machines)
        }
    )


def _surrogate() -> pd.DataFrame:
    from workloads.quality import bundled_surrogate
    from workloads.quality.evaluate import held_out_mixes, held_out_plans

    surrogate = bundled_surrogate()
    parts = []
    for name, held_out, interval in (
        ("recipes", held_out_mixes(), surrogate.of_recipes),
        ("plans, by layer", held_out_plans(), surrogate.of_plans),
    ):
        predicted = held_out["predicted"].to_numpy()
        part = _series({name: (held_out["measured"], predicted)})
        parts.append(part.assign(half_width=interval.half_width(predicted)))
    return pd.concat(parts, ignore_index=True)


AGAINST = {
    "rtl": Reference(_rtl, "cycles", "Verilator"),
    "gemmini": Reference(_gemmini, "cycles", "Gemmini in FireSim"),
    "dram": Reference(_dram, "efficiency (%)", "DRAMsim3", log=False),
    "eyeriss": Reference(_eyeriss, "DRAM compression (×)", "Eyeriss chip", log=False),
    "eyeriss_v2": Reference(_eyeriss_v2, "cycles", "Eyeriss v2 PE", log=False),
    "dstc": Reference(_dstc, "latency over dense", "chart", log=False),
    "zigzag": Reference(_zigzag, "energy (µJ)", "ZigZag"),
    "surrogate": Reference(_surrogate, "ΔNLL (nats)", "measured"),
}
