"""HWPQ: pruning without a Hessian and without a sort, as a stream past a moving threshold, then 4-bit groups.

From memory of the paper (Kang et al. 2025, "HWPQ: Hessian-free Weight Pruning-Quantization"); the formula of the
contribution is a stand-in: c_ij = (w_ij ‖x_j‖)² / Σ_j (w_ij ‖x_j‖)². Along a row t ← βt + (1 - β)c; a weight stays when
c > αt. t does not depend on α, so the α of each row that meets the sparsity exactly is a rank of c / t.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import NofM, Pattern, Unstructured
from workloads.pruning.select import choose
from workloads.pruning.wanda import wanda_scores
from workloads.quantise import Rtn

#: β of the moving average.
BETA = 0.99
SURVIVORS = Rtn(bits=4, group=64)


def moving_threshold(contribution: np.ndarray) -> np.ndarray:
    """t of every position (out x in): the average of what came before it in its row, beginning with the row's mean."""
    from scipy.signal import lfilter

    first = contribution.mean(axis=1, keepdims=True)
    before = np.concatenate([first, contribution[:, :-1]], axis=1)
    return lfilter([1 - BETA], [1, -BETA], before, axis=1, zi=BETA * first)[0].astype(np.float32)


@register
class HWPQ(PruningMethod):
    """Streaming threshold within each output (top contributions for n:m), survivors rounded to INT4 groups of 64."""

    name = "hwpq"
    needs = "diagonal"
    compares = "row"
    refits = True
    takes = (Unstructured, NofM)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        energy = np.square(wanda_scores(weight, hessian, tokens))
        total = energy.sum(axis=1, keepdims=True)
        scores = np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
        if isinstance(pattern, Unstructured):
            threshold = moving_threshold(scores)
            scores = np.divide(scores, threshold, out=np.zeros_like(scores), where=threshold > 0)
        mask = choose(scores, pattern, per_row=True)
        quantised = SURVIVORS.quantise(weight, mask=mask)
        return Pruned(mask, quantised.values, quantised=quantised)
