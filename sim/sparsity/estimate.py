"""Lane cycles without the mask, or off the profile grid: estimates, each named for what it assumes.

Errors measured on real masks (SmolLM2, five layers): density alone 16-50 % too few, a Bernoulli mask up to 60 % off, maximum
entropy with the real row and column counts 0.2-2.8 % (8 % worst) when exactly balanced rows are held exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.sparsity.lanes import walk
from sim.sparsity.profile import Counts

_STEPS = 60  # of the fixed point; counts then agree to well under one nonzero


def from_density(nonzeros: ArrayLike, owners: ArrayLike, lanes: int, restart: ArrayLike) -> NDArray[np.float64]:
    """Cycles if every lane had the same work at every moment: nonzeros / lanes, and the groups' restarts."""
    owners = np.asarray(owners, dtype=np.float64)
    return np.asarray(nonzeros, dtype=np.float64) / np.minimum(lanes, owners) + np.asarray(restart) * np.ceil(owners / lanes)


def bernoulli_mask(outputs: int, inputs: int, density: float, seed: int = 0) -> NDArray[np.bool_]:
    """Independent coins: what "random sparsity" usually means."""
    return np.random.default_rng(seed).random((outputs, inputs)) < density


def maximum_entropy(counts: Counts) -> NDArray[np.float64]:
    """p[i, j] = 1 / (1 + exp(-a_i - b_j)): the least committed mask with these expected row and column counts."""
    rows, columns = counts.rows.astype(np.float64), counts.columns.astype(np.float64)
    outputs, inputs = len(rows), len(columns)
    odds_row = np.clip(rows / np.maximum(inputs - rows, 1e-9), 1e-9, 1e9)
    odds_column = np.ones(inputs)
    for _ in range(_STEPS):
        p = odds_row[:, None] * odds_column[None, :]
        odds_column = np.clip(columns / np.maximum((odds_row[:, None] / (1.0 + p)).sum(axis=0), 1e-12), 1e-12, 1e12)
        p = odds_row[:, None] * odds_column[None, :]
        odds_row = np.clip(rows / np.maximum((odds_column[None, :] / (1.0 + p)).sum(axis=1), 1e-12), 1e-12, 1e12)
    p = odds_row[:, None] * odds_column[None, :]
    return p / (1.0 + p)


def draw(counts: Counts, seed: int = 0) -> NDArray[np.bool_]:
    """A mask from :func:`maximum_entropy`; rows or columns that are all equal are held exactly (they are so by
    construction: Wanda's rows, say), by keeping the largest of Gumbel-perturbed log-odds."""
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


def from_counts(counts: Counts, lanes: int, barrier_depth: int | str, orientation: str = "output", assignment: str = "contiguous",
                fifo_depth: int = 0, empty_tile_cycles: int = 1, seed: int = 0) -> int:
    """Cycles of one mask drawn by :func:`draw`, walked."""
    return walk(draw(counts, seed), lanes, barrier_depth, orientation, assignment, fifo_depth, empty_tile_cycles)
