"""When the tiles of one op load, compute and store: the timeline engine's own times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.reports import as_reports
from dse.figures.style import bar_look, prefixed
from sim.errors import InputError, nearest
from sim.perfetto import THREADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ACTIVITIES = dict(zip(THREADS[1:4], (0, 2, 4), strict=True))
"""Row of the picture -> column of its start in ``Events.times``; the end follows."""
_LOOKS = 4  # tiles that follow each other and look different
_NUMBER_IN = 0.13  # width of a bar that a tile's number needs, a digit


class Gantt(Figure):
    """``numbers``: op, tile (from 1), activity, start_s, end_s after the op's start.

    ``op``: a GEMM's name; default the one that takes longest. ``tiles`` of them from the ``first`` on; those of an op's
    first repetition. Activities that take no time are left out.

    Raises:
        InputError: not one report of the timeline engine, an op that is not in it or has no tiles, ``tiles`` or
            ``first`` below 1 or beyond the op's.
    """

    def __init__(self, report: Any, op: str | None = None, tiles: int = 24, first: int = 1):
        found = as_reports(report)
        if len(found) != 1:
            raise InputError(f"gantt draws one report, got {len(found)}")
        run = found[0]
        if not run.events:
            raise InputError(f"a report of the {run.engine} engine has no tile times, simulate with engine='timeline'")
        gemms = {event.op: event for event in run.events if event.kind != "vector"}
        if not gemms:
            raise InputError("gantt: the trace has no GEMM, only those have tiles")
        if op is None:
            longest = [e.op for e in run.events]
            op = max(gemms, key=lambda name: run.columns[longest.index(name), 0])
        if op not in gemms:
            raise InputError(f"op '{op}' is no GEMM of this report, {nearest(op, gemms)[:200]}")
        times = gemms[op].times
        for name, value, most in (("first", first, len(times)), ("tiles", tiles, None)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most and value > most):
                limit = f"between 1 and {most}" if most else "a whole number >= 1"
                raise InputError(f"{name} must be {limit}, got {value!r}")
        shown = range(first, min(first + tiles, len(times) + 1))
        per_second = run.clock_ghz * 1e9
        self.numbers = pd.DataFrame(
            [
                (op, tile, activity, *(times[tile - 1, at : at + 2] / per_second))
                for activity, at in ACTIVITIES.items()
                for tile in shown
                if times[tile - 1, at + 1] > times[tile - 1, at]
            ],
            columns=["op", "tile", "activity", "start_s", "end_s"],
        )
        self._title = f"{op} on {run.machine}: tiles {shown[0]}–{shown[-1]} of {len(times)}"

    def height_in(self, width_in: float) -> float:
        return 1.75

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        begin, end = self.numbers["start_s"].min(), self.numbers["end_s"].max()
        factor, unit = prefixed(float(end), "s")
        inches = (canvas.get_figwidth() - 1.1) / (end - begin)
        for row, activity in enumerate(ACTIVITIES):
            part = self.numbers[self.numbers["activity"] == activity]
            lanes = _lanes(part["start_s"].to_numpy(), part["end_s"].to_numpy())
            height = 0.7 / (lanes.max(initial=0) + 1)
            for piece, lane in zip(part.itertuples(), lanes, strict=True):
                low, length = row - 0.35 + lane * height, piece.end_s - piece.start_s
                axis.broken_barh([(piece.start_s * factor, length * factor)], (low, height), **_look(piece.tile))
                if length * inches > _NUMBER_IN * len(str(piece.tile)) and lanes.max() == 0:
                    axis.text(
                        (piece.start_s + length / 2) * factor,
                        low + height / 2,
                        str(piece.tile),
                        ha="center",
                        va="center",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                    )
        axis.set_yticks(range(len(ACTIVITIES)), list(ACTIVITIES))
        axis.set_ylim(len(ACTIVITIES) - 0.5, -0.5)
        axis.set_xlim(begin * factor, end * factor)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"time since the op's start ({unit})")
        canvas.suptitle(self._title)


def _look(tile: int) -> dict[str, Any]:
    return bar_look((tile - 1) % _LOOKS)


def _lanes(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """For each of some intervals the first row in which it overlaps none before it."""
    free: list[float] = []
    found = np.zeros(len(starts), dtype=np.int64)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        lane = next((j for j, since in enumerate(free) if since <= start * (1 + 1e-12)), len(free))
        free[lane : lane + 1] = [end]
        found[i] = lane
    return found
