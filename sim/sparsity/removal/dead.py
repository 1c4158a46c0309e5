"""Which features of which matrices do nothing, and which of them leave.

An output is dead if its row of the mask is all zero, an input if its column is. Where neighbours share a dimension, a
unit that is dead on one side is dead on all: a hidden channel whose gate or up is zero is zero (silu(0) = 0), one that
``ffn_down`` does not read need not be made; so is a channel of a KV head, between ``attn_v`` and every query head's
columns of ``attn_output``. Biases are not part of a trace: an output is zero only where the model has none there (or a
zero). What is dead may leave other rows and columns empty, so the search runs until nothing more
dies. The residual stream is nobody's to shrink: it is a sum over all layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, SIDES
from sim.sparsity.reorder.dimensions import Side, decoder_sides, layout_of

DIMENSIONS = ("hidden", "value")
"""Dimensions of :mod:`sim.sparsity.reorder.dimensions` of which a dead unit may leave without a trace."""


@dataclass
class Matrix:
    """A matrix (out x in): its mask, None for dense, and per side what is dead, chosen by the user, and leaves.

    ``absorbed`` and ``paid`` bool [features] of each side: what leaves with the neighbours, and what leaves alone.
    """

    row: int
    shape: tuple[int, int]
    mask: NDArray[np.bool_] | None
    chosen: list[bool] = field(default_factory=lambda: [False, False])
    dead: list[NDArray[np.bool_]] = field(init=False)
    absorbed: list[NDArray[np.bool_]] = field(init=False)
    paid: list[NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        self.dead, self.absorbed, self.paid = ([np.zeros(size, bool) for size in self.shape] for _ in range(3))

    def kept(self, side: int) -> NDArray[np.int64]:
        """Positions that stay."""
        return np.flatnonzero(~(self.absorbed[side] | self.paid[side]))


@dataclass(frozen=True)
class Shared:
    """A dimension of a layer: every side that has it, with its positions [blocks, units, elements]. ``prefix``: what
    the names of the layer's ops begin with (a trace may run a layer several times)."""

    dimension: str
    prefix: str
    members: tuple[tuple[Matrix, int, NDArray[np.int64]], ...]

    def dead(self) -> NDArray[np.bool_]:
        """[blocks, units] dead on any side."""
        found = [matrix.dead[side][layout].all(axis=2) for matrix, side, layout in self.members]
        return np.logical_or.reduce(found)


def shared_dimensions(ops: pd.DataFrame, matrices: dict[int, Matrix], ragged: bool = False) -> list[Shared]:
    """:data:`DIMENSIONS` of every layer that has all their matrices, each once; ``matrices`` by row of ``ops``.

    ``ragged``: heads may have lost channels already, so that sizes no longer tell which channel is whose; then no side
    of a head is shared.
    """
    found = []
    dimensions = [name for name in DIMENSIONS if not (ragged and name == "value")]
    gemms = ops[(ops["kind"] == "gemm") & (ops["layer"] >= 0)]
    prefixes = [str(name).removesuffix(kind) for name, kind in zip(gemms["name"], gemms["matrix_type"], strict=True)]
    for prefix, group in gemms.groupby(prefixes, sort=False):
        rows = {str(name): part.index for name, part in group.groupby("matrix_type")}
        for dimension in dimensions:
            sides = [side for side in decoder_sides() if side.dimension == dimension]
            wanted = {side.matrix_type for side in sides}
            wanted |= {text.partition(".")[0] for side in sides for text in (side.inner_from, side.whole_from) if text}
            if all(len(rows.get(name, ())) == 1 for name in wanted):
                members = tuple(_member(ops, rows, side, matrices) for side in sides)
                found.append(Shared(dimension, str(prefix), members))
    return found


def _member(
    ops: pd.DataFrame, rows: dict[str, pd.Index], side: Side, matrices: dict[int, Matrix]
) -> tuple[Matrix, int, NDArray[np.int64]]:
    def number(source: str) -> int:
        name, _, column = source.partition(".")
        return int(ops.at[rows[name][0], column]) if source else 0

    matrix, which = matrices[int(rows[side.matrix_type][0])], SIDES.index(side.side)
    layout = layout_of(side.layout, matrix.shape[which], number(side.inner_from), number(side.whole_from))
    return matrix, which, layout


def find(matrices: list[Matrix], shared: list[Shared]) -> None:
    """Mark all that is dead, from what masks say and what is marked already, until nothing more dies."""
    before = -1
    while (now := sum(int(dead.sum()) for matrix in matrices for dead in matrix.dead)) != before:
        before = now
        for matrix in matrices:
            if matrix.mask is not None:
                matrix.dead[OUTPUT] |= ~matrix.mask[:, ~matrix.dead[INPUT]].any(axis=1)
                matrix.dead[INPUT] |= ~matrix.mask[~matrix.dead[OUTPUT]].any(axis=0)
        for axis in shared:
            units = axis.dead()
            for matrix, side, layout in axis.members:
                matrix.dead[side][layout[units]] = True


def choose(matrices: list[Matrix], shared: list[Shared], multiple_of: int, paid: bool) -> None:
    """Of what is dead, mark what leaves: sizes (of a block, where neighbours share) stay multiples, and at least one.

    ``paid``: whether what no neighbour absorbs leaves too; what the user chose always does.
    """
    for axis in shared:
        dead = axis.dead()
        gone = np.stack([_rounded(block, multiple_of) for block in dead])
        if gone.all():
            gone[0, :multiple_of] = False
        for matrix, side, layout in axis.members:
            matrix.absorbed[side][layout[gone]] = True
            matrix.dead[side][layout[dead & ~gone]] = False  # stays for the sake of the size
    for matrix in matrices:
        for side in (OUTPUT, INPUT):
            if paid or matrix.chosen[side]:
                rest = ~matrix.absorbed[side]
                matrix.paid[side][rest] = _rounded(matrix.dead[side][rest], multiple_of)
                if not len(matrix.kept(side)):
                    matrix.paid[side][np.flatnonzero(rest)[:multiple_of]] = False


def _rounded(dead: NDArray[np.bool_], multiple_of: int) -> NDArray[np.bool_]:
    """``dead`` less the first few, so that what stays is a multiple."""
    gone = dead.copy()
    short = -int((~dead).sum()) % multiple_of
    gone[np.flatnonzero(dead)[:short]] = False
    return gone
