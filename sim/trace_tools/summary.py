"""A trace in numbers: ops, MACs, the DRAM bytes that no machine can avoid, density, bits a weight, lane imbalance.

- *MACs* count zeros, *useful MACs* do not (zeros of weights; ``input_density`` is left out).
- *DRAM bytes at least*: stationary operands once an execution, as their op says they are fetched, stored dense with
  their scales, and what vector ops always move. Inputs and outputs of ops may stay on chip, so that they count nothing;
  a compressed format may need fewer weight bytes (``bitmap_bits_per_weight``).
- *Bits a weight*: stored bits of weights, scales included, over n x k; each op of the table once, whatever its repeats.
  The bitmap column is what ``sparsity.format: bitmap`` makes of them: no matrix larger than dense.
- *Imbalance*: lane cycles of one pass over nonzeros / lanes, from the profiles of masks (contiguous lanes, barrier only
  at the end of a lane group, no FIFO); restarts and a short last group count, as on the machine. A mean weighted by
  nonzeros. 1 is even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.sparsity.formats.registry import format_of
from sim.stored_weights import stored_weights
from sim.trace import Trace

LANES = (16, 32)
ORIENTATIONS = ("output", "input")
VECTOR = "vector ops"
TOTAL = "total"
BYTES = ("weight_bytes", "kv_bytes", "activation_bytes", "vector_bytes")
"""Parts of ``dram_bytes_at_least``; activations: stationary operands that ops computed."""


def summary(trace: Trace) -> dict[str, Any]:
    """``name``, ``meta``, ``groups`` (matrix type -> numbers, vector ops last) and ``total``.

    A number without a meaning for a group (density without weights) is None."""
    per_op = _per_op(trace)
    kinds = trace.ops["kind"] == "vector"
    labels = trace.ops["matrix_type"].where(trace.ops["matrix_type"] != "", "gemm").where(~kinds, VECTOR)
    order = [*dict.fromkeys(labels[~kinds]), *([VECTOR] if kinds.any() else [])]
    return {
        "name": trace.name,
        "meta": trace.meta,
        "groups": {label: _group(per_op[labels == label]) for label in order},
        "total": _group(per_op),
    }


def _per_op(trace: Trace) -> pd.DataFrame:
    """One row an op, every number for all its batch items and repeats but those of the table itself."""
    ops = trace.ops.reset_index(drop=True)
    runs, gemms = ops["repeats"] * ops["batch"], (ops["kind"] == "gemm").to_numpy()
    elements = (ops["n"] * ops["k"]).to_numpy(dtype=np.float64)
    share = ops["stored_elements"].to_numpy(dtype=np.float64) / np.where(elements > 0, elements, 1.0)
    scales = ops["weight_scale_bytes"].to_numpy(dtype=np.float64)
    fetched = runs * share * (elements * ops["weight_bits"] / 8 + scales)
    found = pd.DataFrame(
        {
            "gemm": gemms,
            "repeats": ops["repeats"],
            "macs": runs * ops["m"] * elements,
            "useful_macs": runs * ops["m"] * ops["nonzeros"],
            "alu_ops": ops["repeats"] * ops["alu_ops"],
            "special_function_ops": ops["repeats"] * ops["special_function_ops"],
            "vector_bytes": ops["repeats"] * (ops["dram_read_bytes"] + ops["dram_write_bytes"]),
        }
    )
    for source, column in (("weights", "weight_bytes"), ("kv", "kv_bytes"), ("activations", "activation_bytes")):
        found[column] = fetched.where(gemms & (ops["weight_source"] == source), 0.0)
    weights = gemms & (ops["weight_source"] == "weights").to_numpy()
    batch = np.where(weights, ops["batch"], 0)
    found["elements"], found["nonzeros"] = batch * elements, batch * ops["nonzeros"]
    for name in ("dense", "bitmap"):
        found[f"{name}_bits"] = batch * 8.0 * (stored_weights(format_of(name), trace).stored + scales)
    _add_lane_cycles(found, trace, batch)
    return found


def _add_lane_cycles(found: pd.DataFrame, trace: Trace, batch: Any) -> None:
    """Cycles and even cycles of the ops that have a mask, 0 elsewhere."""
    at = trace.ops["profile"].to_numpy(dtype=np.int64)
    masked = at >= 0
    for lanes in LANES:
        for orientation in ORIENTATIONS:
            cycles = np.zeros(len(at))
            if trace.profiles is not None and masked.any():
                table = trace.profiles.cycles(lanes, "full", orientation)
                assert table is not None
                cycles[masked] = table[at[masked]]
            found[f"{orientation}{lanes}"] = np.where(masked, batch, 0) * cycles
    found["masked_nonzeros"] = np.where(masked, found["nonzeros"], 0.0)


def _group(rows: pd.DataFrame) -> dict[str, Any]:
    """Numbers of some ops: counts, work, DRAM bytes at least, density, bits a weight, imbalance."""
    total = rows.sum(numeric_only=True)
    numbers: dict[str, Any] = {
        "gemm_ops": int(rows["gemm"].sum()),
        "vector_ops": int((~rows["gemm"]).sum()),
        "executions": int(total["repeats"]),
        **{name: float(total[name]) for name in ("macs", "useful_macs", "alu_ops", "special_function_ops", *BYTES)},
        "dram_bytes_at_least": float(sum(total[name] for name in BYTES)),
        "weights": float(total["elements"]),
        "density": _ratio(total["nonzeros"], total["elements"]),
        "dense_bits_per_weight": _ratio(total["dense_bits"], total["elements"]),
        "bitmap_bits_per_weight": _ratio(total["bitmap_bits"], total["elements"]),
    }
    for orientation in ORIENTATIONS:
        for lanes in LANES:
            even = total["masked_nonzeros"] / lanes
            numbers[f"imbalance_{orientation}_{lanes}"] = _ratio(total[f"{orientation}{lanes}"], even)
    return numbers


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if b > 0 else None
