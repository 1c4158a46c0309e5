"""NumPy forward pass of a Llama-like decoder: per-token negative log-likelihood of token windows.

RMSNorm, rotary embedding (half split), grouped-query attention, SwiGLU, (tied) head, after Touvron et al. 2023,
"LLaMA: Open and Efficient Foundation Language Models", and Su et al. 2021, "RoFormer". float32 throughout.

``arithmetic`` (:mod:`workloads.arithmetic`) says what is rounded. ``"float"``: nothing. ``"w8a8kv8"``: each of the
seven matrices and the head multiplies int8 weights (symmetric, per output channel, after pruning) with int8 activations
(symmetric, per token, scale from the token's own largest magnitude); K (after the rotary embedding) and V are kept as
int8 per token and head, and queries and attention probabilities meet them as int8 per token and head. Norms, softmax,
rotary embedding, SwiGLU and residuals stay float. Integer products are accumulated in float32, exact below 2^24 (see
``quantise``). Other widths likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sim.errors import InputError
from workloads.arithmetic import FLOAT, Arithmetic, Arithmetics, per_layer
from workloads.checkpoint import INPUTS, MATRIX_INPUT, MATRIX_TYPES, Checkpoint
from workloads.quantise import fake_quantise, quantise_rows

#: The two that bundled tables hold.
ARITHMETICS = ("float", "w8a8kv8")
#: (layer, matrix type) -> float32 out x in; FFN matrices are smaller than the checkpoint's when channels were removed.
Weights = Callable[[int, str], np.ndarray]
#: Called with (layer, input name, [tokens, features]) for every tensor that enters matrices, before any edit.
Hook = Callable[[int, str, np.ndarray], None]
#: Called as a hook; what it returns enters the matrices in place of the tensor: one for all that read it, or a mapping
#: from every matrix type that reads it to its own. It must not change the tensor it is given.
Edit = Callable[[int, str, np.ndarray], np.ndarray | Mapping[str, np.ndarray]]

#: Matrix types by the tensor that they read, in MATRIX_TYPES order.
_READERS = {name: tuple(t for t in MATRIX_TYPES if MATRIX_INPUT[t] == name) for name in INPUTS}
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


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, bits: int | None = None) -> np.ndarray:
    """Causal grouped-query attention of one window.

    q [heads, length, head_dim]; k, v [kv_heads, length, head_dim]; result [length, heads · head_dim]. Queries go in
    blocks so that only keys up to the block's end are multiplied. ``bits``: queries and probabilities are rounded to so
    many, per token and head.
    """
    q = fake_quantise(q, bits) if bits else q
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
        if bits:
            scores = fake_quantise(scores, bits)
        mixed = np.matmul(scores.reshape(kv_heads, group * rows, end), v[:, :end])
        mixed = mixed.reshape(kv_heads, group, rows, head_dim) / total
        out[start:end] = mixed.reshape(heads, rows, head_dim).swapaxes(0, 1)
    return out.reshape(length, heads * head_dim)


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x)."""
    with np.errstate(over="ignore"):
        return x / (np.float32(1) + np.exp(-x))


#: Values and their scales; no scales: the values themselves.
_Scaled = tuple[np.ndarray, np.ndarray | None]


def _rounded(x: np.ndarray, bits: int | None) -> _Scaled:
    return quantise_rows(x, bits) if bits else (x, None)


class _Linear:
    """One matrix ready to multiply: x [tokens, in] -> [tokens, out], in the arithmetic asked for."""

    def __init__(self, weight: np.ndarray, bits: int | None) -> None:
        self.weight, self.scale = _rounded(weight, bits)

    def __call__(self, x: _Scaled) -> np.ndarray:
        values, scale = x
        y = values @ self.weight.T
        if scale is not None:
            y *= scale
        if self.scale is not None:
            y *= self.scale[:, 0]
        return y


