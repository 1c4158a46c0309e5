"""A matrix that became two multiplications, as ops: x -> right -> left, and a sparse remainder beside them.

One GEMM M x K . K x N with weights out x in becomes::

    right  M x K    . K x rank      dense
    quantise                        what lies between the factors, to activation bits, a scale per row
    left   M x rank . rank x N
    rest   M x K    . K x N         the remainder, if there is one, with its own zeros
    add                             left and rest, in the vector unit

Assumed: every GEMM empties its accumulators to ``vector_bits``, so the two partial outputs are added by the vector
unit (an array that keeps accumulators from one GEMM to the next would spare ``add`` and one output's traffic). Factors
and remainder have the trace's weight bits. A ``right`` that is one dictionary for all layers is fetched in every layer:
a trace does not say which machine would have room to keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sim.errors import InputError
from sim.sparsity.profile import Profile
from sim.trace import Op, Sparsity
from workloads.segment import Segment
from workloads.shapes import SparsityOf
from workloads.steps import Numerics

Zeros = Profile | Sparsity | None
RIGHT, LEFT, REST = "_right", "_left", "_rest"
"""Endings of the matrix types that a factored matrix becomes."""


@dataclass(frozen=True)
class Factored:
    """How a matrix out x in was factored: left (out x ``rank``) times right (``rank`` x in), plus a remainder.

    ``left``: zeros of the left factor, None when it is dense. ``remainder``: zeros of the remainder, None when there is
    none. Right factors are dense. :class:`InputError` for a rank below 1.
    """

    rank: int
    left: Zeros = None
    remainder: Zeros = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"the rank of a factored matrix must be >= 1, got {self.rank}")


#: (layer, matrix type) -> zeros of that matrix, how it was factored, or None for dense.
FactoredOf = Callable[[int, str], Zeros | Factored]


def whole_type(matrix_type: str) -> str:
    """The matrix type that a part of a factored matrix comes from; others are themselves."""
    for ending in (RIGHT, LEFT, REST):
        matrix_type = matrix_type.removesuffix(ending)
    return matrix_type


def told_apart(given: FactoredOf) -> tuple[SparsityOf, dict[tuple[int, str], Factored]]:
    """``given`` with factored matrices taken for dense, and those it has met, filled as it is asked."""
    found: dict[tuple[int, str], Factored] = {}

    def zeros(layer: int, matrix_type: str) -> Zeros:
        answer = given(layer, matrix_type)
        if isinstance(answer, Factored):
            found[layer, matrix_type] = answer
            return None
        return answer

    return zeros, found


def factor(ops: Iterable[Op], factored: Mapping[tuple[int, str], Factored], bits: Numerics) -> list[Op]:
    """``ops`` with the GEMMs of the ``factored`` matrices taken apart; :class:`InputError` when zeros do not fit."""
    found: list[Op] = []
    for op in ops:
        own = factored.get((int(op.numbers["layer"]), op.matrix_type)) if op.weight_source == "weights" else None
        found += [op] if own is None or op.kind != "gemm" else expand(op, own, bits)
    return found


def expand(op: Op, factored: Factored, bits: Numerics) -> list[Op]:
    """The ops that one dense GEMM becomes, with the bytes alive around each."""
    batch, m, n, k = (int(op.numbers[name]) for name in ("batch", "m", "n", "k"))
    rank = factored.rank
    _check(op.name, "left factor", factored.left, (n, rank))
    _check(op.name, "remainder", factored.remainder, (n, k))
    wide, narrow = bits.vector_bits / 8, bits.activation_bits / 8
    output, between = batch * m * n * wide, batch * m * rank
    # What the GEMM read last is alive until its last reader here, everything else all through.
    freed = op.numbers["live_in_bytes"] + output - op.numbers["live_out_bytes"]
    alive = {"kept": op.numbers["live_in_bytes"] - freed, "x": freed}
    ops = Segment(f"{op.name}_", int(op.numbers["layer"]), bits, alive)
    kind = op.matrix_type
    ops.gemm("right", m, rank, k, ("x",), "t", batch, matrix_type=kind + RIGHT)
    ops.vector("quantise", [("quantise", between, batch * m)], {"t": between * wide}, {"t8": between * narrow})
    written = "y" if factored.remainder is None else "l"
    ops.gemm("left", m, n, rank, ("t8",), written, batch, factored.left, matrix_type=kind + LEFT)
    if factored.remainder is not None:
        ops.gemm("rest", m, n, k, ("x",), "r", batch, factored.remainder, matrix_type=kind + REST)
        ops.vector("add", [("add", batch * m * n, 0)], {"l": output, "r": output}, {"y": output})
    return ops.ops()


def _check(name: str, what: str, zeros: Zeros, wanted: tuple[int, int]) -> None:
    shape = zeros.shape if isinstance(zeros, Profile) else None
    if isinstance(zeros, Sparsity) and zeros.mask is not None:
        shape = zeros.mask.shape
    if shape is not None and tuple(shape) != wanted:
        expected, given = (" x ".join(map(str, sizes)) for sizes in (wanted, shape))
        raise InputError(f"{name}: zeros of the {what} must be {expected}, got {given}")
