"""Symmetric integers, int8 by default, as plain NumPy: whole values kept in float32 beside their scales.

Kept in float32 because that is what a BLAS multiplies fast. Products of int8 are at most 127 · 127, so a float32 sum of
them is exact (and so independent of the order of summation) while it stays below 2^24: always for up to 1,040 inputs.
Narrower values are exact for longer sums; products of wider ones are rounded to 24 bits, as float's own are.
"""

from __future__ import annotations

import numpy as np

LEVELS = 127


def quantise_rows(x: np.ndarray, bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers of ``bits`` (2 to 16) along the last axis: x ≈ q · scale.

    Returns ``q`` (x's shape, float32 whole numbers in [-L, L], L = 2^(bits - 1) - 1, nearest with ties to even) and
    ``scale`` (last axis 1). scale = max|x| / L; a row of zeros has scale 0 and quantises to zeros.
    """
    levels = 2 ** (bits - 1) - 1
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(levels)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > np.finfo(np.float32).tiny)
    q = x * inverse
    np.rint(q, out=q)
    np.clip(q, -levels, levels, out=q)
    return q, scale


def fake_quantise(x: np.ndarray, bits: int = 8) -> np.ndarray:
    """x rounded to the values of ``quantise_rows`` and scaled back: what a cache of so many bits would return."""
    q, scale = quantise_rows(x, bits)
    q *= scale
    return q
