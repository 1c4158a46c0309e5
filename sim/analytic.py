"""Engine 1: closed forms over designs x ops x mappings, compiled, no Python loop over designs.

For each design the best mapping of every op is found in four residencies, then a shortest path over the ops decides
which activations stay on chip between neighbours; last, cycles, causes and actions are added up. Designs of one
geometry
(equal in all but rates) run the same ops together and share their tables of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from sim.account import (
    N_COLUMNS,
    account_gemm,
    account_rest,
    account_vector,
    price_mapping,
    search_vector,
    state_score,
)
from sim.candidates import B_REACH, build
from sim.compute import precision
from sim.counts import COLUMNS
from sim.designs import (
    D_ACTIVATION_BITS,
    D_ARITHMETIC,
    D_HOME,
    D_LEVELS,
    D_WEIGHT_BITS,
    GEOMETRY,
    L_BYTES,
    LEVEL_COLUMNS,
    OBJECTIVES,
    Designs,
    kernel_matrix,
)
from sim.errors import InputError, nearest
from sim.fit import STATES, reserved_bytes
from sim.fixed import FixedMappings
from sim.groups import group
from sim.mapping import EFFORTS, FULL
from sim.memory.traffic import ENTRY_COLUMNS
from sim.price_table import price_table
from sim.search import M_SCORE, MAPPING_COLUMNS, search
from sim.sparse_ops import sparse_table
from sim.trace import NUMBERS, Trace, position

_KIND, _REPEATS = position("kind"), position("repeats")
_WBITS, _ABITS = position("weight_bits"), position("activation_bits")
_SEARCHED = np.array(
    [len(NUMBERS)] + [position(c) for c in NUMBERS if c not in ("layer", "repeats", "live_in_bytes", "live_out_bytes")]
)
"""Columns of an op that its mappings depend on, residency apart."""
_POOL = 256  # inner mappings that a table has room for before it grows
_CHUNK_VALUES = 40_000  # designs x ops that one task keeps mappings of
_TASKS = 8  # tasks a thread should have, so that all end at about the same time

_cycles_per_vector = numba.njit(precision.cycles_per_vector)
_brick_bits = numba.njit(precision.brick_bits)


@numba.njit(cache=True)
def slow_of(d, o):
    """Array cycles a streamed vector of the op takes (:mod:`sim.compute.precision`)."""
    if d[D_ARITHMETIC] == 0.0:
        return 1.0
    return _cycles_per_vector(d[D_ARITHMETIC], o[_WBITS], o[_ABITS], d[D_WEIGHT_BITS], d[D_ACTIVATION_BITS])


@numba.njit(cache=True)
def _residency(d, ops, rows, price, objective, best, states):
    """Shortest path over residencies; fills ``states`` per op. Returns the first op that fits nowhere, or -1."""
    count = len(rows)
    cost = np.full((count, 2), np.inf)
    back = np.zeros((count, 2), dtype=np.int64)
    for i in range(count):
        o = ops[rows[i]]
        for out in range(2 if i < count - 1 else 1):
            for inside in range(2 if i > 0 else 1):
                state = inside + 2 * out
                score = state_score(d, o, price, objective, state, best[i, state]) * o[_REPEATS]
                before = cost[i - 1, inside] if i > 0 else 0.0
                if before + score < cost[i, out]:
                    cost[i, out] = before + score
                    back[i, out] = inside
        if np.isinf(cost[i, 0]) and np.isinf(cost[i, 1]):
            return i
    out = 0
    for i in range(count - 1, -1, -1):
        states[i] = back[i, out] + 2 * out
        out = back[i, out]
    return -1


@numba.njit(cache=True)
def _search_op(designs, prices, objective, o, s, fixed, best, short, effort):
    """Mappings of one op for designs of one geometry: ``best`` [designs, STATES, MAPPING_COLUMNS]; ``short`` [designs,
    2]: least bytes over and the slot, where nothing fits."""
    if o[_KIND] == 1.0:
        for j in range(len(designs)):
            short[j, 0], short[j, 1] = search_vector(designs[j], o, prices[j], objective, best[j]), 0.0
        return
    slow = slow_of(designs[0], o)
    if fixed[M_SCORE] >= 0.0:
        for j in range(len(designs)):
            short[j, 0] = np.inf
            for state in range(STATES):
                best[j, state] = fixed
                over, slot = price_mapping(designs[j], o, s, slow, prices[j], objective, best[j, state], state)
                if over > 0.0:
                    best[j, state, M_SCORE] = np.inf
                    if over < short[j, 0]:
                        short[j, 0], short[j, 1] = over, slot
        return
    bounds, rows, lacking = build(designs[0], o, s, slow, effort)
    reach = np.array([len(rows) > 0 and bounds[B_REACH + state].min() == 0.0 for state in range(STATES)])
    hint = np.full(STATES, -1)
    pool, used = np.empty((_POOL, ENTRY_COLUMNS)), 0
    spans = np.full((len(rows), 2), -1, dtype=np.int64)
    scratch = np.empty((3, len(rows) + 1))
    for j in range(len(designs)):
        pool, used = search(
            designs[j],
            o,
            s,
            slow,
            prices[j],
            objective,
            bounds,
            rows,
            reach,
            hint,
            pool,
            used,
            spans,
            scratch,
            best[j],
            effort,
        )
        at = np.argmin(lacking[:, 0])
        short[j, 0], short[j, 1] = lacking[at, 0], lacking[at, 1]


@numba.njit(cache=True)
def _twin(d, ops, rows, sparse, fixed, i):
    """An earlier op that the search cannot tell from op ``i`` (its mappings serve both), -1 if there is none."""
    o = ops[rows[i]]
    if o[_KIND] == 1.0:
        return -1
    home = int(d[D_HOME])
    room = d[D_LEVELS + home * LEVEL_COLUMNS + L_BYTES] if home >= 0 else 0.0
    for j in range(i):
        other = ops[rows[j]]
        same = True
        for column in _SEARCHED:
            same = same and o[column] == other[column]
        for state in range(1, STATES):
            mine, its = reserved_bytes(o, state), reserved_bytes(other, state)
            same = same and (mine == its or (mine > room and its > room))
        for column in range(sparse.shape[1]):
            same = same and sparse[rows[i], column] == sparse[rows[j], column]
        for column in range(fixed.shape[1]):
            same = same and fixed[rows[i], column] == fixed[rows[j], column]
        if same:
            return j
    return -1


@numba.njit(cache=True)
def _run_group(designs, prices, objective, ops, rows, sparse, fixed, out, states, best, failed, over, effort):
    """Designs of one geometry on the ops ``rows``: ``out`` [designs, 1 or ops, N_COLUMNS], ``states`` [designs, ops],
    ``best`` [ops, designs, STATES, MAPPING_COLUMNS], ``failed`` [designs], ``over`` [designs, 2]."""
    size, count = len(designs), len(rows)
    short = np.zeros((count, size, 2))
    first, known, one = np.arange(count), np.empty(count, dtype=np.int64), np.empty((count, N_COLUMNS))
    for i in range(count):
        at = rows[i]
        twin = _twin(designs[0], ops, rows, sparse, fixed, i)
        if twin >= 0:
            first[i] = twin
            best[i] = best[twin]
            short[i] = short[twin]
            continue
        _search_op(designs, prices, objective, ops[at], sparse[at], fixed[at], best[i], short[i], effort)
    for j in range(size):
        d = designs[j]
        failed[j] = _residency(d, ops, rows, prices[j], objective, best[:, j], states[j])
        if failed[j] >= 0:
            over[j] = short[failed[j], j]
            continue
        known[:] = -1
        for i in range(count):
            o, into, state = ops[rows[i]], out[j, i if out.shape[1] > 1 else 0], states[j, i]
            mapping, like = best[i, j, state], first[i]
            if o[_KIND] == 1.0:
                account_vector(d, o, state, into)
            else:
                if known[like] != state:
                    known[like], one[like] = state, 0.0
                    account_gemm(d, o, sparse[rows[i]], slow_of(d, o), mapping, state, one[like])
                into += o[_REPEATS] * one[like]
            account_rest(d, o, state, mapping, into)


@numba.njit(cache=True, parallel=True)
def _run_many(designs, prices, objective, ops, selection, sparse, config, fixed, starts, totals, failed, over, effort):
    for c in numba.prange(len(starts) - 1):
        first, last = starts[c], starts[c + 1]
        rows = selection[first if selection.shape[0] > 1 else np.int64(0)]
        best = np.empty((len(rows), last - first, STATES, MAPPING_COLUMNS))
        states = np.zeros((last - first, len(rows)), dtype=np.int64)
        _run_group(
            designs[first:last],
            prices[first:last],
            objective,
            ops,
            rows,
            sparse[config[first]],
            fixed,
            totals[first:last].reshape(last - first, 1, N_COLUMNS),
            states,
            best,
            failed[first:last],
            over[first:last],
            effort,
        )


@dataclass
class Totals:
    """Sums over a trace, one row a design: ``columns[:, i]`` is ``sim.counts.COLUMNS[i]``. ``failed``: first op
    (position in the selection) that no mapping fits, -1 if none; ``over_bytes``: how far the level ``over_slot`` is
    exceeded at the least."""

    columns: NDArray[np.float64]
    failed: NDArray[np.int64]
    over_bytes: NDArray[np.float64]
    over_slot: NDArray[np.int64]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.columns[:, COLUMNS.index(name)]

    def counts(self) -> dict[str, NDArray[np.float64]]:
        return {name: self.columns[:, i] for i, name in enumerate(COLUMNS)}


def objective_code(objective: str) -> int:
    """Integer code of an objective; :class:`InputError` names the nearest right one."""
    if objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise InputError(f"objective must be one of {known}, got '{objective}', {nearest(objective, OBJECTIVES)}")
    return OBJECTIVES[objective]


def _together(designs: int, ops: int) -> int:
    """Most designs of one task: those of one geometry share tables, but every thread should have several tasks."""
    even = designs // (_TASKS * numba.get_num_threads())
    return max(1, min(max(even, 64), _CHUNK_VALUES // ops))


def effort_code(effort: str) -> int:
    """Integer code of an effort; :class:`InputError` names the nearest right one."""
    if effort not in EFFORTS:
        raise InputError(f"effort must be one of {', '.join(EFFORTS)}, got '{effort}', {nearest(effort, EFFORTS)}")
    return EFFORTS[effort]


def run(
    designs: Designs,
    trace: Trace,
    selection: NDArray[np.int64] | None = None,
    objective: str = "latency",
    mappings: FixedMappings | None = None,
    effort: str = "full",
) -> Totals:
    """Totals of every design over the trace.

    ``selection`` [designs or 1, ops a design]: which rows of the trace each design runs, in order (default: all, in
    order); a trace may hold several variants of an op. ``effort``: how mappings are
    searched (:data:`sim.mapping.EFFORTS`). :class:`InputError` if the selection's shape or its rows do not fit.
    """
    size = len(designs)
    if selection is None:
        selection = np.arange(len(trace), dtype=np.int64)[None, :]
    selection = np.ascontiguousarray(selection, dtype=np.int64)
    if selection.ndim != 2 or selection.shape[0] not in (1, size) or not selection.shape[1]:
        raise InputError(f"selection must be [1 or {size} designs, ops], got shape {selection.shape}")
    if selection.min() < 0 or selection.max() >= len(trace):
        raise InputError(f"selection must name rows 0..{len(trace) - 1} of the trace")
    sparse = sparse_table(designs, trace)
    matrix, prices = kernel_matrix(designs), price_table(designs)
    keys = [matrix[:, GEOMETRY], sparse.config[:, None]]
    if len(selection) > 1:
        keys.append(selection)
    order, starts = group(keys, _together(size, selection.shape[1]))
    fixed = mappings.table(designs, trace) if mappings is not None else _free(len(trace))
    totals, failed, over = np.zeros((size, N_COLUMNS)), np.full(size, -1, dtype=np.int64), np.zeros((size, 2))
    _run_many(
        matrix[order],
        prices[order],
        objective_code(objective),
        trace.numeric(),
        selection[order] if len(selection) > 1 else selection,
        sparse.values,
        sparse.config[order],
        fixed,
        starts,
        totals,
        failed,
        over,
        effort_code(effort),
    )
    totals[failed >= 0] = np.nan
    back = np.empty_like(order)
    back[order] = np.arange(size)
    return Totals(totals[back], failed[back], over[back, 0], over[back, 1].astype(np.int64))


def _free(ops: int) -> NDArray[np.float64]:
    """[ops, MAPPING_COLUMNS] that fix no op's mapping."""
    table = np.zeros((ops, MAPPING_COLUMNS))
    table[:, M_SCORE] = -1.0
    return table


