"""HEAPr: an expert is a sum of atomic experts, one a hidden channel, ranked over the whole model.

Li et al. 2025, "HEAPr: Hessian-based Efficient Atomic Expert Pruning in Output Space", partly from memory: with e_j(x)
= w_down_j · act(w_gate_j x)(w_up_j x), the score is ½ E[e_jᵀ G e_j], G = E[g gᵀ] of the gradients at the expert's
output. Here no gradients are taken, so G = I (a stand-in): s_j = ½ E[a_j²] ‖w_down_j‖², in units of the layer's median,
because outputs grow with depth: without it deep layers lose nothing and the model is worse. In a dense model the FFN is
one expert that every token takes.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.base import Pruned, register
from workloads.pruning.ffn_channels import ChannelMethod, channel_scores, cut_layer
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Pattern
from workloads.pruning.select import keep_largest, removed_count


@register
class HEAPr(ChannelMethod):
    """FFN channels as atomic experts with G = I, ranked over all layers together: layers lose different numbers."""

    name = "heapr"

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        scores = np.stack([atomic_scores(model, layer) for layer in layers])
        # The best atomic expert of every layer stays, or its matrices would vanish.
        scores[np.arange(len(layers)), scores.argmax(axis=1)] = np.inf
        kept = keep_largest(scores.reshape(1, -1), removed_count(pattern.sparsity, scores.size)).reshape(scores.shape)
        found: dict[Key, Pruned] = {}
        for layer, own in zip(layers, kept, strict=True):
            found |= cut_layer(model, layer, np.flatnonzero(own))
        return found


def atomic_scores(model: DenseModel, layer: int) -> np.ndarray:
    """½ E[a_j²] ‖w_down_j‖² of every hidden channel over the layer's median, float64 [ffn]."""
    down = model.matrix(layer, "ffn_down")
    own = np.square(channel_scores(down, model.mean_square(layer, "ffn_down")).astype(np.float64)) / 2
    unit = np.median(own)
    return own / unit if unit > 0 else own
