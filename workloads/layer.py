"""One layer being written down: its model, its step, its number formats, and the ops so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.sparsity.profile import Profile
from sim.trace import Sparsity
from workloads.architecture import Architecture, Shape
from workloads.segment import Segment, Work
from workloads.steps import Numerics, Step

Masks = Mapping[str, Profile | Sparsity | None]


@dataclass
class Layer:
    """Layer ``index`` of ``model`` under ``step``; ``ops`` takes its ops. The residual stream enters as tensor x."""

    model: Architecture
    index: int
    step: Step
    bits: Numerics
    masks: Masks
    prefix: str = ""
    ops: Segment = field(init=False)

    def __post_init__(self) -> None:
        self.shapes: dict[str, Shape] = self.model.matrices(self.index)
        prefix = f"{self.prefix}layer{self.index}."
        self.ops = Segment(prefix, self.index, self.bits, {"x": self.residual * self.wide})

    @property
    def rows(self) -> int:
        """Rows of the activation matrix."""
        return self.step.rows

    @property
    def residual(self) -> int:
        """Elements of the residual stream."""
        return self.rows * self.model.d_model

    @property
    def wide(self) -> float:
        """Bytes of a number that the vector unit reads."""
        return self.bits.vector_bits / 8

    @property
    def narrow(self) -> float:
        """Bytes of a number that enters a GEMM."""
        return self.bits.activation_bits / 8

    def matrix(self, matrix_type: str, reads: str, writes: str) -> None:
        """A GEMM of all rows with one of the layer's matrices."""
        n, k = self.shapes[matrix_type]
        self.ops.gemm(matrix_type, self.rows, n, k, (reads,), writes, sparsity=self.masks.get(matrix_type))

    def norm(self, name: str, reads: str, writes: str) -> None:
        """Norm of the residual-sized tensor ``reads``, quantised for the GEMMs after it."""
        work: list[Work] = [(self.model.norm, self.residual, self.rows), ("quantise", self.residual, self.rows)]
        self.ops.vector(name, work, {reads: self.residual * self.wide}, {writes: self.residual * self.narrow})

    def plain(self, name: str, work: list[Work], reads: tuple[str, ...], writes: str) -> None:
        """A vector op from residual-sized tensors to one."""
        size = self.residual * self.wide
        self.ops.vector(name, work, dict.fromkeys(reads, size), {writes: size})
