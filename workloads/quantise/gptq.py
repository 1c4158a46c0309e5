"""GPTQ: round column by column and let the columns to come make up for the error.

Frantar et al. 2023, arXiv:2210.17323, algorithm 1, from memory: with H⁻¹ = UᵀU, rounding column j leaves
e = (w_j − q_j) / U_jj and takes e · U_j,: from the columns to come. Columns keep their order (no sorting by H_jj).
With a mask, pruned weights round to zero, and all that they were is an error to pass on: SparseGPT's joint pass with a
mask that is already chosen. Weights that come already zero leave nothing to make up for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.quantise.base import Streams, register
from workloads.quantise.blocks import split
from workloads.quantise.uniform import Levels, UniformQuantiser

ROW_BLOCK = 128  # columns between updates of all the rest, when one scale serves a row


@register
@dataclass(frozen=True)
class Gptq(UniformQuantiser):
    """A group's scale is set when its first column is reached, from the weights as updated by then; whole-row scales
    are set from the weights as they come."""

    name = "gptq"
    needs_calibration = True
    compensates = True

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        from workloads.pruning.sparsegpt import inverse_factor  # here: pruning methods may use quantisers

        upper, unused = inverse_factor(hessian)
        w, keep = np.array(weight.T, order="C"), np.ascontiguousarray(kept.T)  # in x out: a column is contiguous
        w[unused] = 0
        codes = np.empty_like(w)
        found: list[Levels] = []
        inputs = len(w)
        whole = self.fit(np.where(keep, w, 0).T[:, None, :]) if self.group is None else None
        step = ROW_BLOCK if whole is not None else self.block(inputs)
        for start in range(0, inputs, step):
            end = min(start + step, inputs)
            current = np.where(keep[start:end], w[start:end], 0)
            levels = whole or self.fit(split(current.T, end - start))
            found.append(levels)
            error = self._columns(w[start:end], keep[start:end], codes[start:end], upper[start:end, start:end], levels)
            w[end:] -= upper[start:end, end:].T @ error
        levels = whole or Levels(*(np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))
        return np.ascontiguousarray(codes.T), self.level_streams(levels)

    def _columns(
        self, w: np.ndarray, keep: np.ndarray, codes: np.ndarray, upper: np.ndarray, levels: Levels
    ) -> np.ndarray:
        """Round the columns w [columns, out] in place, fill ``codes``; the scaled errors [columns, out]."""
        scale, zero = (part[:, 0, 0] for part in levels)
        errors = np.empty_like(w)
        for column in range(len(w)):
            codes[column] = self.to_codes(w[column], Levels(scale, zero))
            rounded = np.where(keep[column], (codes[column] - zero) * scale, 0)
            np.divide(w[column] - rounded, upper[column, column], out=errors[column])
            w[column + 1 :] -= upper[column, column + 1 :, None] * errors[column]
        return errors
