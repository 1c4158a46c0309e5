"""Models by name: one JSON file each, in the field names of a Hugging Face ``config.json``, with a ``source``.

A user's own ``config.json`` is read the same way. Only shapes matter here, so rotary scaling and the like are ignored.
:func:`architecture` reads every family; :func:`config` only the Llama-like decoders that the forward passes of this
package compute, and refuses what would change the operations (experts, biases, sliding windows, other activations).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim.errors import InputError, nearest
from workloads import parameters as count
from workloads.architecture import Architecture
from workloads.checkpoint import ModelConfig
from workloads.checkpoint.json_file import read_json
from workloads.zoo.families import architecture_of
from workloads.zoo.fields import Fields

_FOLDER = Path(__file__).parent
_FAMILIES = ("llama", "mistral")  # the same decoder; Mistral's sliding window is refused below


def names() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def models() -> dict[str, str]:
    """Name to a one-line summary of every model that comes with the package."""
    return {name: summary(architecture(name)) for name in names()}


def config(model: str | Path | ModelConfig) -> ModelConfig:
    """The dimensions of a Llama-like model: a name of the zoo, a path to a ``config.json``, or a ``ModelConfig`` as is.

    :class:`InputError` for an unknown name, an unreadable file, and a field that is missing, wrong or unsupported.
    """
    if isinstance(model, ModelConfig):
        return _consistent(model, model.name)
    fields, name = _fields(model)
    return _llama_like(fields, name)


def architecture(model: str | Path | ModelConfig | Architecture) -> Architecture:
    """What a model of any family is made of: a name, a path to a ``config.json`` or its folder, or an instance.

    :class:`InputError` as :func:`config`, and for a ``model_type`` that is not known.
    """
    if isinstance(model, Architecture):
        return model
    if isinstance(model, ModelConfig):
        return Architecture.of(config(model))
    fields, name = _fields(model)
    return architecture_of(fields, name)


def raw(name: str) -> dict[str, Any]:
    """The JSON of a model of the zoo, ``source`` and ``published_parameters`` included."""
    return read_json(_FOLDER / f"{name}.json")


def parameters(model: str | Path | ModelConfig | Architecture) -> int:
    """Parameter count that follows from the shapes: tables, matrices, biases, norm gains; a tied head counts once."""
    return count.parameters(architecture(model))


def active_parameters(model: str | Path | ModelConfig | Architecture) -> int:
    """Parameters that one token uses: of routed experts only the chosen ones."""
    return count.active_parameters(architecture(model))


def summary(a: Architecture) -> str:
    """A model in one line: parameters, layers, widths, heads, vocabulary."""
    total, active = count.parameters(a), count.active_parameters(a)
    parts = [f"{a.layers} layers", f"d {a.d_model}"]
    if a.ssm is not None:
        parts.append(f"Mamba-{a.ssm.version}, {a.ssm.inner} channels, state {a.ssm.state}")
    if a.ffn is not None and (a.moe is None or a.moe.first_dense):
        parts.append(f"FFN {a.ffn.width}")
    if a.moe is not None:
        parts.append(f"{a.moe.top_k} of {a.moe.experts} experts of {a.moe.width} ({active / 1e6:,.0f} M active)")
    if a.attention is not None and a.attention.latent is not None:
        parts.append(f"{a.attention.heads} heads, latent {a.attention.latent.cached}")
    elif a.attention is not None:
        parts.append(f"{a.attention.heads}/{a.attention.kv_heads} heads of {a.attention.head_dim}")
    if a.patches is not None:
        parts.append(f"{a.patches.count} patches")
    else:
        parts.append(f"vocabulary {a.vocab} ({'tied' if a.tied else a.head if a.encoder else 'untied'})")
    return f"{total / 1e6:,.0f} M parameters: {', '.join(parts)}"


def _fields(model: str | Path) -> tuple[Fields, str]:
    """Fields of a model and its name."""
    if isinstance(model, str) and model in names():
        return Fields(raw(model), f"{model}.json"), model
    path = Path(model)
    if (path / "config.json").is_file():
        path = path / "config.json"
    if path.suffix != ".json" and not path.is_file():
        raise InputError(
            f"model '{model}' is unknown, {nearest(str(model), names())} (or give a config.json or its folder)"
        )
    name = path.parent.name if path.stem == "config" and path.parent.name else path.stem
    return Fields(read_json(path), str(path)), name


def _llama_like(f: Fields, name: str) -> ModelConfig:
    family = f.values.get("model_type", "llama")
    if family not in _FAMILIES:
        raise InputError(f"{f.where}: model_type must be {' or '.join(_FAMILIES)}, got {family!r}")
    if f.values.get("hidden_act", "silu") != "silu":
        raise InputError(f"{f.where}: hidden_act must be silu (SwiGLU), got {f.values['hidden_act']!r}")
    f.refuse("attention_bias", "mlp_bias", "sliding_window", "num_local_experts")
    a = architecture_of(f, name)
    return _consistent(
        ModelConfig(
            name=name,
            layers=a.layers,
            d_model=a.d_model,
            ffn=a.ffn.width,
            heads=a.attention.heads,
            kv_heads=a.attention.kv_heads,
            head_dim=a.attention.head_dim,
            vocab=a.vocab,
            rope_theta=f.real("rope_theta", 10000.0),
            norm_eps=f.real("rms_norm_eps", 1e-6),
            tied_embeddings=a.tied,
        ),
        f.where,
    )


def _consistent(model: ModelConfig, where: str) -> ModelConfig:
    if model.heads % model.kv_heads:
        raise InputError(
            f"{where}: num_attention_heads {model.heads} must be a multiple of num_key_value_heads {model.kv_heads}"
        )
    if model.head_dim % 2:
        raise InputError(f"{where}: head_dim must be even (rotary pairs), got {model.head_dim}")
    return model
