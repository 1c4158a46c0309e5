"""The operations of a layer as a list of ops: shapes, bytes, and what is alive around each.

Execution order of one Llama-like layer (9 GEMMs, 9 vector ops)::

    attn_norm · attn_q attn_k attn_v · rotary_kv_append · attn_scores softmax attn_values attn_quantise
    attn_output attn_add
    ffn_norm · ffn_gate ffn_up · swiglu ffn_quantise · ffn_down ffn_add

Norms quantise their output to activation bits (a scale per token); ``rotary_kv_append`` rotates q and k, quantises q, k
and v per head and appends k and v to the KV cache in DRAM; ``softmax`` ends in activation bits. All GEMMs leave
``vector_bits`` (their outputs, the residual stream, scores and logits), which is what vector ops read.

- Prefill: M = batch x tokens. Attention is the full tokens x positions score matrix: a causal model's masked half is
  computed and masked, and scores of all heads exist at once (no fused attention). K and V come back from DRAM.
- Decode: M = batch. ``context`` cached positions come from DRAM, exactly 2 kv_heads head_dim context bytes batch a
  layer; the new token's K and V are activations on chip until used (positions = context + 1).

Other families: norms after the parts (post) or on both sides (sandwich), one norm for both parts (parallel), latent
attention, experts, state-space mixers: ``attention``, ``latent_attention``, ``feed_forward``, ``moe``, ``ssm``.

Not charged: quantisation scales (16 bits a head vector would add 3 % to the KV bytes at head_dim 64), norm gains,
biases and rotary tables (on chip).
Sources: Touvron et al. 2023 (LLaMA), Ainslie et al. 2023 (grouped-query attention).
"""

from __future__ import annotations

from collections.abc import Callable

from sim.errors import InputError
from sim.sparsity.profile import Profile
from sim.trace import Op, Sparsity
from workloads.architecture import Architecture, Shape
from workloads.attention import attention_ops
from workloads.checkpoint import ModelConfig
from workloads.ends import embedding_ops, head_ops
from workloads.feed_forward import feed_forward_ops
from workloads.latent_attention import latent_attention_ops
from workloads.layer import Layer, Masks
from workloads.moe import moe_ops
from workloads.routing import Routing
from workloads.segment import Work
from workloads.ssm import ssm_ops
from workloads.steps import PHASES, Numerics, Step, whole

__all__ = [
    "FFN_TYPES", "PHASES", "Numerics", "SparsityOf", "Step", "decoder_layer_ops", "embedding_ops", "head_ops",
    "layer_ops", "whole",
]  # fmt: skip

FFN_TYPES = ("ffn_gate", "ffn_up", "ffn_down")
#: (layer, matrix type) -> zeros of that matrix, None for dense.
SparsityOf = Callable[[int, str], Profile | Sparsity | None]
_UNMASKED = ("moe_router", "shared_router", "attn_kv_b")


def layer_ops(
    config: ModelConfig | Architecture,
    layer: int,
    phase: str,
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
    bits: Numerics | None = None,
    ffn: int | None = None,
    sparsity: SparsityOf | None = None,
) -> list[Op]:
    """The ops of layer ``layer`` (from 0; 18 of a Llama-like one), residual stream in, residual stream out.

    ``ffn``: FFN channels kept in this layer (default: what the masks of gate, up and down agree on, else the model's
    own); gate, up, down and what runs between them shrink with it. :class:`InputError` when a mask's shape is not
    out x in of its matrix.
    """
    step = Step.of(phase, batch, tokens, context)
    return decoder_layer_ops(Architecture.of(config), layer, step, bits or Numerics(), ffn, sparsity)


def decoder_layer_ops(
    model: Architecture,
    layer: int,
    step: Step,
    bits: Numerics,
    ffn: int | None = None,
    sparsity: SparsityOf | None = None,
    routing: Routing | None = None,
    prefix: str = "",
) -> list[Op]:
    """As :func:`layer_ops` for any step; ``prefix`` of the ops' names, ``routing`` of a mixture of experts.

    ``sparsity`` is asked for every matrix of the layer but routers and latent attention's ``attn_kv_b``; what it says
    of an expert's matrix stands for all experts.
    """
    kinds = [t for t in model.matrices(layer) if not t.startswith(_UNMASKED)]
    masks = {t: sparsity(layer, t) if sparsity else None for t in kinds}
    model = _narrowed(model, layer, ffn, masks)
    found = Layer(model, layer, step, bits, masks, prefix)
    _check_shapes(found.shapes, layer, masks)
    _MIXED[model.placement](found, routing or Routing()) if model.ssm is None else _state_space(found)
    return found.ops.ops()


def _mixer(layer: Layer, reads: str, writes: str) -> None:
    chosen = latent_attention_ops if layer.model.attention.latent else attention_ops
    chosen(layer, reads, writes)


