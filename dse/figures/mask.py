"""A piece of a real mask as lanes see it, and the work that each lane has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dse.figures.base import Figure
from dse.figures.style import OKABE_ITO, legend_above
from sim.compute.arguments import whole
from sim.errors import InputError, nearest
from sim.sparsity import lanes as lane_model
from sim.sparsity.lane_order import lane_groups
from sim.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST = 4096  # owners or positions in a picture


class Mask(Figure):
    """``numbers``: group, lane, owner, nonzeros (of the positions shown), group_cycles (what all lanes of the group
    take, barriers included), kept (the owner's positions as 0 and 1).

    ``source``: a trace whose file holds masks (``sparchitect prune`` writes such), or one mask, out x in. ``op``: which
    of the trace's, default the first. Lanes own rows of the picture (output features, or input features for
    ``orientation="input"``), in the order in which groups of ``lanes`` take them; ``rows`` owners and ``columns``
    positions from the first on. No FIFO; :mod:`sim.sparsity.lanes` has the recurrence.

    Raises:
        InputError: no masks, an op without one, a setting out of range.
    """

    def __init__(
        self,
        source: Any,
        op: str | None = None,
        lanes: int = 16,
        barrier_depth: int | str = 64,
        orientation: str = "output",
        assignment: str = "contiguous",
        rows: int = 64,
        columns: int = 256,
    ):
        mask, name = _mask_of(source, op)
        owned = lane_model.owners_first(mask, orientation) != 0
        lanes, rows, columns = (
            int(whole(what, value)) for what, value in (("lanes", lanes), ("rows", rows), ("columns", columns))
        )
        for what, value in (("rows", rows), ("columns", columns)):
            if value > MOST:
                raise InputError(f"{what} must be at most {MOST}, got {value}")
        order = lane_groups(len(owned), lanes, assignment)
        groups = min(-(-rows // lanes), len(order))
        self._depth = lane_model.positions_between(barrier_depth, owned.shape[1])
        self._lanes, self._name, self._orientation = lanes, name, orientation
        found = []
        for group in range(groups):
            owners = order[group][order[group] >= 0]
            shown = owned[owners, :columns]
            cycles = int(lane_model.cycles(lane_model.tile_counts(shown, barrier_depth), 0))
            found += [
                (group, lane, owner, int(kept.sum()), cycles, "".join("1" if k else "0" for k in kept))
                for lane, (owner, kept) in enumerate(zip(owners.tolist(), shown, strict=True))
            ]
        names = ["group", "lane", "owner", "nonzeros", "group_cycles", "kept"]
        self.numbers = pd.DataFrame(found, columns=names).iloc[:rows]

    def height_in(self, width_in: float) -> float:
        positions = len(self.numbers["kept"].iloc[0])
        return float(np.clip((width_in - 1.8) * len(self.numbers) / positions + 1.3, 2.4, 4.8))

    def draw(self, canvas: Canvas) -> None:
        from matplotlib.ticker import MaxNLocator

        picture, loads = canvas.subplots(1, 2, sharey=True, width_ratios=[2.4, 1])
        table = self.numbers
        kept = np.array([[bit == "1" for bit in line] for line in table["kept"]])
        picture.imshow(kept, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for barrier in range(self._depth, kept.shape[1], self._depth):
            picture.axvline(barrier - 0.5, color=OKABE_ITO[1], lw=0.8)
        at = np.arange(len(table))
        even = table["group"].to_numpy() % 2 == 0
        loads.barh(at, table["nonzeros"], 1.0, color=np.where(even, OKABE_ITO[0], OKABE_ITO[5]))
        loads.step(
            np.append(table["group_cycles"], table["group_cycles"].iloc[-1]),
            np.append(at, len(at)) - 0.5,
            where="pre",
            color="black",
            lw=1.0,
        )
        for axis in (picture, loads):
            for edge in np.flatnonzero(np.diff(table["group"])) + 0.5:
                axis.axhline(edge, color=OKABE_ITO[1], lw=0.8, ls="--")
            axis.grid(visible=False)
        loads.set_xlim(0, table["group_cycles"].max() * 1.08)
        loads.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        picture.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        walked = "input" if self._orientation == "output" else "output"
        picture.set_xlabel(f"{walked} feature (position)")
        picture.set_ylabel(f"{self._orientation} feature (lane)")
        loads.set_xlabel("cycles")
        picture.set_title(self._name)
        legend_above(canvas, *_legend())


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color=OKABE_ITO[0]),
        Line2D([], [], color="black", lw=1.0),
        Line2D([], [], color=OKABE_ITO[1], lw=0.8),
        Line2D([], [], color=OKABE_ITO[1], lw=0.8, ls="--"),
    ], ["nonzeros of a lane", "time of its group", "barrier", "lane group"]


def _mask_of(source: Any, op: str | None) -> tuple[NDArray[np.bool_], str]:
    """The mask and what to call it."""
    if not isinstance(source, Trace):
        if op is not None:
            raise InputError("op goes with a trace, not with one mask")
        found = np.asarray(source)
        if found.dtype == object or found.ndim != 2 or not found.size:
            raise InputError(f"this figure needs a trace with masks, or a mask (out x in), got {type(source).__name__}")
        return found != 0, f"{found.shape[0]} × {found.shape[1]}"
    if not source.masks:
        raise InputError(f"trace '{source.name}' has no masks in it; 'sparchitect prune' writes a trace that has them")
    masked = source.ops[source.ops["profile"] >= 0].set_index("name")["profile"]
    chosen = str(masked.index[0]) if op is None else op
    if chosen not in masked.index:
        raise InputError(f"op '{chosen}' has no mask, {nearest(chosen, masked.index)[:200]}")
    return source.masks[int(masked[chosen])], chosen
