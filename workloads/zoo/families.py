"""From the fields of a Hugging Face ``config.json`` to an architecture: one function a model family (``model_type``).

What a family's modelling code fixes and its config leaves out (biases, norms, gating) is stated here, from memory of
that code; the parameter counts of the zoo's models check it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from sim.errors import InputError, nearest
from workloads.architecture import Architecture, Attention, Experts, FeedForward, Latent, Patches, StateSpace
from workloads.zoo.fields import Fields

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu", "relu": "relu",
}  # fmt: skip


def architecture_of(f: Fields, name: str) -> Architecture:
    """The architecture that a config describes; :class:`InputError` for an unknown ``model_type`` or bad fields."""
    family = str(f.values.get("model_type", "llama"))
    if family not in FAMILIES:
        raise InputError(f"{f.where}: model_type {family!r} is unknown, {nearest(family, FAMILIES)}")
    return FAMILIES[family](f, name)


def _attention(f: Fields, qkv_bias: bool = False, output_bias: bool = False, **more: object) -> Attention:
    d, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    if "head_dim" not in f and d % heads:
        raise InputError(f"{f.where}: hidden_size {d} is no multiple of num_attention_heads {heads}; give head_dim")
    kv_heads, dim = f.whole("num_key_value_heads", heads), f.whole("head_dim", d // heads)
    if heads % kv_heads:
        raise InputError(f"{f.where}: num_attention_heads {heads} must be a multiple of num_key_value_heads {kv_heads}")
    rotary = round(dim * f.real("partial_rotary_factor", 1.0))
    if rotary % 2:
        raise InputError(f"{f.where}: head_dim must be even (rotary pairs), got {dim}")
    return Attention(heads, kv_heads, dim, rotary, qkv_bias, output_bias, windows=_windows(f), **more)


def _windows(f: Fields) -> tuple[int | None, ...]:
    """Window of each layer: ``layer_types`` decides, else ``sliding_window_pattern`` p (every p-th layer sees all).

    Newer exports write the pattern with an underscore in front.
    """
    window, layers = f.optional("sliding_window"), f.whole("num_hidden_layers")
    if window is None or not f.flag("use_sliding_window", True):
        return ()
    kinds = f.values.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise InputError(f"{f.where}: layer_types must name each of {layers} layers")
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    pattern = f.whole("_sliding_window_pattern", f.whole("sliding_window_pattern", 0, least=0), least=0)
    return tuple(None if pattern and (i + 1) % pattern == 0 else window for i in range(layers))


def _decoder(f: Fields, name: str, attention: Attention, **more: object) -> Architecture:
    act = f.choice("hidden_activation" if "hidden_activation" in f else "hidden_act", "silu", ACTIVATIONS)
    ffn = FeedForward(f.whole("intermediate_size"), act, bias=f.flag("mlp_bias", False))
    fields = {"ffn": ffn, "tied": f.flag("tie_word_embeddings", False), **more}
    return Architecture(
        name, f.whole("num_hidden_layers"), f.whole("hidden_size"), f.whole("vocab_size"), attention, **fields
    )


def _llama(f: Fields, name: str) -> Architecture:
    f.refuse("num_local_experts")
    bias = f.flag("attention_bias", False)
    return _decoder(f, name, _attention(f, bias, bias))


def _qwen2(f: Fields, name: str) -> Architecture:
    f = Fields({"use_sliding_window": False, **f.values}, f.where)
    return _decoder(f, name, _attention(f, qkv_bias=True))


def _qwen3(f: Fields, name: str) -> Architecture:
    f = Fields({"use_sliding_window": False, **f.values}, f.where)
    bias = f.flag("attention_bias", False)
    return _decoder(f, name, _attention(f, bias, bias, qk_norm=True))


def _gemma(f: Fields, name: str) -> Architecture:
    f = Fields({"hidden_act": "gelu", "tie_word_embeddings": True, **f.values}, f.where)
    return _decoder(f, name, _attention(f), embedding_scaled=True)


def _gemma2(f: Fields, name: str) -> Architecture:
    defaults = {"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "sliding_window_pattern": 2}
    f = Fields({**defaults, **f.values}, f.where)
    attention = _attention(f, softcap="attn_logit_softcapping" in f)
    cap = "final_logit_softcapping" in f
    return _decoder(f, name, attention, embedding_scaled=True, placement="sandwich", logits_softcap=cap)


def _gemma3(f: Fields, name: str) -> Architecture:
    defaults = {"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "sliding_window_pattern": 6}
    f = Fields({**defaults, **f.values}, f.where)
    return _decoder(f, name, _attention(f, qk_norm=True), embedding_scaled=True, placement="sandwich")


def _phi(f: Fields, name: str) -> Architecture:
    f = Fields({"partial_rotary_factor": 0.5, "hidden_act": "gelu_new", **f.values}, f.where)
    ffn = FeedForward(f.whole("intermediate_size"), f.choice("hidden_act", "gelu_new", ACTIVATIONS), False, True)
    return _decoder(f, name, _attention(f, True, True), ffn=ffn, norm="layernorm", parallel=True, head_bias=True)


def _gpt2(f: Fields, name: str) -> Architecture:
    d, heads, n = f.whole("n_embd"), f.whole("n_head"), f.whole("n_layer")
    if d % heads:
        raise InputError(f"{f.where}: n_embd {d} is no multiple of n_head {heads}")
    act = f.choice("activation_function", "gelu_new", ACTIVATIONS)
    ffn = FeedForward(f.whole("n_inner", 4 * d), act, False, True)
    attention = Attention(heads, heads, d // heads, 0, True, True)
    positions = f.whole("n_positions", 1024)
    return Architecture(
        name, n, d, f.whole("vocab_size"), attention, ffn, norm="layernorm", tied=True, positions=positions
    )


def _opt(f: Fields, name: str) -> Architecture:
    before = f.flag("do_layer_norm_before", True)
    d = f.whole("hidden_size")
    act = f.choice("activation_function", "relu", ACTIVATIONS)
    attention = _attention(f, True, True)
    attention = Attention(attention.heads, attention.kv_heads, attention.head_dim, 0, True, True)
    width = f.whole("word_embed_proj_dim", d)
    return Architecture(
        name, f.whole("num_hidden_layers"), d, f.whole("vocab_size"), attention,
        FeedForward(f.whole("ffn_dim"), act, False, True), norm="layernorm", placement="pre" if before else "post",
        tied=f.flag("tie_word_embeddings", True), positions=f.whole("max_position_embeddings") + 2,
        embedding_width=None if width == d else width, final_norm=before,
    )  # fmt: skip


def _mixtral(f: Fields, name: str) -> Architecture:
    moe = Experts(f.whole("num_local_experts"), f.whole("num_experts_per_tok", 2), f.whole("intermediate_size"))
    return _decoder(f, name, _attention(f), moe=moe)


def _qwen2_moe(f: Fields, name: str) -> Architecture:
    return _with_qwen_experts(f, _qwen2(f, name), f.whole("shared_expert_intermediate_size"))


def _qwen3_moe(f: Fields, name: str) -> Architecture:
    return _with_qwen_experts(f, _qwen3(f, name), 0)


def _with_qwen_experts(f: Fields, dense: Architecture, shared: int) -> Architecture:
    if f.values.get("mlp_only_layers") or f.whole("decoder_sparse_step", 1) != 1:
        raise InputError(f"{f.where}: only models with experts in every layer are read")
    moe = Experts(
        f.whole("num_experts"), f.whole("num_experts_per_tok"), f.whole("moe_intermediate_size"), shared, shared > 0
    )
    return Architecture(**{**vars(dense), "moe": moe})


def _deepseek(f: Fields, name: str) -> Architecture:
    return _decoder(f, name, _attention(f), moe=_deepseek_experts(f, router_bias=False))


def _deepseek_mla(router_bias: bool) -> Callable[[Fields, str], Architecture]:
    def build(f: Fields, name: str) -> Architecture:
        heads = f.whole("num_attention_heads")
        latent = Latent(
            f.whole("kv_lora_rank"),
            f.whole("qk_rope_head_dim"),
            f.whole("qk_nope_head_dim"),
            f.whole("v_head_dim"),
            f.optional("q_lora_rank"),
        )
        attention = Attention(heads, heads, latent.key_dim, latent.rope_dim, latent=latent)
        return _decoder(f, name, attention, moe=_deepseek_experts(f, router_bias))

    return build


def _deepseek_experts(f: Fields, router_bias: bool) -> Experts | None:
    if "n_routed_experts" not in f:
        return None
    if f.whole("moe_layer_freq", 1) != 1:
        raise InputError(f"{f.where}: moe_layer_freq must be 1, got {f.values['moe_layer_freq']}")
    width, shared = f.whole("moe_intermediate_size"), f.whole("n_shared_experts", 0, least=0)
    dense = f.whole("first_k_dense_replace", 0, least=0)
    return Experts(
        f.whole("n_routed_experts"), f.whole("num_experts_per_tok"), width, shared * width, False, router_bias, dense
    )


def _mamba(f: Fields, name: str) -> Architecture:
    d = f.whole("hidden_size")
    inner = f.whole("expand", 2) * d
    rank = ceil(d / 16) if f.values.get("time_step_rank", "auto") == "auto" else f.whole("time_step_rank")
    ssm = StateSpace(1, inner, f.whole("state_size", 16), f.whole("conv_kernel", 4), rank)
    return _state_space(f, name, ssm)


def _mamba2(f: Fields, name: str) -> Architecture:
    inner = f.whole("expand", 2) * f.whole("hidden_size")
    heads = f.whole("num_heads", inner // f.whole("head_dim", 64))
    if inner % heads:
        raise InputError(f"{f.where}: num_heads {heads} must divide the {inner} inner channels")
    groups, chunk = f.whole("n_groups", 1), f.whole("chunk_size", 256)
    ssm = StateSpace(2, inner, f.whole("state_size", 128), f.whole("conv_kernel", 4), 0, heads, groups, chunk)
    return _state_space(f, name, ssm)


def _state_space(f: Fields, name: str, ssm: StateSpace) -> Architecture:
    f.refuse("use_bias")
    tied = f.flag("tie_word_embeddings", True)
    return Architecture(
        name, f.whole("num_hidden_layers"), f.whole("hidden_size"), f.whole("vocab_size"), ssm=ssm, tied=tied
    )


def _bert(f: Fields, name: str) -> Architecture:
    plain = _attention(f)
    attention = Attention(plain.heads, plain.heads, plain.head_dim, 0, True, True)
    ffn = FeedForward(f.whole("intermediate_size"), f.choice("hidden_act", "gelu", ACTIVATIONS), False, True)
    return Architecture(
        name, f.whole("num_hidden_layers"), f.whole("hidden_size"), f.whole("vocab_size"), attention, ffn,
        norm="layernorm", placement="post", head="pooler", encoder=True, positions=f.whole("max_position_embeddings"),
        token_types=f.whole("type_vocab_size", 2), embedding_norm=True, final_norm=False,
    )  # fmt: skip


def _vit(f: Fields, name: str) -> Architecture:
    plain = _attention(f)
    attention = Attention(plain.heads, plain.heads, plain.head_dim, 0, True, True)
    ffn = FeedForward(f.whole("intermediate_size"), f.choice("hidden_act", "gelu", ACTIVATIONS), False, True)
    patches = Patches(f.whole("patch_size", 16), f.whole("num_channels", 3), f.whole("image_size", 224))
    return Architecture(
        name, f.whole("num_hidden_layers"), f.whole("hidden_size"), f.whole("num_labels", 1000), attention, ffn,
        norm="layernorm", head="classes", head_bias=True, encoder=True, positions=patches.count + 1, patches=patches,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[Fields, str], Architecture]] = {
    "llama": _llama, "mistral": _llama, "phi3": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "gemma": _gemma,
    "gemma2": _gemma2, "gemma3_text": _gemma3, "phi": _phi, "gpt2": _gpt2, "opt": _opt, "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe, "qwen3_moe": _qwen3_moe, "deepseek": _deepseek, "deepseek_v2": _deepseek_mla(False),
    "deepseek_v3": _deepseek_mla(True), "mamba": _mamba, "mamba2": _mamba2, "bert": _bert, "vit": _vit,
}  # fmt: skip
