"""What each matrix of a model is stored and multiplied in: {(layer, matrix type): QuantisationChoice}."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sim.errors import InputError, nearest
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.quantise.base import Quantiser, quantiser
from workloads.quantise.lookup import require_span
from workloads.quantise.ternary import Ternary
from workloads.shapes import Numerics


@dataclass(frozen=True)
class QuantisationChoice:
    """``weights``: a quantiser, or its label. ``activation_bits`` and ``kv_bits`` (4, 8 or 16) hold for the whole
    layer: its matrices must agree on them. ``lookup_span``: multiply ternary weights by tables of so many inputs
    (``lookup.py``); None: on the array."""

    weights: Quantiser
    activation_bits: int = 8
    kv_bits: int = 8
    lookup_span: int | None = None

    def __init__(
        self,
        weights: Quantiser | str,
        activation_bits: int = 8,
        kv_bits: int = 8,
        lookup_span: int | None = None,
    ) -> None:
        Numerics(activation_bits=activation_bits, kv_bits=kv_bits)
        object.__setattr__(self, "weights", quantiser(weights) if isinstance(weights, str) else weights)
        object.__setattr__(self, "activation_bits", activation_bits)
        object.__setattr__(self, "kv_bits", kv_bits)
        object.__setattr__(self, "lookup_span", lookup_span)
        if lookup_span is not None:
            require_span(lookup_span)
            if not isinstance(self.weights, Ternary):
                raise InputError(f"lookup_span is for ternary weights, got {self.weights.label}")


Choices = Mapping[tuple[int, str], QuantisationChoice]


def everywhere(
    config: ModelConfig, choice: QuantisationChoice | Quantiser | str, types: Iterable[str] = MATRIX_TYPES
) -> dict[tuple[int, str], QuantisationChoice]:
    """One choice for every matrix of ``types`` in every layer; others stay as they are.

    With fewer KV heads than heads, a row of V feeds several inputs of ``attn_output``, whose scales then cannot be
    folded into V: there the quantiser stores them itself.
    """
    one = choice if isinstance(choice, QuantisationChoice) else QuantisationChoice(choice)
    apart = replace(one, weights=one.weights.unfolded()) if config.kv_heads < config.heads else one
    chosen = {t: apart if t == "attn_output" else one for t in types}
    return {(layer, t): chosen[t] for layer in range(config.layers) for t in chosen}


def check(choices: Choices, layers: int) -> None:
    """:class:`InputError` for layers or matrix types that are not there, and layers at odds with themselves."""
    bits: dict[int, tuple[str, tuple[int, int]]] = {}
    for (layer, t), choice in choices.items():
        if t not in MATRIX_TYPES:
            raise InputError(f"matrix type {t!r} is unknown: {nearest(t, MATRIX_TYPES)}")
        if not 0 <= layer < layers:
            raise InputError(f"quantisation choice for layer {layer}: layers are 0..{layers - 1}")
        own = choice.activation_bits, choice.kv_bits
        other, theirs = bits.setdefault(layer, (t, own))
        if own != theirs:
            what = "activation and KV bits"
            raise InputError(f"layer {layer}: {t} and {other} differ in {what}: {own} and {theirs}")


def layer_bits(choices: Choices, layer: int) -> tuple[int, int]:
    """(activation, KV) bits of a layer with at least one choice."""
    one = next(choices[layer, t] for t in MATRIX_TYPES if (layer, t) in choices)
    return one.activation_bits, one.kv_bits
