"""AWQ: scale the inputs that matter up before rounding (Lin et al. 2024, arXiv:2306.00978; from memory of the paper).

Ŵ = Q(W · diag(s)) · diag(s)⁻¹ with s_j = x̄_j^α, normalised by √(max s · min s); α is searched over 0, 1/20 … 19/20
for the least ‖X (W − Ŵ)ᵀ‖², here exactly tr((W − Ŵ) H (W − Ŵ)ᵀ). α = 0 is RTN, so the result is never worse on the
calibration data. Stand-in: x̄_j is the root mean square of input j where the paper takes mean |x_j| (the Hessian holds
squares; for inputs of one distribution the two differ by a factor that the normalisation removes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workloads.quantise.base import Parts, Streams, register
from workloads.quantise.blocks import HALF_BITS, as_half, half_stream, halves
from workloads.quantise.uniform import UniformQuantiser

STEPS = 20
SMALLEST = 1e-4


@register
@dataclass(frozen=True)
class Awq(UniformQuantiser):
    """``folded``: 1/s is folded into what makes the input (norm gains, rows of up), which stores and multiplies it at
    no cost; matrices with one input then share s (``joint_input``). Else s is stored as FP16 beside the weights and
    the inputs are multiplied by 1/s. Clipping search and the attention output's own rule are left out."""

    folded: bool = True

    name = "awq"
    needs_calibration = True
    joint_input = True

    def unfolded(self) -> Awq:
        return replace(self, folded=False)

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        rms = np.sqrt(np.maximum(np.diagonal(hessian), 0) / np.float32(tokens))
        best: tuple[float, np.ndarray, Streams] | None = None
        for step in range(STEPS):
            s = _scales(rms, step / STEPS)
            codes, streams = self.grouped_streams(weight * s)
            streams[self._stream] = half_stream(s)
            gone = np.where(kept, weight - self._decode(codes, streams), 0)
            error = float(np.vdot(gone @ hessian, gone))
            if best is None or error < best[0]:
                best = error, codes, streams
        return best[1:]

    @property
    def _stream(self) -> str:
        return "folded.inputs" if self.folded else "scales.inputs"

    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        return super()._decode(codes, streams) / halves(streams[self._stream])

    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        parts = super()._side_bits(outputs, inputs, kept)
        return parts | {"scales": parts["scales"] + (0 if self.folded else inputs * HALF_BITS)}

    def vector_ops(self, tokens: int, outputs: int, inputs: int, kept: int) -> float:
        """As RTN, and one multiply an input unless folded."""
        return super().vector_ops(tokens, outputs, inputs, kept) + (0 if self.folded else tokens * inputs)


def _scales(rms: np.ndarray, alpha: float) -> np.ndarray:
    """s [in], FP16 numbers as float32; inputs that are (almost) never used count as ``SMALLEST``."""
    s = np.maximum(rms, np.float32(SMALLEST)) ** np.float32(alpha)
    return np.maximum(as_half(s / np.sqrt(s.max() * s.min())), np.float32(SMALLEST))
