"""How uneven the masks of one or more traces are for lanes: a histogram over their matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dse.figures.base import Figure
from dse.figures.reports import as_list, shortened
from dse.figures.style import DASHES, HATCHES, OKABE_ITO, legend_above
from sim.errors import InputError, nearest
from sim.sparsity.estimate import from_density
from sim.sparsity.grid import DEPTHS, FIFOS, LANES
from sim.sparsity.lanes import ORIENTATIONS
from sim.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

BINS = 25


class Imbalance(Figure):
    """``numbers``: series, low, high (edges of a bin of imbalance), masks (in it), and mean and worst of the series.

    Imbalance: exact cycles of a mask (its profile) over those of lanes that are always equally busy
    (:func:`sim.sparsity.estimate.from_density`); 1 is even. Every weight matrix of the trace counts once.

    Raises:
        InputError: no trace with profiles, an unknown orientation, a lane design that profiles do not hold.
    """

    def __init__(
        self,
        traces: Any,
        lanes: int = 16,
        barrier_depth: int | str = 64,
        orientations: Sequence[str] = ORIENTATIONS,
        assignment: str = "contiguous",
        fifo_depth: int = 0,
    ):
        works = as_list(traces, Trace, "one trace or a list of them")
        orientations = [orientations] if isinstance(orientations, str) else list(orientations)
        for orientation in orientations:
            if orientation not in ORIENTATIONS:
                raise InputError(f"orientation '{orientation}' is unknown, {nearest(orientation, ORIENTATIONS)}")
        names = shortened([work.name for work in works])
        if len(set(names)) < len(names) or len(set(orientations)) < len(orientations) or not orientations:
            raise InputError("give each trace and each orientation once")
        found = {}
        for work, name in zip(works, names, strict=True):
            for orientation in orientations:
                label = f"{orientation} lanes" if len(works) == 1 else f"{name}, {orientation} lanes"
                found[label] = _imbalance(work, lanes, barrier_depth, orientation, assignment, fifo_depth)
        worst = max(values.max() for values in found.values())
        edges = np.linspace(1.0, max(worst, 1.0 + 1e-3) * (1 + 1e-9), BINS + 1)
        self.numbers = pd.concat(
            [
                pd.DataFrame(
                    {
                        "series": label,
                        "low": edges[:-1],
                        "high": edges[1:],
                        "masks": np.histogram(np.maximum(values, 1.0), edges)[0],
                        "mean": values.mean(),
                        "worst": values.max(),
                    }
                )
                for label, values in found.items()
            ],
            ignore_index=True,
        )

    def height_in(self, width_in: float) -> float:
        return 2.5 + 0.16 * self.numbers["series"].nunique() / (1 if width_in < 5 else 2)

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        for i, (label, part) in enumerate(self.numbers.groupby("series", sort=False)):
            edges = np.append(part["low"], part["high"].iloc[-1])
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            axis.stairs(
                part["masks"],
                edges,
                fill=True,
                facecolor="none",
                hatch=HATCHES[1 + i % (len(HATCHES) - 1)],
                edgecolor=colour,
                linestyle=DASHES[i % len(DASHES)],
                linewidth=1.0,
                label=f"{label}: mean {part['mean'].iloc[0]:.2f}, worst {part['worst'].iloc[0]:.2f}",
            )
        axis.set_xlim(self.numbers["low"].min(), self.numbers["high"].max())
        axis.set_ylim(0, self.numbers["masks"].max() * 1.06)
        axis.set_xlabel("cycles over those of even lanes")
        axis.set_ylabel("weight matrices")
        legend_above(canvas, *axis.get_legend_handles_labels())


def _imbalance(
    work: Trace, lanes: int, barrier_depth: int | str, orientation: str, assignment: str, fifo_depth: int
) -> NDArray[np.float64]:
    """[masks] of a trace's weights."""
    if work.profiles is None or not len(work.profiles):
        raise InputError(f"trace '{work.name}' has no profiles: nothing in it is pruned")
    used = np.unique(work.ops.loc[work.ops["profile"] >= 0, "profile"].to_numpy(dtype=np.int64))
    table = work.profiles.take(used)
    cycles = table.cycles(lanes, barrier_depth, orientation, assignment, fifo_depth)
    if cycles is None:
        raise InputError(
            f"profiles hold lanes {', '.join(map(str, LANES))}, barrier_depth {', '.join(map(str, DEPTHS))} and "
            f"fifo_depth {', '.join(map(str, FIFOS))}, got {lanes}, {barrier_depth} and {fifo_depth}"
        )
    owners = table.shapes[:, 0 if orientation == "output" else 1]
    even = from_density(table.nonzeros, owners, lanes, 2.0 if fifo_depth else 1.0)
    return cycles / even
