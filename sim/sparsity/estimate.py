"""Lane cycles without the mask, or off the profile grid: estimates, each named for what it assumes.

Errors measured on real masks (SmolLM2, five layers): density alone 16-50 % too few, a Bernoulli mask up to 60 % off,
maximum entropy with the real row and column counts 0.2-2.8 % (8 % worst) when exactly balanced rows are held exactly.
A seed gives the same estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.compute.arguments import code
from sim.sparsity.lanes import ORIENTATIONS, check_settings, positions_between, tile_cycles, walk, walk_tiles
from sim.sparsity.max_entropy import maximum_entropy
from sim.sparsity.profile import Counts
from sim.sparsity.tile_draw import draw_tiles


def from_density(nonzeros: ArrayLike, owners: ArrayLike, lanes: int, restart: ArrayLike) -> NDArray[np.float64]:
    """Cycles if every lane had the same work at every moment: nonzeros / lanes, and the groups' restarts."""
    owners = np.asarray(owners, dtype=np.float64)
    return np.asarray(nonzeros, dtype=np.float64) / np.minimum(lanes, owners) + np.asarray(restart) * np.ceil(
        owners / lanes
    )


def bernoulli_mask(outputs: int, inputs: int, density: float, seed: int = 0) -> NDArray[np.bool_]:
    """Independent coins: what "random sparsity" usually means."""
    return np.random.default_rng(seed).random((outputs, inputs)) < density


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
    stealing: str = "none",
    n_of_m: tuple[int, int] | None = None,
    seed: int = 0,
) -> int:
    """Cycles of one pass over tile counts drawn from row and column counts (:mod:`sim.sparsity.tile_draw`).

    Exact where a walk has one tile, so that counts are all there is to know (depth "full" without stealing).
    ``n_of_m``: the mask keeps exactly n of every m inputs in every row.
    """
    steals = check_settings(fifo_depth, empty_tile_cycles, stealing)
    output = int(code("orientation", orientation, ORIENTATIONS)) == 0
    owned, walked = (counts.rows, counts.columns) if output else (counts.columns, counts.rows)
    depth = positions_between(barrier_depth, len(walked))
    tiles = walk_tiles(len(walked), depth, steals)
    work = draw_tiles(owned, walked, tiles, n_of_m if output else None, seed)
    return tile_cycles(work, tiles, depth, lanes, assignment, int(fifo_depth), empty_tile_cycles, steals)


def from_drawn_mask(counts: Counts, *design: object, seed: int = 0, **settings: object) -> int:
    """Cycles of one mask drawn by :func:`draw`, walked (:func:`sim.sparsity.lanes.walk`): a number a weight, so slow
    for large matrices; what :func:`from_counts` is measured against beside real masks."""
    return walk(draw(counts, seed), *design, **settings)  # type: ignore[arg-type]
