"""A language model as a trace: every layer unrolled in execution order, embedding and head around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.errors import InputError
from sim.trace import Op, Trace
from workloads import zoo
from workloads.architecture import Architecture
from workloads.checkpoint import ModelConfig
from workloads.factored import FactoredOf, factor, told_apart
from workloads.own_masks import checked
from workloads.parameters import active_parameters, parameters
from workloads.phases import Pass, Plan, plan
from workloads.routing import Routing, expected_hit, loads
from workloads.shapes import Numerics, decoder_layer_ops, embedding_ops, head_ops, whole


def llm(
    model: str | Path | ModelConfig | Architecture,
    phase: str = "prefill",
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
    layers: int | None = None,
    *,
    ends: bool | None = None,
    sparsity: FactoredOf | None = None,
    ffn_width: Callable[[int], int | None] | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    kv_bits: int = 8,
    vector_bits: int = 16,
    accumulator_bits: int = 32,
    kv_kept: float = 1.0,
    chunk: int | None = None,
    new_tokens: int | None = None,
    decode_samples: int | str | None = None,
    mix: Sequence[tuple[int, int, int]] | None = None,
    draft: str | Path | ModelConfig | Architecture | None = None,
    gamma: int | None = None,
    acceptance: float | None = None,
    steps: int | None = None,
    block: int | None = None,
    routing: Routing | Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of one phase of a model (``docs/models.md`` has an example of each; ``workloads.phases`` says how).

    Args:
        model: a name of ``workloads.zoo``, a path to a Hugging Face ``config.json`` or to its folder, a
            ``ModelConfig`` or an ``Architecture``.
        phase: "prefill" (``tokens`` a sequence, after ``context`` cached ones, default none), "decode" (one token a
            sequence, ``context`` cached positions), "request", "mixed", "speculative", "diffusion" or "encode".
        batch: sequences (of images: images).
        layers: only the first so many layers; ``layers=1`` is one layer by itself.
        ends: whether embedding, final norm, head and argmax are there; default: yes for a whole model (``layers``
            left out), no otherwise. The head sees the last token of each sequence only, in verification all of them,
            in diffusion all that are generated.
        sparsity: (layer, matrix type) -> ``Profile``, ``Sparsity``, ``workloads.factored.Factored`` or None; asked for
            the seven matrices of each layer of a Llama-like model, in others for what
            ``workloads.shapes.decoder_layer_ops`` says. Masks are out x in, of bool or of 0 and 1 (1: kept).
        ffn_width: layer -> FFN channels kept, None for the model's own; default: where the masks of gate, up and down
            are all narrower alike, their width.
        weight_bits, activation_bits, kv_bits, vector_bits, accumulator_bits: see ``workloads.steps.Numerics``.
        kv_kept: share of the cached positions that attention still fetches and sees (rounded up).
        chunk: tokens of a prefill chunk (prefill, request).
        new_tokens: tokens a request generates. decode_samples: runs its decode steps are integrated in (default 8), or
            "all" for every step.
        mix: (sequences, new tokens, cached positions) of the sequences that share a mixed pass.
        draft, gamma, acceptance: the draft model, tokens it guesses a round, the chance that one is accepted
            (speculative; ``meta["expected_tokens"]`` is what a round yields; the draft's layers are numbered after the
            model's).
        steps, block: denoising passes and block length (diffusion).
        routing: how tokens fall to experts, see ``workloads.routing.Routing``; a mapping of its fields will do.

    :class:`InputError` for unknown names, values out of range, and masks that do not fit their matrix.
    Ops, live bytes and what is not charged: ``workloads.shapes``.
    """
    if ffn_width is not None and not callable(ffn_width):
        raise InputError(f"ffn_width must be a function layer -> channels kept (or None), got {ffn_width!r}")
    sparsity = None if sparsity is None else checked(sparsity)
    target = zoo.architecture(model)
    if target.patches is not None and phase == "encode" and tokens is None:
        tokens = target.positions
    found = plan(
        phase, batch, kv_kept, tokens=tokens, context=context, chunk=chunk, new_tokens=new_tokens,
        decode_samples=decode_samples, mix=mix, gamma=gamma, acceptance=acceptance, steps=steps, block=block,
    )  # fmt: skip
    bits = Numerics(weight_bits, activation_bits, kv_bits, vector_bits, accumulator_bits)
    count = target.layers if layers is None else whole("layers", layers, most=target.layers)
    ends = layers is None if ends is None else ends
    chosen, drafting = Routing.of(routing), _draft(phase, draft)
    _check(target, phase, [p for p in found.passes if not p.draft], kv_kept)
    if drafting is not None:
        _check(drafting, phase, [p for p in found.passes if p.draft], kv_kept)
    ops: list[Op] = []
    for item in found.passes:
        if item.draft:
            guessed = _pass_ops(drafting, item, bits, min(count, drafting.layers), ends, None, None, chosen)
            ops += _numbered(guessed, target.layers)
        else:
            ops += _pass_ops(target, item, bits, count, ends, sparsity, ffn_width, chosen)
    return Trace.from_ops(ops, _meta(target, found, bits, count, ends) | _about(target, drafting, found, chosen))


