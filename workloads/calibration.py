"""Calibration: what enters each matrix of the dense model on a set of token windows, gathered in one pass.

For every layer and every distinct input tensor (``INPUTS``): the Hessian H = XᵀX [in, in] over all tokens. Its diagonal
is the sum of squares per feature that Wanda and channel pruning use, so nothing else is stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.checkpoint import INPUTS, MATRIX_INPUT, Checkpoint
from workloads.fetch import cache_dir
from workloads.transformer import token_nll

BUNDLE = Path(__file__).parent / "data" / "smollm2_135m"
#: Called with (done, total, what) as work goes on.
Progress = Callable[[int, int, str], None]


def bundled_windows() -> dict[str, np.ndarray]:
    """The bundled Wikipedia token ids: ``evaluation`` [8, 512] and ``calibration`` [16, 512] (CC BY-SA, see NOTICE)."""
    with np.load(BUNDLE / "windows.npz") as stored:
        return {name: stored[name] for name in stored.files}


def windows_sha256(windows: np.ndarray) -> str:
    """sha256 of token windows: of their shape and their ids as little-endian uint32."""
    digest = hashlib.sha256(repr(tuple(windows.shape)).encode())
    digest.update(np.ascontiguousarray(windows, dtype="<u4").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Calibration:
    """What enters the dense model's matrices: ``hessians[input][layer]`` is XᵀX over ``tokens``, float32 [in, in]."""

    hessians: dict[str, list[np.ndarray]]
    tokens: int
    model_sha256: str
    windows_sha256: str

    def hessian(self, layer: int, matrix_type: str) -> np.ndarray:
        """XᵀX [in, in] of the tensor that enters a matrix."""
        return self.hessians[MATRIX_INPUT[matrix_type]][layer]

    def mean_square(self, layer: int, matrix_type: str) -> np.ndarray:
        """mean over tokens of x² per input feature [in]."""
        return np.diagonal(self.hessian(layer, matrix_type)) / np.float32(self.tokens)


def collect(checkpoint: Checkpoint, windows: np.ndarray, progress: Progress | None = None) -> Calibration:
    """Run the dense float model over ``windows`` [n, length] and gather the Hessians."""
    c = checkpoint.config
    features = {"attn_in": c.d_model, "attn_o_in": c.heads * c.head_dim, "ffn_in": c.d_model, "ffn_down_in": c.ffn}
    hessians = {name: list(np.zeros((c.layers, features[name], features[name]), np.float32)) for name in INPUTS}

    def hook(layer: int, name: str, x: np.ndarray) -> None:
        hessians[name][layer] += x.T @ x
        if progress is not None and name == "attn_in":
            progress(layer, c.layers, "calibrating")

    token_nll(checkpoint, windows, hook=hook, layers_only=True)
    return Calibration(hessians, int(windows.size), checkpoint.sha256, windows_sha256(windows))


def calibrate(
    checkpoint: Checkpoint, windows: np.ndarray | None = None, progress: Progress | None = None
) -> Calibration:
    """``collect`` through the user's cache (one folder for each model and windows); default: the bundled windows."""
    windows = bundled_windows()["calibration"] if windows is None else windows
    key = f"{checkpoint.sha256[:16]}_{windows_sha256(windows)[:16]}"
    folder = cache_dir("calibration", key)
    files = {name: folder / f"{name}.npy" for name in INPUTS}
    if all(path.is_file() for path in files.values()):
        stored = {name: list(np.load(path, mmap_mode="r")) for name, path in files.items()}
        return Calibration(stored, int(windows.size), checkpoint.sha256, windows_sha256(windows))
    gathered = collect(checkpoint, windows, progress)
    for name, path in files.items():
        partial = path.with_suffix(f".{os.getpid()}.part")
        with open(partial, "wb") as stream:
            np.save(stream, gathered.hessians[name])
        os.replace(partial, path)
    return gathered