@dataclass
class Detail:
    """One design, op by op: ``columns`` [ops, N_COLUMNS], ``mappings`` [ops, MAPPING_COLUMNS], residency ``states``
    [ops]; ``failed`` is the first op that fits no mapping (-1 if none) by ``over_bytes`` in the level ``over_slot``;
    ``sparse`` [ops, SPARSE_COLUMNS] and ``labels`` [ops] say what the machine makes of each op's zeros; ``kernel`` is
    the design's row of the kernels' matrix."""

    columns: NDArray[np.float64]
    mappings: NDArray[np.float64]
    states: NDArray[np.int64]
    failed: int
    over_bytes: float
    over_slot: int
    sparse: NDArray[np.float64]
    labels: NDArray[np.object_]
    kernel: NDArray[np.float64]


def run_detailed(
    designs: Designs,
    trace: Trace,
    objective: str = "latency",
    mappings: FixedMappings | None = None,
) -> Detail:
    """The first of ``designs`` over the trace, op by op."""
    table = sparse_table(designs, trace)
    sparse = table.values[table.config[0]]
    count = len(trace)
    rows = np.arange(count, dtype=np.int64)
    matrix, prices = kernel_matrix(designs)[:1], price_table(designs)[:1]
    fixed = mappings.table(designs, trace) if mappings is not None else _free(count)
    out = np.zeros((1, max(count, 2), N_COLUMNS))
    best = np.zeros((count, 1, STATES, MAPPING_COLUMNS))
    states = np.zeros((1, count), dtype=np.int64)
    failed, over = np.full(1, -1, dtype=np.int64), np.zeros((1, 2))
    code = objective_code(objective)
    _run_group(matrix, prices, code, trace.numeric(), rows, sparse, fixed, out, states, best, failed, over, FULL)
    chosen = best[rows, 0, states[0]]
    return Detail(
        out[0, :count],
        chosen,
        states[0],
        int(failed[0]),
        float(over[0, 0]),
        int(over[0, 1]),
        sparse,
        table.labels[table.config[0]],
        matrix[0],
    )
