"""A trace with its masks in another order: profiles made again, and what is not absorbed paid at run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.compute.arguments import code, whole
from sim.errors import InputError, nearest
from sim.sparsity.lane_order import ALL as ASSIGNMENTS
from sim.sparsity.lanes import ORIENTATIONS
from sim.sparsity.profile import ProfileTable, profile
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, SIDES, Arrangement
from sim.sparsity.reorder.balance import balance
from sim.sparsity.reorder.cluster import Tile, checked_tile, cluster
from sim.sparsity.reorder.cost import RUNTIMES, gather, index_bytes, scatter
from sim.sparsity.reorder.dimensions import arrangement_of
from sim.sparsity.reorder.pattern import fit
from sim.trace import NUMBERS, TEXTS, Op, Trace, sparse_columns

METHODS = {"balance": "lane cycles", "cluster": "empty tiles", "n_of_m": "violated groups"}
"""Method to what it counts."""


@dataclass(frozen=True)
class Reordered:
    """Masks in their new order, the settings, and the count of the method's objective before and after."""

    work: Arrangement
    settings: dict[str, Any]
    before: float
    after: float


def settings_of(
    method: str = "balance",
    *,
    lanes: int = 16,
    barrier_depth: int | str = 64,
    orientation: str = "output",
    assignment: str = "contiguous",
    fifo_depth: int = 0,
    empty_tile_cycles: int = 1,
    stealing: str = "none",
    tile: Tile = (16, 16),
    n_of_m: str = "2:4",
    paid: str | Sequence[str] = (),
) -> dict[str, Any]:
    """What :func:`reorder` is asked for, as plain data: the method, its own settings, and who pays."""
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got '{method}', {nearest(method, METHODS)}")
    mine: dict[str, Any]
    if method == "balance":
        mine = {
            "lanes": int(whole("lanes", lanes)),
            "barrier_depth": barrier_depth,
            "orientation": ORIENTATIONS[int(code("orientation", orientation, ORIENTATIONS))],
            "assignment": ASSIGNMENTS[int(code("assignment", assignment, ASSIGNMENTS))],
            "fifo_depth": int(whole("fifo_depth", fifo_depth, 0)),
            "empty_tile_cycles": empty_tile_cycles,
            "stealing": stealing,
        }
    elif method == "cluster":
        mine = {"tile": list(checked_tile(tile))}
    else:
        n, _, m = str(n_of_m).partition(":")
        if not (n.isdecimal() and m.isdecimal() and 0 < int(n) < int(m)):
            raise InputError(f"n_of_m must look like '2:4' with 0 < n < m, got '{n_of_m}'")
        mine = {"n_of_m": f"{int(n)}:{int(m)}"}
    return {"method": method, **mine, "paid": paid if isinstance(paid, str) else sorted(paid)}


def arrange(trace: Trace, method: str = "balance", **options: Any) -> Reordered:
    """Orders of the trace's masks by one method; arguments and errors as :func:`reorder`."""
    settings = settings_of(method, **options)
    work = arrangement_of(trace, settings["paid"])
    if method == "balance":
        mine = {key: value for key, value in settings.items() if key not in ("method", "paid")}
        before, after = balance(work, mine)
    elif method == "cluster":
        before, after = cluster(work, tuple(settings["tile"]))
    else:
        n, m = map(int, settings["n_of_m"].split(":"))
        before, after = fit(work, n, m)
    return Reordered(work, settings, before, after)


