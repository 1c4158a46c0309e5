"""TETRIS: rows and columns reordered so that whole tiles of small weights come together, then tiles pruned.

Ji et al. 2018, "TETRIS: TilE-matching the TRemendous Irregular Sparsity", from memory of the paper: minimise Σ|w| in
pruned tiles. With the order fixed, the tiles of the smallest sum go; with the tiles fixed, pairs of rows, then of
columns, swap for the greatest gain; until nothing gains. Stand-ins: |w| is weighted by the norm of its input, since
nothing is retrained; and every strip of rows loses the same number of tiles (over the whole matrix, weak outputs
gather and go entirely: perplexity 10,500 for 134 at 25 % of 16x16). The two orders are part of the result: what lies
next to the matrix takes them over, or the machine gathers.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import Blocks, Pattern
from workloads.pruning.permute import block_of, settle
from workloads.pruning.select import choose, spread_blocks

_ROUNDS = 8


@register
class Tetris(PruningMethod):
    """Sum of |w| · ‖x‖ in pruned tiles, minimised over tiles and orders of rows and columns; weights as they were."""

    name = "tetris"
    needs = "diagonal"
    compares = "row"
    takes = (Blocks,)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        cost = np.abs(weight) * np.sqrt(np.diagonal(hessian))
        rows, columns = np.arange(weight.shape[0]), np.arange(weight.shape[1])
        row_block, column_block = block_of(len(rows), pattern.rows), block_of(len(columns), pattern.columns)
        best = np.inf
        for _ in range(_ROUNDS):
            kept, loss = _tiles(cost[rows][:, columns], pattern)
            if loss >= best * (1 - 1e-4):
                break
            best, found = loss, (rows, columns, kept)
            gone = (~kept).astype(np.float32)
            per_column_tile = np.add.reduceat(cost[:, columns], np.unique(column_block, return_index=True)[1], axis=1)
            rows = settle(per_column_tile @ gone.T, rows, row_block)
            per_row_tile = np.add.reduceat(cost[rows], np.unique(row_block, return_index=True)[1], axis=0)
            columns = settle(per_row_tile.T @ gone, columns, column_block)
        rows, columns, kept = found
        mask = np.empty(weight.shape, bool)
        mask[np.ix_(rows, columns)] = spread_blocks(kept, pattern.rows, pattern.columns, weight.shape)
        return Pruned(mask, np.where(mask, weight, np.float32(0)), row_order=rows, column_order=columns)


def _tiles(cost: np.ndarray, pattern: Blocks) -> tuple[np.ndarray, float]:
    """Tiles to keep (bool [block rows, block columns]) by the sum of ``cost``, and the cost of the others."""
    kept = choose(np.sqrt(cost), pattern, per_row=True)
    return kept[:: pattern.rows, :: pattern.columns], float(cost[~kept].sum(dtype=np.float64))
