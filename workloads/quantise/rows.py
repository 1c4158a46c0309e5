"""Symmetric int8 as plain NumPy: integer values kept in float32 beside their scales.

Kept in float32 because that is what a BLAS multiplies fast. Products are at most 127 · 127, so a float32 sum of them
is exact (and so independent of the order of summation) while it stays below 2^24: always for up to 1,040 inputs.
"""

from __future__ import annotations

import numpy as np

LEVELS = 127


def quantise_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 along the last axis: x ≈ q · scale.

    Returns ``q`` (x's shape, float32 whole numbers in [-127, 127], nearest with ties to even) and ``scale`` (last axis
    1). scale = max|x| / 127; a row of zeros has scale 0 and quantises to zeros.
    """
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(LEVELS)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > np.finfo(np.float32).tiny)
    q = x * inverse
    np.rint(q, out=q)
    np.clip(q, -LEVELS, LEVELS, out=q)
    return q, scale


def fake_quantise(x: np.ndarray) -> np.ndarray:
    """x rounded to the int8 values of ``quantise_rows`` and scaled back: what an int8 cache would return."""
    q, scale = quantise_rows(x)
    q *= scale
    return q
