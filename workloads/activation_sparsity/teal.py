"""TEAL: one threshold a tensor, the quantile of |x| on calibration tokens (Liu et al. 2024, arXiv:2408.14690)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workloads.activation_sparsity.allocation import allocate
from workloads.activation_sparsity.base import ActivationMethod, Keep, register
from workloads.activation_sparsity.facts import Facts


def below_thresholds(thresholds: Mapping[tuple[int, str], float]) -> Keep:
    """Keeps |x| at or above its tensor's threshold."""
    return lambda layer, name, x: np.abs(x) >= thresholds[layer, name]


@register
class TEAL(ActivationMethod):
    """The same share of every tensor goes, on average over tokens (the paper's uniform configuration)."""

    name = "teal"
    needs_calibration = True

    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        return below_thresholds({key: facts.threshold(*key, sparsity) for key in facts.samples})


@register
class BlockwiseTEAL(ActivationMethod):
    """The same share of every layer's products goes, shared out over its tensors by ``allocation.py``.

    From memory of the paper's greedy algorithm. Stand-in: it gives every matrix a share of its own, here matrices that
    read one tensor have one.
    """

    name = "teal_blockwise"
    needs_calibration = True

    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        shares = allocate(facts, sparsity)
        return below_thresholds({key: facts.threshold(*key, share) for key, share in shares.items()})
