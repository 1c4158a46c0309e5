"""Products as GEMMs: a linear layer, two activations with broadcasting, a convolution, attention."""

from __future__ import annotations

from itertools import zip_longest
from math import prod

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.operations import conv2d
from sim.trace import position
from workloads.importers.graph import Graph, Shape, Work

Pads = tuple[tuple[int, int], tuple[int, int]]  # (before, after) of height and width


def matmul(graph: Graph, name: str, a: str, b: str, writes: str, shape: Shape, kind: str = "matmul") -> None:
    """``a @ b`` of two activations, ``b`` stationary. Batch dimensions that b lacks or has once are rows of a."""
    left, right = graph.shapes[a], graph.shapes[b]
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    k, n = right[-2:]
    if left[-1] != k:
        raise InputError(f"op {name}: {_told(left)} times {_told(right)} is not defined")
    batch, rows = 1, left[-2]
    for x, y in zip_longest(left[-3::-1], right[-3::-1], fillvalue=1):
        batch, rows = (batch * y, rows) if y > 1 else (batch, rows * x)
    graph.gemm(name, kind, (a, b), writes, shape, sizes=(rows, n, k), batch=batch, source="activations")


def linear(graph: Graph, name: str, x: str, weights: NDArray, writes: str, shape: Shape) -> None:
    """``x @ weights.T``; ``weights``: out x in, or a stack of them, one a batch item (then masks are left out)."""
    n, k = weights.shape[-2:]
    batch = prod(weights.shape[:-2])
    rows = max(1, prod(shape) // (n * batch))
    if prod(graph.shapes[x]) not in (rows * k * batch, rows * k):
        raise InputError(f"op {name}: inputs must be {rows * batch} x {k}, got {_told(graph.shapes[x])}")
    mask = weights != 0 if weights.ndim == 2 else None
    graph.gemm(name, "linear", (x,), writes, shape, sizes=(rows, n, k), batch=batch, mask=mask)


def _told(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def convolution(
    graph: Graph,
    name: str,
    x: str,
    weights: NDArray,
    writes: str,
    shape: Shape,
    *,
    stride: tuple[int, int] = (1, 1),
    pads: Pads = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> None:
    """A convolution of x (batch, channels, [height,] width) with ``weights`` (out, in / groups, [R,] S).

    Padding that is not the same before and after counts as if it were fetched, up to the whole tensor. Masks are kept
    for ``groups`` = 1. :class:`InputError` for other than one or two dimensions, and what ``conv2d`` refuses.
    """
    if weights.ndim not in (3, 4) or len(graph.shapes[x]) != weights.ndim:
        raise InputError(f"op {name}: a convolution must have 1 or 2 dimensions, got {weights.ndim - 2}")
    size = graph.shapes[x] if weights.ndim == 4 else (*graph.shapes[x][:2], 1, graph.shapes[x][2])
    if weights.shape[1] * groups != size[1]:
        raise InputError(f"op {name}: channels must be {weights.shape[1] * groups}, got {size[1]}")
    kernel = weights.shape[2:] if weights.ndim == 4 else (1, weights.shape[2])
    even = all(before == after for before, after in pads)
    sides = [s if even else s + before + after for s, (before, after) in zip(size[2:], pads, strict=True)]
    padding = tuple(before for before, _ in pads) if even else (0, 0)
    row = conv2d(
        size[0], size[1], sides[0], sides[1], weights.shape[0], tuple(kernel), stride, padding, dilation, groups
    ).numeric()[0]
    m, n, k, distinct = (int(row[position(c)]) for c in ("m", "n", "k", "input_elements"))
    graph.gemm(
        name, "conv" if groups == 1 else "conv_grouped", (x,), writes, shape, sizes=(m, n, k), batch=groups,
        mask=np.asarray(weights != 0).reshape(n, k) if groups == 1 else None,
        input_elements=min(distinct, prod(size) // groups),
    )  # fmt: skip


def add_bias(graph: Graph, name: str, made: str, writes: str, shape: Shape, elements: int) -> None:
    """The addition of ``elements`` constants, which come from DRAM, to every row of a product."""
    graph.vector(f"{name}.bias", [("add", prod(shape), 0)], (made,), writes, shape, elements)


def attention(
    graph: Graph, name: str, qkv: list[str], writes: str, shape: Shape, shapes: list[Shape], masked: bool
) -> None:
    """Scores, softmax and values of heads; ``shapes`` (batch, heads, tokens, width) of q, k, v. Query heads that share
    keys are rows of one GEMM."""
    (batch, heads, queries, width), (_, kv, keys, _), (*_, values) = shapes
    rows, items, scores = heads // kv * queries, batch * kv, batch * heads * queries * keys
    names = f"{writes}.scores", f"{writes}.shares"
    table = (batch, heads, queries, keys)
    graph.gemm(
        f"{name}.scores", "attn_scores", qkv[:2], names[0], table, sizes=(rows, keys, width), batch=items,
        source="activations",
    )  # fmt: skip
    work: list[Work] = [("softmax", scores, batch * heads * queries)]
    if masked:
        work.append(("add", scores, 0))
    graph.vector(f"{name}.softmax", work, (names[0],), names[1], table)
    graph.gemm(
        f"{name}.values", "attn_values", (names[1], qkv[2]), writes, shape, sizes=(rows, values, keys), batch=items,
        source="activations",
    )  # fmt: skip
