"""Number formats of stored tensors, decoded to float32 with NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

#: Raw little-endian bytes -> float32, flat.
Decoder = Callable[[bytes], np.ndarray]


def bfloat16(raw: bytes) -> np.ndarray:
    """The upper half of a float32."""
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


@cache
def _e4m3_values() -> np.ndarray:
    """All 256 values of FP8 E4M3 (bias 7, no infinities, S.1111.111 is NaN; Micikevicius et al. 2022, table 1)."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10), mantissa * 2.0**-9)
    size[(code & 127) == 127] = np.nan
    return np.where(code < 128, size, -size).astype(np.float32)


def float8_e4m3(raw: bytes) -> np.ndarray:
    """FP8 E4M3, without any scale."""
    return _e4m3_values()[np.frombuffer(raw, np.uint8)]


def float8_e5m2(raw: bytes) -> np.ndarray:
    """FP8 E5M2, without any scale: the upper half of a float16."""
    return (np.frombuffer(raw, np.uint8).astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)


def plain(dtype: str) -> Decoder:
    """Decoder of a float format that NumPy knows."""
    return lambda raw: np.frombuffer(raw, dtype).astype(np.float32, copy=False)


#: Float formats by their safetensors name; the GGUF names of the first four are the same.
FLOATS: dict[str, Decoder] = {
    "F32": plain("<f4"),
    "F16": plain("<f2"),
    "BF16": bfloat16,
    "F64": plain("<f8"),
    "F8_E4M3": float8_e4m3,
    "F8_E5M2": float8_e5m2,
}
