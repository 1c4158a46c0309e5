"""Parameter counts that follow from an architecture: all of them, and those a token uses."""

from __future__ import annotations

from workloads.architecture import Architecture


def parameters(model: Architecture) -> int:
    """All parameters: tables, matrices, biases, norm gains; a head that is tied to the embedding counts once."""
    return sum(_layer(model, i, model.moe.experts if model.moe else 0) for i in range(model.layers)) + _ends(model)


def active_parameters(model: Architecture) -> int:
    """Parameters that a token uses: of the routed experts only ``top_k``; all others, tables included."""
    return sum(_layer(model, i, model.moe.top_k if model.moe else 0) for i in range(model.layers)) + _ends(model)


def _norm(model: Architecture) -> int:
    return model.d_model * (2 if model.norm == "layernorm" else 1)


def _layer(model: Architecture, layer: int, experts: int) -> int:
    """Of one layer, ``experts`` of its routed ones counted."""
    found = model.norms * _norm(model) + _mixer_vectors(model)
    for name, (outputs, inputs) in model.matrices(layer).items():
        found += outputs * inputs * (experts if name.startswith("expert_") else 1)
    if model.routed(layer):
        return found + (model.moe.experts if model.moe.router_bias else 0)
    if model.ffn is not None and model.ffn.bias:
        found += model.ffn.width * (2 if model.ffn.gated else 1) + model.d_model
    return found


def _mixer_vectors(model: Architecture) -> int:
    """Biases and inner norms of attention; convolution, A, D, dt and inner norm of a state-space model."""
    s, a = model.ssm, model.attention
    if s is not None:
        conv = s.conv_channels * (s.conv + 1)
        return conv + (s.inner * s.state + 2 * s.inner if s.version == 1 else 3 * s.heads + s.inner)
    if a is None:
        return 0
    if a.latent is not None:
        return a.latent.kv_rank + (a.latent.q_rank or 0)
    found = a.query + 2 * a.key if a.qkv_bias else 0
    found += model.d_model if a.output_bias else 0
    return found + (2 * a.head_dim if a.qk_norm else 0)


def _ends(model: Architecture) -> int:
    d, width = model.d_model, model.embedding_width or model.d_model
    found = (model.positions + model.token_types) * d + (_norm(model) if model.final_norm else 0)
    found += _norm(model) if model.embedding_norm else 0
    found += 2 * width * d if width != d else 0
    if model.patches is not None:
        found += d * model.patches.inputs + d + d  # projection, its bias, the class token
    else:
        found += model.vocab * width
    if model.head == "pooler":
        return found + d * d + d
    if model.head == "classes" or not model.tied:
        found += model.vocab * width
    return found + (model.vocab if model.head_bias else 0)