def token_nll(
    checkpoint: Checkpoint,
    windows: np.ndarray,
    weights: Weights | None = None,
    arithmetic: Arithmetics = "float",
    hook: Hook | None = None,
    layers_only: bool = False,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    edit: Edit | None = None,
) -> np.ndarray:
    """Negative log-likelihood in nats of every next token.

    ``windows``: token ids [n, length]; the result is float64 [n, length - 1]. ``weights`` gives each matrix (default:
    the checkpoint's own). ``arithmetic``: one for all, or one a layer (and one for the head, else the last layer's).
    ``hook`` sees every tensor that enters matrices, window by window; ``edit`` replaces it. ``layers_only`` stops
    before the head and returns an empty array (calibration needs no head). ``head`` is a head already quantised with
    ``quantise_rows`` to the arithmetic's ``head_bits`` when many recipes are measured on one checkpoint.
    """
    windows = np.asarray(windows)
    c = checkpoint.config
    if windows.ndim != 2 or windows.shape[1] < 2 or windows.min() < 0 or windows.max() >= c.vocab:
        raise InputError(f"windows must be token ids [n, length >= 2] in 0..{c.vocab - 1}, got shape {windows.shape}")
    weights = weights or checkpoint.matrix
    *layered, last = per_layer(arithmetic, c.layers)
    n, length = windows.shape
    tables = rope_tables(length, c.head_dim, c.rope_theta, checkpoint.rope_divisors)
    hidden = checkpoint.embedding[windows.astype(np.int64)]
    for layer in range(c.layers):
        layer_forward(checkpoint, layer, hidden, weights, layered[layer], tables, hook, edit)
    if layers_only:
        return np.empty((0, 0))
    if not last.head_bits:
        head = None
    elif head is None:
        head = quantise_rows(checkpoint.head, last.head_bits)
    out = np.empty((n, length - 1))
    for i in range(n):
        x = rms_norm(hidden[i, :-1], checkpoint.output_norm, c.norm_eps)
        out[i] = head_nll(x, windows[i, 1:].astype(np.int64), checkpoint.head, head, last.activation_bits)
    return out


def layer_forward(
    checkpoint: Checkpoint,
    layer: int,
    hidden: np.ndarray,
    weights: Weights,
    arithmetic: Arithmetic | None,
    tables: tuple[np.ndarray, np.ndarray],
    hook: Hook | None,
    edit: Edit | None = None,
) -> None:
    """One decoder layer, in place on hidden [n, length, d_model]; windows one after another (small temporaries).
    ``arithmetic``: None is float."""
    c, a = checkpoint.config, arithmetic or FLOAT
    w = {t: _Linear(weights(layer, t), a.weight_bits) for t in MATRIX_TYPES}
    attn_gain, ffn_gain = checkpoint.norm(layer, "attn_norm"), checkpoint.norm(layer, "ffn_norm")
    length = hidden.shape[1]

    def enter(name: str, x: np.ndarray) -> list[np.ndarray]:
        """The products of every matrix that reads the tensor, in MATRIX_TYPES order."""
        if hook is not None:
            hook(layer, name, x)
        entering = x if edit is None else edit(layer, name, x)
        if isinstance(entering, Mapping):
            return [w[t](_rounded(entering[t], a.activation_bits)) for t in _READERS[name]]
        shared = _rounded(entering, a.activation_bits)
        return [w[t](shared) for t in _READERS[name]]

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x.reshape(length, count, c.head_dim).swapaxes(0, 1)

    for h in hidden:
        query, key, value = enter("attn_in", rms_norm(h, attn_gain, c.norm_eps))
        q, k = rotate(heads(query, c.heads), *tables), rotate(heads(key, c.kv_heads), *tables)
        v = heads(value, c.kv_heads)
        if a.kv_bits:
            k, v = fake_quantise(k, a.kv_bits), fake_quantise(v, a.kv_bits)
        h += enter("attn_o_in", attention(q, k, np.ascontiguousarray(v), a.activation_bits))[0]
        gate, up = enter("ffn_in", rms_norm(h, ffn_gain, c.norm_eps))
        h += enter("ffn_down_in", silu(gate) * up)[0]


def head_nll(
    x: np.ndarray,
    targets: np.ndarray,
    head: np.ndarray,
    rounded: tuple[np.ndarray, np.ndarray] | None,
    bits: int | None = None,
) -> np.ndarray:
    """-log softmax(head · x)[target] for x [tokens, d_model], over the vocabulary in blocks (running log-sum-exp).
    ``rounded``: the head as ``quantise_rows`` gives it; ``bits``: of x."""
    tokens = np.arange(len(x))
    values, scale = _rounded(x, bits)
    weight, row_scale = rounded if rounded is not None else (head, None)
    top = np.full(len(x), -np.inf)
    total = np.zeros(len(x))
    target_logit = np.empty(len(x))
    for start in range(0, len(head), _VOCAB_BLOCK):
        logits = values @ weight[start : start + _VOCAB_BLOCK].T
        if scale is not None:
            logits *= scale
        if row_scale is not None:
            logits *= row_scale[start : start + _VOCAB_BLOCK, 0]
        inside = (targets >= start) & (targets < start + logits.shape[1])
        target_logit[inside] = logits[tokens[inside], targets[inside] - start]
        block_top = logits.max(axis=1)
        new_top = np.maximum(top, block_top)
        logits -= new_top[:, None].astype(np.float32)
        np.exp(logits, out=logits)
        total = total * np.exp(top - new_top) + logits.sum(axis=1, dtype=np.float32)
        top = new_top
    return top + np.log(total) - target_logit
