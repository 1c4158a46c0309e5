"""T-REX-like factorisation: one dense dictionary a matrix type, shared by all layers, times a sparse matrix a layer.

From memory of the chip's paper (Moon et al. 2025): W_l = W_l,sparse · W_shared with the same number of nonzeros in
every output, so that once the dictionary is resident only sparse parts are loaded. The paper trains them; here they
are fitted after training: the dictionary is square and orthonormal in inputs scaled by their norms, and codes (the
largest of each output) and dictionary (orthogonal Procrustes) alternate, which never raises Σ_l ‖(W_l - C_l D)
diag(‖x‖)‖².
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.pruning.base import Factors, ModelMethod, Pruned, register
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Pattern, Unstructured
from workloads.pruning.select import choose

ROUNDS = 4


def dictionary(weights: Sequence[np.ndarray], pattern: Pattern) -> tuple[np.ndarray, list[np.ndarray]]:
    """An orthonormal D [in, in] and sparse codes C_l [out, in] with W_l ≈ C_l D; starts from principal directions."""
    gram = sum(w.T @ w for w in weights)
    found = np.ascontiguousarray(np.linalg.eigh(gram)[1].T[::-1])
    for turn in range(ROUNDS + 1):
        codes = [_code(w @ found.T, pattern) for w in weights]
        if turn < ROUNDS:
            left, _, right = np.linalg.svd(sum(c.T @ w for c, w in zip(codes, weights, strict=True)))
            found = left @ right
    return found, codes


def _code(dense: np.ndarray, pattern: Pattern) -> np.ndarray:
    return np.where(choose(np.abs(dense), pattern, per_row=True), dense, np.float32(0))


@register
class TREX(ModelMethod):
    """A dictionary shared over layers times sparse codes; the mask is the codes', the share is removed from them."""

    name = "trex"
    needs = "diagonal"
    takes = (Unstructured,)

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        found: dict[Key, Pruned] = {}
        for t in types:
            square = sum(model.mean_square(layer, t) for layer in layers) / len(layers)
            scale = np.sqrt(np.maximum(square, square.mean() * 1e-4 + np.finfo(np.float32).tiny)).astype(np.float32)
            shared, codes = dictionary([model.matrix(layer, t) * scale for layer in layers], pattern)
            shared = shared / scale
            for layer, code in zip(layers, codes, strict=True):
                found[layer, t] = Pruned(code != 0, code @ shared, factors=Factors(code, shared, shared=True))
        return found
