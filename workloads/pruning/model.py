"""What a pruning method across matrices sees of a model: its matrices, what enters them, and prices of shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workloads.checkpoint import ModelConfig
from workloads.pruning.pattern import Pattern

#: (layer, matrix type)
Key = tuple[int, str]
#: Seconds (or any unit, the same throughout) that one matrix of (out, in) takes under a pattern; None: dense.
Latency = Callable[[int, int, Pattern | None], float]


def weights_left(outputs: int, inputs: int, pattern: Pattern | None) -> float:
    """The latency of a machine that skips every removed weight at no cost: a stand-in where no simulator is given."""
    return outputs * inputs * (1 - (pattern.sparsity if pattern is not None else 0.0))


@dataclass(frozen=True)
class DenseModel:
    """The dense model as ``ModelMethod.prune`` gets it.

    ``matrix(layer, type)`` is float32 out x in, ``hessian(layer, type)`` XᵀX [in, in] of what enters it over ``tokens``
    calibration tokens, of a large model only the diagonal when the method ``needs`` no more; ``influence()`` gives each
    layer's block influence [layers] (see ``layers.py``), computed only when asked for. Matrices and Hessians of a large
    model are read again, or computed again, when they are asked for out of order: take one layer after another.
    """

    config: ModelConfig
    matrix: Callable[[int, str], np.ndarray]
    hessian: Callable[[int, str], np.ndarray] | None
    tokens: int
    influence: Callable[[], np.ndarray] | None = None
    latency: Latency = weights_left

    def size(self, key: Key) -> int:
        """Weights of a matrix."""
        outputs, inputs = self.config.matrix_shape(key[1])
        return outputs * inputs

    def mean_square(self, layer: int, matrix_type: str) -> np.ndarray:
        """mean over tokens of x² per input feature [in]."""
        return np.diagonal(self.hessian(layer, matrix_type)) / np.float32(self.tokens)
