"""Profile a mask once, look its cycles up for ever after.

A profile holds the exact :func:`sim.sparsity.lanes.walk` cycles of a mask (out x in) on a grid of lane designs, so a
design on the grid costs an array look-up, whatever the mask's size. Row and column counts, from which other designs can
be estimated, are :class:`Counts`, stored in files of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import code
from sim.sparsity.grid import DEPTHS, FIFOS, LANES, SHAPE, fine_counts, grid_cycles
from sim.sparsity.lane_order import ALL, ASSIGNMENTS
from sim.sparsity.lanes import ORIENTATIONS
from sim.sparsity.packed_blocks import BLOCKS, GROUPS, RUNS, empty_blocks, empty_runs, group_maxima
from sim.sparsity.packing import Packed, pack
from sim.sparsity.stealing import STEALING


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
        stealing: str = "none",
    ) -> int | None:
        """Cycles of one pass, exactly what walking the mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles, stealing)
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
    stealing: str = "none",
) -> bool:
    """Whether profiles know this lane design exactly."""
    return (
        grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles, stealing)
        is not None
    )


def grid_position(
    lanes: int,
    barrier_depth: int | str | None,
    orientation: str,
    assignment: str,
    fifo_depth: int,
    empty_tile_cycles: int = 1,
    stealing: str = "none",
) -> tuple[int, ...] | None:
    """Where a lane design lies on the grid, or None. Free empty tiles are known without a FIFO only; assignments that
    depend on the mask and stealing are not known.

    Raises:
        InputError: an unknown orientation, assignment or stealing.
    """
    names = (int(code("orientation", orientation, ORIENTATIONS)), int(code("assignment", assignment, ALL)))
    depth = "full" if barrier_depth is None else barrier_depth
    if names[1] >= len(ASSIGNMENTS) or int(code("stealing", stealing, STEALING)):
        return None
    if lanes not in LANES or depth not in DEPTHS or fifo_depth not in FIFOS:
        return None
    if empty_tile_cycles != 1 and (empty_tile_cycles != 0 or fifo_depth != 0):
        return None
    return (LANES.index(lanes), DEPTHS.index(depth), *names, FIFOS.index(fifo_depth))


def profile(mask: ArrayLike | Packed) -> Profile:
    """Profile a mask (out x in, nonzero = kept), or its bits.

    Raises:
        InputError: not two-dimensional, or empty.
    """
    packed = mask if isinstance(mask, Packed) else pack(mask)
    fine = fine_counts(packed)
    cycles, empties = grid_cycles(fine)
    counts = Counts(*(tiles.sum(axis=0, dtype=np.int64) for tiles in fine))
    return Profile(
        packed.shape,
        int(counts.rows.sum()),
        cycles,
        empties,
        group_maxima(packed),
        empty_blocks(packed),
        empty_runs(packed),
        counts,
    )


def profiles(masks: Iterable[ArrayLike | Packed], threads: int | None = None) -> list[Profile]:
    """Profiles of many masks, on as many threads as there are processors (or ``threads``); the kernels run without
    Python's lock."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(profile, masks))


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
        stealing: str = "none",
    ) -> NDArray[np.int64] | None:
        """[masks] cycles of one pass, exactly what walking each mask gives; None for a design off the grid."""
        at = grid_position(lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles, stealing)
        if at is None:
            return None
        found = self.cycles_grid[(slice(None), *at)]
        return found if empty_tile_cycles else found - self.empty_barriers[(slice(None), *at[:4])]

    def n_of_m(self, row: int) -> tuple[int, int] | None:
        """(n, m) if the mask keeps exactly n of every m inputs (n < m, whole groups only), else None."""
        outputs, inputs = (int(x) for x in self.shapes[row])
        for m, n in zip(GROUPS, self.group_max[row].tolist(), strict=True):
            if n < m and inputs % m == 0 and self.nonzeros[row] == outputs * inputs // m * n:
                return n, m
        return None

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
