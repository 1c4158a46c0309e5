"""Expected accesses, computes and cycles of a loop nest with sparse features: Sparseloop's method.

An access is avoided with probability 1 - prod over leaders (1 - P(the leader's tile is empty)); leaders are taken as
independent of each other and of the target. What an outer level avoided for a target is avoided further in as well, and
so are the computes; for one leader the smallest tile decides, as if tiles that different targets go by were nested. The
number of effectual computes does not depend on this. Source: Wu et al., MICRO 2022, sections 4-5. Not taken over: words
of several elements, which enlarge the leader's tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sim.nest import Level, Nest
from sim.nest.room import tile_elements
from sim.sparsity.density import DensityModel, FixedStructured
from sim.sparsity.features.cycles import cycles
from sim.sparsity.features.leader import leader_tile
from sim.sparsity.features.ranks import RankUnits, is_compressed, rank_units, stored_share
from sim.sparsity.features.spec import ROW_DIMS, Features, check_models, mask_shape
from sim.sparsity.features.tally import Accesses, Computes, Counts, Metadata, Tally


class Avoided(NamedTuple):
    """Shares of accesses."""

    skipped: float
    gated: float

    @property
    def left(self) -> float:
        return 1.0 - self.skipped - self.gated


class _Conditions:
    """Emptiness of the leaders' tiles by kind, the highest of each leader: smaller tiles lie in larger ones."""

    def __init__(self) -> None:
        self.empty: dict[str, dict[str, float]] = {"skip": {}, "gate": {}}

    def add(self, kind: str, leader: str, empty: float) -> None:
        self.empty[kind][leader] = max(empty, self.empty[kind].get(leader, 0.0))

    def join(self, other: _Conditions) -> None:
        for kind, leaders in other.empty.items():
            for leader, empty in leaders.items():
                self.add(kind, leader, empty)

    def of(self, leader: str) -> float:
        """Probability that ``leader`` alone makes an access be avoided."""
        return max(kinds.get(leader, 0.0) for kinds in self.empty.values())

    def avoided(self) -> Avoided:
        """An access that may be skipped is skipped, also where a gate would apply."""
        skip = left = 1.0
        for leader in {x for leaders in self.empty.values() for x in leaders}:
            skip *= 1.0 - self.empty["skip"].get(leader, 0.0)
            left *= 1.0 - self.of(leader)
        return Avoided(1.0 - skip, skip - left)


def count(
    nest: Nest,
    densities: Mapping[str, DensityModel],
    features: Features,
    bandwidth_words_per_cycle: Mapping[str, tuple[float, float]] | None = None,
) -> Counts:
    """Expected counts. ``densities``: a model for each operand's mask (weights n x k, inputs m x k, outputs m x n); an
    operand without one is dense. ``bandwidth_words_per_cycle``: level -> (read, written) of one replica; a level that
    needs longer than the array sets the cycles.

    Raises InputError for features or densities that do not fit the nest.
    """
    features.check(nest)
    check_models(nest, densities)
    models = {x: densities.get(x, FixedStructured(mask_shape(nest, x), 1.0)) for x in ROW_DIMS}
    moves = nest.accesses()
    found: dict[tuple[str, str], Accesses] = {}
    innermost: dict[str, _Conditions] = {}
    for operand, model in models.items():
        above, within = _Conditions(), _Conditions()
        for level in nest.chain(operand):
            within = _Conditions()
            within.join(above)
            for saf in features.at(level.name, operand):
                for leader in saf.leaders:
                    empty = models[leader].empty(*leader_tile(nest, level, operand, leader))
                    within.add(saf.kind, leader, empty)
            ranks = features.formats.get((level.name, operand), ())
            share = stored_share(ranks, ROW_DIMS[operand], model)
            move, inner, outer = moves[level.name, operand], within.avoided(), above.avoided()
            reads, fills = tally(move.read_down, share, inner), tally(move.written_from_above, share, outer)
            updates, drains = tally(move.written_from_below, share, inner), tally(move.read_up, share, outer)
            with_it = metadata(
                nest, (level, operand), features, model, reads, updates if operand == "outputs" else fills
            )
            found[level.name, operand] = Accesses(reads, fills, updates, drains, with_it)
            above = within
        innermost[operand] = within
    computes = _computes(nest, models, features, innermost)
    order = [(level.name, x) for level in nest.levels for x in ROW_DIMS if x in level.keeps]
    accesses = {place: found[place] for place in order}
    return Counts(accesses, computes, cycles(nest, accesses, computes, bandwidth_words_per_cycle or {}))


def tally(algorithmic: float, stored: float, avoided: Avoided) -> Tally:
    """Zeros that are not stored first, then what of the rest is avoided."""
    held = algorithmic * stored
    return Tally(algorithmic, held * avoided.left, held * avoided.gated, held * avoided.skipped, algorithmic - held)


def metadata(
    nest: Nest, place: tuple[Level, str], features: Features, model: DensityModel, reads: Tally, written: Tally
) -> Metadata | None:
    """Metadata moves with its tile: as often as the data would if all of it were stored."""
    level, operand = place
    ranks = features.formats.get((level.name, operand))
    if not ranks:
        return None
    tile = rank_units(ranks, ROW_DIMS[operand], model)
    elements = tile_elements(nest, level, operand)

    def moved(moves: Tally, part: float) -> tuple[RankUnits, ...]:
        stored = moves.actual + moves.gated + moves.skipped
        times = moves.algorithmic / elements * (part / stored if stored else 0.0)
        return tuple(RankUnits(unit.metadata * times, unit.payload * times) for unit in tile)

    kinds = (moved(reads, part) for part in (reads.actual, reads.gated, reads.skipped))
    return Metadata(tile, *kinds, moved(written, written.actual))


def _computes(
    nest: Nest, models: Mapping[str, DensityModel], features: Features, innermost: Mapping[str, _Conditions]
) -> Computes:
    """What reaches the array: both operands' states, given that no access was avoided."""
    joined = _Conditions()
    for conditions in innermost.values():
        joined.join(conditions)
    avoided, macs = joined.avoided(), nest.macs()
    zero, missing = {}, {}
    for operand in ("weights", "inputs"):
        nonzero = min(1.0, models[operand].density / max(1.0 - joined.of(operand), 1e-300))
        level = nest.chain(operand)[-1].name
        compressed = is_compressed(features.formats.get((level, operand), ()))
        zero[operand], missing[operand] = (0.0, 1.0 - nonzero) if compressed else (1.0 - nonzero, 0.0)
    left = macs * avoided.left
    here = {x: 1.0 - missing[x] for x in missing}
    full = {x: here[x] - zero[x] for x in missing}
    effectual = left * full["weights"] * full["inputs"]
    absent = left * missing["weights"] * missing["inputs"]
    lone = left * (missing["weights"] * here["inputs"] + missing["inputs"] * here["weights"])
    zeros = left * (here["weights"] * here["inputs"] - full["weights"] * full["inputs"])
    return Computes.of_states(
        macs, effectual, absent, lone, zeros, macs * avoided.skipped, macs * avoided.gated, features.compute
    )
