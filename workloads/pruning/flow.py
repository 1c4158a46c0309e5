"""FLOW: an n:m of its own for every matrix, denser and coarser where outliers are many, pruned by Wanda's score.

The idea is the paper's; the rule is a stand-in. Kept shares of layers follow their outlier density as in
``allocation.owl``. By that share, the lower third of layers takes m = 8, the middle 16, the upper 32. n is rounded with
the remainder carried to the next matrix, so the whole meets the budget as closely as one group allows.
"""

from __future__ import annotations

import numpy as np

from workloads.pruning.allocation import owl
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import NofM, Pattern, Unstructured
from workloads.pruning.wanda import Wanda

GROUPS = (8, 16, 32)


def choose_patterns(keep: dict[Key, float], sizes: dict[Key, int]) -> dict[Key, NofM]:
    """An n:m for every matrix near the share it should keep, m the same within a layer; nearer still all together."""
    by_layer = {layer: share for (layer, _), share in keep.items()}
    ranked = sorted(by_layer, key=lambda layer: (by_layer[layer], layer))
    groups = {layer: GROUPS[place * len(GROUPS) // len(ranked)] for place, layer in enumerate(ranked)}
    found, carried = {}, 0.0
    for key in keep:
        group = groups[key[0]]
        due = keep[key] + carried / sizes[key]
        n = int(np.clip(np.floor(due * group + 0.5), 1, group - 1))
        carried += (keep[key] - n / group) * sizes[key]
        found[key] = NofM(n, group)
    return found


@register
class FLOW(ModelMethod):
    """Layer-wise n:m (m of 8, 16 or 32) by outlier density under one budget, then Wanda within it."""

    name = "flow"
    needs = "diagonal"
    takes = (Unstructured, NofM)

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        keys = [(layer, t) for layer in layers for t in types]
        keep = {key: 1 - gone for key, gone in owl(model, keys, pattern.sparsity).items()}
        chosen = choose_patterns(keep, {key: model.size(key) for key in keys})
        wanda = Wanda()
        return {key: wanda.prune(model.matrix(*key), model.hessian(*key), model.tokens, chosen[key]) for key in keys}
