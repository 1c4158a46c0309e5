"""Storage formats as ranks of a fiber tree, and the units of metadata and payload that each rank takes.

From the outside in, each rank splits what it gets along one dimension of the loop nest. Units and their rounding are
Sparseloop's (Wu et al., MICRO 2022; ``validation/data/peers/sparseloop_format_formulas.csv``): its counts can then be
compared. :mod:`sim.sparsity.formats.ranks` has the same ranks to the bit, for whole matrices, and encodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from sim.errors import InputError
from sim.nest.parts import DIMS, known, settle, whole
from sim.sparsity.density import DensityModel

_SLOP = 1e-9


class RankUnits(NamedTuple):
    """Entries of one rank in a tile: ``metadata`` words (coordinates, runs, flags) and ``payload`` words (offsets)."""

    metadata: float
    payload: float


class _Fibers(NamedTuple):
    """``number`` of fibers of ``length`` coordinates, the expected not empty ones, and per fiber the coordinates that
    hold something."""

    number: int
    length: int
    not_empty: float
    held: float


def _no_units(_: _Fibers) -> RankUnits:
    return RankUnits(0.0, 0.0)


def _flags(f: _Fibers) -> RankUnits:
    return RankUnits(float(f.number * f.length), 0.0)


def _bitmask(f: _Fibers) -> RankUnits:
    return RankUnits(f.not_empty * f.length, 0.0)


def _coordinates(f: _Fibers) -> RankUnits:
    return RankUnits(f.not_empty * ceil(f.held - _SLOP), 0.0)


def _runs(f: _Fibers) -> RankUnits:
    return RankUnits(f.not_empty * f.held, 0.0)


def _offsets(f: _Fibers) -> RankUnits:
    return RankUnits(0.0, f.not_empty * (f.length + 1))


_UNITS: dict[str, Callable[[_Fibers], RankUnits]] = {
    "u": _no_units,
    "ub": _flags,
    "b": _bitmask,
    "cp": _coordinates,
    "rle": _runs,
    "uop": _offsets,
}
KINDS = tuple(_UNITS)
"""u: uncompressed. ub: a flag a position beside uncompressed data. b: bitmask. cp: a coordinate each. rle: a run of
zeros before each. uop: offsets where each fiber of the next rank begins."""
COMPRESSED = ("b", "cp", "rle")


@dataclass(frozen=True)
class Rank:
    """One rank: its ``kind`` (of :data:`KINDS`), and the ``size`` coordinates of ``dim`` (m, n or k) it splits.

    Raises InputError for an unknown kind or dimension.
    """

    kind: str
    dim: str
    size: int

    def __post_init__(self) -> None:
        known(self.kind, KINDS, "kind of a rank")
        known(self.dim, DIMS, "dimension of a rank")
        settle(self, size=whole(self.size, f"size of rank {self.kind}"))


def is_compressed(ranks: Sequence[Rank]) -> bool:
    """Whether zeros (or empty blocks) are left out of the data."""
    return any(rank.kind in COMPRESSED for rank in ranks)


def stored_share(ranks: Sequence[Rank], row_dims: str, model: DensityModel) -> float:
    """Elements stored / elements: blocks below the innermost compressed rank are stored whole if they hold anything."""
    for place in range(len(ranks), 0, -1):
        if ranks[place - 1].kind in COMPRESSED:
            return 1.0 - model.empty(*_below(ranks[place:], row_dims))
    return 1.0


def rank_units(ranks: Sequence[Rank], row_dims: str, model: DensityModel) -> tuple[RankUnits, ...]:
    """Units of every rank, outermost first, of a tile that the ranks describe. ``row_dims``: dimensions that count
    down the rows of the mask (the others count along them).

    Raises InputError for a tile larger than the matrix.
    """
    rows, columns = _below(ranks, row_dims)
    if rows > model.shape[0] or columns > model.shape[1]:
        raise InputError(f"ranks describe a tile of {rows} x {columns}, larger than the matrix, {model.shape}")
    found, number = [], 1
    for place, rank in enumerate(ranks):
        here, next_ = _below(ranks[place:], row_dims), _below(ranks[place + 1 :], row_dims)
        not_empty = number * (1.0 - model.empty(*here))
        held = rank.size * (1.0 - model.empty(*next_))
        found.append(_UNITS[rank.kind](_Fibers(number, rank.size, not_empty, held)))
        number *= rank.size
    return tuple(found)


def _below(ranks: Sequence[Rank], row_dims: str) -> tuple[int, int]:
    """(rows, columns) of what these ranks span."""
    rows = columns = 1
    for rank in ranks:
        if rank.dim in row_dims:
            rows *= rank.size
        else:
            columns *= rank.size
    return rows, columns
