"""Cycles of the array and of the levels: the slowest of them sets the pace."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from sim.errors import InputError
from sim.nest import Nest
from sim.nest.parts import known
from sim.sparsity.features.tally import Accesses, Computes


def cycles(
    nest: Nest,
    accesses: Mapping[tuple[str, str], Accesses],
    computes: Computes,
    bandwidth_words_per_cycle: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """``array``: computes that take a cycle, done as many at once as in the dense nest, as if the units shared the work
    evenly. Levels with a bandwidth (read, written; words of one replica; an element or a unit of metadata is a word):
    their accesses over it, reads beside writes.

    Raises InputError for an unknown level or a bandwidth that is not above 0.
    """
    found = {"array": computes.timed * nest.steps() / nest.macs()}
    levels = {level.name: level for level in nest.levels}
    for name, bandwidth in bandwidth_words_per_cycle.items():
        level = levels[known(name, levels, "bandwidth of level")]
        if not all(one > 0 for one in bandwidth):
            raise InputError(f"bandwidth of level {name} must be above 0 words per cycle, got {bandwidth}")
        replicas = prod(unroll.factor for unroll in nest.spatial.values() if unroll.axis in level.per)
        words = [row.words() for (where, _), row in accesses.items() if where == name]
        totals = (sum(read for read, _ in words), sum(written for _, written in words))
        found[name] = max(total / (one * replicas) for total, one in zip(totals, bandwidth, strict=True))
    return found
