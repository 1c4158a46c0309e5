"""Quantisation choices in a trace: bits a weight, the bytes beside them, activation and KV bits, and the extra work.

Codes are the op's ``weight_bits``, so the machine's storage format and its arithmetic see them; scales, zero points,
selectors and outliers are its ``weight_scale_bytes``, fetched and held with the weights. Work beside the product
(``Quantiser.vector_ops``) becomes a vector op after the GEMM: an upper bound for machines that scale inside their PEs.
Products by look-up are vector ops altogether (``lookup.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sim.parallel.split import RESCALE
from sim.sparsity.profile import profile
from sim.trace import NUMBERS, TEXTS, Op, Trace
from workloads import zoo
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm
from workloads.quantise.base import Quantiser
from workloads.quantise.choice import Choices, check, layer_bits
from workloads.quantise.lookup import lookup_row
from workloads.quantise.model import QuantisedModel


def matrix_columns(method: Quantiser, outputs: int, inputs: int, kept: int | None = None) -> dict[str, float]:
    """The op columns that a quantiser decides, for a matrix out x in with ``kept`` weights (default: all).

    Codes that memory packs tighter than the chip holds them are fewer ``stored_elements`` of the chip's width. That
    share falls on all bytes fetched, so bytes beside the codes, which are not packed, are stated larger by its inverse.
    """
    kept = outputs * inputs if kept is None else kept
    side, on_chip = method.storage(outputs, inputs, kept).side / 8, kept * method.code_bits
    columns = {"weight_bits": float(method.code_bits), "weight_scale_bytes": side}
    if method.value_bits(kept) == on_chip:
        return columns
    share = method.value_bits(kept) / on_chip
    return columns | {"stored_elements": outputs * inputs * share, "weight_scale_bytes": side / share}


def quantised(trace: Trace, choices: Choices, extra_work: bool = True) -> Trace:
    """``trace`` with the weights of its decoder layers stored as chosen; activation and KV bits stay as they are.

    Rows are found by (layer, matrix_type); matrices not named keep theirs. ``extra_work``: insert the vector ops.
    """
    rows: list[dict[str, Any]] = []
    for row in trace.ops.to_dict("records"):
        choice = choices.get((int(row["layer"]), str(row["matrix_type"])))
        if choice is None or row["kind"] != "gemm" or row["weight_source"] != "weights":
            rows.append(row)
            continue
        if choice.lookup_span is not None:
            rows.append(lookup_row(row, choice.weights, choice.lookup_span))
            continue
        n, k, kept = int(row["n"]), int(row["k"]), int(row["nonzeros"])
        rows.append(row | matrix_columns(choice.weights, n, k, kept))
        work = row["batch"] * choice.weights.vector_ops(int(row["m"]), n, k, kept)
        if extra_work and work:
            alive = row["live_out_bytes"]
            numbers = {"layer": row["layer"], "alu_ops": work, "live_in_bytes": alive, "live_out_bytes": alive}
            rows.append(Op(f"{row['name']}.{RESCALE}", "vector", numbers=numbers | {"repeats": row["repeats"]}).row())
    ops = pd.DataFrame(rows, columns=[*TEXTS, *NUMBERS])
    labels = sorted({c.weights.label for c in choices.values()})
    return Trace(ops, trace.profiles, {**trace.meta, "quantisation": labels}, trace.counts, trace.masks)


def quantised_llm(model: str | Path | ModelConfig, choices: Choices, *, extra_work: bool = True, **run: Any) -> Trace:
    """:func:`workloads.llm.llm` (``run``: its arguments) with each layer's weights, activations and KV cache as chosen.

    Layers without a choice, embedding and head take ``run``'s bits. :class:`InputError` as there, and for choices that
    do not fit the model.
    """
    return quantised(_in_layer_bits(zoo.config(model), choices, run), choices, extra_work)


def _in_layer_bits(config: ModelConfig, choices: Choices, run: dict[str, Any]) -> Trace:
    """The trace with activation and KV bits as chosen for each layer."""
    count = config.layers if run.get("layers") is None else run["layers"]
    base = llm(config, **run)
    check(choices, count)
    bits = {layer: layer_bits(choices, layer) for layer in sorted({layer for layer, _ in choices})}
    other = {
        pair: llm(config, **{**run, "activation_bits": pair[0], "kv_bits": pair[1]}).ops for pair in set(bits.values())
    }
    parts = [base.ops[~base.ops["layer"].isin(list(bits))]]
    parts += [other[pair][other[pair]["layer"] == layer] for layer, pair in bits.items()]
    return Trace(pd.concat(parts).sort_index(), base.profiles, base.meta, base.counts, base.masks)


def model_trace(model: QuantisedModel, *, extra_work: bool = True, **run: Any) -> Trace:
    """:func:`quantised_llm` of a model's choices with its masks: their profiles, and the masks themselves."""
    masks = {key: found for key in model.keys if (found := model.mask(*key)) is not None}
    profiles = {key: profile(mask) for key, mask in masks.items()}
    zeros = {
        "sparsity": (lambda layer, matrix_type: profiles.get((layer, matrix_type))) if masks else None,
        "ffn_width": lambda layer: model.shape(layer, "ffn_gate")[0],
    }
    base = _in_layer_bits(model.checkpoint.config, model.choices, run | zeros)
    if masks:
        used = base.ops[base.ops["profile"] >= 0].sort_values("profile")  # numbered in the order of the ops
        base.masks = [masks[int(op.layer), str(op.matrix_type)] for op in used.itertuples()]
    return quantised(base, model.choices, extra_work)


def average_bits(trace: Trace) -> float:
    """Bits a weight of the decoder matrices that are GEMMs, everything beside them included; a mask's own bits are the
    format's."""
    rows = trace.ops[trace.ops["matrix_type"].isin(MATRIX_TYPES)]
    size = rows["n"] * rows["k"]
    bits = (rows["nonzeros"] * rows["weight_bits"] + 8 * rows["weight_scale_bytes"]) * rows["stored_elements"] / size
    return float(bits.sum() / size.sum())
