"""Lane cycles without the mask, or off the profile grid: estimates, each named for what it assumes.

Errors measured on real masks (SmolLM2, five layers): density alone 16-50 % too few, a Bernoulli mask up to 60 % off,
maximum entropy with the real row and column counts 0.2-2.8 % (8 % worst) when exactly balanced rows are held exactly.
A seed gives the same estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.sparsity.lanes import walk
from sim.sparsity.profile import Counts

_STEPS = 100  # at most; some ten are usual
_TOLERANCE = 1e-3  # nonzeros
_LONGEST_STEP = 8.0  # of a log-odds at once


def from_density(nonzeros: ArrayLike, owners: ArrayLike, lanes: int, restart: ArrayLike) -> NDArray[np.float64]:
    """Cycles if every lane had the same work at every moment: nonzeros / lanes, and the groups' restarts."""
    owners = np.asarray(owners, dtype=np.float64)
    return np.asarray(nonzeros, dtype=np.float64) / np.minimum(lanes, owners) + np.asarray(restart) * np.ceil(
        owners / lanes
    )


def bernoulli_mask(outputs: int, inputs: int, density: float, seed: int = 0) -> NDArray[np.bool_]:
    """Independent coins: what "random sparsity" usually means."""
    return np.random.default_rng(seed).random((outputs, inputs)) < density


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
    p = np.zeros((len(rows), len(columns)))
    free_rows, free_columns = np.ones(len(rows), dtype=bool), np.ones(len(columns), dtype=bool)
    rows, columns = rows.copy(), columns.copy()
    while True:
        full = free_rows & (rows == free_columns.sum())
        p[np.ix_(full, free_columns)] = 1.0
        columns = columns - full.sum()
        fixed = full | (free_rows & (rows == 0))
        free_rows &= ~fixed
        full = free_columns & (columns == free_rows.sum())
        p[np.ix_(free_rows, full)] = 1.0
        rows = rows - full.sum()
        fixed_columns = full | (free_columns & (columns == 0))
        free_columns &= ~fixed_columns
        if not fixed.any() and not fixed_columns.any():
            break
    if free_rows.any() and free_columns.any():
        r, row_of, row_weight = np.unique(rows[free_rows], return_inverse=True, return_counts=True)
        c, column_of, column_weight = np.unique(columns[free_columns], return_inverse=True, return_counts=True)
        small = _newton(r.astype(float), c.astype(float), row_weight.astype(float), column_weight.astype(float))
        p[np.ix_(free_rows, free_columns)] = small[np.ix_(row_of, column_of)]
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


def draw(counts: Counts, seed: int = 0) -> NDArray[np.bool_]:
    """A mask from :func:`maximum_entropy`; rows or columns that are all equal are held exactly (they are so by
    construction: Wanda's rows, say), by keeping the largest of log-odds plus logistic noise (Pareto sampling)."""
    p = np.clip(maximum_entropy(counts), 1e-12, 1 - 1e-12)
    rng = np.random.default_rng(seed)
    if len(set(counts.rows.tolist())) == 1:
        return _hold_rows(p, int(counts.rows[0]), rng)
    if len(set(counts.columns.tolist())) == 1:
        return _hold_rows(p.T, int(counts.columns[0]), rng).T
    return rng.random(p.shape) < p


def _hold_rows(p: NDArray[np.float64], kept: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    keys = np.log(p) - np.log1p(-p) + rng.logistic(size=p.shape)
    mask = np.zeros(p.shape, dtype=bool)
    if kept:
        np.put_along_axis(mask, np.argpartition(-keys, kept - 1, axis=1)[:, :kept], True, axis=1)
    return mask


def from_counts(
    counts: Counts,
    lanes: int,
    barrier_depth: int | str,
    orientation: str = "output",
    assignment: str = "contiguous",
    fifo_depth: int = 0,
    empty_tile_cycles: int = 1,
    seed: int = 0,
) -> int:
    """Cycles of one mask drawn by :func:`draw`, walked."""
    return walk(draw(counts, seed), lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles)
