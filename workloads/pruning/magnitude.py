"""Magnitude pruning: the smallest |w| over the whole matrix go (Han et al. 2015)."""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import choose


@register
class Magnitude(PruningMethod):
    """Score |w|. One threshold for the whole matrix, or the n largest of every m inputs."""

    name = "magnitude"
    needs = "nothing"

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        mask = choose(np.abs(weight), pattern, per_row=False)
        return Pruned(mask, np.where(mask, weight, np.float32(0)))
