"""What sparse hardware does about zeros: which accesses it gates or skips, on whose zeros, and how it stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.errors import InputError
from sim.nest import OPERANDS, Nest
from sim.nest.parts import known, names, settle, tile_sides
from sim.sparsity.density import DensityModel
from sim.sparsity.features.ranks import Rank

KINDS = ("gate", "skip")
COMPUTE = ("none", *KINDS)
ROW_DIMS = {"weights": "n", "inputs": "m", "outputs": "m"}
"""The dimension that counts down the rows of each operand's mask."""


@dataclass(frozen=True)
class Saf:
    """One sparse acceleration feature of a memory level: accesses to ``target`` are avoided where the tile of a leader
    that goes with the target's tile is empty. ``gate``: energy is saved, the cycle is not; ``skip``: both are.

    Leader-follower is one Saf (target: the follower), double sided are two. Several leaders: any empty one will do.
    Raises InputError for unknown names or a target that leads itself.
    """

    kind: str
    level: str
    target: str
    leaders: tuple[str, ...]

    def __post_init__(self) -> None:
        known(self.kind, KINDS, "kind of a feature")
        known(self.target, OPERANDS, "target")
        leaders = (self.leaders,) if isinstance(self.leaders, str) else names(self.leaders, "leaders")
        for leader in leaders:
            known(leader, tuple(x for x in OPERANDS[:2] if x != self.target), f"leader of {self.target}")
        if not leaders:
            raise InputError(f"leaders of {self.target} in {self.level} must name one operand or more")
        settle(self, leaders=leaders)


@dataclass(frozen=True)
class Features:
    """All features of a machine for one operation.

    safs: at memory levels. formats: (level, operand) -> ranks, outermost first; none: uncompressed, no metadata.
    compute: what the array does with an operand that is zero: ``none`` (multiplies), ``gate``, or ``skip`` (passes over
    pairs of which one is not there, which needs a compressed operand).
    """

    safs: tuple[Saf, ...] = ()
    formats: Mapping[tuple[str, str], tuple[Rank, ...]] = field(default_factory=dict)
    compute: str = "none"

    def __post_init__(self) -> None:
        known(self.compute, COMPUTE, "compute")
        settle(self, safs=tuple(self.safs), formats={place: tuple(r) for place, r in self.formats.items()})

    def check(self, nest: Nest) -> None:
        """Raise InputError where a feature names a level that the nest has not, or that does not keep the operand."""
        levels = {level.name: level for level in nest.levels}
        places = [*((saf.level, saf.target, "target") for saf in self.safs), *((*p, "format of") for p in self.formats)]
        for name, operand, what in places:
            level = levels[known(name, levels, "level of a feature")]
            known(operand, level.keeps, f"level {name}: {what}")

    def at(self, level: str, operand: str) -> tuple[Saf, ...]:
        """The features of one level for one target."""
        return tuple(saf for saf in self.safs if (saf.level, saf.target) == (level, operand))


def check_models(nest: Nest, models: Mapping[str, DensityModel]) -> None:
    """Raise InputError unless each model's shape is that of its operand's mask: weights n x k, inputs m x k (one line
    of m + k - 1 under a window), outputs m x n."""
    for operand, model in models.items():
        known(operand, OPERANDS, "density of")
        want = mask_shape(nest, operand)
        if tuple(model.shape) != want:
            raise InputError(f"density of {operand} is for a mask of {tuple(model.shape)}, but the nest needs {want}")


def mask_shape(nest: Nest, operand: str) -> tuple[int, int]:
    """(rows, columns) of the operand's mask."""
    return tile_sides(operand, nest.sizes, nest.window)
