"""What structural methods share: masks of whole rows or columns, the least-squares refit of columns that stay."""

from __future__ import annotations

import numpy as np

from workloads.checkpoint import ModelConfig
from workloads.pruning.hessian import damped
from workloads.pruning.model import DenseModel

ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")


def head_masks(config: ModelConfig, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (out x in) of a layer's attention matrices with only the ``kept`` query heads, bool [heads].

    A KV head goes when all the query heads that share it have gone.
    """
    shared = kept.reshape(config.kv_heads, -1).any(axis=1)
    lines = {t: np.repeat(shared, config.head_dim) for t in ("attn_k", "attn_v")}
    lines |= {t: np.repeat(kept, config.head_dim) for t in ("attn_q", "attn_output")}
    return {
        t: np.ascontiguousarray(
            np.broadcast_to(lines[t] if t == "attn_output" else lines[t][:, None], config.matrix_shape(t))
        )
        for t in ATTENTION
    }


def refit_columns(weight: np.ndarray, hessian: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """W' (float32 out x in) that is zero outside the ``kept`` columns and minimises ‖X(W - W')ᵀ‖², H damped.

    W'[:, S] = (W H)[:, S] H[S, S]⁻¹ for the kept columns S, indices or bool [in].
    """
    from scipy.linalg import cho_factor, cho_solve

    h, _ = damped(hessian)
    columns = np.flatnonzero(kept) if kept.dtype == bool else kept
    found = np.zeros_like(weight)
    if len(columns):
        right = h[columns] @ weight.T.astype(np.float64)
        found[:, columns] = cho_solve(cho_factor(h[np.ix_(columns, columns)]), right).T
    return found


def head_energy(model: DenseModel, layer: int) -> np.ndarray:
    """Output energy Σ‖X_h W_hᵀ‖² of every query head alone [heads]: tr(W_h H_hh W_hᵀ) in attn_output, a token."""
    c = model.config
    weight, hessian = model.matrix(layer, "attn_output"), model.hessian(layer, "attn_output")
    slices = [slice(h * c.head_dim, (h + 1) * c.head_dim) for h in range(c.heads)]
    found = [np.vdot(weight[:, s] @ hessian[s, s], weight[:, s]) for s in slices]
    return np.array(found, dtype=np.float64) / model.tokens
