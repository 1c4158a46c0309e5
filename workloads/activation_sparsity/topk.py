"""The largest |x| of every token: what a threshold approximates, and the control that weight-aware scores must beat."""

from __future__ import annotations

import numpy as np

from workloads.activation_sparsity.base import ActivationMethod, Keep, register
from workloads.activation_sparsity.facts import Facts
from workloads.pruning.select import keep_largest, removed_count


@register
class TopK(ActivationMethod):
    """The same number of features of every token and tensor stays: those of the largest |x|."""

    name = "topk"
    exact = True

    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        return lambda layer, name, x: keep_largest(np.abs(x), removed_count(sparsity, x.shape[1]))
