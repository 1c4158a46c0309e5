"""SparseGPT: prune column by column and let the columns to come make up for the error.

Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1: with H⁻¹ = UᵀU (U upper triangular), removing w_ij adds
-w_ij / U_jj · U_j,: to row i; the mask is chosen for each block of 128 columns by w² / U_jj², for n:m at each group.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import NofM, Pattern
from workloads.pruning.select import keep_largest, keep_n_of_m, removed_count

BLOCK = 128
DAMPING = 0.01


def inverse_factor(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U upper triangular with H⁻¹ = UᵀU, H damped by 1 % of its mean diagonal; and which inputs are never used.

    An input that is always zero gets a unit diagonal, so its weights are free to go.
    """
    from scipy.linalg import cholesky, solve_triangular

    h = np.array(hessian, dtype=np.float64)
    diagonal = np.einsum("ii->i", h)
    unused = diagonal == 0
    diagonal[unused] = 1
    diagonal += DAMPING * diagonal.mean()
    # Flip, factor, flip: H = V Vᵀ with V upper, so H⁻¹ = V⁻ᵀ V⁻¹ and U = V⁻¹ is upper triangular.
    flipped = cholesky(h[::-1, ::-1], lower=True)
    v = flipped[::-1, ::-1]
    return solve_triangular(v, np.eye(len(v)), lower=False).astype(np.float32), unused


@register
class SparseGPT(PruningMethod):
    """Mask per block of 128 columns over all outputs (or n:m per group), kept weights updated."""

    name = "sparsegpt"

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        upper, unused = self._factor(hessian)
        w = np.ascontiguousarray(weight.T)  # in x out: a column of the matrix is contiguous
        w[unused] = 0
        mask = np.empty(w.shape, bool)
        step = BLOCK - BLOCK % pattern.group if isinstance(pattern, NofM) else BLOCK  # groups never straddle blocks
        for start in range(0, len(w), step):
            end = min(start + step, len(w))
            error = self._block(w[start:end], mask[start:end], upper[start:end, start:end], pattern, start)
            w[end:] -= upper[start:end, end:].T @ error
        mask = np.ascontiguousarray(mask.T)
        return Pruned(mask, np.where(mask, w.T, np.float32(0)))

    def _factor(self, hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factor of this Hessian; the last one is kept, since matrices that share an input come in a row."""
        if self._last is None or self._last[0] is not hessian:
            self._last = (hessian, inverse_factor(hessian))
        return self._last[1]

    @staticmethod
    def _block(w: np.ndarray, mask: np.ndarray, upper: np.ndarray, pattern: Pattern, start: int) -> np.ndarray:
        """Prune the block of columns from ``start`` in place (w, mask: [columns, out]); returns the scaled errors."""
        diagonal = np.diagonal(upper)
        outputs = w.shape[1]
        if not isinstance(pattern, NofM):
            scores = np.square(w / diagonal[:, None]).T.reshape(1, -1)
            keep = keep_largest(scores, removed_count(pattern.sparsity, scores.size))
            mask[:] = keep.reshape(outputs, len(w)).T
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
