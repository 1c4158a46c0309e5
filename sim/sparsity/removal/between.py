"""What shrinks between two matrices that lose the same features: vector ops, tensors on chip, and the cache of V.

``between.csv`` lists the tensors between them. Each loses rows x features of its side; the ops that write and read it
move so many bytes less, its consumer does the work for so many elements less, and so many bytes less are alive from
the one to the other.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.sparsity.removal.dead import Matrix, Shared
from sim.sparsity.reorder.arrangement import SIDES
from sim.vector_ops import operations

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Tensor:
    """A row of ``between.csv``; ``elements_of`` and ``bits_of`` are MATRIX.SIDE and OP.COLUMN of the trace."""

    dimension: str
    tensor: str
    producer: str
    consumer: str
    elements_of: str
    bits_of: str
    work: str
    source: str


@lru_cache(maxsize=1)
def tensors() -> tuple[Tensor, ...]:
    """All of ``between.csv``."""
    with (Path(__file__).parent / "between.csv").open(newline="", encoding="utf-8") as file:
        return tuple(Tensor(**line) for line in csv.DictReader(file))


def shrink(rows: Rows, axis: Shared) -> None:
    """Shrink, in place, what runs between the matrices of ``axis``; matrices themselves are not touched.

    An op that a layer lacks or holds under another name is left as it is.
    """
    by_type = {str(rows[matrix.row]["matrix_type"]): (matrix, side) for matrix, side, _ in axis.members}
    places = _places(rows, axis)
    for tensor in tensors():
        if tensor.dimension == axis.dimension and tensor.producer in places and tensor.consumer in places:
            matrix_type, _, side = tensor.elements_of.partition(".")
            matrix, _ = by_type[matrix_type]
            op, _, column = tensor.bits_of.partition(".")
            elements = _elements(rows, matrix, SIDES.index(side))
            spared = elements * rows[places[op]][column] / 8
            _spare(rows, places[tensor.producer], places[tensor.consumer], spared)
            work = operations(tensor.work, elements) if tensor.work else (0.0, 0.0)
            consumer = rows[places[tensor.consumer]]
            consumer["alu_ops"] -= work[0]
            consumer["special_function_ops"] -= work[1]
    if axis.dimension == "value":
        _shrink_cache(rows, axis, places)


def _places(rows: Rows, axis: Shared) -> dict[str, int]:
    """Op of the layer, its name without the layer's prefix, to its row."""
    names = [str(row["name"]) for row in rows]
    return {name.removeprefix(axis.prefix): i for i, name in enumerate(names) if name.startswith(axis.prefix)}


def _elements(rows: Rows, matrix: Matrix, side: int) -> float:
    """Of the tensor at a side of ``matrix``: those that leave."""
    row = rows[matrix.row]
    return row["batch"] * row["m"] * float(matrix.absorbed[side].sum())


def _spare(rows: Rows, producer: int, consumer: int, spared: float) -> None:
    """A tensor shrinks by ``spared`` bytes; GEMMs count their own bytes from their sizes."""
    for at, column in ((producer, "write_bytes"), (consumer, "read_bytes")):
        if rows[at]["kind"] == "vector":
            rows[at][column] -= spared
    for at in range(producer, consumer):
        rows[at]["live_out_bytes"] -= spared
        rows[at + 1]["live_in_bytes"] -= spared


def _shrink_cache(rows: Rows, axis: Shared, places: dict[str, int]) -> None:
    """V in DRAM and on chip. Heads may keep unlike numbers of channels: all are computed as wide as the widest."""
    values = rows[places["attn_values"]]
    matrix, side, layout = next(m for m in axis.members if rows[m[0].row]["matrix_type"] == "attn_v")
    width = int((~matrix.absorbed[side][layout]).all(axis=2).sum(axis=1).max())
    new_on_chip = values["stored_elements"] < values["n"] * values["k"]  # a decode step's own V waits on chip
    values["stored_elements"] = values["stored_elements"] * width // values["n"]
    values |= {"n": width, "nonzeros": width * values["k"]}
    for append in _takers("attn_v"):
        if append in places:
            at = places[append]
            rows[at]["dram_write_bytes"] *= 1 - matrix.absorbed[side].sum() / (2 * matrix.shape[side])  # K and V
            if new_on_chip:
                _spare(rows, at, places["attn_values"], _elements(rows, matrix, side) * values["weight_bits"] / 8)


def _takers(producer: str) -> set[str]:
    """Ops that may read what ``producer`` makes."""
    return {tensor.consumer for tensor in tensors() if tensor.producer == producer}
