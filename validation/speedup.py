"""What really pruned masks buy, against sparsity: ``python -m validation.speedup [--write]``.

All 210 matrices of SmolLM2-135M by three pruning methods. Each line is one machine on pruned weights over the same
machine on dense ones; ``--write`` refreshes the table and the figure of ``docs/sparsity.md``.

- output lanes, input lanes: cycles of the array, prefill of 128 tokens, 16 lanes, a barrier every 64 positions;
- 2:4: cycles of the array, the same prefill, on the masks that were pruned to 2:4;
- bitmap decode: time of a decode step on a dense array that loads bitmaps over one LPDDR4 channel (bandwidth only);
- 4 x 4 blocks, 1 x 8 runs: all over those that hold a nonzero, what skipping empty ones would give at best (a count);
- gating: no time; the array's energy (multipliers and registers) of dense weights over that of pruned ones.

:class:`Speedup` is the same as a figure of a paper (``sparchitect figure speedup``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from accel_models import accelerator
from dse.figures.base import Figure
from dse.figures.style import PAGE_IN, legend_above, line_look
from sim.errors import InputError, nearest
from sim.report import Report
from sim.simulate import simulate
from sim.sparsity.profile import BLOCKS, RUNS
from workloads.bundled import profile_tables
from workloads.recipe import LEVELS, METHODS
from workloads.traces import load_trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MODEL = "smollm2_135m"
PAGE = Path(__file__).parents[1] / "docs" / "sparsity.md"
PICTURE = PAGE.with_name("speedup.png")
LINES = ("ideal", "output lanes", "input lanes", "2:4", "bitmap decode", "4x4 blocks", "1x8 runs", "gating (energy)")
_ARRAY = ["compute", "edge", "imbalance", "fill_drain"]
_START, _END = "<!-- speedup -->\n", "<!-- end of speedup -->"


def _report(machine: str, fields: dict[str, Any], variant: str, phase: str = "") -> Report:
    return simulate(accelerator(machine).override(fields), load_trace(f"{MODEL}_{variant}{phase}"))


def _array_cycles(report: Report) -> float:
    gemms = report.table[report.table["kind"] == "gemm"]
    return float(gemms[_ARRAY].to_numpy().sum())


def _seconds(report: Report) -> float:
    return report.seconds


def _array_pj(report: Report) -> float:
    return report.energy["array"]


_MEASURED = {
    "output lanes": ("sparse_lanes", {"sparsity.orientation": "output"}, "", _array_cycles),
    "input lanes": ("sparse_lanes", {"sparsity.orientation": "input"}, "", _array_cycles),
    "2:4": ("nm_24", {}, "", _array_cycles),
    "bitmap decode": ("dense_ws", {"sparsity.format": "bitmap", "dram.channels": 1}, "_decode", _seconds),
    "gating (energy)": ("dense_ws", {"sparsity.gating": "weights"}, "", _array_pj),
}


def table(methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """One row a (method, pattern): sparsity in per cent and the gain of every line (NaN where it has none)."""
    dense = {
        line: read(_report(machine, fields, "dense", phase))
        for line, (machine, fields, phase, read) in _MEASURED.items()
    }
    rows = []
    for method in methods:
        for pattern in (*(str(level) for level in LEVELS), "2_4"):
            profiles = profile_tables(MODEL).index(f"{method}_{pattern}")
            elements = profiles.shapes.prod(axis=1).sum()
            row = {"method": method, "pattern": pattern.replace("_", ":")}
            row["sparsity"] = 100 * (1 - profiles.nonzeros.sum() / elements)
            row["ideal"] = elements / profiles.nonzeros.sum()
            for line, (machine, fields, phase, read) in _MEASURED.items():
                if line != "2:4" or pattern == "2_4":
                    row[line] = dense[line] / read(_report(machine, fields, f"{method}_{pattern}", phase))
            row["4x4 blocks"] = _over_filled(profiles.shapes, (4, 4), profiles.empty_blocks[:, BLOCKS.index(4)])
            row["1x8 runs"] = _over_filled(profiles.shapes, (1, 8), profiles.empty_runs[:, RUNS.index(8)])
            rows.append(row)
    return pd.DataFrame(rows)[["method", "pattern", "sparsity", *LINES]]


def _over_filled(shapes: np.ndarray, tile: tuple[int, int], empty: np.ndarray) -> float:
    """Tiles of all masks over those that are not empty."""
    tiles = (np.ceil(shapes[:, 0] / tile[0]) * np.ceil(shapes[:, 1] / tile[1])).sum()
    return float(tiles / (tiles - empty.sum()))


class Speedup(Figure):
    """Gain against sparsity, a panel a method, the ideal 1 / (1 - s) dashed; 2:4 at its own masks.

    ``numbers``: :func:`table` of these ``methods`` (default Wanda) and ``lines`` (of :data:`LINES`; default all).

    Raises:
        InputError: an unknown method or line, or data that are no such table.
    """

    def __init__(
        self, found: Any = None, methods: Sequence[str] = ("wanda",), lines: Sequence[str] | None = None
    ) -> None:
        chosen = [methods] if isinstance(methods, str) else list(methods)
        self._lines = [line for line in LINES if line != "ideal"] if lines is None else [*dict.fromkeys(lines)]
        for what, given, known in (("method", chosen, METHODS), ("line", self._lines, LINES[1:])):
            for name in given:
                if name not in known:
                    raise InputError(f"{what} '{name}' is unknown, {nearest(name, known)}")
            if not given:
                raise InputError(f"speedup needs at least one {what}")
        if found is None:
            found = table(chosen)
        elif not isinstance(found, pd.DataFrame) or not {"method", "pattern", "sparsity", *self._lines} <= set(found):
            raise InputError("speedup takes the table of validation.speedup.table(), or nothing")
        kept = found[found["method"].isin(chosen)]
        self.numbers = kept[["method", "pattern", "sparsity", "ideal", *self._lines]].reset_index(drop=True)

    def _down(self, width_in: float) -> int:
        return self.numbers["method"].nunique() if width_in < PAGE_IN else 1

    def height_in(self, width_in: float) -> float:
        return 1.0 + 1.9 * self._down(width_in)

    def draw(self, canvas: Canvas) -> None:
        methods = list(dict.fromkeys(self.numbers["method"]))
        down = self._down(canvas.get_figwidth())
        panels = canvas.subplots(down, len(methods) // down, sharey=True, sharex=True, squeeze=False).ravel()
        most = 1.03 * self.numbers["sparsity"].max()
        smooth = np.linspace(0, most, 100)
        for panel, method in zip(panels, methods, strict=True):
            part = self.numbers[self.numbers["method"] == method]
            panel.plot(smooth, 100 / (100 - smooth), "k--", linewidth=1.0, label="ideal 1 / (1 - s)")
            for line in self._lines:
                points = part[(part["pattern"] == "2:4") == (line == "2:4")]
                look = line_look(LINES.index(line) - 1)
                panel.plot(points["sparsity"], points[line], label=line, **look)
            panel.set(title=method, xlim=(0, most), ylim=(0.85, None))
        for panel in panels[-1:] if down > 1 else panels:
            panel.set_xlabel("sparsity (%)")
        panels[down // 2 if down > 1 else 0].set_ylabel("gain over dense weights (×)")
        legend_above(canvas, *panels[0].get_legend_handles_labels())


def markdown(found: pd.DataFrame) -> str:
    """The table as it stands in the page."""
    lines = ["| method | sparsity | " + " | ".join(LINES) + " |", "|---|---:|" + "---:|" * len(LINES)]
    for row in found.to_dict("records"):
        name = f"{row['sparsity']:.0f} %" + (" (2:4)" if row["pattern"] == "2:4" else "")
        gains = ("" if np.isnan(row[line]) else f"{row[line]:.2f}" for line in LINES)
        lines.append(f"| {row['method']} | {name} | " + " | ".join(gains) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table; ``--write`` refreshes the page and its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="refresh docs/sparsity.md and its figure")
    found = table()
    text = markdown(found)
    print(text)
    if parser.parse_args().write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(_START)
        PAGE.write_text(before + _START + text + _END + rest.split(_END)[1], encoding="utf-8")
        temporary = PICTURE.with_name(f".{PICTURE.name}")
        temporary.write_bytes(Speedup(found, METHODS).png(PAGE_IN))
        os.replace(temporary, PICTURE)


if __name__ == "__main__":
    main()
