"""GQSA: groups of 16 inputs of one output pruned together, survivors at 4 bits with a scale and a zero a group.

Zeng et al. 2024, "GQSA: Group Quantization and Sparsity for Accelerating LLM Inference", partly from memory: group
score = mean of w² / [H⁻¹]_jj², rows may keep different numbers of groups. The paper then optimises weights and scales
block by block and end to end; the stand-ins here are a least-squares refit of the groups that stay and GPTQ's one pass,
which hands rounding errors on to later columns.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, PruningMethod, register
from workloads.pruning.hessian import PerHessian, damped, inverse_factor, refit
from workloads.pruning.pattern import Blocks, Pattern, Unstructured
from workloads.pruning.select import choose
from workloads.quantise import Gptq

GROUP, BITS = 16, 4
REFIT_STEPS = 20


@register
class GQSA(PruningMethod):
    """1x16 groups (or 1xG) by w² / [H⁻¹]_jj² over the whole matrix, the rest refitted and rounded to INT4 groups."""

    name = "gqsa"
    refits = True
    takes = (Unstructured, Blocks)

    def __init__(self) -> None:
        self._prepared = PerHessian(_prepare)

    def read(self, pattern: Pattern) -> Pattern:
        """A bare share means groups of 16."""
        pattern = super().read(pattern)
        return Blocks(1, GROUP, pattern.sparsity) if isinstance(pattern, Unstructured) else pattern

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        pattern = self.read(pattern)
        h, inverse_diagonal = self._prepared(hessian)
        mask = choose(np.abs(weight) / inverse_diagonal, pattern, per_row=False)
        survivors = Gptq(bits=BITS, group=pattern.columns, symmetric=False)
        refitted = refit(weight, weight, mask, h, REFIT_STEPS)
        quantised = survivors.quantise(refitted, hessian, tokens, mask)
        return Pruned(mask, quantised.values, quantised=quantised)


def _prepare(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H damped, float32 [in, in], and the diagonal of its inverse [in]."""
    upper, _ = inverse_factor(hessian)
    return damped(hessian)[0].astype(np.float32), np.einsum("ij,ij->j", upper, upper)  # H⁻¹ = UᵀU
