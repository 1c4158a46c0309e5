"""Runs a loop nest for real: every multiply-accumulate, with the numbers moved through every replica of every level.

Independent of the closed forms: it never multiplies a count. A transfer is counted when a number is moved, and the
product that arrives in the outermost level must be the product of the matrices, so nothing can be forgotten or doubled.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from sim.nest import Nest

INDEX = {"weights": (2, 1), "inputs": (0, 2), "outputs": (0, 1)}  # places of (m, n, k) that index an operand
READ_DOWN, FROM_ABOVE, FROM_BELOW, READ_UP, TILES = range(5)


def turns(nest: Nest, place: int = 0, ranges: tuple | None = None, path: tuple = ()) -> Iterator[tuple]:
    """All turns of the loops in order; each is the ranges ((start, stop) of m, n, k) after 0, 1, 2, ... loops."""
    ranges = ranges or tuple((0, nest.sizes[d]) for d in "mnk")
    path = (*path, ranges)
    if place == len(nest.loops):
        yield path
        return
    axis = "mnk".index(nest.loops[place].dim)
    start, stop = ranges[axis]
    for first in range(start, stop, nest.loops[place].tile):
        cut = (first, min(stop, first + nest.loops[place].tile))
        yield from turns(nest, place + 1, (*ranges[:axis], cut, *ranges[axis + 1 :]), path)


class Chain:
    """The levels that keep one operand, then the array; ``store[i][unit][element]`` holds the numbers."""

    def __init__(self, nest: Nest, operand: str):
        self.operand, self.index = operand, INDEX[operand]
        levels = [level for level in nest.levels if operand in level.keeps]
        self.names = [level.name for level in levels] + ["array"]
        self.stops = [level.position(operand) for level in levels] + [len(nest.loops)]
        axes = [level.per for level in levels] + [tuple(u.axis for u in nest.spatial.values())]
        self.own = [[d in nest.spatial and nest.spatial[d].axis in per for d in "mnk"] for per in axes]
        self.latched = operand in nest.latched
        self.store: list = [defaultdict(dict) for _ in self.names]
        self.served: list[set] = [set() for _ in self.names]
        self.tile: list = [None] * len(self.names)
        self.count: Counter = Counter()
        self.most: Counter = Counter()

    def unit(self, i: int, element_of_array: tuple) -> tuple:
        return tuple(x if own else 0 for x, own in zip(element_of_array, self.own[i], strict=True))

    def turn(self, path: tuple) -> None:
        """Drop (outputs: drain) what the next turn does not need, from the array outward."""
        tiles = [tuple(path[stop][axis] for axis in self.index) for stop in self.stops]
        for i in reversed(range(len(tiles))):
            again = i == len(tiles) - 1 and not self.latched
            if tiles[i] != self.tile[i] or again:
                self.leave(i)
                self.tile[i] = tiles[i]
                self.count[i, TILES] += 1

    def leave(self, i: int) -> None:
        for held in self.store[i].values():
            self.most[i] = max(self.most[i], len(held))
        if self.operand == "outputs" and i > 0:
            arrived = set()
            for unit, held in self.store[i].items():
                parent = self.store[i - 1][self.unit(i - 1, unit)]
                for element, value in held.items():
                    self.count[i, READ_UP] += 1
                    arrived.add((self.unit(i - 1, unit), element))
                    parent[element] = parent.get(element, 0) + value
            self.count[i - 1, FROM_BELOW] += len(arrived)
        if i > 0:
            self.store[i] = defaultdict(dict)
        self.served[i] = set()

    def get(self, i: int, unit: tuple, element: tuple):
        """Weights, inputs: the number, fetched from further out once a visit for all units that want it."""
        held = self.store[i][self.unit(i, unit)]
        if element not in held:
            held[element] = self.get(i - 1, unit, element)
            self.count[i, FROM_ABOVE] += 1
            if (self.unit(i - 1, unit), element) not in self.served[i]:
                self.served[i].add((self.unit(i - 1, unit), element))
                self.count[i - 1, READ_DOWN] += 1
        return held[element]

    def take(self, i: int, unit: tuple, element: tuple):
        """Outputs: the partial sum so far, lent to the first unit inside that asks in a visit; None: starts from 0."""
        held = self.store[i][self.unit(i, unit)]
        if element not in held and i > 0:
            asked = (self.unit(i - 1, unit), element)
            if asked not in self.served[i]:
                self.served[i].add(asked)
                lent = self.take(i - 1, unit, element)
                if lent is not None:
                    self.count[i - 1, READ_DOWN] += 1
                    self.count[i, FROM_ABOVE] += 1
                    held[element] = lent
        if element not in held:
            return None
        value, held[element] = held[element], 0
        return value


def run(nest: Nest) -> tuple[dict, dict, int]:
    """(moves by (level, operand), most elements held in a replica by (level, operand), array steps)."""
    rng = np.random.default_rng(0)
    m, n, k = (nest.sizes[d] for d in "mnk")
    a, b = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, (k, n))
    chains = {operand: Chain(nest, operand) for operand in INDEX}
    weights, inputs, outputs = chains.values()
    weights.store[0][0, 0, 0].update({(x, y): b[x, y] for x in range(k) for y in range(n)})
    inputs.store[0][0, 0, 0].update({(x, y): a[x, y] for x in range(m) for y in range(k)})
    factors = [nest.spatial[d].factor if d in nest.spatial else 1 for d in "mnk"]
    steps = 0
    for path in turns(nest):
        for chain in chains.values():
            chain.turn(path)
        busy: Counter = Counter()
        for x, y, z in itertools.product(*(range(*r) for r in path[-1])):
            unit = tuple((at - r[0]) % f for at, r, f in zip((x, y, z), path[-1], factors, strict=True))
            busy[unit] += 1
            product = inputs.get(len(inputs.names) - 1, unit, (x, z)) * weights.get(
                len(weights.names) - 1, unit, (z, y)
            )
            last = len(outputs.names) - 1
            so_far = outputs.take(last, unit, (x, y))
            outputs.store[last][outputs.unit(last, unit)][x, y] = (so_far or 0) + product
        steps += max(busy.values())
    for chain in chains.values():
        for i in reversed(range(len(chain.names))):
            chain.leave(i)
    result = outputs.store[0][0, 0, 0]
    assert all(result[x, y] == value for (x, y), value in np.ndenumerate(a @ b)), "numbers were lost or doubled"
    moves, most = {}, {}
    for operand, chain in chains.items():
        for i, name in enumerate(chain.names[:-1]):
            moves[name, operand] = tuple(chain.count[i, what] for what in range(5))
            most[name, operand] = chain.most[i]
    return moves, most, steps
