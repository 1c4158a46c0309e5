"""NumPy forward pass of a Llama-like decoder: per-token negative log-likelihood of token windows.

RMSNorm, rotary embedding (half split), grouped-query attention, SwiGLU, (tied) head, after Touvron et al. 2023,
"LLaMA: Open and Efficient Foundation Language Models", and Su et al. 2021, "RoFormer". float32 throughout.

``arithmetic``:

- ``"float"``: float32 weights and activations.
- ``"w8a8kv8"``: each of the seven matrices and the head multiplies int8 weights (symmetric, per output channel, after
  pruning) with int8 activations (symmetric, per token, scale from the token's own largest magnitude); K (after the
  rotary embedding) and V are kept as int8 per token and head, and queries and attention probabilities meet them as
  int8 per token and head. Norms, softmax, rotary embedding, SwiGLU and residuals stay float. Integer products are
  accumulated in float32, exact below 2^24 (see ``quantise``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.errors import InputError, nearest
from workloads.checkpoint import MATRIX_TYPES, Checkpoint
from workloads.quantise import fake_quantise, quantise_rows

ARITHMETICS = ("float", "w8a8kv8")
#: (layer, matrix type) -> float32 out x in; FFN matrices are smaller than the checkpoint's when channels were removed.
Weights = Callable[[int, str], np.ndarray]
#: Called with (layer, input name, [tokens, features]) for every tensor that enters matrices.
Hook = Callable[[int, str, np.ndarray], None]

_QUERY_BLOCK = 128
_VOCAB_BLOCK = 4096


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """x / sqrt(mean(x²) + eps) · gain over the last axis."""
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    return x * (np.float32(1) / np.sqrt(mean_square + np.float32(eps))) * gain


def rope_tables(length: int, head_dim: int, theta: float, divisors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of position · theta^(-2i / head_dim), float32 [length, head_dim / 2]."""
    frequency = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if divisors is not None:
        frequency = frequency / divisors
    angle = np.arange(length, dtype=np.float64)[:, None] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Half-split rotary embedding of x [..., length, head_dim]."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, integer: bool = False) -> np.ndarray:
    """Causal grouped-query attention of one window.

    q [heads, length, head_dim]; k, v [kv_heads, length, head_dim]; result [length, heads · head_dim]. Queries go in
    blocks so that only keys up to the block's end are multiplied. ``integer``: queries and probabilities are rounded to
    int8 per token and head.
    """
    q = fake_quantise(q) if integer else q
    heads, length, head_dim = q.shape
    kv_heads = k.shape[0]
    group = heads // kv_heads
    q = (q * np.float32(head_dim**-0.5)).reshape(kv_heads, group, length, head_dim)
    keys = np.ascontiguousarray(k.swapaxes(1, 2))
    out = np.empty((length, heads, head_dim), np.float32)
    for start in range(0, length, _QUERY_BLOCK):
        end = min(start + _QUERY_BLOCK, length)
        rows = end - start
        scores = np.matmul(q[:, :, start:end].reshape(kv_heads, group * rows, head_dim), keys[:, :, :end])
        scores = scores.reshape(kv_heads, group, rows, end)
        future = np.arange(start, end)[None, :] > np.arange(start, end)[:, None]
        scores[..., start:end][:, :, future] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, keepdims=True)
        if integer:
            scores = fake_quantise(scores)
        mixed = np.matmul(scores.reshape(kv_heads, group * rows, end), v[:, :end])
        mixed = mixed.reshape(kv_heads, group, rows, head_dim) / total
        out[start:end] = mixed.reshape(heads, rows, head_dim).swapaxes(0, 1)
    return out.reshape(length, heads * head_dim)


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x)."""
    with np.errstate(over="ignore"):
        return x / (np.float32(1) + np.exp(-x))


class _Linear:
    """One matrix ready to multiply: x [tokens, in] -> [tokens, out], in the arithmetic asked for."""

    def __init__(self, weight: np.ndarray, integer: bool) -> None:
        self.integer = integer
        self.weight, self.scale = quantise_rows(weight) if integer else (weight, None)

    def __call__(self, x: np.ndarray, quantised: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        if not self.integer:
            return x @ self.weight.T
        values, scale = quantised
        y = values @ self.weight.T
        y *= scale
        y *= self.scale[:, 0]
        return y


def token_nll(
    checkpoint: Checkpoint,
    windows: np.ndarray,
    weights: Weights | None = None,
    arithmetic: str = "float",
    hook: Hook | None = None,
    layers_only: bool = False,
    head: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Negative log-likelihood in nats of every next token.

    ``windows``: token ids [n, length]; the result is float64 [n, length - 1]. ``weights`` gives each matrix (default:
    the checkpoint's own). ``hook`` sees every tensor that enters matrices, window by window. ``layers_only`` stops
    before the head and returns an empty array (calibration needs no head). ``head`` is a head already quantised with
    ``quantise_rows`` when many recipes are measured on one checkpoint.
    """
    if arithmetic not in ARITHMETICS:
        raise InputError(f"arithmetic {arithmetic!r} is unknown: {nearest(arithmetic, ARITHMETICS)}")
    windows = np.asarray(windows)
    c = checkpoint.config
    if windows.ndim != 2 or windows.shape[1] < 2 or windows.min() < 0 or windows.max() >= c.vocab:
        raise InputError(f"windows must be token ids [n, length >= 2] in 0..{c.vocab - 1}, got shape {windows.shape}")
    weights = weights or checkpoint.matrix
    integer = arithmetic == "w8a8kv8"
    n, length = windows.shape
    tables = rope_tables(length, c.head_dim, c.rope_theta, checkpoint.rope_divisors)
    hidden = checkpoint.embedding[windows.astype(np.int64)]
    for layer in range(c.layers):
        layer_forward(checkpoint, layer, hidden, weights, integer, tables, hook)
    if layers_only:
        return np.empty((0, 0))
    if integer and head is None:
        head = quantise_rows(checkpoint.head)
    out = np.empty((n, length - 1))
    for i in range(n):
        x = rms_norm(hidden[i, :-1], checkpoint.output_norm, c.norm_eps)
        out[i] = head_nll(x, windows[i, 1:].astype(np.int64), checkpoint.head, head if integer else None)
    return out


