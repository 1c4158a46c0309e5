"""A torch module as a trace: it runs once on example inputs, and its layers are written down as they are called.

Only calls of *layers* (modules without modules inside, and ``MultiheadAttention``) are seen. What the code between them
does (residual additions, products of activations written as ``matmul`` or ``scaled_dot_product_attention``) is not: its
result counts as the tensor of the layer before, and it costs nothing. Where that matters, export the module to ONNX and
use :func:`workloads.importers.onnx_file.from_onnx`, which sees every op.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from sim.trace import Trace
from workloads.importers.graph import Graph, Shape, Work
from workloads.importers.kinds import ELEMENTWISE, POOLS, REDUCTIONS, ROWS, TORCH
from workloads.importers.products import Pads, add_bias, attention, convolution, linear

UNKNOWN = ("refuse", "skip")
_MATRICES = ("Conv1d", "Conv2d", "Embedding", "Linear", "NonDynamicallyQuantizableLinear")
_ATTENTION = "MultiheadAttention"


def from_torch(
    module: Any,
    example_inputs: Any,
    *,
    bits: int = 8,
    weight_bits: int | None = None,
    unknown: str = "refuse",
    fuse: bool = True,
    name: str | None = None,
) -> Trace:
    """The trace of a torch ``nn.Module`` on ``example_inputs`` (a tensor, or a tuple of arguments).

    Works on anything with ``named_modules()`` whose layers have ``register_forward_hook``, torch's class names and
    ``weight``. Options as :func:`~workloads.importers.onnx_file.from_onnx`; zeros of weights become masks. The module
    runs in evaluation mode, without gradients, and is left as it was.

    Raises:
        InputError: no module, an input that it does not take, layers that are not known (``unknown="refuse"``).
    """
    if unknown not in UNKNOWN:
        raise InputError(f"unknown must be one of {', '.join(UNKNOWN)}, got '{unknown}', {nearest(unknown, UNKNOWN)}")
    if not callable(getattr(module, "named_modules", None)) or not callable(module):
        raise InputError(f"module must be a torch nn.Module, got {type(module).__name__}")
    inputs = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    listener = _Listener(Graph(bits, weight_bits, fuse))
    for i, tensor in enumerate(inputs):
        listener.given(f"input{i}", tensor)
    with _listening(module, listener), _no_grad():
        try:
            result = module(*inputs)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"module {type(module).__name__} does not take these inputs ({reason})") from None
    if listener.skipped and unknown == "refuse":
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(listener.skipped.items()))
        raise InputError(
            f"module {type(module).__name__}: layers that are not known: {listed}; unknown 'skip' leaves them out"
        )
    meta: dict[str, Any] = {"name": name or type(module).__name__, "imported": "torch modules", "bits": bits}
    if listener.skipped:
        meta["skipped_ops"] = listener.skipped
    return listener.graph.trace(meta, [listener.name_of(t) for t in _tensors(result)])


@contextmanager
def _listening(module: Any, listener: _Listener) -> Iterator[None]:
    """Hooks on every layer, evaluation mode; both taken back."""
    hooks, modes = [], []
    inside: list[str] = []
    try:
        for path, part in module.named_modules():
            if hasattr(part, "training"):
                modes.append((part, part.training))
                part.training = False
            kind = type(part).__name__
            if any(path.startswith(prefix) for prefix in inside):
                continue
            if kind == _ATTENTION:
                inside.append(f"{path}." if path else "")
            elif any(True for _ in part.children()):
                if any(True for _ in part.parameters(recurse=False)):
                    listener.skip(f"{kind}'s own parameters")
                continue
            hooks.append(part.register_forward_hook(listener.hook(path or kind)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes:
            part.training = mode


def _no_grad() -> Any:
    torch = sys.modules.get("torch")
    return torch.no_grad() if torch is not None and hasattr(torch, "no_grad") else nullcontext()


def _tensors(value: Any) -> list[Any]:
    """Tensors in what a module takes or returns."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, tuple | list) else []


def _array(weights: Any) -> NDArray:
    """A parameter's values; float32, since NumPy has no bfloat16."""
    for step in ("detach", "float", "cpu"):
        weights = getattr(weights, step)() if hasattr(weights, step) else weights
    return np.asarray(weights.numpy() if hasattr(weights, "numpy") else weights)


