"""Nonzeros of every tile of every lane drawn from row and column counts alone; no mask is made.

The mask is taken as the least committed one with these counts (:func:`sim.sparsity.estimate.maximum_entropy`), and a
lane's nonzeros in a tile as a normal variable with that mask's mean and variance there (a sum of independent coins).
Rows and columns fall into at most :data:`CLASSES` classes of like counts each, so that the fit and the tables of means
and variances are small whatever the matrix: what is drawn is one number a tile and lane, not one a weight. Each lane's
tiles are then moved, in proportion to their variances (the conditional mean of independent normals), so that they add
up to the lane's true nonzeros: with one tile a lane the draw is exact.

A mask that keeps exactly n of every m inputs has no chance left in whole groups of m along the inputs: give ``n_of_m``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.sparsity.max_entropy import class_probabilities

CLASSES = 64
_ROUNDING = np.float32(1 / 6)  # variance that rounding a running sum adds to a tile (two uniform errors)


def draw_tiles(
    owned: NDArray[np.int64],
    walked: NDArray[np.int64],
    tiles: NDArray[np.int64],
    n_of_m: tuple[int, int] | None = None,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Nonzeros [tiles, owners].

    Args:
        owned: nonzeros of each owner. walked: nonzeros of each position, over all owners.
        tiles: where each tile starts, from 0.
        n_of_m: (n, m) when every owner keeps exactly n of every m positions.
    """
    widths = np.diff(np.append(tiles, len(walked)))
    if len(tiles) == 1:
        return owned[None, :].astype(np.int32)
    if n_of_m is not None:
        mean, variance, skew = _structured(len(owned), widths, *n_of_m)
    else:
        mean, variance, skew = _independent(owned, walked, tiles)
    z = np.random.default_rng(seed).standard_normal(mean.shape, dtype=np.float32)
    found = mean + np.sqrt(np.maximum(variance - _ROUNDING, 0)) * z + skew * (z * z - 1)
    spread = np.maximum(variance.sum(axis=0, dtype=np.float64), 1e-12)
    found += variance * ((owned - found.sum(axis=0, dtype=np.float64)) / spread).astype(np.float32)
    room = widths[:, None].astype(np.float32)
    np.clip(found, 0, room, out=found)
    # what clipping took or gave goes back where there is room, or nonzeros, for it
    short = (owned - found.sum(axis=0, dtype=np.float64)).astype(np.float32)
    into = np.where(short > 0, room - found, found)
    found += into * (short / np.maximum(into.sum(axis=0), np.float32(1e-6)))
    np.clip(found, 0, room, out=found)
    # rounding the running sum keeps every lane's total
    return np.diff(np.rint(np.cumsum(found, axis=0, dtype=np.float64)), axis=0, prepend=0).astype(np.int32)


def _independent(
    owned: NDArray[np.int64], walked: NDArray[np.int64], tiles: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean, variance and skew term [tiles, owners] of sums of independent coins; the last is the third cumulant over
    six variances, the next term of the Cornish-Fisher expansion."""
    row_class, rows, row_sizes = classes(owned, len(walked))
    column_class, columns, column_sizes = classes(walked, len(owned))
    p = class_probabilities(rows, columns, row_sizes, column_sizes)
    held = np.zeros((len(columns), len(tiles)))
    np.add.at(held, (column_class, np.searchsorted(tiles, np.arange(len(walked)), side="right") - 1), 1.0)
    mean, variance, third = ((x @ held).T for x in (p, p * (1 - p), p * (1 - p) * (1 - 2 * p)))
    skew = third / (6 * np.maximum(variance, 1e-6))
    return tuple(x.astype(np.float32)[:, row_class] for x in (mean, variance, skew))  # type: ignore[return-value]


def _structured(
    owners: int, widths: NDArray[np.int64], n: int, m: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance when n of every m positions are kept: only what is left of a last group is left to chance
    (drawn without replacement: the hypergeometric variance)."""
    rest = widths % m
    variance = rest * (n / m) * (1 - n / m) * (m - rest) / (m - 1)
    shape = (len(widths), owners)
    return (
        np.broadcast_to((widths * (n / m))[:, None], shape).astype(np.float32),
        np.broadcast_to(variance[:, None], shape).astype(np.float32),
        np.zeros((1, 1), np.float32),
    )


def classes(counts: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """About :data:`CLASSES` classes of neighbouring counts, about equally large: each count's class, the classes' mean
    counts and sizes. Equal counts share a class; empty lines and full ones (``most``) share theirs with no others."""
    values, of, sizes = np.unique(counts, return_inverse=True, return_counts=True)
    if len(values) > CLASSES:
        quantile = (np.cumsum(sizes) - sizes) * CLASSES // sizes.sum()
        quantile[values == 0], quantile[values == most] = -1, CLASSES
        _, merged = np.unique(quantile, return_inverse=True)
        of = merged[of]
    weight = np.bincount(of).astype(np.float64)
    return of, np.bincount(of, weights=counts) / weight, weight
