"""SparseGPT: prune column by column and let the columns to come make up for the error.

Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1: with H⁻¹ = UᵀU (U upper triangular), removing w_ij adds
-w_ij / U_jj · U_j,: to row i; the mask is chosen for each block of 128 columns by w² / U_jj², for n:m at each group.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.hessian import PerHessian, inverse_factor
from workloads.pruning.pattern import Blocks, NofM, Pattern
from workloads.pruning.select import choose, keep_n_of_m

BLOCK = 128


@register
class SparseGPT(PruningMethod):
    """Mask per block of 128 columns over all outputs (or n:m per group), kept weights updated."""

    name = "sparsegpt"
    compares = "columns"
    refits = True

    def __init__(self) -> None:
        self._factor = PerHessian(inverse_factor)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        return Pruned(*sweep(weight, *self._factor(hessian), pattern))


@register
class SequentialSparseGPT(SparseGPT):
    """SparseGPT as published: each layer is calibrated on the outputs of the layers already pruned."""

    name = "sparsegpt_sequential"
    sequential = True


def sweep(weight: np.ndarray, upper: np.ndarray, unused: np.ndarray, pattern: Pattern) -> tuple[np.ndarray, np.ndarray]:
    """Mask and new weights, out x in, after one pass over the columns; ``upper``, ``unused``: ``inverse_factor``."""
    w = np.ascontiguousarray(weight.T)  # in x out: a column of the matrix is contiguous
    w[unused] = 0
    mask = np.empty(w.shape, bool)
    unit = pattern.group if isinstance(pattern, NofM) else pattern.columns if isinstance(pattern, Blocks) else 1
    step = max(BLOCK - BLOCK % unit, unit)  # groups never straddle blocks
    for start in range(0, len(w), step):
        end = min(start + step, len(w))
        error = _block(w[start:end], mask[start:end], upper[start:end, start:end], pattern, start)
        w[end:] -= upper[start:end, end:].T @ error
    mask = np.ascontiguousarray(mask.T)
    return mask, np.where(mask, w.T, np.float32(0))


def _block(w: np.ndarray, mask: np.ndarray, upper: np.ndarray, pattern: Pattern, start: int) -> np.ndarray:
    """Prune the block of columns from ``start`` in place (w, mask: [columns, out]); returns the scaled errors."""
    diagonal = np.diagonal(upper)
    outputs = w.shape[1]
    if not isinstance(pattern, NofM):
        scores = np.abs(w / diagonal[:, None]).T
        # Block norms square for themselves; squares of single weights tie as those of the published algorithm do.
        mask[:] = choose(scores if isinstance(pattern, Blocks) else np.square(scores), pattern, per_row=False).T
    errors = np.empty_like(w)
    for column in range(len(w)):
        if isinstance(pattern, NofM) and column % pattern.group == 0:
            ahead = slice(column, min(column + pattern.group, len(w)))
            scores = np.square(w[ahead] / diagonal[ahead, None]).T
            mask[ahead] = keep_n_of_m(scores, pattern.keep, pattern.group, (start + column) * outputs).T
        np.multiply(w[column], ~mask[column], out=errors[column])
        errors[column] /= diagonal[column]
        if column + 1 < len(w):
            w[column + 1 :] -= upper[column, column + 1 :, None] * errors[column]
    return errors
