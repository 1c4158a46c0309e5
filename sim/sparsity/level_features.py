"""Gating and skipping at a memory level, as machine files spell them: ``skip weights <- inputs by vector``.

A transfer of the target's tile to the next level inside (or the array) is avoided where the tile of a leader that goes
with it is empty: ``gate`` saves its energy, ``skip`` its time too. Leaders are joined by ``&`` (any empty one will do);
``<->`` is double sided: each operand leads the other. ``by vector``: decisions are made for one position of K within
the tile (outputs: one row of a leader's) instead of for the whole tile. Entries are separated by commas.
Notation and rule of the leader's tile: Wu et al., MICRO 2022 (Sparseloop); the tile comes from the mapping
(:mod:`sim.avoided`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim.errors import InputError, nearest

KINDS = ("gate", "skip")
LEADERS = ("inputs", "weights")
TARGETS = (*LEADERS, "outputs")
GRANULES = ("tile", "vector")
_ENTRY = re.compile(r"(\w+)\s+(\w+)\s*(<->|<-)\s*(\w+(?:\s*&\s*\w+)*)(?:\s+by\s+(\w+))?")
LEADER_SHIFT, VECTOR_SHIFT = 2, 4


@dataclass(frozen=True)
class LevelFeature:
    """One feature of a level: what it does (:data:`KINDS`), to which operand, on whose zeros, in which granules."""

    kind: str
    target: str
    leaders: tuple[str, ...]
    granule: str = "tile"

    @property
    def code(self) -> int:
        """As the kernels read it: kind (1 gate, 2 skip), bits of the leaders from :data:`LEADER_SHIFT`, granule."""
        leaders = sum(1 << LEADERS.index(leader) for leader in self.leaders)
        vector = GRANULES.index(self.granule)
        return 1 + KINDS.index(self.kind) + (leaders << LEADER_SHIFT) + (vector << VECTOR_SHIFT)


def parse(text: str) -> tuple[LevelFeature, ...]:
    """The features in ``text``, at most one a target. :class:`InputError` for what cannot be read, unknown names, an
    operand that leads itself, and a second feature of one target."""
    found: dict[str, LevelFeature] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise InputError(f"feature '{entry}' must look like 'skip weights <- inputs' or 'gate inputs <-> weights'")
        kind, target, arrow, names, granule = match.groups()
        leaders = tuple(name.strip() for name in names.split("&"))
        for name, known in ((kind, KINDS), (target, TARGETS), (granule or "tile", GRANULES)):
            _known(name, known, entry)
        pairs = [(target, leaders)]
        if arrow == "<->":
            if len(leaders) > 1:
                raise InputError(f"feature '{entry}': <-> stands between two operands")
            pairs.append((leaders[0], (target,)))
        for to, by in pairs:
            for leader in by:
                _known(leader, LEADERS, entry)
                if leader == to:
                    raise InputError(f"feature '{entry}': {to} cannot lead themselves")
            if to in found:
                raise InputError(f"feature '{entry}': {to} have one already; join leaders with '&'")
            found[to] = LevelFeature(kind, to, tuple(dict.fromkeys(by)), granule or "tile")
    return tuple(found.values())


def codes(text: str) -> dict[str, int]:
    """Target to code (:attr:`LevelFeature.code`), 0 for no feature."""
    given = {feature.target: feature.code for feature in parse(text)}
    return {target: given.get(target, 0) for target in TARGETS}


def _known(name: str, names: tuple[str, ...], entry: str) -> None:
    if name not in names:
        raise InputError(f"feature '{entry}': '{name}' is unknown, {nearest(name, names)}")
