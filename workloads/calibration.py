"""Calibration: what enters each matrix of the dense model on a set of token windows, gathered in one pass.

For every layer and every distinct input tensor (``INPUTS``): the Hessian H = XᵀX [in, in] over all tokens, or only its
diagonal, the sum of squares per feature that Wanda and channel pruning use. Models whose Hessians together are small
(``hessians_fit``) have them gathered once and stored; of larger ones, diagonals are stored, and whole Hessians exist
one layer at a time (``LayerHessians``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workloads.checkpoint import INPUTS, MATRIX_INPUT, Checkpoint, ModelConfig
from workloads.fetch import cache_dir
from workloads.transformer import Hook, Weights, layer_forward, rope_tables, token_nll

BUNDLE = Path(__file__).parent / "data" / "smollm2_135m"
#: Called with (done, total, what) as work goes on.
Progress = Callable[[int, int, str], None]
#: The Hessians of a whole model are held and stored up to this size (SmolLM2-135M: 0.4 GB).
HELD_BYTES = 1 << 30
#: Columns of X that are multiplied with one another for the diagonal of XᵀX.
_COLUMNS = 1024


def bundled_windows() -> dict[str, np.ndarray]:
    """The bundled Wikipedia token ids: ``evaluation`` [8, 512] and ``calibration`` [16, 512] (CC BY-SA, see NOTICE)."""
    with np.load(BUNDLE / "windows.npz") as stored:
        return {name: stored[name] for name in stored.files}


def windows_sha256(windows: np.ndarray) -> str:
    """sha256 of token windows: of their shape and their ids as little-endian uint32."""
    digest = hashlib.sha256(repr(tuple(windows.shape)).encode())
    digest.update(np.ascontiguousarray(windows, dtype="<u4").tobytes())
    return digest.hexdigest()


class Diagonal:
    """XᵀX [n, n] of which only the diagonal is known: ``np.diagonal`` gives it, everything else raises TypeError."""

    __array_ufunc__ = None

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape = (len(values), len(values))

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is np.diagonal and len(args) == 1 and not kwargs:
            return self.values
        raise TypeError(f"only the diagonal of this Hessian is known, not np.{function.__name__} of it")


Hessian = np.ndarray | Diagonal


def input_features(config: ModelConfig) -> dict[str, int]:
    """Features of every tensor that enters matrices, by input name."""
    c = config
    return {"attn_in": c.d_model, "attn_o_in": c.heads * c.head_dim, "ffn_in": c.d_model, "ffn_down_in": c.ffn}


def hessians_fit(config: ModelConfig) -> bool:
    """Whether the Hessians of all layers together may be held and stored."""
    return 4 * config.layers * sum(n * n for n in input_features(config).values()) <= HELD_BYTES


@dataclass(frozen=True)
class Calibration:
    """What enters the dense model's matrices: ``hessians[input][layer]`` is XᵀX over ``tokens``, float32 [in, in], or
    its ``Diagonal``."""

    hessians: Mapping[str, Sequence[Hessian]]
    tokens: int
    model_sha256: str
    windows_sha256: str

    def hessian(self, layer: int, matrix_type: str) -> Hessian:
        """XᵀX [in, in] of the tensor that enters a matrix."""
        return self.hessians[MATRIX_INPUT[matrix_type]][layer]

    def mean_square(self, layer: int, matrix_type: str) -> np.ndarray:
        """mean over tokens of x² per input feature [in]."""
        return np.diagonal(self.hessian(layer, matrix_type)) / np.float32(self.tokens)


def collect(
    checkpoint: Checkpoint, windows: np.ndarray, progress: Progress | None = None, diagonal: bool = False
) -> Calibration:
    """Run the dense float model over ``windows`` [n, length] and gather the Hessians of all layers, or diagonals."""
    c = checkpoint.config
    shape = (lambda n: (c.layers, n)) if diagonal else (lambda n: (c.layers, n, n))
    sums = {name: np.zeros(shape(n), np.float32) for name, n in input_features(c).items()}

    def hook(layer: int, name: str, x: np.ndarray) -> None:
        _add(sums[name][layer], x)
        if name == "attn_in":
            if not hessians_fit(c) and layer:
                checkpoint.release(layer - 1)
            if progress is not None:
                progress(layer, c.layers, "calibrating")

    token_nll(checkpoint, windows, hook=hook, layers_only=True)
    if not hessians_fit(c):
        checkpoint.release()
    return _calibration(checkpoint, windows, sums)


def _add(total: np.ndarray, x: np.ndarray) -> None:
    """XᵀX of x [tokens, in] onto ``total`` [in, in], or its diagonal onto ``total`` [in].

    The diagonal comes out of products of columns, as in the whole matrix, not out of sums of squares: their last bits
    differ, and equal scores would fall otherwise.
    """
    if total.ndim == 2:
        total += x.T @ x
        return
    for start in range(0, len(total), _COLUMNS):
        part = x[:, start : start + _COLUMNS]
        total[start : start + _COLUMNS] += np.diagonal(part.T @ part)


def _calibration(checkpoint: Checkpoint, windows: np.ndarray, sums: Mapping[str, np.ndarray]) -> Calibration:
    """``sums`` by input: [layers, in, in], or [layers, in] of diagonals."""
    found = {name: [_hessian(layer) for layer in layers] for name, layers in sums.items()}
    return Calibration(found, int(windows.size), checkpoint.sha256, windows_sha256(windows))


def _hessian(total: np.ndarray) -> Hessian:
    return Diagonal(total) if total.ndim == 1 else total


def calibrate(
    checkpoint: Checkpoint,
    windows: np.ndarray | None = None,
    progress: Progress | None = None,
    diagonal: bool = False,
) -> Calibration:
    """``collect`` through the user's cache (one folder for each model and windows); default: the bundled windows."""
    windows = bundled_windows()["calibration"] if windows is None else windows
    key = f"{checkpoint.sha256[:16]}_{windows_sha256(windows)[:16]}"
    folder = cache_dir("calibration", key)
    files = {name: folder / (f"{name}.diagonal.npy" if diagonal else f"{name}.npy") for name in INPUTS}
    if all(path.is_file() for path in files.values()):
        stored = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
        return _calibration(checkpoint, windows, stored)
    gathered = collect(checkpoint, windows, progress, diagonal)
    for name, path in files.items():
        partial = path.with_suffix(f".{os.getpid()}.part")
        with open(partial, "wb") as stream:
            np.save(stream, [h.values if isinstance(h, Diagonal) else h for h in gathered.hessians[name]])
        os.replace(partial, path)
    return gathered


