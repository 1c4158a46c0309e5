"""Quantisation choices in a trace: bits a weight, the bytes beside them, activation and KV bits, and the extra work.

Codes are the op's ``weight_bits``, so the machine's storage format and its arithmetic see them; scales, zero points,
selectors and outliers are its ``weight_scale_bytes``, fetched and held with the weights. Work beside the product
(``Quantiser.vector_ops``) becomes a vector op after the GEMM: an upper bound for machines that scale inside their PEs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sim.trace import NUMBERS, TEXTS, Op, Trace
from workloads import zoo
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm
from workloads.quantise.base import Quantiser
from workloads.quantise.choice import Choices, check, layer_bits

RESCALE = ".rescale"


def matrix_columns(method: Quantiser, outputs: int, inputs: int, kept: int | None = None) -> dict[str, float]:
    """The op columns that a quantiser decides, for a matrix out x in with ``kept`` weights (default: all)."""
    return {
        "weight_bits": float(method.code_bits),
        "weight_scale_bytes": method.storage(outputs, inputs, kept).side / 8,
    }


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
        n, k, kept = int(row["n"]), int(row["k"]), int(row["nonzeros"])
        rows.append(row | matrix_columns(choice.weights, n, k, kept))
        work = row["batch"] * choice.weights.vector_ops(int(row["m"]), n, k, kept)
        if extra_work and work:
            alive = row["live_out_bytes"]
            numbers = {"layer": row["layer"], "alu_ops": work, "live_in_bytes": alive, "live_out_bytes": alive}
            rows.append(Op(row["name"] + RESCALE, "vector", numbers=numbers | {"repeats": row["repeats"]}).row())
    ops = pd.DataFrame(rows, columns=[*TEXTS, *NUMBERS])
    labels = sorted({c.weights.label for c in choices.values()})
    return Trace(ops, trace.profiles, {**trace.meta, "quantisation": labels}, trace.counts, trace.masks)


def quantised_llm(model: str | Path | ModelConfig, choices: Choices, *, extra_work: bool = True, **run: Any) -> Trace:
    """:func:`workloads.llm.llm` (``run``: its arguments) with each layer's weights, activations and KV cache as chosen.

    Layers without a choice, embedding and head take ``run``'s bits. :class:`InputError` as there, and for choices that
    do not fit the model.
    """
    config = zoo.config(model)
    count = config.layers if run.get("layers") is None else run["layers"]
    base = llm(config, **run)
    check(choices, count)
    bits = {layer: layer_bits(choices, layer) for layer in sorted({layer for layer, _ in choices})}
    other = {
        pair: llm(config, **{**run, "activation_bits": pair[0], "kv_bits": pair[1]}).ops for pair in set(bits.values())
    }
    parts = [base.ops[~base.ops["layer"].isin(list(bits))]]
    parts += [other[pair][other[pair]["layer"] == layer] for layer, pair in bits.items()]
    ops = pd.concat(parts).sort_index()
    chosen = Trace(ops, base.profiles, base.meta, base.counts, base.masks)
    return quantised(chosen, choices, extra_work)


def average_bits(trace: Trace) -> float:
    """Bits a weight of the decoder matrices, everything beside them included; a mask's own bits are the format's."""
    rows = trace.ops[trace.ops["matrix_type"].isin(MATRIX_TYPES)]
    bits = rows["nonzeros"] * rows["weight_bits"] + 8 * rows["weight_scale_bytes"]
    return float(bits.sum() / (rows["n"] * rows["k"]).sum())
