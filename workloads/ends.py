"""Before the first layer and after the last: embedding or patches, final norm, and the head."""

from __future__ import annotations

from sim.trace import Op
from workloads.architecture import Architecture
from workloads.checkpoint import ModelConfig
from workloads.segment import Segment, Work
from workloads.steps import Numerics, Step

_TOKEN_ID_BYTES = 4


def embedding_ops(config: ModelConfig | Architecture, step: Step, bits: Numerics, prefix: str = "") -> list[Op]:
    """The look-up: one row of ``vector_bits`` numbers a token from DRAM becomes the residual stream.

    Learned positions are a second row; a token table of another width is projected; images are patches from DRAM (one
    ``activation_bits`` number a pixel and channel) times a matrix.
    """
    model = Architecture.of(config)
    wide, narrow, rows, d = bits.vector_bits / 8, bits.activation_bits / 8, step.rows, model.d_model
    elements = rows * d
    size = elements * wide
    s = Segment(prefix, -1, bits, {})
    work: list[Work] = [("add", elements, 0)] * (bool(model.positions) + bool(model.token_types))
    if model.embedding_scaled:
        work.append(("mul", elements, 0))
    if model.embedding_norm:
        work.append((model.norm, elements, rows))
    positions = size if model.positions else 0.0
    if model.patches is not None:
        p = model.patches
        count = step.batch * p.count
        pixels = count * p.inputs * narrow
        s.vector("patches", [], {}, {"pixels": pixels}, dram_read_bytes=pixels)
        s.gemm("patch_embedding", count, d, p.inputs, ("pixels",), "e")
        work.append(("add", count * d, 0))
        s.vector("embedding", work, {"e": count * d * wide}, {"x": size}, dram_read_bytes=positions)
    elif model.embedding_width is not None:
        table = rows * model.embedding_width
        lookup: list[Work] = [("quantise", table, rows)]
        s.vector("embedding", lookup, {}, {"e": table * narrow}, dram_read_bytes=table * wide)
        s.gemm("embedding_projection", rows, d, model.embedding_width, ("e",), "t")
        s.vector("position_embedding", work, {"t": size}, {"x": size}, dram_read_bytes=positions)
    else:
        s.vector("embedding", work, {}, {"x": size}, dram_read_bytes=size + positions)
    return s.ops()


def head_ops(config: ModelConfig | Architecture, step: Step, bits: Numerics, prefix: str = "") -> list[Op]:
    """Final norm, head (dense weights) and argmax, for the scored tokens of each sequence (the last one by default).

    Encoders score one token: a pooler (matrix and tanh, no argmax) or a classifier.
    """
    model = Architecture.of(config)
    wide, rows, d = bits.vector_bits / 8, step.scored_rows, model.d_model
    last, stream = rows * d, step.rows * d * wide
    s = Segment(prefix, -1, bits, {"x": stream})
    quantise: list[Work] = [("quantise", last, rows)]
    norm: list[Work] = [(model.norm, last, rows)] if model.final_norm else []
    name = "final_norm" if model.final_norm else "final_quantise"
    s.vector(name, norm + quantise, {"x": last * wide}, {"h": last * bits.activation_bits / 8})
    if model.head == "pooler":
        s.gemm("pooler", rows, d, d, ("h",), "pooled")
        s.vector("pooler_tanh", [("add", last, 0), ("tanh", last, 0)], {"pooled": last * wide}, {"out": last * wide})
        return s.ops()
    width = d
    if model.embedding_width is not None:
        width = model.embedding_width
        s.gemm("head_projection", rows, width, d, ("h",), "t")
        narrowed: list[Work] = [("quantise", rows * width, rows)]
        s.vector("head_quantise", narrowed, {"t": rows * width * wide}, {"h8": rows * width * bits.activation_bits / 8})
    logits = rows * model.vocab
    source = "h" if width == d else "h8"
    s.gemm("lm_head" if model.head == "tokens" else "classifier", rows, model.vocab, width, (source,), "logits")
    work: list[Work] = [("argmax", logits, 0)]
    if model.head_bias:
        work.append(("add", logits, 0))
    if model.logits_softcap:
        work += [("tanh", logits, 0), ("mul", logits, 0)]
    s.vector("argmax", work, {"logits": logits * wide}, {"ids": rows * _TOKEN_ID_BYTES})
    return s.ops()
