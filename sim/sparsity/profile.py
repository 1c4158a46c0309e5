"""Profile a mask once, look its cycles up for ever after.

A profile holds the exact :func:`sim.sparsity.lanes.walk` cycles of a mask (out x in) on a grid of lane designs, so a
design on the grid costs an array look-up, whatever the mask's size. Row and column counts, from which other designs can
be estimated, are :class:`Counts`, stored in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import code
from sim.errors import InputError
from sim.sparsity.lanes import ASSIGNMENTS, ORIENTATIONS, group_cycles, lane_order

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
        save_arrays(path, sizes=sizes, values=values.astype(np.uint16 if values.max(initial=0) < 65536 else np.uint32))

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
    ``empty_blocks[b]``: empty b x b blocks; ``empty_runs[g]``: empty 1 x g blocks along the inputs.
    Short blocks and groups at the edges count like whole ones.
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

    def cycles(
        self,
        lanes: int,
        barrier_depth: int | str,
        orientation: str = "output",
        assignment: str = "contiguous",
        fifo_depth: int = 0,
        empty_tile_cycles: int = 1,
    ) -> int | None:
        """Cycles of one pass, exactly what walking the mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles)
        if at is None:
            return None
        found = int(self.cycles_grid[at])
        return found if empty_tile_cycles else found - int(self.empty_barriers[at[:4]])


def on_grid(
    lanes: int,
    barrier_depth: int | str | None,
    orientation: str = "output",
    assignment: str = "contiguous",
    fifo_depth: int = 0,
    empty_tile_cycles: int = 1,
) -> bool:
    """Whether profiles know this lane design exactly."""
    return grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles) is not None


def grid_position(
    lanes: int,
    barrier_depth: int | str | None,
    orientation: str,
    assignment: str,
    fifo_depth: int,
    empty_tile_cycles: int = 1,
) -> tuple[int, ...] | None:
    """Where a lane design lies on the grid, or None. Free empty tiles are known without a FIFO only.

    Raises:
        InputError: an unknown orientation or assignment.
    """
    names = (int(code("orientation", orientation, ORIENTATIONS)), int(code("assignment", assignment, ASSIGNMENTS)))
    depth = "full" if barrier_depth is None else barrier_depth
    if lanes not in LANES or depth not in DEPTHS or fifo_depth not in FIFOS:
        return None
    if empty_tile_cycles != 1 and (empty_tile_cycles != 0 or fifo_depth != 0):
        return None
    return (LANES.index(lanes), DEPTHS.index(depth), *names, FIFOS.index(fifo_depth))


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
    runs = {RUNS[0]: _sum_along(bits, RUNS[0])}
    for g in RUNS[1:]:
        runs[g] = _sum_along(runs[g // 2], 2)
    finest = int(DEPTHS[0])
    fine = (np.ascontiguousarray(runs[finest].T), _sum_down(bits, finest))  # [tiles, owners] by orientation
    for o, tiles in enumerate(fine):
        orders = _orders(tiles.shape[1])
        for d, depth in enumerate(DEPTHS):
            merge = len(tiles) if depth == "full" else int(depth) // finest
            _grid(_sum_down(tiles, merge), orders, o, d, cycles, empties)
    counts = Counts(*(tiles.sum(axis=0, dtype=np.int64) for tiles in fine))
    empty_blocks: dict[int, int] = {}
    block = bits
    for b in BLOCKS:
        block = _sum_down(_sum_along(block, 2), 2)
        empty_blocks[b] = int(block.size - np.count_nonzero(block))
    return Profile(
        (int(mask.shape[0]), int(mask.shape[1])),
        int(counts.rows.sum()),
        cycles,
        empties,
        {g: int(runs[g].max()) for g in GROUPS},
        empty_blocks,
        {g: int(runs[g].size - np.count_nonzero(runs[g])) for g in RUNS},
        counts,
    )


def _grid(
    work: NDArray[np.int32],
    orders: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]],
    orientation: int,
    depth: int,
    cycles: NDArray[np.int64],
    empties: NDArray[np.int64],
) -> None:
    """Fill the grid's cells of one orientation and barrier depth from ``work`` [tiles, owners]."""
    for (i, a), (order, starts) in orders.items():
        taken = work if ASSIGNMENTS[a] == "contiguous" else np.take(work, order, axis=1)
        at = (i, depth, orientation, a)
        for f, fifo_depth in enumerate(FIFOS):
            cycles[(*at, f)], none = group_cycles(taken, starts, fifo_depth, 1)
            if fifo_depth == 0:
                empties[at] = none


def _orders(owners: int) -> dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Lane order of every grid value of lanes and assignment."""
    return {(i, a): lane_order(owners, p, a) for i, p in enumerate(LANES) for a in range(len(ASSIGNMENTS))}


@numba.njit(cache=True)
def _sum_along(x, every):
    """[rows, columns] -> [rows, ceil(columns / every)] int32: neighbouring columns added up, the last few too."""
    rows, columns = x.shape
    out = np.empty((rows, -(-columns // every)), dtype=np.int32)
    whole = columns // every
    for i in range(rows):
        for t in range(whole):
            total = np.int32(0)
            for j in range(t * every, (t + 1) * every):
                total += x[i, j]
            out[i, t] = total
        if whole < out.shape[1]:
            total = np.int32(0)
            for j in range(whole * every, columns):
                total += x[i, j]
            out[i, whole] = total
    return out


@numba.njit(cache=True)
def _sum_down(x, every):
    """[rows, columns] -> [ceil(rows / every), columns] int32: neighbouring rows added up, the last few too."""
    rows, columns = x.shape
    out = np.zeros((-(-rows // every), columns), dtype=np.int32)
    for i in range(rows):
        into = out[i // every]
        for j in range(columns):
            into[j] += x[i, j]
    return out


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
        groups, blocks, runs = (
            dict(zip(names, values[row].tolist(), strict=True))
            for names, values in ((GROUPS, self.group_max), (BLOCKS, self.empty_blocks), (RUNS, self.empty_runs))
        )
        shape = tuple(int(x) for x in self.shapes[row])
        return Profile(
            shape, int(self.nonzeros[row]), self.cycles_grid[row], self.empty_barriers[row], groups, blocks, runs
        )  # type: ignore[arg-type]

    def cycles(
        self,
        lanes: int,
        barrier_depth: int | str,
        orientation: str = "output",
        assignment: str = "contiguous",
        fifo_depth: int = 0,
        empty_tile_cycles: int = 1,
    ) -> NDArray[np.int64] | None:
        """[masks] cycles of one pass, exactly what walking each mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles)
        if at is None:
            return None
        found = self.cycles_grid[(slice(None), *at)]
        return found if empty_tile_cycles else found - self.empty_barriers[(slice(None), *at[:4])]

    def save(self, path: Path) -> None:
        """Compressed npz, integers as narrow as they fit; the same bytes for the same table."""
        save_arrays(path, **{f: _narrow(getattr(self, f)) for f in self.__dataclass_fields__})

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


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """``np.savez_compressed`` without time stamps, renamed into place."""
    import io
    import os
    import zipfile

    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9
            )
    os.replace(temporary, path)
