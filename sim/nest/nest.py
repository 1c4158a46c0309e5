"""A mapping of one GEMM as people write it, and what it costs in transfers and room: exact, without a search.

>>> from sim.nest import Level, Loop, Nest
>>> nest = Nest(
...     sizes={"m": 128, "n": 1536, "k": 576},
...     loops=[Loop("n", 512), Loop("k", 192), Loop("m", 16)],
...     levels=[Level("dram"), Level("shared", at=2), Level("weight_buffer", keeps=("weights",), at=2)],
... )
>>> nest.accesses()["dram", "inputs"].read_down == 3 * 128 * 576
True

See :mod:`sim.nest.count` for the rules of reuse and :mod:`sim.nest.room` for footprints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sim.errors import InputError
from sim.nest import count, describe, room
from sim.nest.parts import DIMS, OPERANDS, Level, Loop, Unroll, chunks, known, names, settle, table, whole

WIDTHS = {"weights": 8, "inputs": 8, "outputs": 8, "partial_sums": 32}
_FIELDS = ("sizes", "loops", "levels", "spatial", "latched", "bits", "window")


@dataclass(frozen=True)
class Nest:
    """Loops from the outermost to the innermost around one array step, and the levels that keep the operands.

    sizes: elements of m, n, k. loops: each gives the tile size it leaves. levels: outermost first; the first keeps all
    of all operands. spatial: dimension -> :class:`Unroll` (or ``(axis, factor)``): what the array does side by side.
    latched: operands that the array itself holds while the loops do not change them; the others are read (outputs:
    read and written) in the innermost level that keeps them at each turn of the loops.
    bits: bits an element of weights, inputs, outputs, partial_sums; only footprints and the text use them.
    window: the inputs are a line of m + k - 1 elements and output m reads k of them from the m-th on, as in a
        convolution of stride 1 along one axis (m positions, k taps, n output channels). A tile of m x k then has
        m + k - 1 inputs; what neighbouring tiles share is fetched for each. Only n may be unrolled then.

    What the loops leave (the innermost tiles) is one turn; the array needs ``ceil(tile / factor)`` cycles a dimension.
    Raises InputError for unknown names, tiles that grow inward, and a level's tile outside of its parent's.
    """

    sizes: Mapping[str, int]
    loops: Sequence[Loop]
    levels: Sequence[Level]
    spatial: Mapping[str, Unroll] = field(default_factory=dict)
    latched: tuple[str, ...] = OPERANDS
    bits: Mapping[str, int] = field(default_factory=dict)
    window: bool = False

    def __post_init__(self) -> None:
        sizes = table(self.sizes, "sizes", DIMS, required=DIMS)
        bits = table(self.bits, "bits", tuple(WIDTHS))
        settle(
            self,
            sizes={dim: whole(sizes[dim], f"size of {dim}") for dim in DIMS},
            loops=tuple(x if isinstance(x, Loop) else Loop(*x) for x in self.loops),
            levels=tuple(self.levels),
            spatial={d: _unroll(d, u) for d, u in table(self.spatial, "spatial", DIMS).items()},
            latched=tuple(known(x, OPERANDS, "latched: operand") for x in names(self.latched, "latched")),
            bits=WIDTHS | {name: whole(value, f"bits of {name}") for name, value in bits.items()},
        )
        if not isinstance(self.window, bool):
            raise InputError(f"window must be true or false, got {self.window!r}")
        if self.window and set(self.spatial) - {"n"}:
            shared = min(set(self.spatial) - {"n"})
            raise InputError(f"spatial.{shared}: neighbours would share inputs; under a window only n is unrolled")
        self._check_tiles()
        self._check_levels()

    def _check_tiles(self) -> None:
        extent = dict(self.sizes)
        for place, loop in enumerate(self.loops):
            if loop.tile > extent[loop.dim]:
                raise InputError(
                    f"loop {place} ({loop.dim}): tile {loop.tile} is larger than the {extent[loop.dim]} outside of it; "
                    f"tiles must not grow inward (1..{extent[loop.dim]})"
                )
            extent[loop.dim] = loop.tile
        for dim, unroll in self.spatial.items():
            if extent[dim] < min(unroll.factor, self.sizes[dim]):
                raise InputError(
                    f"innermost tile of {dim} is {extent[dim]} but {unroll.factor} are unrolled along {unroll.axis}; "
                    f"the tile must hold at least {min(unroll.factor, self.sizes[dim])}"
                )

    def _check_levels(self) -> None:
        if not self.levels:
            raise InputError("levels must name at least one level, the outermost, which keeps all operands")
        taken = [count.ARRAY, *(level.name for level in self.levels)]
        for name in taken[1:]:
            if taken.count(name) > 1:
                raise InputError(f"level name {name!r} is used twice (each level needs its own; 'array' is taken)")
        outermost = self.levels[0]
        if set(outermost.keeps) != set(OPERANDS) or any(outermost.position(x) for x in OPERANDS) or outermost.per:
            raise InputError(f"level {outermost.name} is the outermost: it must keep all operands whole, at 0, once")
        axes = tuple(u.axis for u in self.spatial.values())
        for level in self.levels:
            for axis in level.per:
                known(axis, axes, f"level {level.name}: axis")
        for operand in OPERANDS:
            chain = self.chain(operand)
            for parent, level in pairwise(chain):
                at, outside = level.position(operand), parent.position(operand)
                if not outside <= at <= len(self.loops):
                    raise InputError(
                        f"level {level.name}: tile of {operand} sits at {at}, outside of its parent's: "
                        f"allowed {outside} ({parent.name}) .. {len(self.loops)} (all loops)"
                    )
                lost = [axis for axis in parent.per if axis not in level.per]
                if lost:
                    raise InputError(
                        f"level {level.name} keeps {operand} inside of {parent.name} and must be replicated along "
                        f"{lost[0]} as that is"
                    )

    def chain(self, operand: str) -> tuple[Level, ...]:
        """Levels that keep ``operand``, outermost first."""
        return tuple(level for level in self.levels if operand in level.keeps)

    def extents(self, position: int) -> dict[str, int]:
        """Elements of each dimension that the first ``position`` loops leave (of the full, first tile)."""
        return dict(self.sizes) | {loop.dim: loop.tile for loop in self.loops[:position]}

    def turns(self, position: int | None = None) -> dict[str, list[tuple[int, int]]]:
        """(chunk size, how many) of each dimension under the first ``position`` loops (default: all)."""
        found = {dim: [(size, 1)] for dim, size in self.sizes.items()}
        for loop in self.loops[:position]:
            cut: dict[int, int] = {}
            for extent, times in found[loop.dim]:
                for size, number in chunks(extent, loop.tile):
                    cut[size] = cut.get(size, 0) + times * number
            found[loop.dim] = sorted(cut.items(), reverse=True)
        return found

    def accesses(self) -> dict[tuple[str, str], count.Moves]:
        """Elements read and written by (level, operand); see :class:`sim.nest.count.Moves`."""
        return count.accesses(self)

    def macs(self) -> int:
        """Multiply-accumulates: m * n * k."""
        return self.sizes["m"] * self.sizes["n"] * self.sizes["k"]

    def steps(self) -> int:
        """Array cycles without fill, drain or stall: one for each set of neighbours done side by side."""
        total = 1
        for dim, parts in self.turns().items():
            factor = self.spatial[dim].factor if dim in self.spatial else 1
            total *= sum(number * -(-size // factor) for size, number in parts)
        return total

    def footprints(
        self, capacity_kib: Mapping[str, float] | None = None, double_buffered: Iterable[str] = ()
    ) -> dict[str, room.Footprint]:
        """Room that each level's tiles take (of one replica); see :func:`sim.nest.room.footprints`."""
        return room.footprints(self, capacity_kib or {}, tuple(double_buffered))

    def text(self) -> str:
        """The nest as people write it, at most 100 columns; see :func:`sim.nest.describe.text`."""
        return describe.text(self)

    def moves_text(self) -> str:
        """:meth:`accesses` as a table of text."""
        return describe.moves(self)

    def to_dict(self) -> dict:
        """Plain lists, dicts, numbers and text, ready for YAML or JSON; :meth:`from_dict` reads it back."""
        return {
            "sizes": dict(self.sizes),
            "loops": [{loop.dim: loop.tile} for loop in self.loops],
            "spatial": {d: {"axis": u.axis, "factor": u.factor} for d, u in self.spatial.items()},
            "levels": [
                {
                    "name": level.name,
                    "keeps": list(level.keeps),
                    "at": dict(level.at) if isinstance(level.at, Mapping) else level.at,
                    "per": list(level.per),
                }
                for level in self.levels
            ],
            "latched": list(self.latched),
            "bits": dict(self.bits),
            "window": self.window,
        }

    @classmethod
    def from_dict(cls, plain: Mapping, known_levels: Sequence[str] = ()) -> Nest:
        """The nest of :meth:`to_dict`'s form; loops are one ``{dim: tile}`` each. ``known_levels``: a machine's level
        names, if the mapping is for one. Raises InputError that names the field and the nearest right name."""
        plain = table(plain, "mapping", _FIELDS, required=("sizes", "loops", "levels"))
        loops, levels = [], []
        for place, loop in enumerate(_listed(plain["loops"], "mapping.loops")):
            if not isinstance(loop, Mapping) or len(loop) != 1:
                raise InputError(f"mapping.loops[{place}] must be one {{dim: tile}}, got {loop!r}")
            loops.append(Loop(*next(iter(loop.items()))))
        for place, given in enumerate(_listed(plain["levels"], "mapping.levels")):
            level = table(given, f"mapping.levels[{place}]", ("name", "keeps", "at", "per"), required=("name",))
            if known_levels:
                known(level["name"], known_levels, f"mapping.levels[{place}]: level")
            levels.append(Level(**level))
        rest = {key: plain[key] for key in ("spatial", "latched", "bits", "window") if plain.get(key) is not None}
        return cls(plain["sizes"], loops, levels, **rest)


def _unroll(dim: str, given: object) -> Unroll:
    """An Unroll from itself, ``(axis, factor)`` or ``{axis:, factor:}``."""
    if isinstance(given, Unroll):
        return given
    if isinstance(given, Mapping):
        return Unroll(**table(given, f"spatial.{dim}", ("axis", "factor"), required=("axis", "factor")))
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise InputError(f"spatial.{dim} must give an axis and a factor, got {given!r}")
    return Unroll(*given)


def _listed(given: object, where: str) -> Sequence:
    if not isinstance(given, list | tuple):
        raise InputError(f"{where} must be a list, got {given!r}")
    return given
