"""Engine 1: closed forms over designs x ops x mappings, compiled, one pass, no Python loop over designs.

For each design the best mapping of every op is found in four residencies, then a shortest path over the ops decides
which activations stay in ``shared`` between neighbours; last, cycles, causes and actions are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from sim.counts import COLUMNS
from sim.designs import Designs, kernel_matrix
from sim.errors import InputError
from sim.search import (
    _KIND,
    _REPEATS,
    M_OVERFLOW,
    MAPPING_COLUMNS,
    N_COLUMNS,
    STATES,
    account_gemm,
    account_rest,
    account_vector,
    op_cycles,
    search_gemm,
    search_vector,
)
from sim.sparse_ops import sparse_table
from sim.trace import Trace


@numba.njit(cache=True)
def _residency(d, ops, rows, best, states):
    """Shortest path over residencies; fills ``states`` per op. Returns the first op that fits nowhere, or -1."""
    count = len(rows)
    cost = np.full((count, 2), np.inf)
    back = np.zeros((count, 2), dtype=np.int64)
    for i in range(count):
        o = ops[rows[i]]
        for out in range(2 if i < count - 1 else 1):
            for inside in range(2 if i > 0 else 1):
                cycles = op_cycles(d, o, inside + 2 * out, best[i]) * o[_REPEATS]
                before = cost[i - 1, inside] if i > 0 else 0.0
                if not np.isnan(cycles) and before + cycles < cost[i, out]:
                    cost[i, out] = before + cycles
                    back[i, out] = inside
        if np.isinf(cost[i, 0]) and np.isinf(cost[i, 1]):
            return i
    out = 0
    for i in range(count - 1, -1, -1):
        states[i] = back[i, out] + 2 * out
        out = back[i, out]
    return -1


@numba.njit(cache=True)
def _run_one(d, ops, rows, sparse, out, best, states):
    """Evaluate one design on the ops ``rows``; adds into ``out`` [1 or ops, N_COLUMNS]. Returns (failed op or -1,
    bytes over)."""
    count = len(rows)
    for i in range(count):
        o = ops[rows[i]]
        if o[_KIND] == 1.0:
            search_vector(d, o, best[i])
        else:
            search_gemm(d, o, sparse[rows[i]], best[i])
    failed = _residency(d, ops, rows, best, states)
    if failed >= 0:
        return failed, best[failed, :, M_OVERFLOW].min()
    for i in range(count):
        o, into = ops[rows[i]], out[i if out.shape[0] > 1 else 0]
        if o[_KIND] == 1.0:
            account_vector(d, o, states[i], into)
        else:
            account_gemm(d, o, sparse[rows[i]], best[i, states[i]], states[i], into)
        account_rest(d, o, states[i], best[i], into)
    return -1, 0.0


@numba.njit(cache=True, parallel=True)
def _run_many(designs, ops, selection, sparse, config, totals, failed, over):
    for i in numba.prange(designs.shape[0]):
        rows = selection[np.int64(i) if selection.shape[0] > 1 else np.int64(0)]
        best = np.zeros((len(rows), STATES, MAPPING_COLUMNS))
        states = np.zeros(len(rows), dtype=np.int64)
        failed[i], over[i] = _run_one(designs[i], ops, rows, sparse[config[i]], totals[i : i + 1], best, states)


@dataclass
class Totals:
    """Sums over a trace, one row a design: ``columns[:, i]`` is ``sim.counts.COLUMNS[i]``. ``failed``: first op
    (position
    in the selection) that no mapping fits, -1 if none; ``over_bytes``: how far ``shared`` is exceeded at the least."""

    columns: NDArray[np.float64]
    failed: NDArray[np.int64]
    over_bytes: NDArray[np.float64]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.columns[:, COLUMNS.index(name)]

    def counts(self) -> dict[str, NDArray[np.float64]]:
        return {name: self.columns[:, i] for i, name in enumerate(COLUMNS)}


def run(designs: Designs, trace: Trace, selection: NDArray[np.int64] | None = None) -> Totals:
    """Totals of every design over the trace.

    ``selection`` [designs or 1, ops a design]: which rows of the trace each design runs, in order (default: all, in
    order); a trace may hold several variants of an op. :class:`InputError` if its shape or its rows do not fit.
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
    totals = np.zeros((size, N_COLUMNS))
    failed = np.full(size, -1, dtype=np.int64)
    over = np.zeros(size)
    _run_many(kernel_matrix(designs), trace.numeric(), selection, sparse.values, sparse.config, totals, failed, over)
    totals[failed >= 0] = np.nan
    return Totals(totals, failed, over)


@dataclass
class Detail:
    """One design, op by op: ``columns`` [ops, N_COLUMNS], ``mappings`` [ops, MAPPING_COLUMNS], residency ``states``
    [ops];
    ``failed`` is the first op that fits no mapping (-1 if none) by ``over_bytes``; ``sparse`` [ops, SPARSE_COLUMNS] and
    ``labels`` [ops] say what the machine makes of each op's zeros."""

    columns: NDArray[np.float64]
    mappings: NDArray[np.float64]
    states: NDArray[np.int64]
    failed: int
    over_bytes: float
    sparse: NDArray[np.float64]
    labels: NDArray[np.object_]


def run_detailed(designs: Designs, trace: Trace) -> Detail:
    """The first of ``designs`` over the trace, op by op."""
    table = sparse_table(designs, trace)
    sparse = table.values[table.config[0]]
    count = len(trace)
    rows = np.arange(count, dtype=np.int64)
    out = np.zeros((max(count, 2), N_COLUMNS))
    best = np.zeros((count, STATES, MAPPING_COLUMNS))
    states = np.zeros(count, dtype=np.int64)
    failed, over = _run_one(kernel_matrix(designs)[0], trace.numeric(), rows, sparse, out, best, states)
    return Detail(out[:count], best[rows, states], states, failed, over, sparse, table.labels[table.config[0]])
