"""A whole checkpoint quantised: the weights that the forward pass multiplies, and the bits that they take.

Prune first, quantise second: weights and masks come from any (layer, matrix type) function, as of a ``VariantStore``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Protocol

import numpy as np

from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint
from workloads.quantise.base import Quantised, StoredBits
from workloads.quantise.choice import Choices, check
from workloads.transformer import Weights

#: (layer, matrix type) -> bool out x in, True = kept, or None: all are.
Masks = Callable[[int, str], np.ndarray | None]


class Hessians(Protocol):
    """What quantisers see of a calibration."""

    @property
    def tokens(self) -> int: ...
    @property
    def windows_sha256(self) -> str: ...
    def hessian(self, layer: int, matrix_type: str) -> np.ndarray: ...


class QuantisedModel:
    """``weights(layer, type)``: what ``Meter.measure`` and ``token_nll`` take; a layer is quantised when asked for.

    ``calibration`` may be None if no chosen quantiser needs it. Matrices that read one input and share a choice are
    quantised together where the method wants that (AWQ). ``masks`` may say None of a matrix: all kept. ``done``:
    matrices that pruning stored in few bits itself; their weights are taken as they are. ``shapes``: (out, in) of those
    that were cut smaller. ``stored``: bits of all matrices quantised so far.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        choices: Choices,
        calibration: Hessians | None = None,
        weights: Weights | None = None,
        masks: Masks | None = None,
        done: Mapping[tuple[int, str], Quantised] | None = None,
        shapes: Mapping[tuple[int, str], tuple[int, int]] | None = None,
    ) -> None:
        check(choices, checkpoint.config.layers)
        self.checkpoint, self.choices, self.calibration = checkpoint, choices, calibration
        self._source, self._masks, self._done = weights or checkpoint.matrix, masks, done or {}
        self._shapes = shapes or {}
        self._layer, self._values = -1, dict[str, np.ndarray]()
        self._stored = {(layer, (t,)): found.stored for (layer, t), found in self._done.items()}
        self._sizes = {key: found.mask.size for key, found in self._done.items()}

    @property
    def keys(self) -> list[tuple[int, str]]:
        """(layer, matrix type) of every prunable matrix, in the order they run."""
        return [(layer, t) for layer in range(self.checkpoint.config.layers) for t in MATRIX_TYPES]

    def mask(self, layer: int, matrix_type: str) -> np.ndarray | None:
        """Bool out x in, True = kept; None where nothing is pruned."""
        return self._masks(layer, matrix_type) if self._masks else None

    def weights(self, layer: int, matrix_type: str) -> np.ndarray:
        """float32 out x in, as stored; the source's own where nothing was chosen."""
        if (layer, matrix_type) not in self.choices or (layer, matrix_type) in self._done:
            return self._source(layer, matrix_type)
        if layer != self._layer:
            self._layer, self._values = layer, {}
        if matrix_type not in self._values:
            self._quantise(layer, self._together(layer, matrix_type))
        return self._values[matrix_type]

    def _together(self, layer: int, matrix_type: str) -> tuple[str, ...]:
        choice = self.choices[layer, matrix_type]
        if not choice.weights.joint_input:
            return (matrix_type,)
        return tuple(
            t
            for t in MATRIX_TYPES
            if MATRIX_INPUT[t] == MATRIX_INPUT[matrix_type]
            and self.choices.get((layer, t)) == choice
            and (layer, t) not in self._done
        )

    def _quantise(self, layer: int, types: tuple[str, ...]) -> None:
        parts = [self._source(layer, t) for t in types]
        masks = [self.mask(layer, t) for t in types]
        kept = [np.ones(p.shape, bool) if m is None else m for p, m in zip(parts, masks, strict=True)]
        hessian, tokens = None, 0
        if self.calibration is not None:
            hessian, tokens = self.calibration.hessian(layer, types[0]), self.calibration.tokens
        method = self.choices[layer, types[0]].weights
        found = method.quantise(np.concatenate(parts), hessian, tokens, np.concatenate(kept))
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        self._values |= dict(zip(types, np.split(found.values, cuts), strict=True))
        self._stored[layer, types] = found.stored
        self._sizes |= {(layer, t): part.size for t, part in zip(types, parts, strict=True)}

    @property
    def stored(self) -> StoredBits:
        """Summed over matrices; a mask's own bits are not counted."""
        names = [f.name for f in fields(StoredBits)]
        return StoredBits(**{n: sum(getattr(s, n) for s in self._stored.values()) for n in names})

    @cached_property
    def sparsity(self) -> float:
        """Zeros of the masks, and channels cut away, over all prunable weights."""
        kept = total = 0
        for layer, t in self.keys:
            mask = self.mask(layer, t)
            total += int(np.prod(self.checkpoint.config.matrix_shape(t)))
            kept += int(np.prod(self.shape(layer, t)) if mask is None else np.count_nonzero(mask))
        return 1 - kept / total

    def shape(self, layer: int, matrix_type: str) -> tuple[int, int]:
        """(out, in) of a matrix as it is left."""
        wide = self.checkpoint.config.matrix_shape(matrix_type)
        return self._shapes.get((layer, matrix_type), wide)

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over all weights of the matrices quantised so far, pruned ones included."""
        return self.stored.total / max(1, sum(self._sizes.values()))
