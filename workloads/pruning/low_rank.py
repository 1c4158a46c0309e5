"""SeVeDo: two low-rank factors at high precision and a sparse 4-bit remainder, W = LR + S.

The paper decomposes W scaled by its inputs, keeps L and R at high precision and the remainder at few bits. Stand-ins
here: the remainder is pruned by Wanda's score, and rounded to INT4 groups of 64 where the paper uses a coarse scale
times 2^k and chooses bits by singular-value energy. The matrix becomes two small multiplications beside a sparse one.
"""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from workloads.checkpoint import ModelConfig
from workloads.pruning.base import Factors, Pruned, PruningMethod, register
from workloads.pruning.hessian import damped_diagonal
from workloads.pruning.pattern import LowRank, Pattern, Unstructured
from workloads.pruning.select import choose
from workloads.pruning.wanda import wanda_scores
from workloads.quantise import Rtn

REMAINDER = Rtn(bits=4, group=64)


def factors(weight: np.ndarray, scale: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """L [out, rank], R [rank, in], float32: the best rank-``rank`` fit of W · diag(scale), unscaled again."""
    scaled = weight.astype(np.float64) * scale
    wide = scaled.shape[1] > scaled.shape[0]
    gram = scaled @ scaled.T if wide else scaled.T @ scaled
    top = np.linalg.eigh(gram)[1][:, ::-1][:, : min(rank, len(gram))]
    left, right = (top, top.T @ scaled) if wide else (scaled @ top, top.T)
    return left.astype(np.float32), (right / scale).astype(np.float32)


@register
class SeVeDo(PruningMethod):
    """Low-rank factors of the input-scaled matrix plus a Wanda-pruned INT4 remainder: 'rank 32 + 0.5'."""

    name = "sevedo"
    needs = "diagonal"
    compares = "row"
    refits = True
    takes = (LowRank,)

    def fits(self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]) -> None:
        """The rank must be below both sides of every matrix, or the factors are no smaller than it."""
        for t in types:
            outputs, inputs = config.matrix_shape(t)
            if pattern.rank >= min(outputs, inputs):
                raise InputError(
                    f"pruning pattern '{pattern}': {t} is {outputs} x {inputs}; the rank must be below "
                    f"{min(outputs, inputs)}, got {pattern.rank}"
                )

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        left, right = factors(weight, np.sqrt(damped_diagonal(hessian)), pattern.rank)
        product = left @ right
        rest = weight - product
        mask = choose(wanda_scores(rest, hessian, tokens), Unstructured(pattern.sparsity), per_row=True)
        quantised = REMAINDER.quantise(rest, mask=mask)
        made = Factors(left, right, quantised.values)
        return Pruned(mask, product + quantised.values, quantised=quantised, factors=made)
