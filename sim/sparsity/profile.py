"""Profile a mask once, look its cycles up for ever after.

A profile holds the exact :func:`sim.sparsity.lanes.walk` cycles of a mask (out x in) on a grid of lane designs, so a design
on the grid costs an array look-up, whatever the mask's size. Row and column counts, from which other designs can be
estimated, are :class:`Counts`, stored in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.sparsity.lanes import ASSIGNMENTS, ORIENTATIONS, matrix_cycles

LANES = (8, 16, 32, 64, 128)
DEPTHS: tuple[int | str, ...] = (16, 64, 256, "full")
FIFOS = (0, 2, 8)
SHAPE = (len(LANES), len(DEPTHS), len(ORIENTATIONS), len(ASSIGNMENTS), len(FIFOS))
"""Grid axes: lanes, barrier depth, orientation, assignment, FIFO depth (``empty_tile_cycles`` 1)."""
GROUPS = (4, 8, 16, 32)
BLOCKS = (2, 4, 8, 16, 32, 64)
RUNS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Counts:
    """Nonzeros of every row (output feature) and column (input feature)."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @staticmethod
    def save_many(counts: Sequence[Counts], path: Path) -> None:
        """One npz for many masks, uint16 where it fits."""
        sizes = np.array([[len(c.rows), len(c.columns)] for c in counts], dtype=np.int64)
        values = np.concatenate([np.concatenate([c.rows, c.columns]) for c in counts])
        _save(path, sizes=sizes, values=values.astype(np.uint16 if values.max(initial=0) < 65536 else np.uint32))

    @staticmethod
    def load_many(path: Path) -> list[Counts]:
        """What :meth:`save_many` wrote."""
        with np.load(path, allow_pickle=False) as data:
            sizes, values = data["sizes"], data["values"].astype(np.int64)
        found, at = [], 0
        for rows, columns in sizes:
            found.append(Counts(values[at : at + rows], values[at + rows : at + rows + columns]))
            at += rows + columns
        return found


@dataclass(frozen=True)
class Profile:
    """What a mask is to a machine: exact lane cycles on the grid, nonzeros, n:m fit and empty blocks.

    ``cycles`` int64 [5, 4, 2, 2, 3] and ``empty_barriers`` int64 [5, 4, 2, 2] (barriers at which all lanes were empty,
    without FIFO) follow :data:`SHAPE`; ``group_max[g]``: most nonzeros in any aligned group of g inputs;
    ``empty_blocks[b]``: empty b x b blocks; ``empty_runs[g]``: empty 1 x g blocks along the inputs (partial ones count).
    """

    shape: tuple[int, int]
    nonzeros: int
    cycles_grid: NDArray[np.int64]
    empty_barriers: NDArray[np.int64]
    group_max: dict[int, int]
    empty_blocks: dict[int, int]
    empty_runs: dict[int, int]
    counts: Counts | None = None

    @property
    def density(self) -> float:
        return self.nonzeros / (self.shape[0] * self.shape[1])

    def cycles(self, lanes: int, barrier_depth: int | str, orientation: str = "output", assignment: str = "contiguous",
               fifo_depth: int = 0, empty_tile_cycles: int = 1) -> int | None:
        """Cycles of one pass, exactly what walking the mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth)
        if at is None:
            return None
        found = int(self.cycles_grid[at])
        return found if empty_tile_cycles else found - int(self.empty_barriers[at[:4]])


def grid_position(lanes: int, barrier_depth: int | str, orientation: str, assignment: str, fifo_depth: int) -> tuple[int, ...] | None:
    """Where a lane design lies on the grid, or None."""
    at = []
    for axis, value in ((LANES, lanes), (DEPTHS, barrier_depth), (ORIENTATIONS, orientation), (ASSIGNMENTS, assignment), (FIFOS, fifo_depth)):
        if value not in axis:
            return None
        at.append(axis.index(value))  # type: ignore[arg-type]
    return tuple(at)


def profile(mask: ArrayLike) -> Profile:
    """Profile a mask (out x in, nonzero = kept).

    Raises:
        InputError: not two-dimensional, or empty.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"mask must be out x in with at least one element, got shape {mask.shape}")
    bits = np.ascontiguousarray(mask != 0)
    cycles = np.empty(SHAPE, dtype=np.int64)
    empties = np.empty(SHAPE[:4], dtype=np.int64)
    counted = {}
    for o in range(len(ORIENTATIONS)):
        fine = _segments(bits if o == 0 else np.ascontiguousarray(bits.T), DEPTHS[0])
        for d, depth in enumerate(DEPTHS):
            merge = fine.shape[1] if depth == "full" else int(depth) // int(DEPTHS[0])
            counts = _merged(fine, merge)
            _grid(counts, o, d, cycles, empties)
        counted[o] = fine.sum(axis=1)
    groups = {g: int(_segments(bits, g).max()) for g in GROUPS}
    blocks = {b: int((_merged(np.ascontiguousarray(_segments(bits, b).T), b) == 0).sum()) for b in BLOCKS}
    runs = {g: int((_segments(bits, g) == 0).sum()) for g in RUNS}
    return Profile(mask.shape, int(counted[0].sum()), cycles, empties, groups, blocks, runs, Counts(counted[0], counted[1]))