class _Listener:
    """Writes layers into a graph; tensors are known by identity, and kept so that none takes another's."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.skipped: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []
        self._last: str | None = None

    def given(self, name: str, tensor: Any) -> None:
        """An input of the module; indices are no activations."""
        for i, part in enumerate(_tensors(tensor)):
            self._remember(part, f"{name}.{i}")
            if "int" not in str(part.dtype) and "bool" not in str(part.dtype):
                self.graph.given(f"{name}.{i}", tuple(part.shape))
                self._last = f"{name}.{i}"

    def skip(self, kind: str) -> None:
        self.skipped[kind] = self.skipped.get(kind, 0) + 1

    def name_of(self, tensor: Any) -> str:
        """A tensor's name; one that no layer made is the tensor of the layer before, seen in another way."""
        found = self._names.get(id(tensor))
        if found is None:
            found = self._remember(tensor, f"between{len(self._kept)}")
            if self._last is not None:
                self.graph.view(found, self._last, tuple(tensor.shape))
            else:
                self.graph.given(found, tuple(tensor.shape))
        return found

    def _remember(self, tensor: Any, name: str) -> str:
        self._kept.append(tensor)
        self._names[id(tensor)] = name
        return name

    def hook(self, path: str) -> Any:
        """What torch calls after a layer has run."""

        def called(layer: Any, inputs: Any, output: Any) -> None:
            taken, made = _tensors(inputs), _tensors(output)
            if not taken or not made:
                return
            kind = type(layer).__name__
            known = kind in _MATRICES or kind in TORCH or kind == _ATTENTION or kind.endswith("RMSNorm")
            if not known:
                self.skip(kind)
            if not known or TORCH.get(kind) in ("Dropout", "Flatten", "Identity", "Reshape"):
                name = self._remember(made[0], f"{path}:{len(self._kept)}")
                self.graph.view(name, self.name_of(taken[0]), tuple(made[0].shape))
                return
            reads = [self.name_of(t) for t in taken]
            name = self._remember(made[0], f"{path}:{len(self._kept)}")
            self._write(kind, layer, path, reads, name, tuple(made[0].shape))
            self._last = name

        return called

    def _write(self, kind: str, layer: Any, path: str, reads: list[str], out: str, shape: Shape) -> None:
        if kind == _ATTENTION:
            _multihead(self.graph, layer, path, reads, out, shape)
        elif kind == "Embedding":
            self.graph.vector(path, [], (), out, shape, prod(shape))
        elif kind in _MATRICES:
            bias = getattr(layer, "bias", None)
            made = out if bias is None else f"{out}.product"
            if kind.startswith("Conv"):
                _convolution(self.graph, layer, path, reads[0], made, shape)
            else:
                linear(self.graph, path, reads[0], _array(layer.weight), made, shape)
            if bias is not None:
                add_bias(self.graph, path, made, out, shape, int(bias.shape[0]))
        else:
            op = TORCH.get(kind, "RMSNormalization")
            self.graph.vector(path, _work(op, layer, self.graph.shapes[reads[0]], shape), reads[:1], out, shape)


def _work(op: str, layer: Any, taken: Shape, made: Shape) -> list[Work]:
    elements = prod(made)
    if op in ELEMENTWISE:
        return [(kind, elements, 0) for kind in ELEMENTWISE[op]]
    if op in POOLS:
        size = layer.kernel_size
        taps = prod(size) if isinstance(size, tuple) else size ** (len(taken) - 2)
        return [(POOLS[op], elements * taps, 0), *([("mul", elements, 0)] if op == "AveragePool" else [])]
    if op in REDUCTIONS:
        return [(REDUCTIONS[op], prod(taken), 0), ("mul", elements, 0)]
    if op in ("Softmax", "LogSoftmax"):
        return [(ROWS[op], elements, elements / taken[-1 if layer.dim is None else layer.dim])]
    if op == "GroupNormalization":
        return [(ROWS[op], elements, taken[0] * layer.num_groups)]
    if op == "InstanceNormalization":
        return [(ROWS[op], elements, taken[0] * taken[1])]
    width = prod(getattr(layer, "normalized_shape", None) or taken[-1:])
    return [(ROWS[op], elements, elements / width)]


def _convolution(graph: Graph, layer: Any, path: str, x: str, made: str, shape: Shape) -> None:
    if isinstance(layer.padding, str):
        raise InputError(f"layer {path}: padding must be numbers, got '{layer.padding}'")
    stride, padding, dilation = ((1, *v)[-2:] for v in (layer.stride, layer.padding, layer.dilation))
    if len(layer.padding) == 1:
        padding = (0, *layer.padding)
    pads: Pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    weights = _array(layer.weight)
    convolution(graph, path, x, weights, made, shape, stride=stride, pads=pads, dilation=dilation, groups=layer.groups)


def _multihead(graph: Graph, layer: Any, path: str, reads: list[str], out: str, shape: Shape) -> None:
    """Projections of queries, keys and values, attention, output projection; widths as ``embed_dim`` has them."""
    if getattr(layer, "in_proj_weight", None) is None:
        raise InputError(f"layer {path}: attention with keys of another width than queries is not known")
    width, heads = int(layer.embed_dim), int(layer.num_heads)
    weights = _array(layer.in_proj_weight).reshape(3, width, width)
    names = []
    for at, (tag, x) in enumerate(zip("qkv", reads[:3], strict=True)):
        name = f"{out}.{tag}"
        made = name if layer.in_proj_bias is None else f"{name}.product"
        linear(graph, f"{path}.{tag}", x, weights[at], made, graph.shapes[x])
        if layer.in_proj_bias is not None:
            add_bias(graph, f"{path}.{tag}", made, name, graph.shapes[x], width)
        names.append(name)
    shapes: list[Shape] = []
    for name in names:
        size = graph.shapes[name] if len(graph.shapes[name]) == 3 else (1, *graph.shapes[name])
        batch, tokens = (size[0], size[1]) if layer.batch_first or size[0] == 1 else (size[1], size[0])
        shapes.append((batch, heads, tokens, width // heads))
    mixed = f"{out}.mixed"
    attention(graph, path, names, mixed, graph.shapes[names[0]], shapes, masked=len(reads) > 3)
    linear(graph, f"{path}.out_proj", mixed, _array(layer.out_proj.weight), out, shape)
