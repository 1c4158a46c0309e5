"""What each kind of ONNX node adds to a :class:`~workloads.importers.graph.Graph`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.importers.graph import Graph, Shape, Work
from workloads.importers.kinds import ELEMENTWISE, MOVE, MOVES, POOLS, REDUCTIONS, ROWS, VIEWS
from workloads.importers.products import Pads, add_bias, attention, convolution, linear, matmul


class Unknown(Exception):
    """A node, or a form of it, that is not known."""


@dataclass
class Node:
    """A node with what is known around it; ``free``: operands made of indices, with their shapes."""

    proto: Any
    name: str
    graph: Graph
    constants: dict[str, NDArray]
    result: Shape = ()
    others: list[Shape] = field(default_factory=list)
    free: dict[str, Shape] = field(default_factory=dict)

    @property
    def op(self) -> str:
        return str(self.proto.op_type)

    @cached_property
    def inputs(self) -> list[str]:
        return [str(name) for name in self.proto.input if name]

    @cached_property
    def outputs(self) -> list[str]:
        return [str(name) for name in self.proto.output if name]

    @cached_property
    def active(self) -> list[str]:
        """Operands that are activations."""
        return [name for name in self.inputs if name in self.graph.shapes]

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value as Python has it; text is decoded."""
        import onnx

        for found in self.proto.attribute:
            if found.name == name:
                value = onnx.helper.get_attribute_value(found)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, at: int) -> NDArray | None:
        """The value of an operand, if it is constant."""
        return self.constants.get(self.proto.input[at]) if at < len(self.proto.input) else None

    @property
    def constant_elements(self) -> float:
        """Elements of the operands that no op made; a single number is in the instruction."""
        sizes = [self.constants[n].size if n in self.constants else prod(self.free.get(n, ())) for n in self.inputs]
        return float(sum(s for n, s in zip(self.inputs, sizes, strict=True) if n not in self.active and s > 1))

    def vector(self, work: list[Work], constants: float = 0) -> None:
        """A vector op from all activations to the first output."""
        self.graph.vector(self.name, work, self.active, self.outputs[0], self.result, constants)


def _matmul(node: Node) -> None:
    a, b = node.constant(0), node.constant(1)
    x, y = node.proto.input[0], node.proto.input[1]
    out = node.outputs[0]
    if b is not None and b.ndim >= 2 and x in node.graph.shapes:
        linear(node.graph, node.name, x, np.swapaxes(b, -1, -2), out, node.result)
    elif a is not None and a.ndim == 2 and y in node.graph.shapes:
        linear(node.graph, node.name, y, a, out, node.result)
    elif x in node.graph.shapes and y in node.graph.shapes:
        matmul(node.graph, node.name, x, y, out, node.result)
    else:
        raise Unknown


def _gemm(node: Node) -> None:
    weights = node.constant(1)
    if weights is None or node.proto.input[0] not in node.graph.shapes or node.attribute("transA", 0):
        raise Unknown
    weights = weights if node.attribute("transB", 0) else weights.T
    out, bias = node.outputs[0], node.constant(2)
    made = out if bias is None else f"{out}.product"
    linear(node.graph, node.name, node.proto.input[0], weights, made, node.result)
    _bias(node, made, bias)


def _bias(node: Node, made: str, bias: NDArray | None) -> None:
    if bias is not None:
        add_bias(node.graph, node.name, made, node.outputs[0], node.result, bias.size)


def _conv(node: Node) -> None:
    weights, bias = node.constant(1), node.constant(2)
    if weights is None or weights.ndim not in (3, 4):
        raise Unknown
    axes = weights.ndim - 2
    stride = _pair(node.attribute("strides", [1] * axes), 1)
    dilation = _pair(node.attribute("dilations", [1] * axes), 1)
    made = node.outputs[0] if bias is None else f"{node.outputs[0]}.product"
    convolution(
        node.graph, node.name, node.active[0], weights, made, node.result, stride=stride,
        pads=_pads(node, weights.shape[2:], stride, dilation), dilation=dilation, groups=node.attribute("group", 1),
    )  # fmt: skip
    _bias(node, made, bias)


