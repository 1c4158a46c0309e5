"""What the vector unit does for each kind of op, from ``data/vector_ops.csv``: counts with a derivation on every row.

An *ALU operation* is one lane for one step: add, multiply, multiply-add, compare or select, absolute value, or a
round-and-clamp conversion. A *special-function operation* is one exp, reciprocal, or (reciprocal) square root.
An *element* is one number of the op's main tensor; a *row* is what shares one reduction (a token's features, one
query's scores, one head's vector).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sim.errors import InputError, nearest

_TABLE = Path(__file__).parent / "data" / "vector_ops.csv"


@dataclass(frozen=True)
class VectorCost:
    """Operations of one kind of vector op, per element and per row, and where the counts come from."""

    alu_per_element: float
    special_per_element: float
    alu_per_row: float
    special_per_row: float
    source: str


def _read() -> Mapping[str, VectorCost]:
    counts = ("alu_per_element", "special_per_element", "alu_per_row", "special_per_row")
    with _TABLE.open(newline="", encoding="utf-8") as file:
        rows = {
            line["op"]: VectorCost(*(float(line[c]) for c in counts), source=line["source"])
            for line in csv.DictReader(file)
        }
    return MappingProxyType(rows)


VECTOR_OPS: Mapping[str, VectorCost] = _read()
"""Kind of vector op to its cost."""


def operations(kind: str, elements: float, rows: float = 0.0) -> tuple[float, float]:
    """(ALU operations, special-function operations) of ``kind`` on that many elements in that many rows."""
    if kind not in VECTOR_OPS:
        raise InputError(f"vector op '{kind}' is unknown, {nearest(kind, VECTOR_OPS)}")
    c = VECTOR_OPS[kind]
    return (
        c.alu_per_element * elements + c.alu_per_row * rows,
        c.special_per_element * elements + c.special_per_row * rows,
    )
