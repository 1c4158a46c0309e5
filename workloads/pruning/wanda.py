"""Wanda: |w| · sqrt(mean x²), compared within each output feature (Sun et al. 2023, arXiv:2306.11695, eq. 1)."""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import NofM, Pattern
from workloads.pruning.select import keep_largest, keep_n_of_m, removed_count


@register
class Wanda(PruningMethod):
    """Score |w_ij| · sqrt(mean x_j²). The same share of every output feature goes, or the n largest of every m stay."""

    name = "wanda"

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        scores = np.abs(weight) * np.sqrt(np.diagonal(hessian) / np.float32(tokens))
        if isinstance(pattern, NofM):
            mask = keep_n_of_m(scores, pattern.keep, pattern.group)
        else:
            mask = keep_largest(scores, removed_count(pattern.sparsity, scores.shape[1]))
        return Pruned(mask, np.where(mask, weight, np.float32(0)))
