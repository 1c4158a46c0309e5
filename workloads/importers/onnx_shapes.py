"""Sizes and constants of an ONNX graph: shape inference and constant folding in turns, until neither finds more.

Exported graphs compute shapes from shapes (Shape, Gather, Concat, Reshape). Inference alone stops there; a folded shape
lets it go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from workloads.importers.graph import Shape

_SMALL = 1024  # elements of a constant that shapes may depend on
_LARGEST_FOLDED = 2**28  # elements of a constant that is computed here


def first_line(error: Exception) -> str:
    """An error of ONNX in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _declare(graph: Any, constants: dict[str, NDArray]) -> None:
    """Tell inference of constants: small ones by value, large ones by size."""
    import onnx

    given = {info.name for info in graph.input}
    for name, value in constants.items():
        if value.size <= _SMALL:
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        elif name not in given:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))


@dataclass
class Sizes:
    """``shapes`` of all values that inference knows, which of them are ``floats``, and the ``constants``."""

    where: str
    shapes: dict[str, Shape] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)
    constants: dict[str, NDArray] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, where: str) -> Sizes:
        """Of a model whose inputs have sizes; ``model`` loses its large constants.

        Raises:
            InputError: ONNX finds the graph inconsistent.
        """
        import onnx

        found = cls(where)
        inner = model.graph
        for tensor in [*inner.initializer]:
            found.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        inner.ClearField("initializer")
        for info in [*inner.value_info]:  # of other sizes than those asked for
            if not all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim):
                inner.value_info.remove(info)
        new = list(found.constants)
        while True:
            _declare(inner, {name: found.constants[name] for name in new})
            found._infer(model)
            new = found._fold(inner.node)
            if not new:
                return found
            for node in [*inner.node]:
                if any(name in new for name in node.output):
                    inner.node.remove(node)

    def _infer(self, model: Any) -> None:
        import onnx

        try:
            inner = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except (RuntimeError, ValueError, TypeError, onnx.shape_inference.InferenceError) as error:
            raise InputError(f"{self.where}: shapes cannot be inferred ({first_line(error)})") from None
        for info in [*inner.input, *inner.value_info, *inner.output]:
            tensor = info.type.tensor_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                self.shapes[info.name] = tuple(d.dim_value for d in tensor.shape.dim)
            kind = tensor.elem_type
            if kind and onnx.helper.tensor_dtype_to_np_dtype(kind).kind not in "iub":
                self.floats.add(info.name)

    def _fold(self, nodes: Any) -> list[str]:
        """Names of the constants that these nodes add."""
        found: list[str] = []
        for node in nodes:
            names = [name for name in node.input if name]
            if node.op_type == "Shape" and names[0] in self.shapes:
                stop = {a.name: a.i for a in node.attribute}
                part = self.shapes[names[0]][slice(stop.get("start", 0), stop.get("end"))]
                self.constants[node.output[0]] = np.array(part, dtype=np.int64)
            elif node.op_type == "Size" and names[0] in self.shapes:
                self.constants[node.output[0]] = np.array(prod(self.shapes[names[0]]), dtype=np.int64)
            elif all(name in self.constants for name in names) and self._small(node):
                self._evaluate(node, names)
            else:
                continue
            found += [name for name in node.output if name]
        return found

    def _small(self, node: Any) -> bool:
        """Whether its outputs may be computed; nodes with a graph inside or random numbers are left as they are."""
        if any(a.HasField("g") for a in node.attribute) or node.op_type.startswith("Random") or node.domain:
            return False
        return all(prod(self.shapes.get(name, ())) <= _LARGEST_FOLDED for name in node.output)

    def _evaluate(self, node: Any, names: list[str]) -> None:
        from onnx.reference import ReferenceEvaluator

        try:
            values = ReferenceEvaluator(node).run(None, {name: self.constants[name] for name in names})
        except Exception as error:  # the evaluator runs whatever the file says, and fails in as many ways
            raise InputError(
                f"{self.where}: op {node.name or node.op_type} of constants cannot be computed ({first_line(error)})"
            ) from None
        for name, value in zip([n for n in node.output if n], values, strict=False):
            self.constants[name] = np.asarray(value)
