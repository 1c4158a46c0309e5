"""Magnitude pruning: the smallest |w| over the whole matrix go (Han et al. 2015)."""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import NofM, Pattern
from workloads.pruning.select import keep_largest, keep_n_of_m, removed_count


@register
class Magnitude(PruningMethod):
    """Score |w|. One threshold for the whole matrix, or the n largest of every m inputs."""

    name = "magnitude"
    needs_calibration = False

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        scores = np.abs(weight)
        if isinstance(pattern, NofM):
            mask = keep_n_of_m(scores, pattern.keep, pattern.group)
        else:
            remove = removed_count(pattern.sparsity, scores.size)
            mask = keep_largest(scores.reshape(1, -1), remove).reshape(scores.shape)
        return Pruned(mask, np.where(mask, weight, np.float32(0)))
