"""GWQ: the weights with the largest gradients stay FP16, the rest is rounded to nearest in groups.

The published method takes gradients of the model's loss on calibration text. Stand-in, one layer at a time: the
gradient of the output error ‖X (W' − W)ᵀ‖² at the rounded weights W' = Q(W), which is 2 (W' − W) H; at W itself it
is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from sim.sparsity.formats.stream import Stream
from workloads.quantise.base import Parts, Streams, register
from workloads.quantise.blocks import HALF_BITS, half_stream, halves
from workloads.quantise.uniform import UniformQuantiser


@register
@dataclass(frozen=True)
class Gwq(UniformQuantiser):
    """``outliers``: share of the kept weights that stay FP16, most |gradient| first over the whole matrix.

    Scales look at the other weights only. Outliers are stored row by row as CSR does (a count a row, a column and an
    FP16 number each); their places in the dense codes are still stored, so that codes keep their stride.
    """

    outliers: float = 0.01

    name = "gwq"
    needs_calibration = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.outliers < 1:
            raise InputError(f"outliers must be a share from 0 to below 1, got {self.outliers!r}")

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        from workloads.pruning.select import keep_largest  # here: pruning methods may use quantisers

        rounded = super()._decode(*self.grouped_streams(weight))
        gradient = np.abs(2 * (np.where(kept, rounded, 0) - weight) @ hessian)
        gradient[~kept] = -1
        out = keep_largest(gradient.reshape(1, -1), weight.size - self._count(int(kept.sum()))).reshape(weight.shape)
        codes, streams = self.grouped_streams(np.where(out, np.float32(0), weight))
        rows, columns = np.nonzero(out)
        outputs, inputs = weight.shape
        streams["outliers.counts"] = Stream(np.bincount(rows, minlength=outputs), inputs.bit_length())
        streams["outliers.columns"] = Stream(columns.astype(np.int64), _column_bits(inputs))
        streams["outliers.values"] = half_stream(weight[out])
        return codes, streams

    def _count(self, kept: int) -> int:
        return int(np.floor(self.outliers * kept + 0.5))

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        values = super()._decode(codes, streams)
        rows = np.repeat(np.arange(len(codes)), streams["outliers.counts"].numbers)
        values[rows, streams["outliers.columns"].numbers] = halves(streams["outliers.values"])
        return values

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        each = _column_bits(inputs) + HALF_BITS
        bits = outputs * inputs.bit_length() + self._count(kept) * each
        return super()._side_bits(outputs, inputs, kept) | {"outliers": bits}

    def vector_ops(self, tokens: int, outputs: int, inputs: int, kept: int) -> float:
        """As RTN, and one multiply-add an outlier and token."""
        return super().vector_ops(tokens, outputs, inputs, kept) + tokens * self._count(kept)


def _column_bits(inputs: int) -> int:
    return max(1, (inputs - 1).bit_length())
