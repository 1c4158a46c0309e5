"""A model's graph being written down as a trace: tensors, views of them, GEMMs and vector ops in execution order.

All numbers have one width (``bits``) but weights. A tensor lives from its op to its last reader. A view (a reshape, a
transpose, a slice) costs nothing: it is another way to address the same bytes. Stationary operands that the graph
computes come from DRAM, as in :func:`sim.operations.batched_gemm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.trace import Op, Sparsity, Trace
from sim.vector_ops import operations
from workloads.segment import Segment
from workloads.steps import Numerics

Shape = tuple[int, ...]
Work = tuple[str, float, float]  # kind of vector_ops.csv, elements, rows


@dataclass(frozen=True)
class _Step:
    """An op, the tensors it reads, the tensor it writes."""

    op: Op
    reads: tuple[str, ...]
    writes: str


@dataclass
class Graph:
    """``bits`` of activations and outputs, ``weight_bits`` of weights; ``fuse``: join vector ops that follow each other
    where the tensor between them has no other reader."""

    bits: int = 8
    weight_bits: int | None = None
    fuse: bool = True
    shapes: dict[str, Shape] = field(default_factory=dict)
    _roots: dict[str, str] = field(default_factory=dict)
    _given: list[str] = field(default_factory=list)
    _steps: list[_Step] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bits not in (4, 8, 16) or isinstance(self.bits, bool):
            raise InputError(f"bits must be 4, 8 or 16, got {self.bits!r}")
        width = self.bits if self.weight_bits is None else self.weight_bits
        if width not in range(1, 17) or isinstance(width, bool):
            raise InputError(f"weight_bits must be an integer between 1 and 16, got {width!r}")
        self.weight_bits = width

    def given(self, name: str, shape: Shape) -> None:
        """An input of the graph."""
        self.shapes[name] = shape
        self._given.append(name)

    def view(self, name: str, of: str, shape: Shape) -> None:
        """``name`` is ``of`` addressed in another way."""
        self.shapes[name] = shape
        self._roots[name] = self.root(of)

    def root(self, name: str) -> str:
        """The tensor whose bytes ``name`` are."""
        return self._roots.get(name, name)

    def bytes_of(self, name: str) -> float:
        """Bytes of a tensor or view."""
        return prod(self.shapes[name]) * self.bits / 8

    def gemm(
        self,
        name: str,
        matrix_type: str,
        reads: Sequence[str],
        writes: str,
        shape: Shape,
        *,
        sizes: tuple[int, int, int],
        batch: int = 1,
        source: str = "weights",
        mask: NDArray[np.bool_] | None = None,
        input_elements: int = 0,
    ) -> None:
        """``batch`` products of ``sizes`` (m, n, k); ``mask`` (out x in) where the weights have zeros."""
        m, n, k = sizes
        if batch * m * n != prod(shape):
            raise InputError(f"op {name}: makes {batch} x {m} x {n} numbers, its output has {prod(shape)}")
        numbers = {
            "batch": batch, "m": m, "n": n, "k": k, "activation_bits": self.bits, "output_bits": self.bits,
            "weight_bits": self.weight_bits if source == "weights" else self.bits, "input_elements": input_elements,
        }  # fmt: skip
        sparsity = Sparsity(mask=mask) if mask is not None and not mask.all() else None
        self._add(Op(self._unique(name), "gemm", matrix_type, source, sparsity, numbers), reads, writes, shape)

    def vector(
        self, name: str, work: Sequence[Work], reads: Sequence[str], writes: str, shape: Shape, constants: float = 0
    ) -> None:
        """A vector op; ``constants``: elements of constant operands, which come from DRAM."""
        counts = [operations(*item) for item in work]
        numbers = {
            "alu_ops": sum(c[0] for c in counts),
            "special_function_ops": sum(c[1] for c in counts),
            "read_bytes": sum(self.bytes_of(r) for r in reads),
            "write_bytes": prod(shape) * self.bits / 8,
            "dram_read_bytes": constants * self.bits / 8,
        }
        self._add(Op(self._unique(name), "vector", numbers=numbers), reads, writes, shape)

    def trace(self, meta: dict[str, Any], outputs: Sequence[str]) -> Trace:
        """The trace; ``outputs`` of the graph stay alive to its end, what no op reads only until the next op."""
        kept = {self.root(o) for o in outputs}
        steps = self._fused(kept) if self.fuse else self._steps
        if not steps:
            raise InputError(f"model {meta.get('name', '')}: has no op that costs anything")
        segment = Segment("", -1, Numerics(), {name: self.bytes_of(name) for name in self._given})
        read = {tensor for step in steps for tensor in step.reads} | kept
        unread: tuple[str, ...] = tuple(name for name in self._given if name not in read)
        for step in steps:
            segment.steps.append((step.op, (*step.reads, *unread), {step.writes: self.bytes_of(step.writes)}))
            unread = () if step.writes in read else (step.writes,)
        end = Op("end", "vector")  # reads what the graph returns
        segment.steps.append((end, (*kept, *unread), {}))
        return Trace.from_ops(segment.ops()[:-1], meta)

    def _add(self, op: Op, reads: Sequence[str], writes: str, shape: Shape) -> None:
        self.shapes[writes] = shape
        self._steps.append(_Step(op, tuple(dict.fromkeys(self.root(r) for r in reads)), writes))

    def _unique(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _fused(self, outputs: set[str]) -> list[_Step]:
        readers: dict[str, int] = {}
        for step in self._steps:
            for tensor in step.reads:
                readers[tensor] = readers.get(tensor, 0) + 1
        found: list[_Step] = []
        for step in self._steps:
            before = found[-1] if found else None
            if (
                before is not None
                and before.op.kind == step.op.kind == "vector"
                and before.writes in step.reads
                and readers[before.writes] == 1
                and before.writes not in outputs
            ):
                found[-1] = self._joined(before, step)
            else:
                found.append(step)
        return found

    def _joined(self, first: _Step, second: _Step) -> _Step:
        """Both in one pass: the tensor between them is never written."""
        a, b, between = first.op.numbers, second.op.numbers, self.bytes_of(first.writes)
        added = ("alu_ops", "special_function_ops", "dram_read_bytes")
        numbers = {name: a[name] + b[name] for name in added} | {
            "read_bytes": a["read_bytes"] + max(0.0, b["read_bytes"] - between),
            "write_bytes": b["write_bytes"],
        }
        kind = second.op.name.rpartition("/")[2].rpartition(".")[2]
        op = replace(first.op, name=f"{first.op.name}+{kind}", numbers=numbers)
        reads = tuple(dict.fromkeys([*first.reads, *(r for r in second.reads if r != first.writes)]))
        return _Step(op, reads, second.writes)
