"""ALPS: masks and weights together by ADMM on the layer's output error, then a refit by conjugate gradients.

Meng et al. 2024, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for LLMs", from memory of the paper:
minimise ‖X(W - D)ᵀ‖² with D on the pattern. In inputs scaled to a unit diagonal of H, with one eigendecomposition of H:

    W = (W₀H - V + ρD)(H + ρI)⁻¹,  D = the pattern's largest of W + V / ρ,  V += ρ(W - D)

ρ rises with the share of the support that still changes (x 1.3, 1.2, 1.1) and the loop ends when none does. Then the
support is fixed and ``hessian.refit`` finds its weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.hessian import PerHessian, damped, refit
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import choose

FIRST_RHO = 0.1
#: Iterations between two looks at the support, and at most.
LOOK, LIMIT = 3, 300
#: (share of the kept weights that changed since the last look, factor of ρ), first match; below all but 0: 1.1.
FACTORS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
REFIT_STEPS = 10
#: Inverses kept for the matrices that share an input; the one made first goes first.
CACHE_BYTES = 1 << 28
#: Weights out x in -> bool mask of the largest that a pattern admits.
Project = Callable[[np.ndarray], np.ndarray]


class ScaledHessian:
    """H in inputs scaled to a unit diagonal, float32 [in, in], with (H + ρI)⁻¹ at hand for every ρ met lately."""

    def __init__(self, hessian: np.ndarray) -> None:
        h, self.unused = damped(hessian)
        scale = np.sqrt(np.diagonal(h))
        h /= scale
        h /= scale[:, None]
        self.scale, self.h = scale.astype(np.float32), h.astype(np.float32)
        self._values, self._vectors = np.linalg.eigh(self.h)
        self._inverses: dict[float, np.ndarray] = {}

    def inverse(self, rho: float) -> np.ndarray:
        """(H + ρI)⁻¹, float32 [in, in]."""
        if rho not in self._inverses:
            while self._inverses and (len(self._inverses) + 1) * self.h.nbytes > CACHE_BYTES:
                del self._inverses[next(iter(self._inverses))]
            lifted = np.maximum(self._values, 0) + np.float32(rho)
            self._inverses[rho] = (self._vectors / lifted) @ self._vectors.T
        return self._inverses[rho]


def admm(weight: np.ndarray, scaled: ScaledHessian, project: Project) -> tuple[np.ndarray, np.ndarray]:
    """The mask that ADMM settles on for ``weight`` (out x in, in scaled inputs), and its weights, zero outside."""
    target = weight @ scaled.h
    mask = project(weight)
    sparse = np.where(mask, weight, np.float32(0))
    dual = np.zeros_like(weight)  # V / ρ
    rho, seen = FIRST_RHO, mask
    for iteration in range(1, LIMIT + 1):
        dense = (target + np.float32(rho) * (sparse - dual)) @ scaled.inverse(rho)
        dual += dense
        mask = project(dual)
        sparse = np.where(mask, dual, np.float32(0))
        dual -= sparse
        if iteration % LOOK == 0:
            changed = np.count_nonzero(mask != seen) / max(np.count_nonzero(mask), 1)
            if not changed:
                break
            factor = next(factor for share, factor in FACTORS if changed > share)
            rho, seen = rho * factor, mask
            dual /= np.float32(factor)
    return mask, sparse


@register
class ALPS(PruningMethod):
    """ADMM on the output error over the whole matrix (any pattern), refit by conjugate gradients."""

    name = "alps"
    refits = True

    def __init__(self) -> None:
        self._scaled = PerHessian(ScaledHessian)

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        scaled = self._scaled(hessian)
        w = weight * scaled.scale
        w[:, scaled.unused] = 0
        mask, sparse = admm(w, scaled, lambda found: choose(np.abs(found), pattern, per_row=False))
        return Pruned(mask, refit(w, sparse, mask, scaled.h, REFIT_STEPS) / scaled.scale)
