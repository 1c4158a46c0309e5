"""Ops in order with the tensors each reads and writes; what is alive around each op follows from that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sim.sparsity.profile import Profile
from sim.trace import Op, Sparsity
from sim.vector_ops import operations
from workloads.steps import Numerics

Work = tuple[str, float, float]
"""(kind of ``vector_ops.csv``, elements, rows)"""
_Step = tuple[Op, Sequence[str], Mapping[str, float]]  # what it reads, what it writes in bytes


@dataclass
class Segment:
    """Ops in order, with the tensors each reads and writes (bytes); what is alive around each follows from that."""

    prefix: str
    layer: int
    bits: Numerics
    alive: dict[str, float]  # on entry
    steps: list[_Step] = field(default_factory=list)

    def gemm(
        self,
        name: str,
        m: int,
        n: int,
        k: int,
        reads: Sequence[str],
        writes: str,
        batch: int = 1,
        sparsity: Profile | Sparsity | None = None,
        fetched: int | None = None,
        source: str = "weights",
        matrix_type: str = "",
    ) -> None:
        """``source``: of the stationary operand; anything but weights says how many of its elements are ``fetched``
        from DRAM, a batch item (0: it is on chip). ``matrix_type``: default the name."""
        b = self.bits
        width = {"weights": b.weight_bits, "kv": b.kv_bits, "activations": b.activation_bits}[source]
        numbers = {
            "layer": self.layer, "batch": batch, "m": m, "n": n, "k": k,
            "weight_bits": width, "activation_bits": b.activation_bits,
            "output_bits": b.vector_bits, "accumulator_bits": b.accumulator_bits,
            "stored_elements": n * k if fetched is None else fetched,
        }  # fmt: skip
        op = Op(self.prefix + name, "gemm", matrix_type or name, source, sparsity, numbers)
        self.steps.append((op, reads, {writes: batch * m * n * b.vector_bits / 8}))

    def vector(
        self,
        name: str,
        work: Sequence[Work],
        reads: Mapping[str, float],
        writes: Mapping[str, float],
        dram_read_bytes: float = 0,
        dram_write_bytes: float = 0,
    ) -> None:
        """``reads`` and ``writes``: tensor to bytes."""
        counts = [operations(*item) for item in work]
        numbers = {
            "layer": self.layer,
            "alu_ops": sum(c[0] for c in counts), "special_function_ops": sum(c[1] for c in counts),
            "read_bytes": sum(reads.values()), "write_bytes": sum(writes.values()),
            "dram_read_bytes": dram_read_bytes, "dram_write_bytes": dram_write_bytes,
        }  # fmt: skip
        self.steps.append((Op(self.prefix + name, "vector", numbers=numbers), tuple(reads), writes))

    def ops(self) -> list[Op]:
        """The ops with ``live_in_bytes`` and ``live_out_bytes``. A tensor lives from its write to its last read before
        it is written again; what nobody reads is what the segment leaves."""
        readers, writers = self._touched(lambda step: step[1]), self._touched(lambda step: step[2])

        def end(tensor: str, since: int) -> float:
            stop = min((i for i in writers.get(tensor, ()) if i > since), default=len(self.steps))
            return max((i for i in readers.get(tensor, ()) if since < i <= stop), default=float("inf"))

        alive = {tensor: (size, end(tensor, -1)) for tensor, size in self.alive.items()}
        found = []
        for i, (op, _, writes) in enumerate(self.steps):
            before = sum(size for size, _ in alive.values())
            alive |= {tensor: (size, end(tensor, i)) for tensor, size in writes.items()}
            alive = {tensor: (size, last) for tensor, (size, last) in alive.items() if last > i}
            live = {"live_in_bytes": before, "live_out_bytes": sum(size for size, _ in alive.values())}
            found.append(replace(op, numbers={**op.numbers, **live}))
        return found

    def _touched(self, names: Callable[[_Step], Iterable[str]]) -> dict[str, list[int]]:
        """Tensor to the steps that touch it."""
        found: dict[str, list[int]] = {}
        for i, step in enumerate(self.steps):
            for tensor in names(step):
                found.setdefault(tensor, []).append(i)
        return found
