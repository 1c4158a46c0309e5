"""What a removal costs at run time where no neighbour absorbs it: inputs picked out, outputs put back among zeros.

``runtime="vector"``: before the GEMM a vector op gathers the inputs that stay (reads and writes each once); after it
another writes all outputs, those that stay and zeros. ``runtime="indexed"``: the array's buffers are addressed through
the index table, so only the zeros are written by a vector op; the address path has no price of its own. Either way an
index table comes from DRAM: for every feature that stays, ceil(log2 size) bits
(:func:`sim.sparsity.reorder.cost.index_bytes`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sim.sparsity.reorder.cost import gather, index_bytes, scatter
from sim.trace import Op

PICK, FILL = "pick", "fill"


def pick(op: dict[str, Any], kept: int) -> tuple[Op, dict[str, float]]:
    """The vector op that takes ``kept`` of the inputs of the GEMM ``op`` (a row of the op table with all of them), and
    what changes of ``op`` beside its K."""
    made, changes = gather(op)
    share = kept / op["k"]
    numbers = dict(made.numbers)
    spared = numbers["write_bytes"] * (1 - share)
    for name in ("alu_ops", "read_bytes", "write_bytes", "dram_read_bytes"):
        numbers[name] *= share
    numbers["live_out_bytes"] -= spared
    after = {"live_in_bytes": changes["live_in_bytes"] - spared}
    return replace(made, name=f"{op['name']}.{PICK}", numbers=numbers), after


def fill(op: dict[str, Any], kept: int) -> tuple[Op, dict[str, float]]:
    """The vector op that puts ``kept`` outputs of the GEMM ``op`` among zeros, and what changes of ``op`` beside N."""
    made, share = scatter(op), kept / op["n"]
    numbers = dict(made.numbers)
    spared = numbers["write_bytes"] * (1 - share)
    for name in ("read_bytes", "dram_read_bytes"):
        numbers[name] *= share
    numbers["live_in_bytes"] -= spared
    after = {"live_out_bytes": op["live_out_bytes"] - spared}
    return replace(made, name=f"{op['name']}.{FILL}", numbers=numbers), after


def zeros(op: dict[str, Any], kept: int) -> Op:
    """The vector op that writes the zeros only, where buffers put the ``kept`` outputs in their places."""
    made, share = scatter(op), 1 - kept / op["n"]
    numbers = dict(made.numbers) | {"read_bytes": 0.0, "dram_read_bytes": 0.0}
    for name in ("alu_ops", "write_bytes"):
        numbers[name] *= share
    return replace(made, name=f"{op['name']}.{FILL}", numbers=numbers)


def table_bytes(kept: int, size: int) -> float:
    """Stored bytes of the places of ``kept`` features among ``size``."""
    return index_bytes(size) * kept / size
