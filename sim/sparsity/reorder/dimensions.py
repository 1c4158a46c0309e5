"""Which sides of which matrices share one order of features, as data (``decoder.csv``), and the axes of a trace.

An order that every reader and writer of a dimension takes is absorbed: it changes how weights are stored and nothing at
run time. A side of size ``outer x copies x inner`` may be ordered

- ``whole``: feature by feature;
- ``inner``: within each outer block, the same in all copies;
- ``inner_pair``: as inner, features i and i + inner/2 together;
- ``copy``: whole copies within each outer block.

Orders of several dimensions on one side commute: they act on different indices.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from sim.sparsity.reorder.arrangement import SIDES, Arrangement, Axis, Member, whole_layout
from sim.trace import Trace

ALL = "all"


@dataclass(frozen=True)
class Side:
    """A row of ``decoder.csv``. ``inner_from``, ``whole_from``: MATRIX.COLUMN of the trace that is inner, and outer
    times inner."""

    dimension: str
    scope: str
    matrix_type: str
    side: str
    layout: str
    inner_from: str
    whole_from: str
    source: str


@lru_cache(maxsize=1)
def decoder_sides() -> tuple[Side, ...]:
    """Sides of a Llama-like decoder's matrices that share an order with their neighbours."""
    with (Path(__file__).parent / "decoder.csv").open(newline="", encoding="utf-8") as file:
        return tuple(Side(**line) for line in csv.DictReader(file))


def dimension_names() -> list[str]:
    """Dimensions that can be absorbed."""
    return list(dict.fromkeys(side.dimension for side in decoder_sides()))


def absorbed_by(matrix_type: str, side: str) -> dict[str, list[tuple[str, str]]]:
    """Dimension to the other (matrix type, side) that must take the same order; {}: nothing absorbs that side."""
    table = decoder_sides()
    mine = [row.dimension for row in table if (row.matrix_type, row.side) == (matrix_type, side)]
    return {
        name: [
            (row.matrix_type, row.side)
            for row in table
            if row.dimension == name and (row.matrix_type, row.side) != (matrix_type, side)
        ]
        for name in mine
    }


def arrangement_of(trace: Trace, paid: str | Sequence[str] = ()) -> Arrangement:
    """The trace's masks with an axis for every dimension of every layer (or of the model).

    ``paid``: dimensions (or "all") whose sides each take an order of their own, which is not absorbed; so do sides that
    no dimension holds, and those of a dimension some of whose matrices the trace lacks.

    Raises:
        InputError: no masks, an unknown dimension, or sides of one dimension that do not fit together.
    """
    if "removal" in trace.meta:
        raise InputError(f"trace {trace.name}: reorder before removing rows and columns")
    if trace.masks is None:
        what = "profiles of its masks only" if trace.profiles is not None else "no sparse op"
        raise InputError(f"trace {trace.name}: reordering needs masks, this trace has {what}")
    names = dimension_names()
    chosen = list(names) if paid == ALL else [paid] if isinstance(paid, str) else list(paid)
    for name in chosen:
        if name not in names:
            raise InputError(f"paid must name dimensions ({', '.join(names)}) or be 'all', got '{name}'")
    free = [side for side in decoder_sides() if side.dimension not in chosen]
    axes, held = _shared_axes(trace, free)
    for i, mask in enumerate(trace.masks):
        for side in range(2):
            if (i, side) not in held:
                layout = whole_layout(mask.shape[side])
                axes.append(Axis(f"mask {i}.{SIDES[side]}", (Member(i, side, layout),), absorbed=False))
    return Arrangement(list(trace.masks), axes, _weights(trace))


def _weights(trace: Trace) -> list[float]:
    """Passes of every mask, for one group of activation vectors."""
    assert trace.masks is not None
    found = np.zeros(len(trace.masks))
    ops = trace.ops[trace.ops["profile"] >= 0]
    np.add.at(found, ops["profile"].to_numpy(dtype=np.int64), (ops["batch"] * ops["repeats"]).to_numpy())
    return [float(x) for x in found]


def _shared_axes(trace: Trace, sides: Sequence[Side]) -> tuple[list[Axis], set[tuple[int, int]]]:
    """Axes that are absorbed, and the (mask, side) they hold."""
    ops = trace.ops[trace.ops["kind"] == "gemm"]
    layers = {int(layer): group.set_index("matrix_type") for layer, group in ops.groupby("layer") if layer >= 0}
    axes: list[Axis] = []
    held: set[tuple[int, int]] = set()
    for name in dict.fromkeys(side.dimension for side in sides):
        mine = [side for side in sides if side.dimension == name]
        whole_model = mine[0].scope == "model"
        groups = [list(layers)] if whole_model else [[layer] for layer in layers]
        for group in groups:
            if not group or not all(_present(layers[layer], mine) for layer in group):
                continue
            members = tuple(m for layer in group for side in mine if (m := _member(trace, layers[layer], side)))
            if not members:
                continue
            label = name if whole_model else f"layer {group[0]} {name}"
            shapes = {m.layout.shape[:2] for m in members}
            if len(shapes) > 1:
                raise InputError(f"{label}: its sides do not fit together (blocks and units: {sorted(shapes)})")
            axes.append(Axis(label, members, absorbed=True))
            held |= {(m.mask, m.side) for m in members}
    return axes, held


def _present(ops: pd.DataFrame, sides: Sequence[Side]) -> bool:
    """Whether the layer has every matrix of the dimension, each once, and the ops that sizes are read from."""
    wanted = {side.matrix_type for side in sides}
    wanted |= {source.partition(".")[0] for side in sides for source in (side.inner_from, side.whole_from) if source}
    counts = ops.index.value_counts()
    return all(counts.get(name, 0) == 1 for name in wanted)


def _member(trace: Trace, ops: pd.DataFrame, side: Side) -> Member | None:
    """None for a dense matrix: it takes any order without a trace of it."""
    assert trace.masks is not None
    profile = int(ops.loc[side.matrix_type, "profile"])
    if profile < 0:
        return None
    which = SIDES.index(side.side)
    size = trace.masks[profile].shape[which]
    return Member(
        profile, which, layout_of(side.layout, size, _number(ops, side.inner_from), _number(ops, side.whole_from))
    )


def _number(ops: pd.DataFrame, source: str) -> int:
    matrix_type, _, column = source.partition(".")
    return int(ops.loc[matrix_type, column]) if source else 0


def layout_of(layout: str, size: int, inner: int = 0, whole: int = 0) -> NDArray[np.int64]:
    """Positions [blocks, units, elements] of a side of ``size``; ``inner`` and ``whole`` (outer times inner) features.

    Raises:
        InputError: an unknown layout, or sizes that do not divide.
    """
    if layout == "whole":
        return whole_layout(size)
    if inner < 1 or whole % inner or whole < inner or size % whole or (layout == "inner_pair" and inner % 2):
        raise InputError(f"layout {layout}: {size} features are no whole number of blocks of {inner} (in {whole})")
    grid = np.arange(size).reshape(whole // inner, size // whole, inner)
    if layout == "inner":
        return grid.transpose(0, 2, 1)
    if layout == "inner_pair":
        halves = grid.reshape(*grid.shape[:2], 2, inner // 2)
        return halves.transpose(0, 3, 1, 2).reshape(len(grid), inner // 2, -1)
    if layout == "copy":
        return grid
    known = ("whole", "inner", "inner_pair", "copy")
    raise InputError(f"layout must be one of {', '.join(known)}, got '{layout}', {nearest(layout, known)}")
