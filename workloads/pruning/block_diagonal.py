"""Block-diagonal pruning: rows and columns reordered so that diagonal blocks hold the most, and nothing kept outside.

The in-block energy is Σ(|w| ‖x‖)²; orders are found by swaps (``permute.py``, a stand-in: papers cluster). One block is
one compute-in-memory array. Fine-tuning, which such masks rely on, is left out, so errors are large.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import Diagonal, Pattern
from workloads.pruning.permute import settle

_ROUNDS = 8


def even_blocks(count: int, blocks: int) -> np.ndarray:
    """The block of each of ``count`` places, ``blocks`` blocks whose sizes differ by at most one."""
    return np.arange(count) * blocks // count


@register
class BlockDiagonal(PruningMethod):
    """Energy Σ(|w| ‖x‖)² outside diagonal blocks, minimised over orders of rows and columns; weights as they were."""

    name = "block_diagonal"
    needs = "diagonal"
    takes = (Diagonal,)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        energy = np.square(weight) * np.diagonal(hessian)
        rows, columns = (np.arange(size) for size in weight.shape)
        blocks = min(pattern.blocks, *weight.shape)
        row_block, column_block = (even_blocks(size, blocks) for size in weight.shape)
        first_row, first_column = (np.searchsorted(b, np.arange(blocks)) for b in (row_block, column_block))
        for _ in range(_ROUNDS):
            before = rows, columns
            rows = settle(-np.add.reduceat(energy[:, columns], first_column, axis=1), rows, row_block)
            columns = settle(-np.add.reduceat(energy[rows], first_row, axis=0).T, columns, column_block)
            if np.array_equal(before[0], rows) and np.array_equal(before[1], columns):
                break
        mask = np.empty(weight.shape, bool)
        mask[np.ix_(rows, columns)] = row_block[:, None] == column_block
        return Pruned(mask, np.where(mask, weight, np.float32(0)), row_order=rows, column_order=columns)
