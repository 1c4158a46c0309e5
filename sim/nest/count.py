"""Exact transfers of a loop nest: what moves between neighbouring levels, element by element, without running it.

The rules are those of Timeloop (Parashar et al., ISPASS 2019) and ZigZag (Mei et al., IEEE TC 2021), in words: a tile
is brought in when it differs from the one that is there, so a loop that does not index the operand is free as long as
no loop inside of it (and outside of the tile) that does has more than one turn. Partial sums that leave a level are
written above and read back at the next visit; the first visit starts from zero without a read. Along array axes that
do not index the operand one read serves all units (multicast) and partial sums of all units are added on the way up
(spatial reduction); a partial sum that comes back goes to one of them, the others start from zero.

Short last tiles count at their true size, which is why this is a recursion over the few chunk sizes that occur and not
a product of trip counts.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from sim.nest.parts import DIMS, OPERAND_DIMS, REUSED_BY, chunks, tile_sides

if TYPE_CHECKING:
    from sim.nest.nest import Nest

ARRAY = "array"
"""The end of every operand's chain: the array's own latches, replicated along all axes."""


class Visits(NamedTuple):
    """Tiles of one operand that come by at one position: how many, their elements, and the elements of all copies
    along the array axis that does not index the operand (1 copy where it is not unrolled)."""

    tiles: int
    elements: int
    copies: int


class Moves(NamedTuple):
    """Elements of one operand that one level (all of its replicas together) reads and writes, by direction.

    read_down: read toward the array. written_from_above: filled by the level outside. written_from_below: results and
    partial sums from inside. read_up: drained to the level outside. tiles: tiles that visited the level.
    """

    read_down: int
    written_from_above: int
    written_from_below: int
    read_up: int
    tiles: int


def visits(nest: Nest, operand: str, position: int, latched: bool = True) -> Visits:
    """Tiles of ``operand`` under the first ``position`` loops; ``latched=False`` counts each turn of every loop as a
    new visit, also where the tile does not change."""
    loops = nest.loops[:position]
    relevant = OPERAND_DIMS[operand]
    unroll = nest.spatial.get(REUSED_BY[operand])
    units = unroll.factor if unroll else 1

    @cache
    def turns(place: int, m: int, n: int, k: int) -> tuple[int, int, int, bool]:
        """(tiles, elements, copies, all one tile) of the loops from ``place`` on, entered with chunks m, n, k."""
        extent = {"m": m, "n": n, "k": k}
        if place == len(loops):
            elements = prod(tile_sides(operand, extent, nest.window))
            return 1, elements, elements * min(units, extent[REUSED_BY[operand]]), True
        loop = loops[place]
        tiles = elements = copies = 0
        alone = True
        parts = chunks(extent[loop.dim], loop.tile)
        for size, count in parts:
            inner = turns(place + 1, *(size if d == loop.dim else extent[d] for d in DIMS))
            if latched and loop.dim not in relevant and inner[3]:
                return inner
            tiles += count * inner[0]
            elements += count * inner[1]
            copies += count * inner[2]
            alone = alone and inner[3]
        once = sum(count for _, count in parts) == 1
        return tiles, elements, copies, alone and once

    tiles, elements, copies, _ = turns(0, *(nest.sizes[d] for d in DIMS))
    return Visits(tiles, elements, copies)


def accesses(nest: Nest) -> dict[tuple[str, str], Moves]:
    """Moves by (level name, operand), outermost level first."""
    found = {}
    for operand in OPERAND_DIMS:
        unroll = nest.spatial.get(REUSED_BY[operand])
        chain = nest.chain(operand)
        passing = [visits(nest, operand, level.position(operand)) for level in chain]
        passing.append(visits(nest, operand, len(nest.loops), operand in nest.latched))
        replicated = [unroll is not None and unroll.axis in level.per for level in chain]
        moves = _add_up if operand == "outputs" else _hand_down
        for level, row in zip(chain, moves(passing, replicated), strict=True):
            found[level.name, operand] = row
    return {
        (level.name, op): found[level.name, op] for level in nest.levels for op in OPERAND_DIMS if op in level.keeps
    }


def _hand_down(passing: list[Visits], replicated: list[bool]) -> list[Moves]:
    """Weights and inputs, along the chain of levels that keep them; the last of ``passing`` is the array."""
    rows = []
    for i, copied in enumerate(replicated):
        here, below = passing[i], passing[i + 1]
        filled = 0 if i == 0 else _units(here, copied)
        rows.append(Moves(_units(below, copied), filled, 0, 0, here.tiles))
    return rows


def _add_up(passing: list[Visits], replicated: list[bool]) -> list[Moves]:
    """Outputs. ``started``: elements that begin a visit from zero, so that the level inside need not read them."""
    rows = []
    refilled, started = 0, passing[0].elements
    for i, copied in enumerate(replicated):
        here, below = passing[i], passing[i + 1]
        drained = 0 if i == 0 else _units(here, copied)
        if i > 0:
            started = drained - refilled
        arriving = _units(below, copied)
        rows.append(Moves(arriving - started, refilled, arriving, drained, here.tiles))
        refilled = arriving - started
    return rows


def _units(passing: Visits, replicated: bool) -> int:
    return passing.copies if replicated else passing.elements
