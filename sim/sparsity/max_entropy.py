"""The least committed mask with given row and column counts: independent coins, p[i, j] = 1 / (1 + exp(-a_i - b_j))."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.sparsity.profile import Counts

_STEPS = 100  # at most; some ten are usual
_TOLERANCE = 1e-3  # nonzeros
_LONGEST_STEP = 8.0  # of a log-odds at once


def maximum_entropy(counts: Counts) -> NDArray[np.float64]:
    """p[i, j] = 1 / (1 + exp(-a_i - b_j)) [out, in]: the least committed mask with these expected counts.

    Empty and full rows and columns are set aside exactly; equal counts share one unknown; Newton's method finds the
    rest until every expected count is within 0.001 of the real one (or, for counts that only one mask can have, as near
    as odds of e^40 get).

    Raises:
        InputError: the counts are no mask's: different totals, or more in a row than there are columns.
    """
    rows, columns = np.asarray(counts.rows, dtype=np.int64), np.asarray(counts.columns, dtype=np.int64)
    if rows.sum() != columns.sum() or rows.max() > len(columns) or columns.max() > len(rows):
        raise InputError(
            f"row counts (sum {rows.sum()}) and column counts (sum {columns.sum()}) must belong to one mask"
        )
    r, row_of, row_sizes = np.unique(rows, return_inverse=True, return_counts=True)
    c, column_of, column_sizes = np.unique(columns, return_inverse=True, return_counts=True)
    return class_probabilities(r, c, row_sizes, column_sizes)[np.ix_(row_of, column_of)]


def class_probabilities(
    rows: NDArray[Any], columns: NDArray[Any], row_sizes: NDArray[Any], column_sizes: NDArray[Any]
) -> NDArray[np.float64]:
    """Probabilities [row classes, column classes]: the counts of a row and of a column of each class, and how many
    there are of each. What is empty or full is set aside first, then what that makes empty or full, and so on."""
    rows, columns, w, v = (np.array(x, dtype=np.float64) for x in (rows, columns, row_sizes, column_sizes))
    p = np.zeros((len(rows), len(columns)))
    free_rows, free_columns = np.ones(len(rows), dtype=bool), np.ones(len(columns), dtype=bool)
    while True:
        full = free_rows & (rows >= v[free_columns].sum())
        p[np.ix_(full, free_columns)] = 1.0
        columns -= w[full].sum()
        fixed = full | (free_rows & (rows <= 0))
        free_rows &= ~fixed
        full = free_columns & (columns >= w[free_rows].sum())
        p[np.ix_(free_rows, full)] = 1.0
        rows -= v[full].sum()
        fixed_columns = full | (free_columns & (columns <= 0))
        free_columns &= ~fixed_columns
        if not fixed.any() and not fixed_columns.any():
            break
    if free_rows.any() and free_columns.any():
        found = _newton(rows[free_rows], columns[free_columns], w[free_rows], v[free_columns])
        p[np.ix_(free_rows, free_columns)] = found
    return p


def _newton(
    r: NDArray[np.float64], c: NDArray[np.float64], w: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities [rows, columns] with row sums ``r`` and column sums ``c``, row i standing for ``w[i]`` equal rows
    and column j for ``v[j]``; minimises the convex dual."""
    if len(r) > len(c):
        return _newton(c, r, v, w).T
    share_r, share_c = r / v.sum(), c / w.sum()
    a = np.log(share_r / (1 - share_r))
    b = np.log(share_c / (1 - share_c))
    b -= np.average(b, weights=v)

    def dual(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(w @ np.logaddexp(0.0, a[:, None] + b) @ v - w * r @ a - v * c @ b)

    value = dual(a, b)
    for _ in range(_STEPS):
        p = _sigma(a[:, None] + b)
        miss_r, miss_c = p @ v - r, w @ p - c
        if max(np.abs(miss_r).max(), np.abs(miss_c).max()) < _TOLERANCE:
            break
        cross = w[:, None] * (p * (1 - p)) * v
        down, across = cross.sum(axis=1) + 1e-9, cross.sum(axis=0) + 1e-9
        scaled = cross / across
        schur = np.diag(down * (1 + 1e-9)) - scaled @ cross.T
        step_a = np.linalg.solve(schur, scaled @ (v * miss_c) - w * miss_r)
        step_b = -(v * miss_c + step_a @ cross) / across
        step = min(1.0, _LONGEST_STEP / max(np.abs(step_a).max(), np.abs(step_b).max()))
        while True:
            new_a, new_b = np.clip(a + step * step_a, -40, 40), np.clip(b + step * step_b, -40, 40)
            new_value = dual(new_a, new_b)
            if new_value <= value + 1e-9 * abs(value) or step < 1e-6:
                break
            step /= 2
        a, b, value = new_a, new_b, new_value
    return _sigma(a[:, None] + b)


def _sigma(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0.0, -x))
