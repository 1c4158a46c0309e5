"""What every weight tile holds: its own nonzeros and lane cycles, from the mask where the trace has it.

With a mask each tile is counted and walked by itself (exact for its own barriers and FIFO). Without, nonzeros follow
row and column counts as if independent (a tile's share is the product of its rows' and its columns' shares), or area,
and lane cycles follow the nonzeros; the total over tiles is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.sparse_columns import S_CUT_PASS, S_FOLDS, S_NONZEROS, S_PASS, S_RESTART
from sim.sparse_ops import block_of, drained, lane_settings, outer_array
from sim.sparsity import lanes
from sim.sparsity.density import Actual
from sim.tiles import G_CUT_PASS, G_FOLDS, G_NONZEROS, G_PASS
from sim.trace import Trace


def tile_weights(
    configuration: dict[str, float], trace: Trace, op: int, sparse: NDArray[np.float64], tile_n: int, tile_k: int
) -> NDArray[np.float64]:
    """[tiles along N, tiles along K, 4] (:data:`sim.tiles.G_NONZEROS` ...) of one op. ``configuration``: the machine's
    sparse support (:func:`sim.sparse_ops.configuration`); ``sparse``: the op's row of the sparse table."""
    n, k = int(trace.ops["n"].iloc[op]), int(trace.ops["k"].iloc[op])
    starts_n, starts_k = np.arange(0, n, tile_n), np.arange(0, k, tile_k)
    found = np.zeros((len(starts_n), len(starts_k), 4))
    found[..., G_FOLDS] = sparse[S_FOLDS]
    which = int(trace.ops["profile"].iloc[op])
    is_lanes = configuration["lanes"] > 0
    if which >= 0 and trace.masks is not None:
        mask = trace.masks[which]
        found[..., G_NONZEROS] = np.add.reduceat(np.add.reduceat(mask, starts_n, axis=0, dtype=np.int64), starts_k, 1)
        if sparse[S_FOLDS] < 1.0:
            block = block_of(configuration)
            for i, row in enumerate(starts_n):
                for j, column in enumerate(starts_k):
                    part = mask[row : row + tile_n, column : column + tile_k]
                    found[i, j, G_FOLDS] = 1.0 - Actual(part).empty(*block)
        if configuration["outer_tile"]:
            array = outer_array(configuration)
            for i, row in enumerate(starts_n):
                for j, column in enumerate(starts_k):
                    part = mask[row : row + tile_n, column : column + tile_k]
                    found[i, j, G_PASS] = found[i, j, G_CUT_PASS] = array.weight_granules(Actual(part))
        if is_lanes:
            settings, cut = lane_settings(configuration)
            output = settings["orientation"] == "output"
            for i, row in enumerate(starts_n):
                for j, column in enumerate(starts_k):
                    part = mask[row : row + tile_n, column : column + tile_k]
                    found[i, j, G_PASS] = lanes.walk(part, **settings)
                    found[i, j, G_CUT_PASS] = found[i, j, G_PASS]
                    if cut is not None:
                        owners, positions = part.shape if output else part.shape[::-1]
                        more = drained(settings, np.array(float(owners)), positions)
                        found[i, j, G_CUT_PASS] = lanes.walk(part, **cut) + more
        return found
    sizes_n, sizes_k = np.minimum(tile_n, n - starts_n), np.minimum(tile_k, k - starts_k)
    area = np.outer(sizes_n / n, sizes_k / k)
    share = area
    if which >= 0 and trace.counts is not None and sparse[S_NONZEROS] > 0:
        counts = trace.counts[which]
        rows, columns = np.add.reduceat(counts.rows, starts_n), np.add.reduceat(counts.columns, starts_k)
        share = np.minimum(np.outer(rows, columns) / sparse[S_NONZEROS] ** 2, area * n * k / sparse[S_NONZEROS])
        share = share / share.sum()
    found[..., G_NONZEROS] = sparse[S_NONZEROS] * share
    if configuration["outer_tile"]:
        found[..., G_PASS] = found[..., G_CUT_PASS] = sparse[S_PASS] * share
    if is_lanes:
        output = configuration["sparsity.orientation"] == 0
        groups = np.ceil((n if output else k) / configuration["lanes"])
        own = np.ceil((sizes_n[:, None] if output else sizes_k[None, :]) / configuration["lanes"])
        for column, total, start in (
            (G_PASS, sparse[S_PASS], sparse[S_RESTART]),
            (G_CUT_PASS, sparse[S_CUT_PASS], sparse[S_RESTART]),
        ):
            found[..., column] = max(total - start * groups, 0.0) * share + start * own
    return found