@numba.njit(cache=True)
def _segments(bits, depth):
    """[owners, positions] bool -> [owners, ceil(positions / depth)] nonzeros."""
    owners, positions = bits.shape
    out = np.zeros((owners, -(-positions // depth)), dtype=np.int64)
    for i in range(owners):
        for t in range(out.shape[1]):
            total = 0
            for j in range(t * depth, min(positions, (t + 1) * depth)):
                total += bits[i, j]
            out[i, t] = total
    return out


@numba.njit(cache=True)
def _merged(fine, merge):
    """Sum every ``merge`` neighbouring columns."""
    owners, tiles = fine.shape
    out = np.zeros((owners, -(-tiles // merge)), dtype=np.int64)
    for i in range(owners):
        for t in range(tiles):
            out[i, t // merge] += fine[i, t]
    return out


_LANES = np.array(LANES)
_FIFOS = np.array(FIFOS)


@numba.njit(cache=True)
def _grid(counts, orientation, depth, cycles, empties):
    """Fill the grid's cells of one orientation and barrier depth."""
    for i in range(len(_LANES)):
        for a in range(2):
            for f in range(len(_FIFOS)):
                total, none = matrix_cycles(counts, _LANES[i], a == 1, _FIFOS[f], 1)
                cycles[i, depth, orientation, a, f] = total
                if f == 0:
                    empties[i, depth, orientation, a] = none


@dataclass(frozen=True)
class ProfileTable:
    """Profiles as arrays, one row a mask: what traces hold and the simulator looks up in."""

    shapes: NDArray[np.int64]
    nonzeros: NDArray[np.int64]
    cycles_grid: NDArray[np.int64]
    empty_barriers: NDArray[np.int64]
    group_max: NDArray[np.int64]
    empty_blocks: NDArray[np.int64]
    empty_runs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.nonzeros)

    @classmethod
    def from_profiles(cls, profiles: Sequence[Profile]) -> ProfileTable:
        """Stack profiles; one row each, in order."""
        return cls(
            np.array([p.shape for p in profiles], dtype=np.int64),
            np.array([p.nonzeros for p in profiles], dtype=np.int64),
            np.stack([p.cycles_grid for p in profiles]),
            np.stack([p.empty_barriers for p in profiles]),
            np.array([[p.group_max[g] for g in GROUPS] for p in profiles], dtype=np.int64),
            np.array([[p.empty_blocks[b] for b in BLOCKS] for p in profiles], dtype=np.int64),
            np.array([[p.empty_runs[g] for g in RUNS] for p in profiles], dtype=np.int64),
        )

    @classmethod
    def concatenate(cls, tables: Sequence[ProfileTable]) -> ProfileTable:
        """One table after another."""
        return cls(*(np.concatenate([getattr(t, f) for t in tables]) for f in cls.__dataclass_fields__))

    def take(self, rows: ArrayLike) -> ProfileTable:
        """The rows asked for, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return ProfileTable(*(getattr(self, f)[index] for f in self.__dataclass_fields__))

    def __getitem__(self, row: int) -> Profile:
        groups, blocks, runs = (dict(zip(names, values[row].tolist(), strict=True)) for names, values in (
            (GROUPS, self.group_max), (BLOCKS, self.empty_blocks), (RUNS, self.empty_runs)))
        shape = tuple(int(x) for x in self.shapes[row])
        return Profile(shape, int(self.nonzeros[row]), self.cycles_grid[row], self.empty_barriers[row], groups, blocks, runs)  # type: ignore[arg-type]

    def cycles(self, lanes: int, barrier_depth: int | str, orientation: str = "output", assignment: str = "contiguous",
               fifo_depth: int = 0, empty_tile_cycles: int = 1) -> NDArray[np.int64] | None:
        """[masks] cycles of one pass, exactly what walking each mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth)
        if at is None:
            return None
        found = self.cycles_grid[(slice(None), *at)]
        return found if empty_tile_cycles else found - self.empty_barriers[(slice(None), *at[:4])]

    def save(self, path: Path) -> None:
        """Compressed npz, integers as narrow as they fit; the same bytes for the same table."""
        _save(path, **{f: _narrow(getattr(self, f)) for f in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> ProfileTable:
        """What :meth:`save` wrote; ``KeyError`` or ``ValueError`` for anything else."""
        with np.load(path, allow_pickle=False) as data:
            found = cls(*(data[f].astype(np.int64) for f in cls.__dataclass_fields__))
        if found.cycles_grid.shape[1:] != SHAPE:
            raise ValueError(f"profile grid is {found.cycles_grid.shape[1:]}, this version's is {SHAPE}")
        return found


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    for kind in (np.uint8, np.uint16, np.uint32):
        if values.size == 0 or values.max() <= np.iinfo(kind).max:
            return values.astype(kind)
    return values


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    """``np.savez_compressed`` without time stamps, renamed into place."""
    import io
    import os
    import zipfile

    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    os.replace(temporary, path)
