"""What a method of activation sparsity may know of a model before it runs: sizes of activations, norms, shapes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from workloads.checkpoint import INPUTS, MATRIX_INPUT, MATRIX_TYPES, Checkpoint
from workloads.transformer import Weights, token_nll

#: Every so manieth value goes into a quantile; no divisor of a width, so that all features do.
EVERY = 61
#: Matrix types by the tensor that they read, in MATRIX_TYPES order.
READERS = {name: tuple(t for t in MATRIX_TYPES if MATRIX_INPUT[t] == name) for name in INPUTS}


class Facts:
    """Of ``weights`` (default: the checkpoint's own) on calibration ``windows`` [n, length], gathered when asked for.

    ``every``: how many values of a tensor stand for one in its quantiles.
    """

    def __init__(
        self, checkpoint: Checkpoint, windows: np.ndarray, weights: Weights | None = None, every: int = EVERY
    ) -> None:
        self.checkpoint, self.windows, self.every = checkpoint, windows, every
        self.weights = weights or checkpoint.matrix
        self._norms: dict[tuple[int, str], np.ndarray] = {}

    @cached_property
    def samples(self) -> Mapping[tuple[int, str], np.ndarray]:
        """(layer, tensor) to sorted |x| of what enters its matrices in float without zeros, one value of ``every``."""
        found: dict[tuple[int, str], list[np.ndarray]] = {}
        seen: dict[tuple[int, str], int] = {}

        def hook(layer: int, name: str, x: np.ndarray) -> None:
            key, flat = (layer, name), np.abs(x).reshape(-1)
            found.setdefault(key, []).append(flat[-seen.get(key, 0) % self.every :: self.every])
            seen[key] = seen.get(key, 0) + flat.size

        token_nll(self.checkpoint, self.windows, self.weights, hook=hook, layers_only=True)
        return {key: np.sort(np.concatenate(parts)) for key, parts in found.items()}

    def threshold(self, layer: int, name: str, share: float) -> float:
        """The size below which ``share`` of a tensor's calibration values lie, between two of them linearly; 0, which
        drops nothing, for none."""
        sizes = self.samples[layer, name]
        below, between = divmod(share * (len(sizes) - 1), 1)
        low, high = sizes[int(below)], sizes[min(int(below) + 1, len(sizes) - 1)]
        return float(low + (high - low) * between) if share else 0.0

    def common_threshold(self, share: float) -> float:
        """One size for all tensors, below which ``share`` of all products of activations and weights lie."""
        if not share:
            return 0.0
        sizes = np.concatenate(list(self.samples.values()))
        products = np.concatenate([np.full(s.size, self.outputs(*key), float) for key, s in self.samples.items()])
        order = np.argsort(sizes, kind="stable")
        below = np.cumsum(products[order])
        return float(sizes[order][np.searchsorted(below, share * below[-1])])

    def outputs(self, layer: int, name: str) -> int:
        """Outputs of all matrices that read a tensor: products an activation of it takes part in."""
        return sum(self.weights(layer, t).shape[0] for t in READERS[name])

    def column_norms(self, layer: int, matrix_type: str) -> np.ndarray:
        """‖W_:,j‖₂ of a matrix, float32 [in]."""
        key = layer, matrix_type
        if key not in self._norms:
            self._norms[key] = np.linalg.norm(self.weights(layer, matrix_type), axis=0)
        return self._norms[key]
