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
from workloads.transformer import Weights, layer_forward, rope_tables, token_nll

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


class Walk:
    """Token windows [n, length] on their way through the layers of a model, one layer at a time.

    For each layer in order: look at what enters its matrices (``hessians``), then ``step`` through it with any weights.
    """

    def __init__(self, checkpoint: Checkpoint, windows: np.ndarray) -> None:
        c = checkpoint.config
        self.checkpoint, self.tokens, self.layer = checkpoint, int(windows.size), 0
        self._hidden = checkpoint.embedding[windows.astype(np.int64)]
        self._tables = rope_tables(windows.shape[1], c.head_dim, c.rope_theta, checkpoint.rope_divisors)

    def hessians(self) -> dict[str, np.ndarray]:
        """XᵀX [in, in] float32 of every tensor that enters the next layer's dense matrices, by input name."""
        found: dict[str, np.ndarray] = {}

        def hook(layer: int, name: str, x: np.ndarray) -> None:
            found[name] = found[name] + x.T @ x if name in found else x.T @ x

        self._run(self._hidden.copy(), self.checkpoint.matrix, hook)
        return found

    def step(self, weights: Weights | None = None) -> float:
        """Go through the next layer; returns its block influence, 1 - mean cosine of what enters and leaves it."""
        before = self._hidden.copy()
        self._run(self._hidden, weights or self.checkpoint.matrix, None)
        self.layer += 1
        product = np.einsum("...i,...i->...", before, self._hidden)
        norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(self._hidden, axis=-1)
        return float(1 - np.mean(product / np.maximum(norms, np.finfo(np.float32).tiny)))

    def _run(self, hidden: np.ndarray, weights: Weights, hook: Callable[[int, str, np.ndarray], None] | None) -> None:
        layer_forward(self.checkpoint, self.layer, hidden, weights, False, self._tables, hook)


def block_influence(checkpoint: Checkpoint, windows: np.ndarray) -> np.ndarray:
    """How much each layer turns the residual stream on ``windows``: 1 - mean cosine of in and out, float64 [layers]."""
    walk = Walk(checkpoint, windows)
    return np.array([walk.step() for _ in range(checkpoint.config.layers)])
