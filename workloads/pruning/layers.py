"""Decoder layers dropped whole: the residual stream passes them by.

Score: block influence, 1 - mean cosine between what enters and what leaves a layer (Men et al. 2024, "ShortGPT", from
memory): a layer that hardly turns the residual stream goes first.
"""

from __future__ import annotations

import numpy as np

from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Layers, Pattern, Unstructured
from workloads.pruning.select import keep_largest, refuse_none, removed_count


@register
class DecoderLayers(ModelMethod):
    """Whole layers of the least block influence, among the layers asked for; their matrices become zero."""

    name = "layers"
    needs = "influence"
    takes = (Layers, Unstructured)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        return MATRIX_TYPES

    def read(self, pattern: Pattern) -> Pattern:
        return Layers(super().read(pattern).sparsity)

    def fits(self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]) -> None:
        refuse_none(pattern, len(layers), "layers")

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        influence = model.influence()[list(layers)]
        kept = keep_largest(influence[None, :], removed_count(pattern.sparsity, len(layers)))[0]
        gone = {}
        for layer in np.asarray(layers)[~kept].tolist():
            for t in types:
                shape = model.config.matrix_shape(t)
                gone[layer, t] = Pruned(np.zeros(shape, bool), np.zeros(shape, np.float32))
        return gone
