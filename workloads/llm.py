"""A language model as a trace: every decoder layer unrolled in execution order, embedding and head around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.trace import Op, Trace
from workloads import zoo
from workloads.checkpoint import ModelConfig
from workloads.shapes import Numerics, SparsityOf, Step, embedding_ops, head_ops, layer_ops, whole


def llm(
    model: str | Path | ModelConfig,
    phase: str = "prefill",
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
    layers: int | None = None,
    *,
    ends: bool | None = None,
    sparsity: SparsityOf | None = None,
    ffn_width: Callable[[int], int | None] | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    kv_bits: int = 8,
    vector_bits: int = 16,
    accumulator_bits: int = 32,
) -> Trace:
    """The trace of one prefill, or of one decode step, of a Llama-like model.

    Args:
        model: a name of ``workloads.zoo``, a path to a Hugging Face ``config.json``, or a ``ModelConfig``.
        phase: "prefill" (``tokens`` a sequence, after ``context`` cached ones, default none) or "decode" (one token a
            sequence, ``context`` cached positions).
        batch: sequences.
        layers: only the first so many decoder layers; ``layers=1`` is one decoder layer by itself.
        ends: whether embedding, final norm, head and argmax are there; default: yes for a whole model (``layers``
            left out), no otherwise. The head sees the last token of each sequence only.
        sparsity: (layer, matrix type) -> ``Profile``, ``Sparsity`` or None; asked for the seven matrices of each layer.
        ffn_width: layer -> FFN channels kept, None for the model's own; default: what the masks' shapes say.
        weight_bits, activation_bits, kv_bits, vector_bits, accumulator_bits: see ``workloads.shapes.Numerics``.

    :class:`InputError` for unknown names, values out of range, and masks that do not fit their matrix.
    Ops, live bytes and what is not charged: ``workloads.shapes``.
    """
    config = zoo.config(model)
    step = Step.of(phase, batch, tokens, context)
    bits = Numerics(weight_bits, activation_bits, kv_bits, vector_bits, accumulator_bits)
    count = config.layers if layers is None else whole("layers", layers, most=config.layers)
    ends = layers is None if ends is None else ends
    new_tokens = step.tokens if phase == "prefill" else None
    ops: list[Op] = embedding_ops(config, step, bits) if ends else []
    for layer in range(count):
        width = ffn_width(layer) if ffn_width else None
        ops += layer_ops(config, layer, phase, step.batch, new_tokens, step.context, bits, width, sparsity)
    if ends:
        ops += head_ops(config, step, bits)
    return Trace.from_ops(ops, _meta(config, step, bits, count, ends))


def _meta(config: ModelConfig, step: Step, bits: Numerics, layers: int, ends: bool) -> dict[str, str | int | bool]:
    work = f"{step.tokens}tokens" if step.phase == "prefill" else f"{step.context}context"
    part = "" if ends and layers == config.layers else f"_{layers}layers"
    return {
        "name": f"{config.name}_{step.phase}_{work}_batch{step.batch}{part}",
        "model": config.name,
        "parameters": zoo.parameters(config),
        "phase": step.phase,
        "batch": step.batch,
        "tokens": step.tokens,
        "context": step.context,
        "layers": layers,
        "ends": ends,
        "numerics": bits.label,
        "attention": "full tokens x positions score matrix, not fused",
    }
