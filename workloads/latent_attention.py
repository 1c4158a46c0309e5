"""Multi-head latent attention: a cache of one latent and one rotary key a position, shared by all heads.

- Prefill expands: ``attn_kv_b`` makes keys and values of every head for all positions seen (cached latents come back
  from DRAM first); they pass through DRAM at activation bits, as keys and values of a prefill do.
- Decode and verification absorb ``attn_kv_b`` into queries and outputs (a head's half each, as a GEMM a head), so that
  scores and values use the latents themselves. The latents are fetched once: the values are a part of what the scores
  have read, as in fused kernels for this attention (stand-in: from memory of FlashMLA).

MACs of the two halves are those of ``attn_kv_b`` on the new rows; the score matrix is wider instead (``kv_rank +
rope_dim`` for ``nope_dim + rope_dim``). Source: DeepSeek-AI 2024 (DeepSeek-V2, arXiv:2405.04434), section 2.1.
"""

from __future__ import annotations

from workloads.attention import appended_rows, softmax, spans
from workloads.layer import Layer
from workloads.segment import Work
from workloads.steps import APPEND, Sequences, Span


def latent_attention_ops(layer: Layer, reads: str, writes: str) -> None:
    """From the quantised tensor ``reads`` to the output projection ``writes``."""
    a, t, ops, rows = layer.model.attention, layer.model.attention.latent, layer.ops, layer.rows
    wide, narrow, kv = layer.wide, layer.narrow, layer.bits.kv_bits / 8
    if t.q_rank is None:
        layer.matrix("attn_q", reads, "q")
    else:
        layer.matrix("attn_q_a", reads, "qa")
        elements = rows * t.q_rank
        norm: list[Work] = [("rmsnorm", elements, rows), ("quantise", elements, rows)]
        ops.vector("attn_q_norm", norm, {"qa": elements * wide}, {"qa8": elements * narrow})
        layer.matrix("attn_q_b", "qa8", "q")
    layer.matrix("attn_kv_a", reads, "c")
    work: list[Work] = [
        ("rmsnorm", rows * t.kv_rank, rows),
        ("rotary", rows * (a.heads + 1) * t.rope_dim, 0),
        ("quantise", rows * (a.query + t.cached), rows * (a.heads + 1)),
    ]
    taken = {"q": rows * a.query * wide, "c": rows * t.cached * wide}
    given = {"q8": rows * a.query * narrow, "c8": rows * t.cached * kv}
    ops.vector("latent_kv_append", work, taken, given, dram_write_bytes=appended_rows(layer) * t.cached * kv)
    outputs = {}
    for tag, g, span in spans(layer):
        (_absorbed if g.cache == APPEND else _expanded)(layer, tag, g, span)
        outputs["a" + tag] = g.rows * a.heads * t.value_dim * wide
    values = rows * a.heads * t.value_dim
    ops.vector("attn_quantise", [("quantise", values, rows)], outputs, {"a8": values * narrow})
    layer.matrix("attn_output", "a8", writes)


def _absorbed(layer: Layer, tag: str, g: Sequences, span: Span) -> None:
    a, t, ops = layer.model.attention, layer.model.attention.latent, layer.ops
    latent = g.rows * a.heads * t.kv_rank
    quantise: list[Work] = [("quantise", latent, g.rows * a.heads)]

    def half(name: str, n: int, k: int, reads: str, writes: str) -> None:
        ops.gemm(name + tag, g.rows, n, k, (reads,), writes, batch=a.heads, matrix_type="attn_kv_b")

    half("attn_absorb_k", t.kv_rank, t.nope_dim, "q8", "ql")
    ops.vector("latent_q_quantise" + tag, quantise, {"ql": latent * layer.wide}, {"ql8": latent * layer.narrow})
    grouped, fetched = a.heads * span.queries, span.cached * t.cached
    ops.gemm(
        "attn_scores" + tag, grouped, span.keys, t.cached, ("ql8", "q8", "c8"), "scores", g.count, None, fetched, "kv",
        "attn_scores",
    )  # fmt: skip
    softmax(layer, tag, g.count, grouped, span, g)
    ops.gemm(
        "attn_values" + tag, grouped, t.kv_rank, span.keys, ("p", "c8"), "al", g.count, None, 0, "kv", "attn_values"
    )
    ops.vector("latent_a_quantise" + tag, quantise, {"al": latent * layer.wide}, {"al8": latent * layer.narrow})
    half("attn_absorb_v", t.value_dim, t.kv_rank, "al8", "a" + tag)


def _expanded(layer: Layer, tag: str, g: Sequences, span: Span) -> None:
    a, t, ops = layer.model.attention, layer.model.attention.latent, layer.ops
    reads = ["c8"]
    if span.cached:
        size = g.count * span.cached * t.cached * layer.bits.kv_bits / 8
        ops.vector("latent_fetch" + tag, [], {}, {"cc": size}, dram_read_bytes=size)
        reads.append("cc")
    positions, n = g.count * span.keys, a.heads * (t.nope_dim + t.value_dim)
    ops.gemm("attn_kv_b" + tag, positions, n, t.kv_rank, reads, "kv", matrix_type="attn_kv_b")
    scratch = positions * a.heads * (t.key_dim + t.value_dim) * layer.narrow
    quantise: list[Work] = [("quantise", positions * n, 2 * positions * a.heads)]
    ops.vector("latent_expand" + tag, quantise, {"kv": positions * n * layer.wide}, {}, dram_write_bytes=scratch)
    count = g.count * a.heads
    ops.gemm(
        "attn_scores" + tag, span.queries, span.keys, t.key_dim, ("q8",), "scores", count, None,
        span.keys * t.key_dim, "activations", "attn_scores",
    )  # fmt: skip
    softmax(layer, tag, count, span.queries, span, g)
    ops.gemm(
        "attn_values" + tag, span.queries, t.value_dim, span.keys, ("p",), "a" + tag, count, None,
        span.keys * t.value_dim, "activations", "attn_values",
    )  # fmt: skip
