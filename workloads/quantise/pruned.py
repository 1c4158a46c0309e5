"""Prune first, quantise second, in one call: the survivors of any pruning method in few bits, measured and traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sim.errors import InputError
from workloads.checkpoint import Checkpoint
from workloads.pruned_model import PrunedModel
from workloads.pruning.model import Key
from workloads.quantise.choice import Choices, QuantisationChoice
from workloads.quantise.model import Hessians, QuantisedModel


def quantise_pruned(
    pruned: PrunedModel, checkpoint: Checkpoint, choices: Choices, calibration: Hessians | None = None
) -> QuantisedModel:
    """The model that ``prune_model`` made of ``checkpoint``, its survivors quantised as chosen.

    Quantisers that make up for pruned weights (GPTQ) are given the dense ones, unless pruning has changed the kept
    weights itself. Matrices whose method stores few bits itself (HWPQ, GQSA) keep those and need no choice.
    :class:`InputError` for another checkpoint, another quantiser on such a matrix, factored matrices, and models whose
    weights pruning did not keep.
    """
    if not pruned.details and pruned.masks:
        raise InputError("quantising survivors needs their weights: prune with keep='all'")
    if pruned.provenance["model_sha256"] != checkpoint.sha256:
        raise InputError(f"{pruned.provenance['model']} was pruned, not {checkpoint.path.name}: give that checkpoint")
    done = {}
    for key, one in pruned.details.items():
        where = f"layer {key[0]}: {key[1]}"
        if one.factors is not None:
            raise InputError(f"{where} became two factors; only matrices can be quantised after pruning")
        if one.quantised is not None:
            done[key] = one.quantised
            if key in choices and choices[key].weights != one.quantised.method:
                raise InputError(f"{where} is stored by {pruned.provenance['method']} as {one.quantised.method.label}")
    cut = {key: one for key, one in pruned.details.items() if one.weight.shape != one.mask.shape}
    inputs = {key: np.flatnonzero(one.mask.any(axis=0)) for key, one in cut.items()}
    shapes = {key: one.weight.shape for key, one in cut.items()}

    def mask(layer: int, matrix_type: str) -> np.ndarray | None:
        found = pruned.details.get((layer, matrix_type))
        return found.mask if found is not None and (layer, matrix_type) not in cut else None

    def weights(layer: int, matrix_type: str) -> np.ndarray:
        key = layer, matrix_type
        if key not in pruned.weights:
            return checkpoint.matrix(*key)
        if key in choices and choices[key].weights.compensates:
            return before_pruning(checkpoint.matrix(*key), pruned.weights[key], mask(*key))
        return pruned.weights[key]

    seen = _Cut(calibration, inputs) if calibration is not None else None
    return QuantisedModel(checkpoint, _with_own(choices, done), seen, weights, mask, done, shapes)


def before_pruning(dense: np.ndarray, pruned: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """What kept weights have to make up for: ``dense`` where pruning only removed, ``pruned`` where it updated."""
    return dense if mask is not None and np.array_equal(pruned, dense * mask) else pruned


def _with_own(choices: Choices, done: Mapping[Key, object]) -> Choices:
    """Choices with those that pruning made itself, in the activation and KV bits of their layers."""
    found = dict(choices)
    for key, one in done.items():
        like = next((c for (layer, _), c in choices.items() if layer == key[0]), QuantisationChoice(one.method))
        found.setdefault(key, replace(like, weights=one.method))
    return found


class _Cut:
    """A calibration behind cut channels; ``inputs``: which are left of matrices that were cut."""

    def __init__(self, whole: Hessians, inputs: Mapping[Key, np.ndarray]) -> None:
        self.tokens, self.windows_sha256 = whole.tokens, whole.windows_sha256
        self._whole, self._kept = whole, inputs

    def hessian(self, layer: int, matrix_type: str) -> np.ndarray:
        found, kept = self._whole.hessian(layer, matrix_type), self._kept.get((layer, matrix_type))
        return found if kept is None else found[np.ix_(kept, kept)]
