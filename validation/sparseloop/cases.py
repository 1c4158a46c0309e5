"""Sparseloop's exercises 01-03 as nests and features, as inferred: the reference rows name neither.

Operands: A, Inputs are ``inputs`` (m x k), B, Weights are ``weights`` (n x k), Z, Outputs are ``outputs`` (m x n). In
convolutions m are the output positions (Q), k the taps (S), n the output channels (M). No operand is latched: every
compute reads its operands from the innermost level, which the algorithmic counts show (reads = computes). The order of
the innermost loops then changes no count.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.nest import Level, Loop, Nest, Unroll
from sim.sparsity.density import DensityModel, FixedStructured
from sim.sparsity.features import Features, Rank, Saf
from sim.sparsity.features.spec import mask_shape

NAMES = {"A": "inputs", "B": "weights", "Z": "outputs", "Inputs": "inputs", "Weights": "weights", "Outputs": "outputs"}
ALL = [Loop("m", 1), Loop("k", 1), Loop("n", 1)]


@dataclass(frozen=True)
class Case:
    """densities: of the operands that are not dense. bandwidths: level -> (read, written) words per cycle, where the
    reference's log names them. why: what the rows say about the nest and the features."""

    nest: Nest
    densities: dict[str, float]
    features: Features
    why: str
    bandwidths: dict[str, tuple[float, float]] | None = None

    def models(self) -> dict[str, DensityModel]:
        """``fixed_structured``, the distribution that the reference states."""
        return {x: FixedStructured(mask_shape(self.nest, x), d) for x, d in self.densities.items()}


def _dot(features: Features, why: str, density: float = 1.0) -> Case:
    """M = 1, K = 16, one buffer that holds all."""
    nest = Nest({"m": 1, "n": 1, "k": 16}, [Loop("k", 1)], [Level("Buffer")], latched=())
    return Case(nest, {"inputs": density} if density < 1 else {}, features, why)


def _spmspm(*loops: Loop, at: int, weights: tuple[Rank, ...], buffered: tuple[Rank, ...], why: str) -> Case:
    """M = K = N = 8. A stays in the backing storage (it has no buffer rows), B and Z are buffered."""
    nest = Nest(
        {"m": 8, "n": 8, "k": 8},
        [*loops, *ALL],
        [Level("BackingStorage"), Level("Buffer", keeps=("weights", "outputs"), at=at)],
        latched=(),
    )
    features = Features(
        (
            Saf("skip", "BackingStorage", "inputs", "weights"),
            Saf("skip", "Buffer", "weights", "inputs"),
            Saf("skip", "Buffer", "outputs", ("inputs", "weights")),
        ),
        {
            ("BackingStorage", "inputs"): (Rank("uop", "k", 8), Rank("cp", "m", 8)),
            ("BackingStorage", "weights"): weights,
            ("Buffer", "weights"): buffered,
        },
    )
    return Case(nest, {"inputs": 0.25, "weights": 0.5}, features, why, {"Buffer": (5, 5)})


def _conv(channels: int, keeps: tuple[str, ...], features: Features, why: str, density: float, lanes: int = 1) -> Case:
    """S = 3, Q = 9; ``lanes`` channels side by side, each with a buffer of its own."""
    spatial = {"n": Unroll("x", lanes)} if lanes > 1 else {}
    nest = Nest(
        {"m": 9, "k": 3, "n": channels},
        [Loop("n", lanes), Loop("m", 1), Loop("k", 1)],
        [Level("BackingStorage"), Level("Buffer", keeps=keeps, per=("x",) if lanes > 1 else ())],
        spatial,
        latched=(),
        window=True,
    )
    return Case(nest, {"weights": density}, features, why)


CASES = {
    "sparseloop/01.2.1-DUDU-dot-product": _dot(
        Features(), "dense and uncompressed: 16 reads of A and B, 15 of Z (the first starts from zero), 16 cycles"
    ),
    "sparseloop/01.2.2-SUDU-dot-product": _dot(
        Features((Saf("gate", "Buffer", "weights", "inputs"), Saf("gate", "Buffer", "outputs", "inputs"))),
        "A is read in full; 12 of 16 reads of B and updates of Z are gated: both follow A; 16 cycles, as ungated",
        0.25,
    ),
    "sparseloop/01.2.3-SCDU-dot-product": _dot(
        Features(
            (Saf("skip", "Buffer", "weights", "inputs"), Saf("skip", "Buffer", "outputs", "inputs")),
            {("Buffer", "inputs"): (Rank("cp", "k", 16),)},
        ),
        "A as coordinates (4 of 16 read, none skipped: the others are not there); B and Z skip by A; 4 cycles",
        0.25,
    ),
    "sparseloop/02.2.1-spMspM": _spmspm(
        at=0,
        weights=(Rank("uop", "k", 8), Rank("cp", "n", 8)),
        buffered=(Rank("uop", "k", 8), Rank("cp", "n", 8)),
        why="double sided: 64 of A's 128 nonzeros are skipped (B is half empty), 192 of B's 256 (A is 3/4 empty); "
        "Z by both. Both buffered tiles are whole: B's metadata of a tile is the same in both levels (9 and 32)",
    ),
    "sparseloop/02.2.2-spMspM-tiled": _spmspm(
        Loop("n", 2),
        at=1,
        weights=(Rank("uop", "n", 4), Rank("uop", "k", 8), Rank("cp", "n", 2)),
        buffered=(Rank("uop", "k", 8), Rank("cp", "n", 2)),
        why="as before with N = 4 x 2: the buffered tile of B has 8 nonzeros under 9 offsets (K = 8), and the storage "
        "one more rank of 4 + 1 offsets; the reference's log says the same",
    ),
    "sparseloop/03.2.1-conv1d": _conv(
        1,
        ("weights", "inputs", "outputs"),
        Features(
            (Saf("skip", "Buffer", "inputs", "weights"), Saf("skip", "Buffer", "outputs", "weights")),
            {("BackingStorage", "weights"): (Rank("rle", "k", 3),), ("Buffer", "weights"): (Rank("rle", "k", 3),)},
        ),
        "all three buffered whole (fills 3, 11, 9); Inputs and Outputs skip by the run-length coded Weights",
        0.43,
    ),
    "sparseloop/03.2.2-conv1d+oc": _conv(
        16,
        ("inputs",),
        Features(
            (Saf("skip", "Buffer", "inputs", "weights"),),
            {("BackingStorage", "weights"): (Rank("uop", "k", 3), Rank("rle", "n", 16))},
        ),
        "only Inputs are buffered; Weights and Outputs go to storage at every compute; Outputs have no feature: all "
        "432 updates happen; offsets 4 = 3 taps + 1",
        0.4333,
    ),
    "sparseloop/03.2.3-conv1d+oc-spatial": _conv(
        16,
        ("inputs", "outputs"),
        Features(
            (Saf("skip", "Buffer", "inputs", "weights"), Saf("skip", "Buffer", "outputs", "weights")),
            {("BackingStorage", "weights"): (Rank("uop", "n", 4), Rank("uop", "n", 4), Rank("rle", "k", 3))},
        ),
        "4 channels side by side, each with its buffer: Inputs are multicast (11 reads fill 4 x 11); the leader of an "
        "input is then one weight; 47 = 188 / 4 cycles",
        0.4333,
        lanes=4,
    ),
}
