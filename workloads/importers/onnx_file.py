"""An ONNX file as a trace: shapes by inference, constants folded, weights' zeros as masks, one op a node that costs.

- MatMul, Gemm and Conv become GEMMs: of weights where an operand is constant, else of two
  activations (attention). Attention (opset 23) becomes its two products and a softmax.
- Elementwise ops, norms, softmax, reductions, pools and moves become vector ops (:mod:`workloads.importers.kinds`).
- Reshapes, transposes, slices and casts are free, and so is arithmetic on shapes, indices and constants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import InputError, nearest
from sim.trace import Trace
from workloads.importers.graph import Graph, Shape
from workloads.importers.onnx_nodes import HANDLERS, Node, Unknown
from workloads.importers.onnx_shapes import Sizes, first_line

UNKNOWN = ("refuse", "skip")


def from_onnx(
    path: str | Path,
    *,
    dims: Mapping[str, int] | None = None,
    bits: int = 8,
    weight_bits: int | None = None,
    unknown: str = "refuse",
    fuse: bool = True,
) -> Trace:
    """The trace of an ONNX model; needs ``pip install sparchitect[import]``.

    Args:
        dims: sizes of named dimensions of the inputs ("batch": 1); a dimension without a name is "INPUT.AXIS".
        bits: of activations, outputs, constants and weights: 4, 8 or 16. ``weight_bits``: of weights, 1 to 16.
        unknown: "refuse" ops that are not known, or "skip" them: they cost nothing, ``meta["skipped_ops"]`` lists them.
        fuse: join vector ops that follow each other, as a compiler would.

    Raises:
        InputError: no ONNX file, a dimension without a size, a shape that inference does not find, unknown ops.
    """
    if unknown not in UNKNOWN:
        raise InputError(f"unknown must be one of {', '.join(UNKNOWN)}, got '{unknown}', {nearest(unknown, UNKNOWN)}")
    try:
        return _trace(Path(path), dict(dims or {}), Graph(bits, weight_bits, fuse), unknown)
    except InputError as error:  # names in the file may hold anything
        raise InputError(" ".join(str(error).split())) from None


def _trace(path: Path, dims: dict[str, int], graph: Graph, unknown: str) -> Trace:
    model = _load(path)
    _bind(model, dims, path)
    reader = _Reader(model, graph, f"model '{path}'", unknown)
    reader.read()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    meta: dict[str, Any] = {
        "name": path.stem, "model": path.name, "imported": "onnx", "opset": opset, "bits": graph.bits,
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    if dims:
        meta["dims"] = dims
    if reader.skipped:
        meta["skipped_ops"] = reader.skipped
    return graph.trace(meta, [o.name for o in model.graph.output if o.name in graph.shapes])


def _load(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise InputError("reading ONNX needs: pip install sparchitect[import]") from None
    if not path.is_file():
        raise InputError(f"model '{path}': no such file")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(str(path))
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
    except (DecodeError, OSError, ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as error:
        raise InputError(f"model '{path}': cannot be read ({first_line(error)})") from None
    if not model.graph.node:
        raise InputError(f"model '{path}': not an ONNX model, or one without ops")
    return model


def _bind(model: Any, dims: dict[str, int], path: Path) -> None:
    """Give every dimension of the inputs a size."""
    constant = {i.name for i in model.graph.initializer}
    known: set[str] = set()
    for given in model.graph.input:
        if given.name in constant:
            continue
        for axis, dim in enumerate(given.type.tensor_type.shape.dim):
            name = dim.dim_param or f"{given.name}.{axis}"
            known.add(name)
            if dim.HasField("dim_value") and name not in dims:
                size = dim.dim_value
            elif name in dims:
                size = dims[name]
            else:
                raise InputError(f"model '{path}': dimension '{name}' of input {given.name} needs a size: {name}=SIZE")
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InputError(f"model '{path}': dimension '{name}' must be a whole number >= 1, got {size!r}")
            dim.dim_value = size
    for name in dims:
        if name not in known:
            raise InputError(f"model '{path}': no input has a dimension '{name}', {nearest(name, known)}")


class _Reader:
    """Walks the nodes; ``free`` are values made of indices and shapes only."""

    def __init__(self, model: Any, graph: Graph, where: str, unknown: str) -> None:
        self.graph, self.where, self.unknown = graph, where, unknown
        self.skipped: dict[str, int] = {}
        self.free: set[str] = set()
        self.inputs = [given.name for given in model.graph.input]
        self.nodes = [*model.graph.node]
        self.sizes = Sizes.of(model, where)

    def read(self) -> None:
        """Every node in order; :class:`InputError` that lists all ops that are not known."""
        constants = self.sizes.constants
        for name in self.inputs:
            if name in self.sizes.floats and name not in constants:
                self.graph.given(name, self._shape(name, "the graph"))
            elif name not in constants:
                self.free.add(name)
        for i, proto in enumerate(self.nodes):
            named = proto.name.strip("/") if isinstance(proto.name, str) else ""  # bytes, if it is not UTF-8
            node = Node(proto, named or f"{proto.op_type}_{i}", self.graph, constants)
            if not self._free(node):
                self._charge(node)
        if self.skipped and self.unknown == "refuse":
            listed = ", ".join(f"{op} ({count})" for op, count in sorted(self.skipped.items()))
            raise InputError(f"{self.where}: ops that are not known: {listed}; unknown 'skip' leaves them out")

    def _free(self, node: Node) -> bool:
        """Constants, and whatever comes from indices alone."""
        if all(name in self.sizes.constants for name in node.outputs):
            return True
        if node.active or any(a.HasField("g") for a in node.proto.attribute):
            return False  # a graph inside may read activations from around it
        table = self.sizes.constants.get(node.inputs[0]) if node.op == "Gather" else None
        if table is not None and table.dtype.kind not in "iub":
            return False  # an embedding
        self.free.update(node.outputs)
        return True

    def _charge(self, node: Node) -> None:
        handler = HANDLERS.get(node.op) if node.proto.domain in ("", "ai.onnx") else None
        node.result = self._shape(node.outputs[0], node.name, needed=handler is not None)
        node.others = [self._shape(name, node.name, needed=False) for name in node.outputs[1:]]
        node.free = {name: self.sizes.shapes.get(name, ()) for name in node.inputs if name in self.free}
        try:
            if handler is None:
                raise Unknown
            handler(node)
        except Unknown:
            self.skipped[node.op] = self.skipped.get(node.op, 0) + 1
            if not node.active:
                self.free.update(node.outputs)
                return
            for name, shape in zip(node.outputs, [node.result, *node.others], strict=True):
                self.graph.view(name, node.active[0], shape)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None

    def _shape(self, name: str, op: str, needed: bool = True) -> Shape:
        found = self.sizes.shapes.get(name)
        if needed and (found is None or 0 in found):
            raise InputError(f"{self.where}: op {op}: the shape of '{name}' is not known after inference")
        return found or ()
