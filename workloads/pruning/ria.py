"""RIA, relative importance and activations (Zhang et al. 2024, "Plug-and-Play", ICLR): from memory of the paper.

The channel permutation that the paper adds for n:m patterns is left out.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import choose

#: The power of the activations' norm.
POWER = 0.5


@register
class RIA(PruningMethod):
    """Score (|w_ij| / Σ_i |w_ij| + |w_ij| / Σ_j |w_ij|) · ‖x_j‖^½, compared within each output as Wanda's."""

    name = "ria"
    needs = "diagonal"
    compares = "row"

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        size = np.abs(weight)
        share = _shares(size, 0) + _shares(size, 1)
        mask = choose(share * np.sqrt(np.diagonal(hessian)) ** np.float32(POWER), pattern, per_row=True)
        return Pruned(mask, np.where(mask, weight, np.float32(0)))


def _shares(size: np.ndarray, axis: int) -> np.ndarray:
    """Each entry's share of the sum along ``axis``; 0 where all are zero."""
    total = np.broadcast_to(size.sum(axis=axis, keepdims=True), size.shape)
    return np.divide(size, total, out=np.zeros_like(size), where=total > 0)
