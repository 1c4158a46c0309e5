"""A Hessian of ``attn_v`` that counts tokens as attention does.

XᵀX counts every token once, and so the error of every token's value. But what leaves attention is P_h X W_vᵀ, with P_h
the probabilities of head h, and a token on which many queries rest (the first one of a window, where there is nothing
to say) weighs as much in it as they rest on it. V is linear, so the exact Hessian of head h's output is
(P_h X)ᵀ(P_h X); here the mean over heads, one for the whole matrix. All other matrices keep XᵀX. Our own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from workloads.calibration import Calibration, bundled_windows, calibrate, windows_sha256
from workloads.checkpoint import Checkpoint
from workloads.fetch import cache_dir
from workloads.transformer import attention, rope_tables, rotate, token_nll


@dataclass(frozen=True)
class AttendedCalibration(Calibration):
    """``values[layer]``: mean over heads of (P_h X)ᵀ(P_h X), float32 [d_model, d_model], what ``attn_v`` gets."""

    values: np.ndarray

    def hessian(self, layer: int, matrix_type: str) -> np.ndarray:
        return self.values[layer] if matrix_type == "attn_v" else super().hessian(layer, matrix_type)


def mixed_inputs(checkpoint: Checkpoint, layer: int, x: np.ndarray) -> np.ndarray:
    """P_h X of every head, float32 [tokens, heads, d_model], from what enters the layer's attention [tokens, d_model]:
    what ``attn_v`` would multiply if values were made after mixing."""
    c = checkpoint.config
    tables = rope_tables(len(x), c.head_dim, c.rope_theta, checkpoint.rope_divisors)
    query, key = (x @ checkpoint.matrix(layer, t).T for t in ("attn_q", "attn_k"))
    q = rotate(query.reshape(len(x), c.heads, c.head_dim).swapaxes(0, 1), *tables)
    k = rotate(key.reshape(len(x), c.kv_heads, c.head_dim).swapaxes(0, 1), *tables)
    wide = np.pad(x, ((0, 0), (0, -x.shape[1] % c.head_dim)))
    parts = []
    for start in range(0, wide.shape[1], c.head_dim):  # attention mixes values of a head's width at a time
        part = np.ascontiguousarray(wide[:, start : start + c.head_dim])
        mixed = attention(q, k, np.broadcast_to(part, (c.kv_heads, *part.shape)))
        parts.append(mixed.reshape(len(x), c.heads, c.head_dim))
    return np.concatenate(parts, axis=2)[:, :, : x.shape[1]]


def collect_attended(checkpoint: Checkpoint, windows: np.ndarray) -> np.ndarray:
    """``AttendedCalibration.values`` over ``windows`` [n, length] of the dense float model."""
    c = checkpoint.config
    found = np.zeros((c.layers, c.d_model, c.d_model), np.float32)

    def hook(layer: int, name: str, x: np.ndarray) -> None:
        if name == "attn_in":
            mixed = mixed_inputs(checkpoint, layer, x).reshape(-1, c.d_model)
            found[layer] += (mixed.T @ mixed) / np.float32(c.heads)

    token_nll(checkpoint, windows, hook=hook, layers_only=True)
    return found


def calibrate_attended(checkpoint: Checkpoint, windows: np.ndarray | None = None) -> AttendedCalibration:
    """``calibrate`` with the attended Hessian of ``attn_v``, through the user's cache; default: the bundled windows."""
    windows = bundled_windows()["calibration"] if windows is None else windows
    plain = calibrate(checkpoint, windows)
    path = cache_dir("attended", f"{checkpoint.sha256[:16]}_{windows_sha256(windows)[:16]}") / "attn_v.npy"
    if not path.is_file():
        partial = path.with_suffix(f".{os.getpid()}.part")
        with open(partial, "wb") as stream:
            np.save(stream, collect_attended(checkpoint, windows))
        os.replace(partial, path)
    return AttendedCalibration(**vars(plain), values=np.load(path, mmap_mode="r"))
