"""``config.json`` of Hugging Face models: dimensions under their several names, and what the forward pass lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.errors import InputError, nearest
from workloads.checkpoint.contents import check_dimensions
from workloads.checkpoint.model import ModelConfig

#: Model types that are the decoder of ``workloads.transformer`` unless a field below says otherwise.
RUNNABLE = ("llama", "mistral")
_ROPE = ("default", "linear", "llama3")


def dimensions(fields: Mapping[str, Any], name: str, where: str) -> ModelConfig:
    """The dimensions that ``config.json`` states; InputError naming the field that is missing, wrong or unsupported."""
    for key in ("num_local_experts", "num_experts", "n_routed_experts"):
        if fields.get(key):
            raise InputError(f"{where}: {key} {str(fields[key])[:20]}: a mixture of experts; only dense ones are read")
    if fields.get("quantization_config"):
        raise InputError(f"{where}: quantization_config: quantised weights are read from GGUF alone")

    def whole(*keys: str, default: int | None = None) -> int:
        value = next((fields[key] for key in keys if fields.get(key) is not None), default)
        if value is None:
            raise InputError(f"{where}: field '{keys[0]}' is missing, {nearest(keys[0], list(fields)[:100])}")
        if type(value) is not int or not 1 <= value < 1 << 31:
            raise InputError(f"{where}: {keys[0]} must be an integer in 1..2^31 - 1, got {str(value)[:80]}")
        return value

    def real(value: Any, key: str, default: float) -> float:
        value = default if value is None else value
        if type(value) not in (int, float) or not 0 < value < 1e18:
            raise InputError(f"{where}: {key} must be a number > 0, got {str(value)[:80]}")
        return float(value)

    d_model, heads = whole("hidden_size", "n_embd"), whole("num_attention_heads", "n_head")
    if fields.get("head_dim") is None and d_model % heads:
        raise InputError(f"{where}: hidden_size {d_model} is no multiple of num_attention_heads {heads}; give head_dim")
    rope = _rope(fields)
    config = ModelConfig(
        name=name,
        layers=whole("num_hidden_layers", "n_layer"),
        d_model=d_model,
        ffn=whole("intermediate_size", "ffn_dim", "n_inner", default=4 * d_model if "n_embd" in fields else None),
        heads=heads,
        kv_heads=whole("num_key_value_heads", default=heads),
        head_dim=whole("head_dim", default=d_model // heads),
        vocab=whole("vocab_size"),
        rope_theta=real(fields.get("rope_theta", rope.get("rope_theta")), "rope_theta", 10000.0),
        norm_eps=real(fields.get("rms_norm_eps"), "rms_norm_eps", 1e-6),
        tied_embeddings=fields.get("tie_word_embeddings", False) is True,
    )
    check_dimensions(config, where)
    return config


def forward_gap(fields: Mapping[str, Any]) -> str:
    """What in ``config.json`` the NumPy forward pass does not compute; empty when it computes it all."""
    family = fields.get("model_type", "llama")
    if family not in RUNNABLE:
        return f"model_type {str(family)[:40]!r} is not run, only {' and '.join(RUNNABLE)}"
    if fields.get("hidden_act", "silu") != "silu":
        return f"hidden_act {str(fields['hidden_act'])[:40]!r} is not run, only silu"
    if fields.get("sliding_window"):
        return f"sliding_window {str(fields['sliding_window'])[:20]} is not run, only full attention"
    kind = _rope_kind(_rope(fields))
    if kind not in _ROPE:
        return f"rotary scaling {kind[:40]!r} is not supported, only {', '.join(_ROPE[1:])}"
    return ""


def rope_divisors(fields: Mapping[str, Any], config: ModelConfig, where: str) -> np.ndarray | None:
    """Divisors of the rotary frequencies [head_dim / 2], None when they are not scaled.

    ``llama3``: frequencies of wavelengths above original length / low_freq_factor are divided by ``factor``, below
    original length / high_freq_factor left alone, between them mixed (transformers, modeling_rope_utils.py,
    ``_compute_llama3_parameters``). ``linear``: all are divided.
    """
    rope = _rope(fields)
    kind = _rope_kind(rope)
    if kind == "default":
        return None

    def number(key: str) -> float:
        value = rope.get(key)
        if type(value) not in (int, float) or not 0 < value < 1e12:
            raise InputError(f"{where}: rope_scaling.{key} must be a number > 0, got {str(value)[:80]}")
        return float(value)

    factor = number("factor")
    half = config.head_dim // 2
    if kind == "linear":
        return np.full(half, factor, np.float32)
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if high <= low:
        raise InputError(f"{where}: rope_scaling.high_freq_factor must be above low_freq_factor {low:g}, got {high:g}")
    wavelength = 2 * math.pi * config.rope_theta ** (np.arange(half) / half)
    smooth = np.clip((number("original_max_position_embeddings") / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _rope(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """``rope_scaling``, or ``rope_parameters`` as newer files have it."""
    found = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    return found if isinstance(found, Mapping) else {"rope_type": "unknown"}


def _rope_kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type", "default")))
