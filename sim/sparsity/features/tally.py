"""Results: how many accesses and computes happen, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from sim.sparsity.features.ranks import RankUnits


class Tally(NamedTuple):
    """Accesses, element by element, over all replicas. actual + gated + skipped + absent = algorithmic.

    algorithmic: if nothing were zero. absent: zeros that a compressed format does not store.
    """

    algorithmic: float
    actual: float
    gated: float
    skipped: float
    absent: float


class Metadata(NamedTuple):
    """Units of each rank, outermost first: of one full tile, and read in total with the actual, gated and skipped
    reads, and written with the actual fills (outputs: updates)."""

    tile: tuple[RankUnits, ...]
    actual_reads: tuple[RankUnits, ...]
    gated_reads: tuple[RankUnits, ...]
    skipped_reads: tuple[RankUnits, ...]
    actual_writes: tuple[RankUnits, ...]


@dataclass(frozen=True)
class Accesses:
    """Of one operand in one level. reads: toward the array. fills: from the level outside. updates: results that come
    from inside. drains: results read to go outside. metadata: None without a format."""

    reads: Tally
    fills: Tally
    updates: Tally
    drains: Tally
    metadata: Metadata | None = None

    def words(self) -> tuple[float, float]:
        """(read, written) that take their time: actual and gated elements, and words of metadata."""
        read, written = (
            sum(t.actual + t.gated for t in pair) for pair in ((self.reads, self.drains), (self.fills, self.updates))
        )
        if self.metadata:
            ranks = (*self.metadata.actual_reads, *self.metadata.gated_reads)
            read += sum(unit.metadata + unit.payload for unit in ranks)
            written += sum(unit.metadata + unit.payload for unit in self.metadata.actual_writes)
        return read, written


@dataclass(frozen=True)
class Computes:
    """Multiply-accumulates. They add up: algorithmic = all the others.

    effectual: both operands nonzero. ineffectual: done although one is zero. gated, skipped: by the array itself.
    storage_gated, storage_skipped: never asked for, because an operand's access was avoided. absent: neither operand is
    stored, nothing happens.
    """

    algorithmic: float
    effectual: float
    ineffectual: float
    gated: float
    skipped: float
    storage_gated: float
    storage_skipped: float
    absent: float

    @classmethod
    def of_states(
        cls,
        algorithmic: float,
        effectual: float,
        absent: float,
        lone: float,
        zeros: float,
        storage_skipped: float,
        storage_gated: float,
        compute: str,
    ) -> Computes:
        """From pairs by the state of their operands, and what the array does about them (``compute`` of
        :class:`~sim.sparsity.features.spec.Features`). lone: one operand is there, the other is not stored. zeros: both
        are there, one or both are zero."""
        gate, skip = compute == "gate", compute == "skip"
        return cls(
            algorithmic=algorithmic,
            effectual=effectual,
            ineffectual=0 * zeros if gate else zeros if skip else zeros + lone,
            gated=zeros + lone if gate else 0 * zeros,
            skipped=lone if skip else 0 * lone,
            storage_gated=storage_gated,
            storage_skipped=storage_skipped,
            absent=absent,
        )

    @property
    def actual(self) -> float:
        """Done by the multipliers."""
        return self.effectual + self.ineffectual

    @property
    def timed(self) -> float:
        """Those that take a cycle."""
        return self.actual + self.gated + self.storage_gated

    def shares(self) -> dict[str, float]:
        """Each part over the algorithmic ones."""
        return {f.name: getattr(self, f.name) / self.algorithmic for f in fields(self)}


@dataclass(frozen=True)
class Counts:
    """accesses: by (level, operand), outermost level first. cycles: of the array (``array``) and of every level whose
    bandwidth is given. All are expectations, not rounded, unless they were walked."""

    accesses: Mapping[tuple[str, str], Accesses]
    computes: Computes
    cycles: Mapping[str, float]

    @property
    def total_cycles(self) -> float:
        """The slowest of the array and the levels (no fill, drain or imbalance)."""
        return max(self.cycles.values())