def _pass_ops(
    model: Architecture,
    item: Pass,
    bits: Numerics,
    layers: int,
    ends: bool,
    sparsity: FactoredOf | None,
    ffn_width: Callable[[int], int | None] | None,
    routing: Routing,
) -> list[Op]:
    ops = embedding_ops(model, item.step, bits, item.label) if ends else []
    zeros, factored = told_apart(sparsity) if sparsity else (None, {})
    for layer in range(layers):
        width = ffn_width(layer) if ffn_width else None
        whole_ops = decoder_layer_ops(model, layer, item.step, bits, width, zeros, routing, item.label)
        ops += factor(whole_ops, factored, bits)
    if ends and item.head:
        ops += head_ops(model, item.step, bits, item.label)
    if item.repeats == 1:
        return ops
    return [replace(op, numbers={**op.numbers, "repeats": item.repeats}) for op in ops]


def _numbered(ops: list[Op], first: int) -> list[Op]:
    """The draft model's layers are numbered after the model's own, so that the two are never taken for one layer."""
    layers = [int(op.numbers["layer"]) for op in ops]
    return [
        op if layer < 0 else replace(op, numbers={**op.numbers, "layer": first + layer})
        for op, layer in zip(ops, layers, strict=True)
    ]


def _draft(phase: str, draft: str | Path | ModelConfig | Architecture | None) -> Architecture | None:
    if phase != "speculative":
        if draft is not None:
            raise InputError(f"draft is not for {phase}, only for speculative")
        return None
    if draft is None:
        raise InputError("speculative needs draft: the model that guesses")
    return zoo.architecture(draft)


def _check(model: Architecture, phase: str, passes: Sequence[Pass], kept: float) -> None:
    """:class:`InputError` when the model cannot run its passes of the phase."""
    if model.encoder != (phase == "encode"):
        kind, fit = ("an encoder", "encode") if model.encoder else ("no encoder", "any phase but encode")
        raise InputError(f"{model.name} is {kind}: phase must be {fit}, got {phase}")
    if model.attention is None and phase == "diffusion":
        raise InputError(f"{model.name} has no attention: a bidirectional pass is not defined")
    if model.attention is None and kept != 1.0:
        raise InputError(f"{model.name} has no KV cache: leave kv_kept out")
    longest = max(s.context + s.tokens for p in passes for s in p.step.sequences)
    if model.patches is not None and longest != model.positions:
        raise InputError(f"{model.name}: an image is {model.positions} tokens, got {longest}")
    if model.positions and longest > model.positions:
        raise InputError(f"{model.name} has {model.positions} learned positions, got {longest}")


def _meta(model: Architecture, found: Plan, bits: Numerics, layers: int, ends: bool) -> dict[str, Any]:
    part = "" if ends and layers == model.layers else f"_{layers}layers"
    step = found.step
    return {
        "name": f"{model.name}_{step.phase}_{found.work}_batch{step.batch}{part}",
        "model": model.name,
        "parameters": parameters(model),
        "phase": step.phase,
        "batch": step.batch,
        "tokens": step.tokens,
        "context": step.context,
        "layers": layers,
        "ends": ends,
        "numerics": bits.label,
        "attention": "full tokens x positions score matrix, not fused" if model.attention else "none",
    }


def _about(model: Architecture, draft: Architecture | None, found: Plan, routing: Routing) -> dict[str, Any]:
    """What only some phases and models have to say."""
    about = dict(found.about)
    if draft is not None:
        about |= {"draft": draft.name, "draft_parameters": parameters(draft)}
    if model.moe is None:
        return about
    rows = max(p.step.rows for p in found.passes if not p.draft)
    each = loads(model.moe, rows, routing, model.moe.first_dense)
    return about | {
        "active_parameters": active_parameters(model),
        "experts_expected": expected_hit(model.moe, rows, routing.skew),
        "experts_hit": len(each),
        "expert_tokens_busiest": int(each[0]),
        "expert_tokens_mean": rows * model.moe.top_k / len(each),
        "expert_offloaded": routing.offloaded,
    }