def _pads(node: Node, kernel: Shape, stride: tuple[int, int], dilation: tuple[int, int]) -> Pads:
    """(before, after) of height and width; ``auto_pad`` as the ONNX operator's text has it."""
    axes, mode = len(kernel), node.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID", ""):
        flat = node.attribute("pads", [0] * 2 * axes) if mode != "VALID" else [0] * 2 * axes
        found = [(int(flat[i]), int(flat[i + axes])) for i in range(axes)]
    else:
        found = []
        sizes = zip(node.graph.shapes[node.active[0]][2:], node.result[2:], kernel, strict=True)
        steps = zip(stride[2 - axes :], dilation[2 - axes :], strict=True)
        for (size, outputs, taps), (step, spread) in zip(sizes, steps, strict=True):
            more = max(0, (outputs - 1) * step + spread * (taps - 1) + 1 - size)
            less = more // 2
            found.append((less, more - less) if mode == "SAME_UPPER" else (more - less, less))
    first = [(0, 0)] * (2 - axes)
    height, width = [*first, *found]
    return height, width


def _pair(values: list[int], fill: int) -> tuple[int, int]:
    first, second = ([fill] * (2 - len(values)) + [int(v) for v in values])[:2]
    return first, second


def _elementwise(node: Node) -> None:
    kinds, times = ELEMENTWISE[node.op], 1
    if node.op in ("Add", "Mul", "Max", "Min"):
        times = max(1, len(node.inputs) - 1)
    exponent = node.constant(1) if node.op == "Pow" else None
    if node.op == "Div" and node.constant(1) is not None:
        kinds = ("mul",)  # by a constant: its reciprocal
    elif node.op == "Pow" and (exponent is None or exponent.size != 1 or float(exponent.ravel()[0]) != 2.0):
        kinds = ("decay", "decay")  # exp(y log x)
    elements = prod(node.result) * times
    constants = 0.0 if node.op in ("BatchNormalization", "Clip") else node.constant_elements
    node.vector([(kind, elements, 0) for kind in kinds], constants)


def _rows(node: Node) -> None:
    shape = node.graph.shapes[node.active[0]]
    elements = prod(shape)
    axis = node.attribute("axis", -1)
    if node.op in ("Softmax", "LogSoftmax"):
        rows = elements / shape[axis]
    elif node.op == "InstanceNormalization":
        rows = shape[0] * shape[1]
    elif node.op == "GroupNormalization":
        rows = shape[0] * node.attribute("num_groups", 1)
    else:
        rows = prod(shape[: axis % len(shape)])
    node.vector([(ROWS[node.op], elements, rows)])


def _reduction(node: Node) -> None:
    work: list[Work] = [(REDUCTIONS[node.op], prod(node.graph.shapes[node.active[0]]), 0)]
    if node.op in ("ReduceMean", "GlobalAveragePool"):
        work.append(("mul", prod(node.result), 0))
    node.vector(work)


def _pool(node: Node) -> None:
    elements = prod(node.result)
    work: list[Work] = [(POOLS[node.op], elements * prod(node.attribute("kernel_shape", [1])), 0)]
    if node.op == "AveragePool":
        work.append(("mul", elements, 0))
    node.vector(work)


def _move(node: Node) -> None:
    if node.op == "Gather" and node.inputs[0] not in node.graph.shapes:  # rows of a table in DRAM
        node.vector([], prod(node.result))
        return
    joined = node.constant_elements if node.op == "Concat" else 0.0
    node.vector([(MOVE, prod(node.result), 0)], joined)


def _view(node: Node) -> None:
    for name, shape in zip(node.outputs, [node.result, *node.others], strict=True):
        node.graph.view(name, node.active[0], shape)


def _quantise(node: Node) -> None:
    node.vector([("quantise", prod(node.result), 0)])


def _attention(node: Node) -> None:
    """Opset 23: Q, K, V of (batch, heads, tokens, width) or (batch, tokens, heads x width); no cache."""
    names = list(node.proto.input)
    if len(node.active) < 3 or node.active[:3] != names[:3] or any(names[4:]):
        raise Unknown
    shapes = [node.graph.shapes[name] for name in names[:3]]
    if len(shapes[0]) == 3:
        heads, kv = node.attribute("q_num_heads", 0), node.attribute("kv_num_heads", 0)
        if heads < 1 or kv < 1:
            raise Unknown
        shapes = [(s[0], h, s[1], s[2] // h) for s, h in zip(shapes, (heads, kv, kv), strict=True)]
    attention(node.graph, node.name, names[:3], node.outputs[0], node.result, shapes, bool(names[3:4] and names[3]))


Handler = Callable[[Node], None]
HANDLERS: dict[str, Handler] = {
    "Attention": _attention,
    "Conv": _conv,
    "DequantizeLinear": _view,  # a number format, not work: machines multiply the codes
    "Gemm": _gemm,
    "MatMul": _matmul,
    "QuantizeLinear": _quantise,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(ROWS, _rows),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(VIEWS, _view),
}
"""Node kind to what it adds."""
