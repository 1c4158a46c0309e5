"""Stacked horizontal bars: what latency, energy, stall and area breakdowns share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.style import bar_look, distinct_looks, legend_above, prefixed
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SMALL = 0.01  # parts below this share of every bar are drawn together as "other"
MOST = 12  # parts that a legend can name; the smallest of more join "other"


class StackedBars(Figure):
    """Bars of parts that add up. ``numbers``: columns bar, part and ``column`` (e.g. ``seconds``), one row a piece.

    A part's colour is that of its place in the list of possible parts, drawn or not, unless a part before it has it: so
    figures of one kind agree as far as they can.
    """

    column: str
    unit: str | None
    """Decimal prefixes are chosen for it; None: values are drawn as they are."""
    label: str

    def set_bars(self, bars: Mapping[str, Mapping[str, float]], order: Sequence[str] = ()) -> None:
        """``bars``: name -> part -> value >= 0. ``order``: all parts there may be; others follow as they come."""
        parts = list(dict.fromkeys([*order, *(part for bar in bars.values() for part in bar)]))
        values = np.array([[bar.get(part, 0.0) for part in parts] for bar in bars.values()], dtype=np.float64)
        if not values.sum() > 0:
            raise InputError(f"nothing to draw: every {self.column} is zero")
        largest = (values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)).max(axis=0)
        small = largest <= max(SMALL, np.sort(largest)[-MOST - 1] if len(parts) > MOST else 0.0)
        if np.count_nonzero(small & (largest > 0)) < 2:  # one small part needs no other name
            small = largest == 0
        drawn = np.flatnonzero(~small).tolist()
        kept = {parts[i]: values[:, i] for i in drawn}
        rest = values[:, small].sum(axis=1)
        if rest.any():
            kept["other"] = rest
            drawn.append(len(parts))
        self._looks = distinct_looks(drawn)
        self._bars = list(bars)
        rows = [(bar, part, kept[part][i]) for i, bar in enumerate(self._bars) for part in kept]
        self.numbers = pd.DataFrame(rows, columns=["bar", "part", self.column])

    def height_in(self, width_in: float) -> float:
        parts = self.numbers["part"].nunique()
        return 0.75 + 0.25 * len(self._bars) + 0.16 * np.ceil(parts / (2 if width_in < 5 else 5))

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        wide = self.numbers.pivot(index="part", columns="bar", values=self.column)
        parts = list(dict.fromkeys(self.numbers["part"]))
        longest = float(wide.sum().max())
        factor, unit = (1.0, "") if self.unit is None else prefixed(longest, self.unit)
        start, at = np.zeros(len(self._bars)), np.arange(len(self._bars))
        for look, part in zip(self._looks, parts, strict=True):
            length = wide.loc[part, self._bars].to_numpy() * factor
            axis.barh(at, length, 0.68, left=start, label=part.replace("_", " "), **bar_look(look))
            start = start + length
        axis.set_yticks(at, self._bars)
        axis.set_ylim(len(at) - 0.5, -0.5)
        axis.set_xlim(0, start.max() * 1.03)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"{self.label} ({unit})" if unit else self.label)
        legend_above(canvas, *axis.get_legend_handles_labels())
