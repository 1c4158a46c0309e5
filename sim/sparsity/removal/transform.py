"""A trace without the rows and columns that do nothing: smaller GEMMs, and what their removal costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import whole
from sim.errors import InputError, nearest
from sim.sparsity.profile import Profile, ProfileTable, profile
from sim.sparsity.removal import between, cost
from sim.sparsity.removal.dead import Matrix, Shared, choose, find, shared_dimensions
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, SIDES
from sim.sparsity.reorder.cost import RUNTIMES
from sim.trace import NUMBERS, TEXTS, Trace, sparse_columns

Kept = Mapping[str, ArrayLike]
_SIZE = {OUTPUT: "n", INPUT: "k"}
_OPTION = {OUTPUT: "keep_outputs", INPUT: "keep_inputs"}


@dataclass(frozen=True)
class Plan:
    """What leaves: matrices by row of the op table, the dimensions they share, and [op, side] of what was chosen."""

    matrices: dict[int, Matrix]
    shared: list[Shared]
    chosen: list[list[str]]

    def removed(self, side: int) -> int:
        """Features that leave on a side of all matrices."""
        return sum(matrix.shape[side] - len(matrix.kept(side)) for matrix in self.matrices.values())


def plan(
    trace: Trace,
    *,
    keep_outputs: Kept | None = None,
    keep_inputs: Kept | None = None,
    multiple_of: int = 1,
    paid: bool = True,
) -> Plan:
    """What :func:`remove` takes out; its arguments and errors. ``plan.matrices[row].kept(side)``: what stays."""
    multiple = int(whole("multiple_of", multiple_of))
    if trace.profiles is not None and trace.masks is None:
        raise InputError(f"trace {trace.name}: removal needs masks, this trace has profiles of its masks only")
    matrices = _matrices(trace)
    chosen = _chosen(trace, matrices, {OUTPUT: keep_outputs or {}, INPUT: keep_inputs or {}})
    shared = shared_dimensions(trace.ops.reset_index(drop=True), matrices, ragged="removal" in trace.meta)
    find(list(matrices.values()), shared)
    choose(list(matrices.values()), shared, multiple, paid)
    return Plan(matrices, shared, chosen)


def remove(trace: Trace, *, runtime: str = "vector", **options: Any) -> Trace:
    """``trace`` with all-zero rows (outputs) and columns (inputs) of its masks removed, so that N and K shrink.

    The result is the same, number by number. Gate and up outputs leave with down inputs, v outputs with the inputs of
    ``attn_output`` (head by head, for all query heads of a KV head); what lies between them shrinks as well and nothing
    is paid. Any other side pays: inputs are picked before the GEMM, outputs put back among zeros after it
    (:mod:`sim.sparsity.removal.cost`). Only exact zeros go, unless the caller chooses.

    Args:
        runtime: who pays: "vector" ops that move activations, or "indexed" buffers, as for
            :func:`sim.sparsity.reorder.transform.reorder`.
        keep_outputs, keep_inputs: op name to the positions that stay; the others leave whatever their weights are, on
            dense ops too. That changes the model: a perplexity in ``meta`` is dropped.
        multiple_of: sizes stay multiples of it (lanes, PEs), by keeping some dead features; of every head's channels,
            where heads are what shrinks.
        paid: False leaves a side alone unless neighbours absorb it (or the caller chose); default True.

    Returns:
        A new trace (the same one if nothing is removed); ``meta["removal"]`` lists every step: settings, outputs and
        inputs removed, GEMM MACs before and after, sides that pay.

    Raises:
        InputError: profiles without masks, an unknown op, positions out of range or none, a number out of range, a side
            that was paid for in an earlier removal.

    Heads may lose unlike numbers of channels, so reorder before removing; a second removal no longer shares heads.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"runtime must be one of {', '.join(RUNTIMES)}, got '{runtime}', {nearest(runtime, RUNTIMES)}")
    found = plan(trace, **options)
    if not found.removed(OUTPUT) + found.removed(INPUT):
        return trace
    rows = trace.ops.to_dict("records")
    for axis in found.shared:
        between.shrink(rows, axis)
    profiles = _Profiles(trace)
    made: list[dict[str, Any]] = []
    pays: list[list[str]] = []
    for i, row in enumerate(rows):
        if i in found.matrices:
            parts, sides = _removed(row, found.matrices[i], runtime, profiles)
            made += parts
            pays += [[str(row["name"]), SIDES[side]] for side in sides]
        else:
            made.append(row)
    _refuse_twice(trace, pays)
    kept = {key: value for key, value in trace.meta.items() if not (found.chosen and key.startswith("perplexity"))}
    after = Trace(
        pd.DataFrame(made, columns=[*TEXTS, *NUMBERS]),
        profiles.table(),
        kept | ({"quality": "not measured after removal"} if found.chosen else {}),
        profiles.counts(),
        profiles.masks or None,
    )
    settings = {"multiple_of": int(options.get("multiple_of", 1)), "paid": options.get("paid", True)}
    step = {
        "settings": settings | {"runtime": runtime, "chosen": found.chosen},
        "outputs": found.removed(OUTPUT), "inputs": found.removed(INPUT),
        "macs_before": trace.macs, "macs_after": after.macs, "pays": pays,
    }  # fmt: skip
    after.meta["removal"] = [*trace.meta.get("removal", []), step]
    return after


