"""A whole checkpoint quantised: the weights that the forward pass multiplies, and the bits that they take.

Prune first, quantise second: weights and masks come from any (layer, matrix type) function, as of a ``VariantStore``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from workloads.calibration import Calibration
from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint
from workloads.quantise.base import StoredBits
from workloads.quantise.choice import Choices, check
from workloads.transformer import Weights

#: (layer, matrix type) -> bool out x in, True = kept.
Masks = Callable[[int, str], np.ndarray]


class QuantisedModel:
    """``weights(layer, type)``: what ``Meter.measure`` and ``token_nll`` take; a layer is quantised when asked for.

    ``calibration`` may be None if no chosen quantiser needs it. Matrices that read one input and share a choice are
    quantised together where the method wants that (AWQ). ``stored``: bits of all matrices quantised so far.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        choices: Choices,
        calibration: Calibration | None = None,
        weights: Weights | None = None,
        masks: Masks | None = None,
    ) -> None:
        check(choices, checkpoint.config.layers)
        self.checkpoint, self.choices, self.calibration = checkpoint, choices, calibration
        self._source, self._masks = weights or checkpoint.matrix, masks
        self._layer, self._values = -1, dict[str, np.ndarray]()
        self._stored: dict[tuple[int, tuple[str, ...]], StoredBits] = {}
        self._sizes: dict[tuple[int, str], int] = {}

    def weights(self, layer: int, matrix_type: str) -> np.ndarray:
        """float32 out x in, as stored; the source's own where nothing was chosen."""
        if (layer, matrix_type) not in self.choices:
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
            if MATRIX_INPUT[t] == MATRIX_INPUT[matrix_type] and self.choices.get((layer, t)) == choice
        )

    def _quantise(self, layer: int, types: tuple[str, ...]) -> None:
        parts = [self._source(layer, t) for t in types]
        mask = np.concatenate([self._masks(layer, t) for t in types]) if self._masks else None
        hessian, tokens = None, 0
        if self.calibration is not None:
            hessian, tokens = self.calibration.hessian(layer, types[0]), self.calibration.tokens
        method = self.choices[layer, types[0]].weights
        found = method.quantise(np.concatenate(parts), hessian, tokens, mask)
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        self._values |= dict(zip(types, np.split(found.values, cuts), strict=True))
        self._stored[layer, types] = found.stored
        self._sizes |= {(layer, t): part.size for t, part in zip(types, parts, strict=True)}

    @property
    def stored(self) -> StoredBits:
        """Summed over matrices; a mask's own bits are not counted."""
        names = [f.name for f in fields(StoredBits)]
        return StoredBits(**{n: sum(getattr(s, n) for s in self._stored.values()) for n in names})

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over all weights of the matrices quantised so far, pruned ones included."""
        return self.stored.total / max(1, sum(self._sizes.values()))
