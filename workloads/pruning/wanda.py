"""Wanda: |w| · sqrt(mean x²), compared within each output feature (Sun et al. 2023, arXiv:2306.11695, eq. 1)."""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import choose


def wanda_scores(weight: np.ndarray, hessian: np.ndarray, tokens: int) -> np.ndarray:
    """|w_ij| · sqrt(mean x_j²), out x in."""
    return np.abs(weight) * np.sqrt(np.diagonal(hessian) / np.float32(tokens))


@register
class Wanda(PruningMethod):
    """Score |w_ij| · sqrt(mean x_j²). The same share of every output feature goes, or the n largest of every m stay."""

    name = "wanda"
    needs = "diagonal"
    compares = "row"

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        mask = choose(wanda_scores(weight, hessian, tokens), pattern, per_row=True)
        return Pruned(mask, np.where(mask, weight, np.float32(0)))
