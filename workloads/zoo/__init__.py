"""Models by name: one JSON file each, in the field names of a Hugging Face ``config.json``, with a ``source``.

A user's own ``config.json`` is read the same way. Only shapes matter here, so rotary scaling and the like are ignored;
what would change the operations (experts, biases, sliding windows, other activations) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import InputError, nearest
from workloads.checkpoint import MATRIX_TYPES, ModelConfig

_FOLDER = Path(__file__).parent
_FAMILIES = ("llama", "mistral")  # the same decoder; Mistral's sliding window is refused below


def names() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def models() -> dict[str, str]:
    """Name to a one-line summary of every model that comes with the package."""
    return {name: _summary(config(name)) for name in names()}


def config(model: str | Path | ModelConfig) -> ModelConfig:
    """The dimensions of a model: a name of the zoo, a path to a ``config.json``, or a ``ModelConfig`` as it is.

    :class:`InputError` for an unknown name, an unreadable file, and a field that is missing, wrong or unsupported.
    """
    if isinstance(model, ModelConfig):
        return _consistent(model, model.name)
    if isinstance(model, str) and model in names():
        return _from_fields(raw(model), model, f"{model}.json")
    path = Path(model)
    if path.suffix != ".json" and not path.is_file():
        raise InputError(
            f"model '{model}' is unknown, {nearest(str(model), names())} (or give a path to a config.json)"
        )
    name = path.parent.name if path.stem == "config" and path.parent.name else path.stem
    return _from_fields(_read(path), name, str(path))


def raw(name: str) -> dict[str, Any]:
    """The JSON of a model of the zoo, ``source`` and ``published_parameters`` included."""
    return _read(_FOLDER / f"{name}.json")


def parameters(model: ModelConfig) -> int:
    """Parameter count: embedding, the seven matrices and two norm gains a layer, final norm, head unless tied."""
    shapes = (model.matrix_shape(matrix_type) for matrix_type in MATRIX_TYPES)
    layer = sum(outputs * inputs for outputs, inputs in shapes) + 2 * model.d_model
    tables = (1 if model.tied_embeddings else 2) * model.vocab * model.d_model
    return model.layers * layer + tables + model.d_model


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"model config {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"model config {path}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InputError(f"model config {path}: must be a JSON object, got {type(fields).__name__}")
    return fields


def _from_fields(fields: Mapping[str, Any], name: str, where: str) -> ModelConfig:
    _refuse_unsupported(fields, where)

    def whole(key: str, default: int | None = None) -> int:
        value = fields.get(key)
        if value is None:
            if default is None:
                raise InputError(f"{where}: field '{key}' is missing, {nearest(key, fields)}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{where}: {key} must be an integer >= 1, got {value!r}")
        return value

    def real(key: str, default: float) -> float:
        value = default if fields.get(key) is None else fields[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{where}: {key} must be a number > 0, got {value!r}")
        return float(value)

    d_model, heads = whole("hidden_size"), whole("num_attention_heads")
    if fields.get("head_dim") is None and d_model % heads:
        raise InputError(f"{where}: hidden_size {d_model} is no multiple of num_attention_heads {heads}; give head_dim")
    tied = fields.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise InputError(f"{where}: tie_word_embeddings must be true or false, got {tied!r}")
    found = ModelConfig(
        name=name,
        layers=whole("num_hidden_layers"),
        d_model=d_model,
        ffn=whole("intermediate_size"),
        heads=heads,
        kv_heads=whole("num_key_value_heads", heads),
        head_dim=whole("head_dim", d_model // heads),
        vocab=whole("vocab_size"),
        rope_theta=real("rope_theta", 10000.0),
        norm_eps=real("rms_norm_eps", 1e-6),
        tied_embeddings=tied,
    )
    return _consistent(found, where)


def _summary(c: ModelConfig) -> str:
    head = "tied" if c.tied_embeddings else "untied"
    return (
        f"{parameters(c) / 1e6:,.0f} M parameters: {c.layers} layers, d {c.d_model}, FFN {c.ffn}, "
        f"{c.heads}/{c.kv_heads} heads of {c.head_dim}, vocabulary {c.vocab} ({head})"
    )


def _refuse_unsupported(fields: Mapping[str, Any], where: str) -> None:
    family = fields.get("model_type", "llama")
    if family not in _FAMILIES:
        raise InputError(f"{where}: model_type must be {' or '.join(_FAMILIES)}, got {family!r}")
    if fields.get("hidden_act", "silu") != "silu":
        raise InputError(f"{where}: hidden_act must be silu (SwiGLU), got {fields['hidden_act']!r}")
    for key in ("attention_bias", "mlp_bias", "sliding_window", "num_local_experts"):
        if fields.get(key):
            raise InputError(
                f"{where}: {key} {fields[key]!r} is not supported; leave it out or set it to false or null"
            )


def _consistent(model: ModelConfig, where: str) -> ModelConfig:
    if model.heads % model.kv_heads:
        raise InputError(
            f"{where}: num_attention_heads {model.heads} must be a multiple of num_key_value_heads {model.kv_heads}"
        )
    if model.head_dim % 2:
        raise InputError(f"{where}: head_dim must be even (rotary pairs), got {model.head_dim}")
    return model
