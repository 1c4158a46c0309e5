"""Room that the tiles of a nest take in each level, and by how much they overflow a capacity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from sim.nest.count import visits
from sim.nest.parts import OPERAND_DIMS, Level, chunks, known, tile_sides

if TYPE_CHECKING:
    from sim.nest.nest import Nest


class Footprint(NamedTuple):
    """Tiles in one replica of a level: elements of each operand kept, bits of all (twice if double buffered), and
    against a capacity (None: not given) the bits that do not fit (0: fits)."""

    elements: dict[str, int]
    operand_bits: dict[str, int]
    bits: int
    capacity_bits: int | None
    overflow_bits: int

    @property
    def fits(self) -> bool:
        """Whether the tiles fit; True where no capacity was given."""
        return self.overflow_bits == 0


def footprints(nest: Nest, capacity_kib: Mapping[str, float], double_buffered: tuple[str, ...]) -> dict[str, Footprint]:
    """Footprint by level name. Capacities are in KiB a replica. Raises InputError for an unknown level."""
    names = tuple(level.name for level in nest.levels)
    for name in (*capacity_kib, *double_buffered):
        known(name, names, "level")
    found = {}
    for level in nest.levels:
        elements = {x: tile_elements(nest, level, x) for x in OPERAND_DIMS if x in level.keeps}
        times = 2 if level.name in double_buffered else 1
        bits = {x: times * number * width(nest, level, x) for x, number in elements.items()}
        capacity = int(capacity_kib[level.name] * 8192) if level.name in capacity_kib else None
        total = sum(bits.values())
        overflow = 0 if capacity is None else max(0, total - capacity)
        found[level.name] = Footprint(elements, bits, total, capacity, overflow)
    return found


def tile_elements(nest: Nest, level: Level, operand: str) -> int:
    """Elements of the full tile of ``operand`` that one replica of ``level`` holds."""
    own = [dim for dim, unroll in nest.spatial.items() if unroll.axis in level.per]
    return prod(tile_sides(operand, unit_extents(nest, level.position(operand), own), nest.window))


def unit_extents(nest: Nest, position: int, own: Collection[str]) -> dict[str, int]:
    """Elements of each dimension that the first ``position`` loops leave to one unit: of the dimensions ``own`` only
    its share of the neighbours that work side by side."""
    extents = nest.extents(position)
    for dim in own:
        inside = [loop.tile for loop in nest.loops[position:] if loop.dim == dim]
        extents[dim] = _share(extents[dim], inside, nest.spatial[dim].factor)
    return extents


def _share(extent: int, tiles: list[int], factor: int) -> int:
    """Elements of ``extent`` that fall to the first of ``factor`` neighbours when it is cut by ``tiles`` in turn."""
    if not tiles:
        return -(-extent // factor)
    return sum(number * _share(size, tiles[1:], factor) for size, number in chunks(extent, tiles[0]))


def width(nest: Nest, level: Level, operand: str) -> int:
    """Bits of an element of ``operand`` in ``level``: outputs are held as partial sums unless each comes up once, with
    the reduction over k complete below the level."""
    if operand != "outputs":
        return nest.bits[operand]
    chain = nest.chain(operand)
    place = chain.index(level)
    if place + 1 < len(chain):
        below = visits(nest, operand, chain[place + 1].position(operand))
    else:
        below = visits(nest, operand, len(nest.loops), operand in nest.latched)
    unroll = nest.spatial.get("k")
    split = unroll is not None and unroll.axis in level.per and below.copies > below.elements
    partial = split or below.elements > nest.sizes["m"] * nest.sizes["n"]
    return nest.bits["partial_sums" if partial else "outputs"]
