"""What is priced is what is measured: the perplexity of the very choices that a trace is made of.

The trace of :func:`workloads.quantise.trace.model_trace` charges for stored codes, activation bits and KV bits; here
the forward pass multiplies the weights that those codes stand for, as given, and rounds activations and cache to those
bits (:mod:`workloads.arithmetic`). Matrices without a choice, and the head, are in the run's own bits in both:
symmetric integers with a scale an output channel. 16 bits are integers, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.errors import InputError
from sim.trace import Trace
from workloads.arithmetic import Arithmetic
from workloads.checkpoint import ModelConfig
from workloads.perplexity import Measurement, Meter
from workloads.quantise.choice import Choices, layer_bits
from workloads.quantise.model import QuantisedModel
from workloads.quantise.rows import fake_quantise
from workloads.quantise.trace import model_trace
from workloads.shapes import Numerics
from workloads.transformer import Weights


def arithmetics(config: ModelConfig, choices: Choices, bits: Numerics | None = None) -> tuple[Arithmetic, ...]:
    """One a layer and, last, the head's: activation and KV bits as chosen, else those of ``bits``; weights as given in
    the layers (:func:`priced_weights` has rounded them)."""
    bits = bits or Numerics()
    chosen = {layer: layer_bits(choices, layer) for layer in {layer for layer, _ in choices}}
    own = (bits.activation_bits, bits.kv_bits)
    layers = [Arithmetic(None, *chosen.get(layer, own)) for layer in range(config.layers)]
    return (*layers, Arithmetic(bits.weight_bits, *own))


def priced_weights(model: QuantisedModel, bits: Numerics | None = None) -> Weights:
    """The matrices of ``model`` with those that nothing was chosen for in the run's bits."""
    width = (bits or Numerics()).weight_bits

    def weights(layer: int, matrix_type: str) -> np.ndarray:
        found = model.weights(layer, matrix_type)
        return found if (layer, matrix_type) in model.choices else fake_quantise(found, width)

    return weights


def measure_choices(meter: Meter, model: QuantisedModel, bits: Numerics | None = None) -> Measurement:
    """Perplexity of a quantised model in the arithmetic that its choices ask for."""
    labels = sorted({choice.weights.label for choice in model.choices.values()})
    calibration = model.calibration.windows_sha256 if model.calibration is not None else ""
    return meter.measure(
        " + ".join(labels) or "as stored",
        priced_weights(model, bits),
        model.sparsity,
        arithmetics(meter.checkpoint.config, model.choices, bits),
        calibration,
    )


def measured_llm(
    meter: Meter, model: QuantisedModel, *, extra_work: bool = True, **run: Any
) -> tuple[Trace, Measurement]:
    """The trace of ``model``'s choices (``run``: what :func:`workloads.llm.llm` takes) and their measured perplexity,
    which its ``meta`` carries with where it comes from.

    :class:`InputError` as of ``model_trace``, and for ``layers``: perplexity is of whole models.
    """
    if run.get("layers") is not None:
        raise InputError(f"layers must be left out where perplexity is measured, got {run['layers']}")
    names = ("weight_bits", "activation_bits", "kv_bits")
    bits = Numerics(**{name: run[name] for name in names if name in run})
    trace = model_trace(model, extra_work=extra_work, **run)
    found = measure_choices(meter, model, bits)
    trace.meta |= {
        "perplexity": found.ppl,
        "perplexity_nll": found.nll,
        "perplexity_tokens": found.tokens,
        "arithmetic": found.arithmetic,
        "model_sha256": found.model_sha256,
        "windows_sha256": found.windows_sha256,
        "calibration_sha256": found.calibration_sha256,
        "realised_sparsity": found.realised_sparsity,
        "quality": "measured",
    }
    return trace, found
