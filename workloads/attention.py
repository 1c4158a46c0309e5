"""Attention: projections, rotary embedding and cache, and scores, softmax and values of each block of the score matrix.

Multi-head, grouped-query and multi-query attention differ in ``kv_heads`` alone: the query heads of a group are rows of
one GEMM, so that a key is fetched once for all of them. No fused attention: scores of a block exist at once, and a
causal model's masked part of the block is computed and masked. A sliding window caps the keys (``Sequences.spans``).
Sources: Vaswani et al. 2017, Shazeer 2019 (multi-query), Ainslie et al. 2023 (grouped-query), Beltagy et al. 2020
(sliding window).
"""

from __future__ import annotations

from collections.abc import Iterator

from workloads.layer import Layer
from workloads.segment import Work
from workloads.steps import APPEND, KEEP, RELOAD, Sequences, Span


def attention_ops(layer: Layer, reads: str, writes: str) -> None:
    """From the quantised tensor ``reads`` to the output projection ``writes``."""
    a, bits, ops, rows = layer.model.attention, layer.bits, layer.ops, layer.rows
    narrow, wide = layer.narrow, layer.wide
    for which in "qkv":
        layer.matrix(f"attn_{which}", reads, which)
    groups, dim = layer.step.sequences, a.head_dim
    held = sum(g.rows * a.key * stationary_bits(g, layer) / 8 for g in groups if g.cache != RELOAD)
    appended = appended_rows(layer) * 2 * a.key * bits.kv_bits / 8
    new = {"k8": held, "v8": held} if held else {}
    vectors = rows * (a.heads + 2 * a.kv_heads)
    work: list[Work] = [("quantise", vectors * dim, vectors)]
    if a.qkv_bias:
        work.insert(0, ("add", vectors * dim, 0))
    if a.rotary_dim:
        work.insert(0, ("rotary", rows * (a.heads + a.kv_heads) * a.rotary_dim, 0))
    if a.qk_norm:
        work.insert(0, ("rmsnorm", rows * (a.heads + a.kv_heads) * dim, rows * (a.heads + a.kv_heads)))
    taken = {"q": rows * a.query * wide, "k": rows * a.key * wide, "v": rows * a.key * wide}
    given = {"q8": rows * a.query * narrow, **new}
    name = ("rotary_" if a.rotary_dim else "") + ("kv_append" if appended else "qkv_quantise")
    ops.vector(name, work, taken, given, dram_write_bytes=appended)
    outputs = {}
    for tag, g, span in spans(layer):
        on_chip = g.cache != RELOAD and bool(new)
        kind, fetched = source(g), (span.keys if g.cache == RELOAD else span.cached) * dim
        count, grouped = g.count * a.kv_heads * span.blocks, a.heads // a.kv_heads * span.queries
        k8, v8 = (("k8",), ("v8",)) if on_chip else ((), ())
        ops.gemm(
            "attn_scores" + tag, grouped, span.keys, dim, ("q8", *k8), "scores", count, None, fetched, kind,
            "attn_scores",
        )  # fmt: skip
        softmax(layer, tag, count, grouped, span, g)
        ops.gemm(
            "attn_values" + tag, grouped, dim, span.keys, ("p", *v8), "a" + tag, count, None, fetched, kind,
            "attn_values",
        )  # fmt: skip
        outputs["a" + tag] = count * grouped * dim * wide
    ops.vector("attn_quantise", [("quantise", rows * a.query, rows)], outputs, {"a8": rows * a.query * narrow})
    layer.matrix("attn_output", "a8", writes)


def softmax(layer: Layer, tag: str, count: int, rows: int, span: Span, g: Sequences) -> None:
    """Softmax of ``count`` x ``rows`` x keys scores, with the causal mask and the cap where the model has them."""
    scores = count * rows * span.keys
    work: list[Work] = [("softmax", scores, count * rows), ("causal_mask", scores if g.masked else 0, 0)]
    if layer.model.attention.softcap:
        work += [("tanh", scores, 0), ("mul", scores, 0)]
    layer.ops.vector("softmax" + tag, work, {"scores": scores * layer.wide}, {"p": scores * layer.narrow})


def spans(layer: Layer) -> Iterator[tuple[str, Sequences, Span]]:
    """Blocks of the score matrix of all sequences, with a tag that tells their ops apart where there are several."""
    window = layer.model.attention.window(layer.index)
    found = [(g, span) for g in layer.step.sequences for span in g.spans(window)]
    for i, (g, span) in enumerate(found):
        yield (f"_{i}" if len(found) > 1 else ""), g, span


def source(g: Sequences) -> str:
    """Where keys and values are from: the cache, or only what this pass computed."""
    return "activations" if g.cache == KEEP and g.context == 0 else "kv"


def stationary_bits(g: Sequences, layer: Layer) -> int:
    """Bits of keys and values as they enter a GEMM."""
    return layer.bits.kv_bits if source(g) == "kv" else layer.bits.activation_bits


def appended_rows(layer: Layer) -> int:
    """New positions whose keys and values go to the cache."""
    return sum(g.rows for g in layer.step.sequences if g.cache in (RELOAD, APPEND))
