"""WINA: |x_j| · ‖W_:,j‖₂, the largest of every token stay (Chen et al. 2025, arXiv:2505.19427, score of its abstract).

From memory of the paper: it also turns matrices so that their columns become orthogonal, which makes the score exact.
That is left out here; weights are the model's own.
"""

from __future__ import annotations

import numpy as np

from workloads.activation_sparsity.base import ActivationMethod, Keep, register
from workloads.activation_sparsity.facts import READERS, Facts
from workloads.pruning.select import keep_largest, removed_count


@register
class WINA(ActivationMethod):
    """The same number of features of every token and matrix stays: the largest |x| · column norm. Norms differ from
    matrix to matrix, so matrices that read one tensor drop different features of it."""

    name = "wina"
    per_matrix = True
    exact = True

    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        def keep(layer: int, name: str, x: np.ndarray) -> dict[str, np.ndarray]:
            size, remove = np.abs(x), removed_count(sparsity, x.shape[1])
            return {t: keep_largest(size * facts.column_norms(layer, t), remove) for t in READERS[name]}

        return keep