def _matrices(trace: Trace) -> dict[int, Matrix]:
    """Matrices of weights, by row of the op table."""
    found = {}
    ops = trace.ops
    for i in np.flatnonzero((ops["kind"] == "gemm") & (ops["weight_source"] == "weights")):
        row = ops.iloc[i]
        mask = trace.masks[int(row["profile"])] if trace.masks is not None and row["profile"] >= 0 else None
        found[int(i)] = Matrix(int(i), (int(row["n"]), int(row["k"])), mask)
    return found


def _chosen(trace: Trace, matrices: dict[int, Matrix], kept: dict[int, Kept]) -> list[list[str]]:
    """Mark what the caller does not keep as dead (and zero its weights); [op, side] of every choice."""
    names = {str(trace.ops["name"].iloc[i]): matrix for i, matrix in matrices.items()}
    found = []
    for side, given in kept.items():
        for name, positions in given.items():
            if name not in names:
                raise InputError(f"{_OPTION[side]}: no matrix '{name}' in this trace, {nearest(name, names)}")
            matrix = names[name]
            stays = np.unique(whole(f"{_OPTION[side]} of {name}", positions, 0, matrix.shape[side] - 1))
            if not stays.size:
                raise InputError(f"{_OPTION[side]} of {name} must keep at least one feature, got none")
            dead = np.ones(matrix.shape[side], bool)
            dead[stays] = False
            matrix.dead[side] |= dead
            matrix.chosen[side] = True
            if matrix.mask is not None:
                matrix.mask = matrix.mask & (~dead[:, None] if side == OUTPUT else ~dead)
            found.append([name, SIDES[side]])
    return sorted(found)


class _Profiles:
    """Profiles and masks of the new trace, numbered as its ops come; unchanged ones are taken over."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._found: list[Profile] = []
        self._taken: dict[int, int] = {}
        self.masks: list[NDArray[np.bool_]] = []

    def keep(self, old: int) -> int:
        """Number of an unchanged mask."""
        if old not in self._taken:
            trace = self._trace
            assert trace.profiles is not None and trace.masks is not None
            known = trace.profiles[old]
            known = known if trace.counts is None else replace(known, counts=trace.counts[old])
            self._taken[old] = self._add(known, trace.masks[old])
        return self._taken[old]

    def make(self, mask: NDArray[np.bool_]) -> tuple[int, Profile]:
        """Number and profile of a new mask."""
        found = profile(mask)
        return self._add(found, mask), found

    def _add(self, found: Profile, mask: NDArray[np.bool_]) -> int:
        self._found.append(found)
        self.masks.append(mask)
        return len(self._found) - 1

    def table(self) -> ProfileTable | None:
        return ProfileTable.from_profiles(self._found) if self._found else None

    def counts(self) -> list[Any] | None:
        counts = [found.counts for found in self._found]
        return counts if counts and all(c is not None for c in counts) else None


def _removed(
    row: dict[str, Any], matrix: Matrix, runtime: str, profiles: _Profiles
) -> tuple[list[dict[str, Any]], list[int]]:
    """The op without what leaves, between the ops that pay for it, and the sides that pay."""
    kept = {side: matrix.kept(side) for side in (OUTPUT, INPUT)}
    if all(len(kept[side]) == matrix.shape[side] for side in kept):
        if row["profile"] >= 0:
            row["profile"] = profiles.keep(int(row["profile"]))
        return [row], []
    pays = [side for side in kept if matrix.paid[side].any()]
    row = _resized(row, *(int((~matrix.absorbed[side]).sum()) for side in (OUTPUT, INPUT)))
    before, after, index = [], [], 0.0
    for side in reversed(pays):  # inputs first: whether they die here is told by what is alive, all outputs included
        count, size = len(kept[side]), int(row[_SIZE[side]])
        if runtime == "indexed":
            index += cost.table_bytes(count, size)
            after += [cost.zeros(row, count)] if side == OUTPUT else []
        elif side == INPUT:
            op, changes = cost.pick(row, count)
            before, row = [op], row | changes
        else:
            op, changes = cost.fill(row, count)
            after, row = [op], row | changes
    row = _resized(row, len(kept[OUTPUT]), len(kept[INPUT]))
    row["weight_scale_bytes"] += index
    if matrix.mask is not None:
        number, found = profiles.make(np.ascontiguousarray(matrix.mask[np.ix_(kept[OUTPUT], kept[INPUT])]))
        row |= sparse_columns(found) | {"profile": number}
    return [*(op.row() for op in before), row, *(op.row() for op in after)], pays


def _resized(row: dict[str, Any], n: int, k: int) -> dict[str, Any]:
    """A dense GEMM's row with other N and K. Scales are kept for every group of inputs (some may be spared), distinct
    inputs of a convolution unless M K are fewer."""
    return row | {
        "n": n, "k": k, "nonzeros": n * k,
        "stored_elements": row["stored_elements"] * n * k // (row["n"] * row["k"]),
        "weight_scale_bytes": row["weight_scale_bytes"] * n / row["n"],
        "input_elements": min(row["input_elements"], row["m"] * k),
    }  # fmt: skip


def _refuse_twice(trace: Trace, pays: list[list[str]]) -> None:
    earlier = {tuple(side) for step in trace.meta.get("removal", []) for side in step["pays"]}
    for name, side in pays:
        if (name, side) in earlier:
            raise InputError(f"{name}: its {side}s were removed and paid for before; remove all of them in one call")
