"""What an order costs at run time where no neighbour absorbs it: an index table, and activations that are moved.

``runtime="vector"``: before the GEMM a vector op gathers its inputs, after it another scatters its outputs; each reads
and writes every element once and reads its index table from DRAM. ``runtime="indexed"``: the array's buffers are
addressed through the index table, which is fetched with the weights; activations are not moved.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.sparsity.reorder.arrangement import INPUT, OUTPUT
from sim.trace import Op
from sim.vector_ops import operations

RUNTIMES = ("vector", "indexed")
SUFFIX = {OUTPUT: "scatter", INPUT: "gather"}
_MOVE = "im2col"  # the vector op that moves one element by address


def index_bytes(entries: int) -> float:
    """Stored bytes of an order of ``entries`` features: ceil(log2 entries) bits each."""
    return entries * float(np.ceil(np.log2(max(entries, 1)))) / 8


def gather(op: dict[str, Any]) -> tuple[Op, dict[str, float]]:
    """The vector op that orders the inputs of the GEMM ``op`` (a row of the op table), and what changes of ``op``.

    Where ``op`` is the last to read its inputs, the gathered copy takes their place; else both are alive.
    """
    elements = op["batch"] * (op["input_elements"] or op["m"] * op["k"])
    copied = elements * op["activation_bits"] / 8
    written = op["batch"] * op["m"] * op["n"] * op["output_bits"] / 8
    dies = op["live_in_bytes"] + written - op["live_out_bytes"] >= copied
    after = op["live_in_bytes"] + (0.0 if dies else copied)
    made = _mover(op, INPUT, elements, copied, int(op["k"]), op["live_in_bytes"], after)
    return made, {"live_in_bytes": after}


def scatter(op: dict[str, Any]) -> Op:
    """The vector op that brings the outputs of the GEMM ``op`` into their order."""
    elements = op["batch"] * op["m"] * op["n"]
    moved = elements * op["output_bits"] / 8
    return _mover(op, OUTPUT, elements, moved, int(op["n"]), op["live_out_bytes"], op["live_out_bytes"])


def _mover(
    op: dict[str, Any], side: int, elements: float, moved: float, entries: int, before: float, after: float
) -> Op:
    numbers = {
        "layer": op["layer"], "repeats": op["repeats"], "alu_ops": operations(_MOVE, elements)[0],
        "read_bytes": moved, "write_bytes": moved, "dram_read_bytes": index_bytes(entries),
        "live_in_bytes": before, "live_out_bytes": after,
    }  # fmt: skip
    return Op(f"{op['name']}.{SUFFIX[side]}", "vector", numbers=numbers)
