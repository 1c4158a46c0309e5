"""Which part of a leader goes with one tile of a target: what decides whether an access can be avoided.

A target's tile is fetched and stays while the loops do not change it. The leader's tile is all that the loops touch of
it meanwhile. So it grows with the loops that reuse the target, and with neighbours of the array that share it.
"""

from __future__ import annotations

from sim.nest import Level, Nest
from sim.nest.parts import OPERAND_DIMS, tile_sides
from sim.nest.room import unit_extents


def leader_tile(nest: Nest, level: Level, target: str, leader: str) -> tuple[int, int]:
    """(rows, columns) of ``leader`` that go with one tile of ``target`` as it moves between ``level`` and the next
    level inside of it that keeps the target (or the array)."""
    chain = nest.chain(target)
    place = chain.index(level) + 1
    own = own_dims(nest, level, chain[place] if place < len(chain) else None, target)
    return tile_sides(leader, unit_extents(nest, residence(nest, chain, place, target), own), nest.window)


def own_dims(nest: Nest, level: Level, inside: Level | None, target: str) -> list[str]:
    """Dimensions of which a transfer concerns one unit's share: those of the target that are split over the units
    inside, and others where the level itself is replicated (else one access serves all units)."""
    found = []
    for dim, unroll in nest.spatial.items():
        axes = level.per if dim not in OPERAND_DIMS[target] else None if inside is None else inside.per
        if axes is None or unroll.axis in axes:
            found.append(dim)
    return found


def residence(nest: Nest, chain: tuple[Level, ...], place: int, target: str) -> int:
    """Loops outside of the stay of one tile of ``target`` in ``chain[place]`` (past its end: the array)."""
    if place == len(chain) and target not in nest.latched:
        return len(nest.loops)
    position = chain[place].position(target) if place < len(chain) else len(nest.loops)
    while position > 0:
        dim = nest.loops[position - 1].dim
        turns_once = nest.extents(position - 1)[dim] == nest.loops[position - 1].tile
        if dim in OPERAND_DIMS[target] and not turns_once:
            break
        position -= 1
    return position
