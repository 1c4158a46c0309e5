"""The same counts from real masks, exactly: every multiply-accumulate is placed in its tiles and looked at.

Slow and plain (memory: some twenty numbers for each multiply-accumulate), the reference for :mod:`~.count`. Nothing is
taken as independent and no tile as typical. Metadata and bandwidths are not walked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.nest import Level, Nest
from sim.nest.parts import DIMS, OPERAND_DIMS, REUSED_BY, WINDOWED
from sim.sparsity.features.cycles import cycles
from sim.sparsity.features.leader import own_dims
from sim.sparsity.features.ranks import is_compressed
from sim.sparsity.features.spec import ROW_DIMS, Features, mask_shape
from sim.sparsity.features.tally import Accesses, Computes, Counts, Tally

Each = NDArray[np.int64]  # a number for every multiply-accumulate
Flags = NDArray[np.bool_]
MOST_MACS = 1 << 24


def walk(nest: Nest, masks: Mapping[str, ArrayLike], features: Features) -> Counts:
    """Exact counts for ``masks`` (weights n x k, inputs m x k, outputs m x n; an operand without one is dense). A
    compressed format is taken to leave out every zero.

    Raises InputError for masks or features that do not fit the nest, and for more than 16 million multiply-accumulates.
    """
    features.check(nest)
    if nest.macs() > MOST_MACS:
        raise InputError(f"a walk takes at most {MOST_MACS:,} multiply-accumulates, the nest has {nest.macs():,}")
    steps = _Steps(nest, masks)
    found: dict[tuple[str, str], Accesses] = {}
    skipped, gated = steps.never, steps.never
    for operand in OPERAND_DIMS:
        rows, skip, gate = _along(steps, operand, features)
        found |= rows
        skipped, gated = skipped | skip, gated | gate
    computes = _computes(steps, features, skipped, gated & ~skipped)
    accesses = {(level.name, x): found[level.name, x] for level in nest.levels for x in ROW_DIMS if x in level.keeps}
    return Counts(accesses, computes, cycles(nest, accesses, computes, {}))


class _Steps:
    """Of every multiply-accumulate: its place in the loops, its units, its elements and whether they are nonzero."""

    def __init__(self, nest: Nest, masks: Mapping[str, ArrayLike]):
        self.nest = nest
        self.never = np.zeros(nest.macs(), dtype=bool)
        grid = np.meshgrid(*(np.arange(nest.sizes[d]) for d in DIMS), indexing="ij")
        at = {d: axis.ravel() for d, axis in zip(DIMS, grid, strict=True)}
        self.element: dict[str, Each] = {}
        self.nonzero: dict[str, Flags] = {}
        for operand in OPERAND_DIMS:
            row = ROW_DIMS[operand]
            rows, columns = at[row], at[next(d for d in OPERAND_DIMS[operand] if d != row)]
            if nest.window and operand == WINDOWED:
                rows, columns = 0 * rows, rows + columns
            shape = mask_shape(nest, operand)
            mask = np.asarray(masks.get(operand, np.ones(shape))) != 0
            if mask.shape != shape:
                raise InputError(f"mask of {operand} has shape {mask.shape}, but the nest needs {shape}")
            self.element[operand] = rows * shape[1] + columns
            self.nonzero[operand] = mask[rows, columns]
        self.chunk: list[Each] = []
        for loop in nest.loops:
            number, at[loop.dim] = np.divmod(at[loop.dim], loop.tile)
            self.chunk.append(number)
        self.unit = {dim: at[dim] % unroll.factor for dim, unroll in nest.spatial.items()}

    def stays(self, level: Level | None, operand: str) -> Each:
        """Number, in order of time, of the stay of a tile in ``level`` (None: the array)."""
        position = len(self.nest.loops) if level is None else level.position(operand)
        turn = _numbers(self.chunk[:position], self.nest.macs())
        if level is None and operand not in self.nest.latched:
            return turn
        dims = [loop.dim for loop in self.nest.loops[:position]]
        cut = [c for c, dim in zip(self.chunk, dims, strict=False) if dim in OPERAND_DIMS[operand]]
        _, first = np.unique(turn, return_index=True)
        tile = _numbers(cut, self.nest.macs())[first]
        return np.concatenate([[0], np.cumsum(tile[1:] != tile[:-1])])[turn]

    def with_units(self, stays: Each, dims: Sequence[str]) -> Each:
        """``stays`` told apart by the units along ``dims``; still in order of time."""
        return _numbers([stays, *(self.unit[dim] for dim in dims)], self.nest.macs())


def _along(steps: _Steps, operand: str, features: Features) -> tuple[dict[tuple[str, str], Accesses], Flags, Flags]:
    """Accesses of one operand in all its levels, and which of its multiply-accumulates lack it: skipped, gated."""
    nest, element = steps.nest, steps.element[operand]
    chain = nest.chain(operand)
    found: dict[tuple[str, str], Accesses] = {}
    skip, gate, new = steps.never, steps.never, ~steps.never
    refills = _tally(element, ~new, steps.never, steps.never, steps.never)
    for place, level in enumerate(chain):
        inside = chain[place + 1] if place + 1 < len(chain) else None
        here = steps.with_units(steps.stays(level, operand), _replicated(nest, level))
        stored = steps.nonzero[operand] | (not is_compressed(features.formats.get((level.name, operand), ())))
        copies = _tally(_numbers([here, element], nest.macs()), new | ~new, stored, skip, gate)
        stay = steps.stays(inside, operand)
        transfer = steps.with_units(stay, own_dims(nest, level, inside, operand))
        for saf in features.at(level.name, operand):
            for leader in saf.leaders:
                full = np.bincount(transfer, steps.nonzero[leader])[transfer] > 0
                skip, gate = (skip | ~full, gate) if saf.kind == "skip" else (skip, gate | ~full)
        access = _numbers([transfer, element], nest.macs())
        all_of = _tally(access, new | ~new, stored, skip, gate)
        none = Tally(0, 0, 0, 0, 0)
        if operand != "outputs":
            found[level.name, operand] = Accesses(all_of, copies if place else none, none, none)
            continue
        begins = new & _first_of(_numbers([here, element], nest.macs()), stay)
        reads = _tally(access, ~begins, stored, skip, gate)
        found[level.name, operand] = Accesses(reads, refills if place else none, all_of, copies if place else none)
        refills = reads
        if inside is not None:
            extra = [
                d for d in _replicated(nest, inside) if d == REUSED_BY[operand] and d not in _replicated(nest, level)
            ]
            new = begins | np.any([steps.unit[d] > 0 for d in extra], axis=0) if extra else begins
    return found, skip, gate


def _replicated(nest: Nest, level: Level) -> list[str]:
    return [dim for dim, unroll in nest.spatial.items() if unroll.axis in level.per]


def _tally(access: Each, counted: Flags, stored: Flags, skip: Flags, gate: Flags) -> Tally:
    """Accesses, each once however many multiply-accumulates it serves."""
    _, first = np.unique(access, return_index=True)
    first = first[counted[first]]
    held, skipped = stored[first], stored[first] & skip[first]
    gated = held & gate[first] & ~skipped
    parts = (int(part.sum()) for part in (held & ~skipped & ~gated, gated, skipped, ~held))
    return Tally(len(first), *parts)


def _computes(steps: _Steps, features: Features, skipped: Flags, gated: Flags) -> Computes:
    missing, zero = {}, {}
    for operand in ("weights", "inputs"):
        level = steps.nest.chain(operand)[-1].name
        compressed = is_compressed(features.formats.get((level, operand), ()))
        missing[operand] = ~steps.nonzero[operand] & compressed
        zero[operand] = ~steps.nonzero[operand] & ~missing[operand]
    left = ~skipped & ~gated
    absent = left & missing["weights"] & missing["inputs"]
    lone = left & (missing["weights"] ^ missing["inputs"])
    zeros = left & ~absent & ~lone & (zero["weights"] | zero["inputs"])
    return Computes.of_states(
        *(
            int(part.sum())
            for part in (left | ~left, left & ~absent & ~lone & ~zeros, absent, lone, zeros, skipped, gated)
        ),
        features.compute,
    )


def _first_of(groups: Each, time: Each) -> Flags:
    """Whether each is of the earliest time in its group."""
    earliest = np.full(groups.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(earliest, groups, time)
    return earliest[groups] == time


def _numbers(parts: Sequence[Each], length: int) -> Each:
    """One number, 0, 1, 2, ..., for each combination; in the order of the first part, then the second, ..."""
    joined = np.zeros(length, dtype=np.int64)
    for part in parts:
        joined = joined * (part.max() + 1) + part
        joined = np.unique(joined, return_inverse=True)[1]
    return joined
