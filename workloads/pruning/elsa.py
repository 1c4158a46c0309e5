"""Elsa's splitting on one layer: a stand-in for the published method, which needs the language model's true loss.

Lee et al. 2025, "The Unseen Frontier: Pushing the Limits of LLM Sparsity with Surrogate-Free ADMM", from memory of the
paper: minimise f(w) with ‖z‖₀ <= k and w = z. w: Adam on f + λ/2 ‖w - z + u‖²; every few steps z = the largest of
w + u, weighted by Adam's second moment (the diagonal Fisher information), and u += w - z. Here f is the layer's output
error, whose diagonal Fisher is that of H: inputs scaled to a unit diagonal carry the weighting. So this is just the
surrogate that the paper does without: a layer proxy, to be read as nothing more.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.alps import ScaledHessian
from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.hessian import PerHessian
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import choose

STEPS, PROJECT_EVERY = 32, 8
PENALTY = 2.0
#: First step of Adam as a share of the root mean square weight; it falls to 0 along a half cosine.
STEP = 0.08
BETA1, BETA2 = 0.9, 0.95


@register
class Elsa(PruningMethod):
    """Adam on the layer's output error (a layer proxy), projected every few steps by Fisher-weighted size."""

    name = "elsa"
    refits = True

    def __init__(self) -> None:
        self._scaled = PerHessian(ScaledHessian)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        scaled = self._scaled(hessian)
        dense = weight * scaled.scale
        dense[:, scaled.unused] = 0
        w, u = dense.copy(), np.zeros_like(dense)
        moment, second = np.zeros_like(w), np.zeros_like(w)
        size = np.sqrt(np.mean(np.square(dense)))
        least = np.float32(1e-8) * size + np.finfo(np.float32).tiny  # nothing is divided by zero
        mask = choose(np.abs(w), pattern, per_row=False)
        z = np.where(mask, w, np.float32(0))
        for step in range(STEPS):
            slope = (w - dense) @ scaled.h
            slope += np.float32(PENALTY) * (w - z + u)
            moment += np.float32(1 - BETA1) * (slope - moment)
            second += np.float32(1 - BETA2) * (np.square(slope) - second)
            rate = STEP * size * (1 + np.cos(np.pi * step / STEPS)) / 2 / (1 - BETA1 ** (step + 1))
            w -= np.float32(rate) * moment / (np.sqrt(second / np.float32(1 - BETA2 ** (step + 1))) + least)
            if (step + 1) % PROJECT_EVERY == 0:
                u += w
                mask = choose(np.abs(u), pattern, per_row=False)
                z = np.where(mask, u, np.float32(0))
                u -= z
        return Pruned(mask, np.where(mask, w, np.float32(0)) / scaled.scale)
