"""Formats rank by rank, in Sparseloop's notation, written from the outermost rank in: ``UOP-CP`` is CSR, ``CP-CP`` COO.

A rank cuts each of its fibers (a tile) into coordinates (smaller tiles, row by row); the last one's are elements:

=====  ==============================================================================  =========================
name   what a fiber of S coordinates stores                                            coordinates below it
=====  ==============================================================================  =========================
U      nothing                                                                         all S
UB     S flags, which only say which coordinates are empty                             all S
B      S flags                                                                         the nonempty ones
CP     the coordinate of each nonempty one                                             the nonempty ones
RLE    before each nonzero, how many zeros (innermost only; long runs need fillers)    the nonzeros and fillers
UOP    S + 1 offsets into the rank below                                               all S
=====  ==============================================================================  =========================

A CP above a CP is flattened with it, as in COO: its coordinate is repeated for every entry below. Fibers of CP and RLE
vary in length, so UOP must stand above them (or CP above CP) unless there is one fiber only.

Source: NVlabs/timeloop src/workload/format-models (``validation/data/peers/sparseloop_format_formulas.csv``). Where it
multiplies rounded means per fiber, this counts expected entries exactly; and it has no fillers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.csr import POINTER_WALK, index_width
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.run_length import POSITION_BITS, RUN_BITS, run_pairs
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import ELEMENT, Tile, Zeros

RANKS = ("U", "UB", "B", "CP", "RLE", "UOP")
MOST_RANKS = 4
_KEEPS_ALL = ("U", "UB", "UOP")
_VARIES = ("CP", "RLE")


@dataclass(frozen=True)
class _Rank:
    """One rank of a matrix filled up to whole tiles: ``fiber`` and ``tile`` (of a coordinate), ``size`` coordinates a
    fiber, ``most`` coordinates in the whole matrix."""

    name: str
    fiber: Tile
    tile: Tile
    size: Number
    most: Number


@dataclass(frozen=True)
class Ranks(Format):
    """A stack of up to four ranks. Its tiles: one rank, elements; two, rows and elements, or with ``block`` (h, w)
    blocks and elements; three with ``block``, rows of blocks, blocks, elements; four, also the rows of a block.

    ``index_bits``: of coordinates and offsets, more where they need them; None takes as few as each needs.
    ``run_bits``: of run lengths. Blocks at the edges are stored whole; mean bytes leave out the fillers that RLE then
    needs between their short rows.
    """

    ranks: str = "UOP-CP"
    block: tuple[int, int] | None = None
    index_bits: int | None = None
    run_bits: int = RUN_BITS
    name: ClassVar[str] = "ranks"
    counts_suffice: ClassVar[bool] = False

    def __post_init__(self) -> None:
        stack = self.stack
        for name in stack:
            if name not in RANKS:
                known = ", ".join(RANKS)
                raise InputError(f"ranks must be {known} joined by '-', got '{self.ranks}', {nearest(name, RANKS)}")
        require(len(stack) <= MOST_RANKS, "ranks", f"at most {MOST_RANKS} names", self.ranks)
        fits = len(stack) == 2 or (len(stack) > 2) == (self.block is not None)
        require(fits, "block", "given with three or four ranks, with two if wanted, never with one", self.block)
        require(self.block is None or min(self.block) >= 1, "block", "two sizes of at least 1", self.block)
        require(self.index_bits in (None, *range(1, 65)), "index_bits", "between 1 and 64", self.index_bits)
        require(self.run_bits in range(1, 33), "run_bits", "between 1 and 32", self.run_bits)
        require("RLE" not in stack[:-1], "ranks", "with RLE innermost", self.ranks)
        require(stack[-1] != "UOP", "ranks", "with a rank below UOP", self.ranks)
        for above, below in pairwise(stack):
            delimited = above == "UOP" or (above, below) == ("CP", "CP")
            require(below not in _VARIES or delimited, "ranks", f"with UOP above {below}", self.ranks)

    @property
    def stack(self) -> tuple[str, ...]:
        """Names from the outermost rank in."""
        return tuple(self.ranks.split("-"))

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        ranks = self._ranks(zeros.rows, zeros.columns)
        told, fibers = 0.0, 1.0
        entries = 1.0
        for i, rank in enumerate(ranks):
            below = zeros.nonempty(rank.tile)
            entries = fibers * rank.size if rank.name in _KEEPS_ALL else below
            if rank.name in ("B", "UB"):
                told = told + fibers * rank.size
            elif rank.name == "UOP":
                told = told + fibers * (rank.size + 1.0) * self._offset_bits(ranks, i)
            elif rank.name == "CP":
                told = told + zeros.nonempty(ranks[self._flat_end(i)].tile) * self._place_bits(rank)
            elif rank.name == "RLE":
                entries = zeros.nonzeros + zeros.fillers(rank.fiber, 1 << self.run_bits)
                told = told + entries * self.run_bits
            fibers = entries
        held = zeros.nonzeros * bits
        return held, told, entries * bits - held

    def decoder(self, bits: int) -> Decoder:
        """A value a cycle; every rank has what its name needs."""
        index = self.index_bits or 16
        parts = {
            "U": (),
            "UB": (Part("register"),),
            "B": (Part("encoder", size=16), Part("register", bits=16)),
            "CP": (Part("register", bits=index),),
            "RLE": (Part("adder", bits=POSITION_BITS), Part("register", bits=POSITION_BITS)),
            "UOP": POINTER_WALK,
        }
        return Decoder(1.0, "values", tuple(part for name in self.stack for part in parts[name]))

    def _ranks(self, rows: Number, columns: Number) -> list[_Rank]:
        h, w = self.block or (1, 1)
        across = np.ceil(columns / w) * w
        tiles: list[Tile] = {
            1: [ELEMENT],
            2: [(1, across) if self.block is None else (h, w), ELEMENT],
            3: [(h, across), (h, w), ELEMENT],
            4: [(h, across), (h, w), (1, w), ELEMENT],
        }[len(self.stack)]
        found = []
        fiber, most = (np.ceil(rows / h) * h, across), 1.0
        for name, tile in zip(self.stack, tiles, strict=True):
            size = (fiber[0] / tile[0]) * (fiber[1] / tile[1])
            most = most * size
            found.append(_Rank(name, fiber, tile, size, most))
            fiber = tile
        return found

    def _flat_end(self, i: int) -> int:
        """The last rank that the one at ``i``, if it is a CP, is flattened with."""
        while self.stack[i] == "CP" and self.stack[i + 1 : i + 2] == ("CP",):
            i += 1
        return i

    def _place_bits(self, rank: _Rank) -> Number:
        return index_width(self.index_bits or 1, rank.size)

    def _offset_bits(self, ranks: list[_Rank], i: int) -> Number:
        """Of offsets that the UOP at ``i`` points with."""
        return index_width(self.index_bits or 1, ranks[self._flat_end(i + 1)].most + 1.0)

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        ranks = self._ranks(*codes.shape)
        cells = _nested(codes, ranks)
        held = [cells.reshape(int(rank.most), -1).any(axis=1) for rank in ranks]
        found: dict[str, Stream] = {}
        fibers = np.zeros(1, dtype=np.int64)
        for i, rank in enumerate(ranks):
            size, key = int(rank.size), f"{i}.{rank.name}"
            children = fibers[:, None] * size + np.arange(size)
            some = held[i][children]
            if rank.name in ("B", "UB"):
                found[key] = metadata(some, 1)
            elif rank.name == "UOP":
                entries = self._entries(i + 1, children.reshape(-1), ranks, held, cells)
                ends = np.cumsum(entries).reshape(-1, size)
                starts = ends[:, :1] - entries.reshape(-1, size)[:, :1]
                found[key] = metadata(np.concatenate([starts, ends], axis=1), int(self._offset_bits(ranks, i)))
            elif rank.name == "CP":
                end = self._flat_end(i)
                below = int(ranks[end].most / rank.most)
                found[key] = metadata(np.flatnonzero(held[end]) // below % size, int(self._place_bits(rank)))
            elif rank.name == "RLE":
                pairs = [run_pairs(cells[line], 1 << self.run_bits) for line in children]
                runs, kept = (np.concatenate([np.zeros(0, np.int64), *(pair[at] for pair in pairs)]) for at in (0, 1))
                return found | {key: metadata(runs, self.run_bits), "values": values(kept, bits)}
            fibers = children.reshape(-1) if rank.name in _KEEPS_ALL else children[some]
        return found | {"values": values(cells[fibers], bits)}

    def _entries(
        self,
        i: int,
        fibers: NDArray[np.int64],
        ranks: list[_Rank],
        held: list[NDArray[np.bool_]],
        cells: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Entries that rank ``i`` stores of each fiber."""
        size = int(ranks[i].size)
        if self.stack[i] in _KEEPS_ALL:
            return np.full(len(fibers), size)
        if self.stack[i] == "RLE":
            lines = cells.reshape(-1, size)[fibers]
            return np.array([len(run_pairs(line, 1 << self.run_bits)[0]) for line in lines], dtype=np.int64)
        return held[self._flat_end(i)].reshape(int(ranks[i].most) // size, -1).sum(axis=1)[fibers]

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        ranks = self._ranks(*shape)
        fibers, counts = np.zeros(1, dtype=np.int64), None
        for i, rank in enumerate(ranks):
            size = int(rank.size)
            numbers = streams[f"{i}.{rank.name}"].numbers if rank.name != "U" else None
            if rank.name in _KEEPS_ALL:
                fibers = (fibers[:, None] * size + np.arange(size)).reshape(-1)
                counts = np.diff(numbers.reshape(-1, size + 1), axis=1).reshape(-1) if rank.name == "UOP" else None
                continue
            if rank.name == "B":
                owner, place = np.nonzero(numbers.reshape(-1, size))
                fibers = fibers[owner] * size + place
            elif rank.name == "CP":
                flattened = i > 0 and self.stack[i - 1] == "CP"
                fibers = (fibers if flattened else _spread(fibers, counts, len(numbers))) * size + numbers
            else:
                owners = _spread(fibers, counts, len(numbers))
                ends = np.cumsum(numbers + 1)
                first = np.searchsorted(owners, owners)
                fibers = owners * size + ends - (ends - numbers - 1)[first] - 1
            counts = None
        cells = np.zeros(int(ranks[-1].most), dtype=np.int64)
        cells[fibers] = streams["values"].numbers
        whole = np.zeros((int(ranks[0].fiber[0]), int(ranks[0].fiber[1])), dtype=np.int64)
        order = _nested(np.arange(whole.size).reshape(whole.shape), ranks)
        whole.reshape(-1)[order] = cells
        return whole[: shape[0], : shape[1]]


def _spread(fibers: NDArray[np.int64], counts: NDArray[np.int64] | None, entries: int) -> NDArray[np.int64]:
    """The fiber of each entry; without counts there is one fiber only."""
    return np.repeat(fibers, [entries] if counts is None else counts)


def _nested(codes: NDArray[np.int64], ranks: list[_Rank]) -> NDArray[np.int64]:
    """The elements in the order of the ranks, flat, filled up to whole tiles."""
    height, width = (int(x) for x in ranks[0].fiber)
    cells = np.pad(codes, ((0, height - codes.shape[0]), (0, width - codes.shape[1])))[None]
    for rank in ranks:
        h, w = (int(x) for x in rank.tile)
        cells = cells.reshape(len(cells), cells.shape[1] // h, h, cells.shape[2] // w, w)
        cells = cells.swapaxes(2, 3).reshape(-1, h, w)
    return cells.reshape(-1)
