"""DynaTran: activations smaller than one threshold become zero (AccelTran, Tuli and Jha 2023, arXiv:2302.14705)."""

from __future__ import annotations

import numpy as np

from workloads.activation_sparsity.base import ActivationMethod, Keep, register
from workloads.activation_sparsity.facts import Facts


@register
class DynaTran(ActivationMethod):
    """One threshold for all tensors of all layers, read off the calibrated curve from thresholds to sparsity (from
    memory of the paper). Quiet layers lose nearly everything, loud ones nearly nothing; the share asked for is that of
    all products together."""

    name = "dynatran"
    needs_calibration = True

    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        threshold = facts.common_threshold(sparsity)
        return lambda layer, name, x: np.abs(x) >= threshold
