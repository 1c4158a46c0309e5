"""Attention heads pruned whole: rows of Q, columns of the output matrix, and K and V where no query is left.

Score of a head: the energy it adds to the layer's output, E‖W_h x_h‖², from the Hessian of what enters attn_output (a
head's own block, so heads that cancel each other look large). ``kv_heads`` patterns drop whole groups: a KV head with
all its queries. Matrices keep their size; the head's lines are zero.
"""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from workloads.checkpoint import ModelConfig
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.lines import ATTENTION, head_energy, head_masks
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Heads, Pattern, Unstructured
from workloads.pruning.select import keep_largest, refuse_none, removed_count


@register
class AttentionHeads(ModelMethod):
    """Whole query heads (or KV groups) of the least output energy, the same number in every layer."""

    name = "heads"
    stage = 1
    takes = (Heads, Unstructured)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        return ATTENTION

    def read(self, pattern: Pattern) -> Pattern:
        """A bare share means query heads."""
        pattern = super().read(pattern)
        return Heads(pattern.sparsity) if isinstance(pattern, Unstructured) else pattern

    def fits(self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]) -> None:
        refuse_no_head(pattern, config)

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        found: dict[Key, Pruned] = {}
        for layer in layers:
            for t, mask in head_masks(model.config, kept_heads(model, layer, pattern)).items():
                found[layer, t] = Pruned(mask, np.where(mask, model.matrix(layer, t), np.float32(0)))
        return found


def refuse_no_head(pattern: Heads, config: ModelConfig, layers: int = 1) -> None:
    """:class:`InputError` when no head (or group) of a layer would go, or none of those of ``layers`` together."""
    count, what = (config.kv_heads, "KV heads") if pattern.whole_groups else (config.heads, "query heads")
    if count == 1:
        raise InputError(f"pruning pattern '{pattern}': a layer has 1 of {what}, which stays")
    refuse_none(pattern, count * layers, what)


def kept_heads(model: DenseModel, layer: int, pattern: Heads) -> np.ndarray:
    """The query heads of a layer that stay, bool [heads]; at least one (or one group) does."""
    energy = head_energy(model, layer)
    queries = model.config.heads // model.config.kv_heads
    if pattern.whole_groups:
        energy = energy.reshape(-1, queries).sum(axis=1)
    gone = min(removed_count(pattern.sparsity, energy.size), energy.size - 1)
    kept = keep_largest(energy[None, :], gone)[0]
    return np.repeat(kept, queries) if pattern.whole_groups else kept