class Walk:
    """Token windows [n, length] on their way through the layers of a model, one layer at a time.

    For each layer in order: look at what enters its matrices (``hessians``), then ``step`` through it with any weights.
    ``diagonal``: the Hessians are ``Diagonal``.
    """

    def __init__(self, checkpoint: Checkpoint, windows: np.ndarray, diagonal: bool = False) -> None:
        c = checkpoint.config
        self.checkpoint, self.tokens, self.layer, self.diagonal = checkpoint, int(windows.size), 0, diagonal
        self._hidden = checkpoint.embedding[windows.astype(np.int64)]
        self._tables = rope_tables(windows.shape[1], c.head_dim, c.rope_theta, checkpoint.rope_divisors)

    def hessians(self) -> dict[str, Hessian]:
        """XᵀX [in, in] float32 of every tensor that enters the next layer's dense matrices, by input name."""
        found, hook = self._gathering()
        self._run(self._hidden.copy(), self.checkpoint.matrix, hook)
        return {name: _hessian(total) for name, total in found.items()}

    def hessians_and_step(self) -> dict[str, Hessian]:
        """``hessians`` of the next layer, gathered on the way through its dense weights."""
        found, hook = self._gathering()
        self._run(self._hidden, self.checkpoint.matrix, hook)
        self.layer += 1
        return {name: _hessian(total) for name, total in found.items()}

    def step(self, weights: Weights | None = None) -> float:
        """Go through the next layer; returns its block influence, 1 - mean cosine of what enters and leaves it."""
        before = self._hidden.copy()
        self._run(self._hidden, weights or self.checkpoint.matrix, None)
        self.layer += 1
        product = np.einsum("...i,...i->...", before, self._hidden)
        norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(self._hidden, axis=-1)
        return float(1 - np.mean(product / np.maximum(norms, np.finfo(np.float32).tiny)))

    def _gathering(self) -> tuple[dict[str, np.ndarray], Hook]:
        """Sums of one layer by input, and the hook that adds to them."""
        found: dict[str, np.ndarray] = {}

        def hook(layer: int, name: str, x: np.ndarray) -> None:
            if name not in found:
                found[name] = np.zeros(x.shape[1] if self.diagonal else (x.shape[1],) * 2, np.float32)
            _add(found[name], x)

        return found, hook

    def _run(self, hidden: np.ndarray, weights: Weights, hook: Hook | None) -> None:
        layer_forward(self.checkpoint, self.layer, hidden, weights, None, tables=self._tables, hook=hook)


class LayerHessians:
    """``hessian(layer, matrix type)`` of the dense model with those of ``held`` layers in memory, the last ones seen.

    Layers asked for in order cost one pass of the model; going back beyond those held begins another.
    """

    def __init__(
        self, checkpoint: Checkpoint, windows: np.ndarray, progress: Progress | None = None, held: int = 1
    ) -> None:
        self._checkpoint, self._windows, self._progress, self._most = checkpoint, windows, progress, held
        self._walk: Walk | None = None
        self._held: dict[int, dict[str, Hessian]] = {}

    def __call__(self, layer: int, matrix_type: str) -> Hessian:
        """XᵀX [in, in] of the tensor that enters a matrix; the same array for all matrices that it enters."""
        if layer not in self._held:
            self._go_to(layer)
        return self._held[layer][MATRIX_INPUT[matrix_type]]

    def _go_to(self, layer: int) -> None:
        if self._walk is None or layer < self._walk.layer:
            self._walk = Walk(self._checkpoint, self._windows)
            self._held = {}
        walk, c = self._walk, self._checkpoint
        while walk.layer <= layer:
            at = walk.layer
            if self._progress is not None:
                self._progress(at, c.config.layers, "calibrating")
            if at < layer:
                walk.step()
            else:
                while len(self._held) >= self._most:
                    del self._held[next(iter(self._held))]
                self._held[at] = walk.hessians_and_step()
            if not hessians_fit(c.config) and at:
                c.release(at - 1)


def block_influence(checkpoint: Checkpoint, windows: np.ndarray) -> np.ndarray:
    """How much each layer turns the residual stream on ``windows``: 1 - mean cosine of in and out, float64 [layers]."""
    walk = Walk(checkpoint, windows)
    return np.array([walk.step() for _ in range(checkpoint.config.layers)])
