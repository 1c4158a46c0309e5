"""A dense feed-forward part: (gate and) up projection, activation, quantisation, down projection."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.layer import Layer
from workloads.segment import Work

#: (activation, gated) -> name of the op and its kinds of vector work, once an element each.
ACTIVATIONS: dict[tuple[str, bool], tuple[str, tuple[str, ...]]] = {
    ("silu", True): ("swiglu", ("swiglu",)),
    ("gelu", True): ("geglu", ("gelu", "mul")),
    ("relu", True): ("reglu", ("relu", "mul")),
    ("silu", False): ("silu", ("silu",)),
    ("gelu", False): ("gelu", ("gelu",)),
    ("relu", False): ("relu", ("relu",)),
}


def feed_forward_ops(
    layer: Layer,
    reads: Sequence[str],
    writes: str,
    prefix: str = "ffn",
    rows: int | None = None,
    batch: int = 1,
    tag: str = "",
) -> None:
    """``batch`` parts alike (experts), each on ``rows`` rows (default: all) of the quantised tensors ``reads``.

    Matrix types are ``prefix`` _gate, _up and _down; ``tag`` tells ops apart that share one.
    """
    f, ops = layer.model.ffn, layer.ops
    rows = layer.rows if rows is None else rows
    width = layer.shapes[f"{prefix}_up"][0]
    hidden = batch * rows * width
    matrices = ("gate", "up") if f.gated else ("up",)

    def matrix(which: str, taken: Sequence[str], given: str) -> None:
        kind = f"{prefix}_{which}"
        n, k = layer.shapes[kind]
        ops.gemm(kind + tag, rows, n, k, taken, given, batch, layer.masks.get(kind), matrix_type=kind)

    for which in matrices:
        matrix(which, reads, which)
    name, kinds = ACTIVATIONS[f.activation, f.gated]
    work: list[Work] = [(kind, hidden, 0) for kind in kinds]
    work += [("add", hidden, 0)] * (len(matrices) if f.bias else 0)
    taken = dict.fromkeys(matrices, hidden * layer.wide)
    act = name if prefix == "ffn" else f"{prefix}_{name}"
    ops.vector(act + tag, work, taken, {"g": hidden * layer.wide})
    quantise: list[Work] = [("quantise", hidden, batch * rows)]
    ops.vector(f"{prefix}_quantise{tag}", quantise, {"g": hidden * layer.wide}, {"g8": hidden * layer.narrow})
    matrix("down", ("g8",), writes)
