"""Ternary products by table look-up instead of multiplying: what they cost, and the op that stands for one in a trace.

Counted in the manner of T-MAC (Wei et al. 2024) and ternary look-up engines, from memory. A span of g inputs has 3^g
sums of ±x or nothing; all but zero come in pairs of opposite sign, so a table keeps (3^g − 1) / 2 of them, each one add
from another (the g single inputs are copies and cost none). Each output looks one sum up a span and adds it, where
multiply-accumulate takes g of them.

The machine assumed: the vector unit does it all. A table is built, an entry is looked up and a sum is added at one ALU
operation each; tables and partial sums lie beside its lanes, so neither room nor bandwidth in a buffer is charged for
them; codes come from DRAM once for all tokens. A pruned weight is a zero trit: stored and looked up as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.parallel.split import LOOKUP
from sim.trace import Op
from workloads.quantise.base import Quantiser, require_whole

SPANS = (1, 8)


@dataclass(frozen=True)
class TableCost:
    """A ternary product of one row of activations by tables of partial sums, one table a ``span`` of inputs.

    ``entries`` of a whole span's table; ``table_bits``: storage of one row's tables.
    """

    entries: int
    build_adds: int
    lookups: int
    table_bits: int


def table_cost(outputs: int, inputs: int, span: int = 4, sum_bits: int = 16, group: int | None = None) -> TableCost:
    """Cost of one row; spans do not cross the ends of a ``group`` of inputs (of one scale), where short ones remain."""
    given = (("outputs", outputs), ("inputs", inputs), ("sum_bits", sum_bits), ("group", group or inputs))
    for field, value in given:
        require_whole(field, value, 1)
    require_span(span)
    group = min(group or inputs, inputs)
    groups, rest = divmod(inputs, group)
    whole = groups * (group // span) + rest // span
    short = [group % span] * groups + [rest % span]
    sums = whole * _entries(span) + sum(map(_entries, short))
    spans = whole + sum(part > 0 for part in short)
    return TableCost(_entries(span), sums - inputs, outputs * spans, sums * sum_bits)


def require_span(span: Any) -> None:
    """:class:`InputError` unless ``span`` is one that a table is built for."""
    require_whole("span", span, *SPANS)


def lookup_row(row: Mapping[str, Any], method: Quantiser, span: int) -> dict[str, Any]:
    """The GEMM ``row`` of a trace, weights stored by ``method``, as a vector op of look-ups."""
    m, n, k = int(row["m"]), int(row["n"]), int(row["k"])
    block = method.block(k)
    cost = table_cost(n, k, span, group=block)
    scaled = n * -(-k // block) if k > block else 0  # a scale a partial sum of a group; one a row is free
    numbers = {
        "layer": row["layer"],
        "alu_ops": row["batch"] * m * (cost.build_adds + 2 * cost.lookups + scaled),
        "read_bytes": row["batch"] * m * k * row["activation_bits"] / 8,
        "write_bytes": row["batch"] * m * n * row["output_bits"] / 8,
        "dram_read_bytes": row["batch"] * method.storage(n, k).total / 8,
    }
    kept = ("live_in_bytes", "live_out_bytes", "repeats")
    return Op(f"{row['name']}.{LOOKUP}", "vector", numbers=numbers | {name: row[name] for name in kept}).row()


def _entries(span: int) -> int:
    return (3**span - 1) // 2