def layer_forward(
    checkpoint: Checkpoint,
    layer: int,
    hidden: np.ndarray,
    weights: Weights,
    integer: bool,
    tables: tuple[np.ndarray, np.ndarray],
    hook: Hook | None,
) -> None:
    """One decoder layer, in place on hidden [n, length, d_model]; windows one after another (small temporaries)."""
    c = checkpoint.config
    w = {t: _Linear(weights(layer, t), integer) for t in MATRIX_TYPES}
    attn_gain, ffn_gain = checkpoint.norm(layer, "attn_norm"), checkpoint.norm(layer, "ffn_norm")
    length = hidden.shape[1]

    def enter(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if hook is not None:
            hook(layer, name, x)
        return quantise_rows(x) if integer else None

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x.reshape(length, count, c.head_dim).swapaxes(0, 1)

    for h in hidden:
        x = rms_norm(h, attn_gain, c.norm_eps)
        x8 = enter("attn_in", x)
        q = rotate(heads(w["attn_q"](x, x8), c.heads), *tables)
        k = rotate(heads(w["attn_k"](x, x8), c.kv_heads), *tables)
        v = heads(w["attn_v"](x, x8), c.kv_heads)
        if integer:
            k, v = fake_quantise(k), fake_quantise(v)
        x = attention(q, k, np.ascontiguousarray(v), integer)
        h += w["attn_output"](x, enter("attn_o_in", x))
        x = rms_norm(h, ffn_gain, c.norm_eps)
        x8 = enter("ffn_in", x)
        x = silu(w["ffn_gate"](x, x8)) * w["ffn_up"](x, x8)
        h += w["ffn_down"](x, enter("ffn_down_in", x))


def head_nll(
    x: np.ndarray, targets: np.ndarray, head: np.ndarray, head8: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """-log softmax(head · x)[target] for x [tokens, d_model], over the vocabulary in blocks (running log-sum-exp)."""
    tokens = np.arange(len(x))
    if head8 is not None:
        x, x_scale = quantise_rows(x)
    top = np.full(len(x), -np.inf)
    total = np.zeros(len(x))
    target_logit = np.empty(len(x))
    for start in range(0, len(head), _VOCAB_BLOCK):
        if head8 is None:
            logits = x @ head[start : start + _VOCAB_BLOCK].T
        else:
            logits = x @ head8[0][start : start + _VOCAB_BLOCK].T
            logits *= x_scale
            logits *= head8[1][start : start + _VOCAB_BLOCK, 0]
        inside = (targets >= start) & (targets < start + logits.shape[1])
        target_logit[inside] = logits[tokens[inside], targets[inside] - start]
        block_top = logits.max(axis=1)
        new_top = np.maximum(top, block_top)
        logits -= new_top[:, None].astype(np.float32)
        np.exp(logits, out=logits)
        total = total * np.exp(top - new_top) + logits.sum(axis=1, dtype=np.float32)
        top = new_top
    return top + np.log(total) - target_logit