def reorder(trace: Trace, method: str = "balance", *, runtime: str = "vector", **options: Any) -> Trace:
    """``trace`` with its masks reordered by ``method``, re-profiled, and with the run-time cost that is not absorbed.

    Args:
        method: "balance" for lanes of ``lanes``, ``barrier_depth``, ``orientation``, ``assignment``, ``fifo_depth``,
            ``empty_tile_cycles``, ``stealing`` (as :func:`sim.sparsity.lanes.walk`); "cluster" for empty tiles of
            ``tile`` (out x in); "n_of_m" for masks that fit ``n_of_m``.
        runtime: who pays for an order that is not absorbed: "vector" ops that move activations, or "indexed" buffers
            that only fetch the index table (:mod:`sim.sparsity.reorder.cost`).
        options: the above, and ``paid``: dimensions (:func:`~sim.sparsity.reorder.dimensions.dimension_names`, or
            "all") whose matrices each take an order of their own and pay for it; by default neighbours share an order.

    Returns:
        A new trace; ``meta["reorder"]`` lists every step: settings, objective before and after, sides that pay. A trace
        that has been reordered so already comes back as it is; a side pays once however often it is reordered.

    Raises:
        InputError: a trace without masks, an unknown name, a number out of range.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"runtime must be one of {', '.join(RUNTIMES)}, got '{runtime}', {nearest(runtime, RUNTIMES)}")
    settings = settings_of(method, **options)
    if any(step["settings"] == settings for step in trace.meta.get("reorder", [])):
        return trace
    return applied(trace, arrange(trace, method, **options), runtime)


def applied(trace: Trace, found: Reordered, runtime: str = "vector") -> Trace:
    """``trace`` with the orders that :func:`arrange` found for it; see :func:`reorder`."""
    earlier = list(trace.meta.get("reorder", []))
    assert trace.masks is not None and trace.profiles is not None
    paid = _paid_sides(found.work)
    charged = {tuple(side) for step in earlier for side in step["pays"]}
    moved = [i for i, mask in enumerate(found.work.masks) if mask is not trace.masks[i]]
    profiles = {i: profile(found.work.masks[i]) for i in moved}
    rows: list[dict[str, Any]] = []
    pays: list[list[str]] = []
    for row in trace.ops.to_dict("records"):
        mask = int(row["profile"])
        if mask in profiles:
            row |= sparse_columns(profiles[mask])
        sides = [side for side in paid.get(mask, ()) if (row["name"], SIDES[side]) not in charged]
        pays += [[row["name"], SIDES[side]] for side in sides]
        rows += _with_cost(row, sides, runtime)
    step = {
        "settings": found.settings, "counts": METHODS[found.settings["method"]], "before": found.before,
        "after": found.after, "runtime": runtime, "pays": pays,
    }  # fmt: skip
    kept = [trace.profiles[i] for i in range(len(trace.profiles))]
    counts = list(trace.counts) if trace.counts is not None else None
    for i, made in profiles.items():
        kept[i] = made
        if counts is not None and made.counts is not None:
            counts[i] = made.counts
    return Trace(
        pd.DataFrame(rows, columns=[*TEXTS, *NUMBERS]),
        ProfileTable.from_profiles(kept),
        {**trace.meta, "reorder": [*earlier, step]},
        counts,
        list(found.work.masks),
    )


def _paid_sides(work: Arrangement) -> dict[int, list[int]]:
    """Mask to the sides whose order is not absorbed and not as it was."""
    sides: dict[int, list[int]] = {}
    for axis, order in zip(work.axes, work.orders, strict=True):
        if not axis.absorbed and not np.array_equal(order, axis.identity):
            for member in axis.members:
                sides.setdefault(member.mask, []).append(member.side)
    return sides


def _with_cost(row: dict[str, Any], sides: list[int], runtime: str) -> list[dict[str, Any]]:
    """The op and what it needs around it, as table rows."""
    if runtime == "indexed":
        entries = {OUTPUT: int(row["n"]), INPUT: int(row["k"])}
        row["weight_scale_bytes"] += sum(index_bytes(entries[side]) for side in sides)
        return [row]
    before: list[Op] = []
    if INPUT in sides:
        made, changes = gather(row)
        before, row = [made], row | changes
    after = [scatter(row)] if OUTPUT in sides else []
    return [*(op.row() for op in before), row, *(op.row() for op in after)]
