"""What the Hessian H = XᵀX of a matrix's input tells: its damped form, the factor of its inverse, refitted weights.

Everything here measures the layer's output error ‖X(W - W')ᵀ‖² = tr((W - W') H (W - W')ᵀ), W out x in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

#: Added to the diagonal of H, as a share of its mean (SparseGPT's choice).
DAMPING = 0.01
T = TypeVar("T")


class PerHessian(Generic[T]):
    """``compute(hessian)``, kept for the last Hessian: matrices that share an input come in a row."""

    def __init__(self, compute: Callable[[np.ndarray], T]) -> None:
        self._compute = compute
        self._last: tuple[np.ndarray, T] | None = None

    def __call__(self, hessian: np.ndarray) -> T:
        if self._last is None or self._last[0] is not hessian:
            self._last = (hessian, self._compute(hessian))
        return self._last[1]


def damped(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H with ``DAMPING`` of its mean diagonal added, float64, and which inputs are never used, bool [in].

    An input that is always zero gets a unit diagonal, so its weights are free to go.
    """
    h = np.array(hessian, dtype=np.float64)
    return h, _damp(np.einsum("ii->i", h))


def damped_diagonal(hessian: np.ndarray) -> np.ndarray:
    """The diagonal of ``damped``, float64 [in], from a Hessian of which no more may be known."""
    diagonal = np.array(np.diagonal(hessian), dtype=np.float64)
    _damp(diagonal)
    return diagonal


def _damp(diagonal: np.ndarray) -> np.ndarray:
    """In place; returns which inputs are never used."""
    unused = diagonal == 0
    diagonal[unused] = 1
    diagonal += DAMPING * diagonal.mean()
    return unused


def inverse_factor(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U upper triangular float32 with H⁻¹ = UᵀU, H damped; and which inputs are never used."""
    from scipy.linalg import cholesky, solve_triangular

    h, unused = damped(hessian)
    # Flip, factor, flip: H = V Vᵀ with V upper, so H⁻¹ = V⁻ᵀ V⁻¹ and U = V⁻¹ is upper triangular.
    flipped = cholesky(h[::-1, ::-1], lower=True)
    v = flipped[::-1, ::-1]
    return solve_triangular(v, np.eye(len(v)), lower=False).astype(np.float32), unused


def output_error(gone: np.ndarray, hessian: np.ndarray) -> float:
    """‖X · goneᵀ‖²: the squared output error of a change ``gone`` (out x in) of the weights."""
    return float(np.einsum("oi,oi->", gone @ hessian, gone, dtype=np.float64))


def refit(weight: np.ndarray, start: np.ndarray, mask: np.ndarray, h: np.ndarray, steps: int) -> np.ndarray:
    """Kept weights that bring the output error down, by ``steps`` of conjugate gradients; float32 out x in.

    Minimises tr((W' - W) H (W' - W)ᵀ) over W' supported on ``mask``, from ``start``: every output is a least-squares
    problem of its own, all solved together, preconditioned by the diagonal of ``h`` (float32, positive definite).
    """
    inverse = np.float32(1) / np.diagonal(h)
    found = start * mask
    residual = ((weight - found) @ h) * mask
    scaled = residual * inverse
    direction = scaled.copy()
    energy = np.einsum("oi,oi->o", residual, scaled)
    for _ in range(steps):
        ahead = direction @ h
        curvature = np.einsum("oi,oi->o", direction, ahead)
        step = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)[:, None]
        found += step * direction
        ahead *= mask
        residual -= step * ahead
        np.multiply(residual, inverse, out=scaled)
        new = np.einsum("oi,oi->o", residual, scaled)
        direction *= np.divide(new, energy, out=np.zeros_like(new), where=energy > 0)[:, None]
        direction += scaled
        energy = new
    return found