def _ffn(layer: Layer, reads: str, writes: str, routing: Routing) -> None:
    if layer.model.routed(layer.index):
        moe_ops(layer, reads, writes, routing)
    else:
        feed_forward_ops(layer, (reads,), writes)


def _adds(layer: Layer, biased: bool) -> list[Work]:
    return [("add", layer.residual, 0)] * (1 + biased)


def _pre(layer: Layer, routing: Routing) -> None:
    """Norm before each part; after it too (sandwich); or one norm before both (parallel)."""
    model = layer.model
    layer.norm("attn_norm", "x", "h")
    _mixer(layer, "h", "o")
    attn, ffn = model.attention.output_bias, bool(model.ffn.bias and not model.routed(layer.index))
    if model.parallel:
        _ffn(layer, "h", "d", routing)
        layer.plain("ffn_add", _adds(layer, attn) + _adds(layer, ffn), ("x", "o", "d"), "z")
        return
    o, d = "o", "d"
    if model.placement == "sandwich":
        layer.plain("attn_post_norm", [(model.norm, layer.residual, layer.rows)], ("o",), "on")
        o = "on"
    layer.plain("attn_add", _adds(layer, attn), ("x", o), "y")
    layer.norm("ffn_norm", "y", "f")
    _ffn(layer, "f", "d", routing)
    if model.placement == "sandwich":
        layer.plain("ffn_post_norm", [(model.norm, layer.residual, layer.rows)], ("d",), "dn")
        d = "dn"
    layer.plain("ffn_add", _adds(layer, ffn), ("y", d), "z")


def _post(layer: Layer, routing: Routing) -> None:
    """Norm after each residual addition (Vaswani et al. 2017); what enters a GEMM is quantised on its own."""
    model, size = layer.model, layer.residual * layer.wide
    quantise: list[Work] = [("quantise", layer.residual, layer.rows)]
    norm: list[Work] = [(model.norm, layer.residual, layer.rows)]
    narrow = layer.residual * layer.narrow
    layer.ops.vector("attn_in_quantise", quantise, {"x": size}, {"h": narrow})
    _mixer(layer, "h", "o")
    layer.plain("attn_add", _adds(layer, model.attention.output_bias), ("x", "o"), "y")
    layer.ops.vector("attn_norm", norm + quantise, {"y": size}, {"n": size, "f": narrow})
    _ffn(layer, "f", "d", routing)
    layer.plain("ffn_add", _adds(layer, model.ffn.bias), ("n", "d"), "w")
    layer.plain("ffn_norm", norm, ("w",), "z")


_MIXED = {"pre": _pre, "sandwich": _pre, "post": _post}


def _state_space(layer: Layer) -> None:
    layer.norm("ssm_norm", "x", "h")
    ssm_ops(layer, "h", "o")
    layer.plain("ssm_add", _adds(layer, False), ("x", "o"), "z")


def _shape_of(given: Profile | Sparsity | None) -> tuple[int, ...] | None:
    if isinstance(given, Profile):
        return tuple(given.shape)
    return None if given is None or given.mask is None else tuple(given.mask.shape)


def _narrowed(model: Architecture, layer: int, ffn: int | None, masks: Masks) -> Architecture:
    """``model`` with the feed-forward width that was asked for, or that the masks of this layer agree on."""
    if model.ffn is None or model.routed(layer):
        if ffn is not None:
            raise InputError(f"layer {layer}: no dense feed-forward part in {model.name}; leave ffn_width out here")
        return model
    if ffn is not None:
        return model.with_ffn(whole(f"layer {layer}: ffn width", ffn, most=model.ffn.width))
    width = _shown_width(model, layer, masks)
    return model if width is None else model.with_ffn(width)


def _shown_width(model: Architecture, layer: int, masks: Masks) -> int | None:
    """The feed-forward width that the masks of all its matrices agree on, when it is narrower than the model's."""
    own = {t: shape for t, shape in model.matrices(layer).items() if t in FFN_TYPES}
    given = {t: _shape_of(masks.get(t)) for t in own}
    found = next((s[1] if t == "ffn_down" else s[0] for t, s in given.items() if s is not None), model.ffn.width)
    if not 0 < found < model.ffn.width:
        return None
    narrow = model.with_ffn(found).matrices(layer)
    return found if all(given[t] == narrow[t] for t in own) else None


def _check_shapes(shapes: dict[str, Shape], layer: int, masks: Masks) -> None:
    for matrix_type, given in masks.items():
        found, expected = _shape_of(given), shapes[matrix_type]
        if found in (None, expected):
            continue
        if found == expected[::-1]:
            hint = "masks are out x in: transpose it"
        elif matrix_type in FFN_TYPES:
            hint = "to cut channels, narrow the masks of all its feed-forward matrices alike, or give ffn_width"
        else:
            hint = "masks are out x in"
        found_text, expected_text = (" x ".join(map(str, shape)) for shape in (found, expected))
        raise InputError(f"layer {layer}.{matrix_type}: mask is {found_text}, the model's is {expected_text}; {hint}")
