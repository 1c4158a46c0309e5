"""Does a trace keep the rules of the format? Every violation is one line: op, column, value, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import nearest
from sim.sparsity.grid import DEPTHS, LANES
from sim.sparsity.packed_blocks import BLOCKS, GROUPS, RUNS
from sim.sparsity.profile import ProfileTable
from sim.trace import NUMBERS, SOURCES, TEXTS, Trace
from sim.trace_tools.columns import COLUMNS, Column

KINDS = ("gemm", "vector")
_DIMENSIONS = ("batch", "m", "n", "k")
_SLACK = 1e-9  # relative: products of float64 columns


def violations(trace: Trace) -> list[str]:
    """Everything that is wrong with a trace, in the order of its ops; empty when nothing is."""
    found = [*_columns(trace)]
    if found:  # nothing more can be said of a table without its columns
        return found
    return [*_values(trace), *_shapes(trace), *_masks(trace), *_meta(trace)]


def _columns(trace: Trace) -> Iterator[str]:
    known = (*TEXTS, *NUMBERS)
    for name in known:
        if name not in trace.ops:
            yield f"column {name}: missing"
        elif name in NUMBERS and trace.ops[name].dtype.kind not in "iufb":
            yield f"column {name}: must hold numbers, got {trace.ops[name].dtype}"
    for name in trace.ops.columns:
        if name not in known:
            yield f"column {name}: unknown, {nearest(str(name), known)}"
    if not len(trace.ops):
        yield "table: must have at least one op, got 0"


def _values(trace: Trace) -> Iterator[str]:
    """Text and numbers of every op, column by column."""
    ops = trace.ops
    names = [str(name) for name in ops["name"]]
    kinds = ops["kind"].tolist()
    for column, allowed in (("kind", KINDS), ("weight_source", SOURCES)):
        for i, value in enumerate(ops[column].tolist()):
            if value not in allowed:
                yield f"op {names[i]}: {column} must be one of {', '.join(allowed)}, got {value!r}"
    for column in ("name", "matrix_type", "sparsity_label"):
        for i, value in enumerate(ops[column].tolist()):
            if not isinstance(value, str) or (column == "name" and not value):
                yield f"op {names[i]}: {column} must be text, got {value!r}"
    is_gemm = np.array([kind == "gemm" for kind in kinds], dtype=bool)
    known = np.array([kind in KINDS for kind in kinds], dtype=bool)
    for column, rule in COLUMNS.items():
        if rule.least is None:
            continue
        values = ops[column].to_numpy(dtype=np.float64)
        applies = known & (is_gemm if rule.of == "gemm" else ~is_gemm if rule.of == "vector" else True)
        for i in np.flatnonzero(applies & ~_within(values, rule, ops)):
            yield f"op {names[i]}: {column} must be {_allowed(rule, i, ops)}, got {values[i]:g}"
        if rule.of == "both" or column in _FREE:
            continue
        unused = 0.0 if rule.of == "vector" else NUMBERS[column]
        for i in np.flatnonzero(known & ~applies & (values != unused)):
            yield f"op {names[i]}: {column} must be {unused:g} in a {kinds[i]} op, got {values[i]:g}"


_FREE = ("batch", "weight_bits", "activation_bits", "output_bits", "accumulator_bits", "input_density", "input_union",
         "group4_max", "group8_max", "group16_max", "group32_max")  # fmt: skip
"""Columns that a vector op carries without a meaning."""


def _most(rule: Column, ops: Any) -> NDArray[np.float64] | float:
    if " x " not in rule.most:
        return float(rule.most) if rule.most else np.inf
    a, _, b = rule.most.partition(" x ")
    return ops[a].to_numpy(dtype=np.float64) * ops[b].to_numpy(dtype=np.float64)


def _within(values: NDArray[np.float64], rule: Column, ops: Any) -> NDArray[np.bool_]:
    """NaN is never within."""
    assert rule.least is not None
    inside = (values >= rule.least) & (values <= _most(rule, ops) * (1 + _SLACK)) & np.isfinite(values)
    return inside & (values == np.floor(values)) if rule.whole else inside


def _allowed(rule: Column, i: int, ops: Any) -> str:
    if " x " not in rule.most:
        return rule.allowed
    a, _, b = rule.most.partition(" x ")
    return f"{rule.allowed} ({ops[a].iloc[i]:g} x {ops[b].iloc[i]:g})"


def _shapes(trace: Trace) -> Iterator[str]:
    """Rules between columns of a GEMM: what groups can hold, what a mask says."""
    table = trace.profiles
    count = 0 if table is None else len(table)
    for row in trace.ops[trace.ops["kind"] == "gemm"].itertuples():
        n, k, nonzeros, at = (float(v) for v in (row.n, row.k, row.nonzeros, row.profile))
        if not np.isfinite([n, k, nonzeros, at]).all():
            continue  # said before
        for g in GROUPS:
            held = float(getattr(row, f"group{g}_max"))
            most = n * np.ceil(k / g) * held
            if nonzeros > most:
                yield (
                    f"op {row.name}: nonzeros must be <= n x ceil(k/{g}) x group{g}_max = {most:g}, got {nonzeros:g}"
                )
        for small, large in pairwise(GROUPS):
            low, high = (float(getattr(row, f"group{g}_max")) for g in (small, large))
            if not low <= high <= 2 * low:
                yield (
                    f"op {row.name}: group{large}_max must be from group{small}_max = {low:g} to {2 * low:g}, "
                    f"got {high:g}"
                )
        if at >= count:
            yield f"op {row.name}: profile must be < {count}, the profiles in the file, got {at:g}"
        elif at >= 0 and at == int(at) and table is not None:
            yield from _matches(row, table, int(at))


def _matches(row: Any, table: ProfileTable, at: int) -> Iterator[str]:
    """An op and the profile it names."""
    shape = tuple(int(s) for s in table.shapes[at])
    if shape != (row.n, row.k):
        yield f"op {row.name}: profile {at} must be out x in = {row.n:g} x {row.k:g}, got {shape[0]} x {shape[1]}"
    if table.nonzeros[at] != row.nonzeros:
        yield f"op {row.name}: nonzeros must be profile {at}'s {table.nonzeros[at]}, got {row.nonzeros:g}"
    for i, g in enumerate(GROUPS):
        held = float(getattr(row, f"group{g}_max"))
        if table.group_max[at, i] != held:
            yield f"op {row.name}: group{g}_max must be profile {at}'s {table.group_max[at, i]}, got {held:g}"


def _masks(trace: Trace) -> Iterator[str]:
    """Profiles by themselves; counts and masks against them."""
    table = trace.profiles
    if table is None:
        for what, given in (("counts", trace.counts), ("masks", trace.masks)):
            if given is not None:
                yield f"{what}: must come with profiles, the trace has none"
        return
    sizes = {name: len(getattr(table, name)) for name in ProfileTable.__dataclass_fields__}
    if len(set(sizes.values())) > 1:
        yield f"profiles: every array must have a row a mask, got {sizes}"
        return
    for i in range(len(table)):
        yield from _profile(table, i)
    for what, given, check in (("counts", trace.counts, _count), ("masks", trace.masks, _mask)):
        if given is None:
            continue
        if len(given) != len(table):
            yield f"{what}: must be one a profile, {len(table)}, got {len(given)}"
            continue
        for i, item in enumerate(given):
            yield from check(item, table, i)


def _profile(table: ProfileTable, i: int) -> Iterator[str]:
    rows, columns = (int(s) for s in table.shapes[i])
    nonzeros = int(table.nonzeros[i])
    if rows < 1 or columns < 1:
        yield f"profile {i}: shape must be at least 1 x 1, got {rows} x {columns}"
        return
    if not 0 <= nonzeros <= rows * columns:
        yield f"profile {i}: nonzeros must be in 0..{rows * columns}, got {nonzeros}"
    for name, sides, found in (
        ("empty_blocks", [(b, b) for b in BLOCKS], table.empty_blocks[i]),
        ("empty_runs", [(1, g) for g in RUNS], table.empty_runs[i]),
    ):
        for (a, b), value in zip(sides, found.tolist(), strict=True):
            blocks = -(-rows // a) * -(-columns // b)
            fewest = max(0, blocks - nonzeros)  # a nonzero fills no more than one block
            most = blocks - -(-nonzeros // (a * b))
            if not fewest <= value <= most:
                yield f"profile {i}: {name} of {a} x {b} must be in {fewest}..{most}, got {value}"
    for g, value in zip(GROUPS, table.group_max[i].tolist(), strict=True):
        if not 0 <= value <= min(g, columns):
            yield f"profile {i}: group_max of {g} must be in 0..{min(g, columns)}, got {value}"
    for at, lanes in enumerate(LANES):
        least = -(-nonzeros // lanes)
        found = int(table.cycles_grid[i, at].min())
        if found < least:
            yield f"profile {i}: cycles of {lanes} lanes must be >= nonzeros / lanes = {least}, got {found}"
    full, barriers = DEPTHS.index("full"), table.empty_barriers[i]
    if barriers.min() < 0 or (barriers > table.cycles_grid[i, ..., 0]).any():
        yield f"profile {i}: empty_barriers must be in 0..cycles, got {barriers.min()}..{barriers.max()}"
    elif (np.diff(table.cycles_grid[i, ..., 0], axis=1)[:, :full] > 0).any():
        yield f"profile {i}: cycles must not grow with the barrier depth"


def _count(given: Any, table: ProfileTable, i: int) -> Iterator[str]:
    rows, columns = (int(s) for s in table.shapes[i])
    for name, found, size, most in (("rows", given.rows, rows, columns), ("columns", given.columns, columns, rows)):
        if len(found) != size:
            yield f"counts {i}: {name} must be {size} numbers, got {len(found)}"
        elif len(found) and not 0 <= found.min() <= found.max() <= most:
            yield f"counts {i}: {name} must be in 0..{most}, got {found.min()}..{found.max()}"
        elif found.sum() != table.nonzeros[i]:
            yield f"counts {i}: {name} must add up to nonzeros {table.nonzeros[i]}, got {found.sum()}"


def _mask(given: NDArray[np.bool_], table: ProfileTable, i: int) -> Iterator[str]:
    shape = tuple(int(s) for s in table.shapes[i])
    if given.shape != shape:
        yield f"mask {i}: must be out x in = {shape[0]} x {shape[1]}, got {' x '.join(map(str, given.shape))}"
    elif np.count_nonzero(given) != table.nonzeros[i]:
        yield f"mask {i}: must have profile {i}'s {table.nonzeros[i]} nonzeros, got {np.count_nonzero(given)}"


def _meta(trace: Trace) -> Iterator[str]:
    try:
        json.dumps(trace.meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"meta: must be JSON, {error}"
    if not isinstance(trace.meta.get("name", ""), str):
        yield f"meta: name must be text, got {trace.meta['name']!r}"
