"""What a mapping is written with: loops, memory levels with the place where their tiles sit, and spatial unrolling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral

from sim.errors import InputError, nearest

DIMS = ("m", "n", "k")
OPERAND_DIMS = {"weights": ("k", "n"), "inputs": ("m", "k"), "outputs": ("m", "n")}
"""The GEMM is M x K . K x N: the dimensions that index each operand."""
OPERANDS = tuple(OPERAND_DIMS)
WINDOWED = "inputs"
"""The operand that a sliding window may make a line of m + k - 1 elements."""
REUSED_BY = {operand: next(d for d in DIMS if d not in dims) for operand, dims in OPERAND_DIMS.items()}
"""The one dimension that does not index an operand: its loops reuse the operand's tile (outputs: add to it)."""


def known(name: object, names: Collection[str], what: str) -> str:
    """``name`` if it is one of ``names``; raises InputError with the nearest right one."""
    if not isinstance(name, str) or name not in names:
        raise InputError(f"{what} {name!r} is unknown: {nearest(str(name), names)}")
    return name


def whole(value: object, what: str, smallest: int = 1) -> int:
    """``value`` (an int or NumPy integer) as an int >= ``smallest``; raises InputError (fractions, booleans and text
    are refused)."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < smallest:
        raise InputError(f"{what} must be a whole number >= {smallest}, got {value!r}")
    return int(value)


def settle(part: object, **values: object) -> None:
    """Store checked values in a frozen dataclass that is being made."""
    for name, value in values.items():
        object.__setattr__(part, name, value)


@dataclass(frozen=True)
class Loop:
    """One temporal loop: cuts what is left of ``dim`` into chunks of ``tile`` elements, the last one as short as it
    comes."""

    dim: str
    tile: int

    def __post_init__(self) -> None:
        known(self.dim, DIMS, "loop dimension")
        settle(self, tile=whole(self.tile, f"tile of loop {self.dim}"))


@dataclass(frozen=True)
class Unroll:
    """``factor`` neighbours of one dimension side by side along a named ``axis`` of the array."""

    axis: str
    factor: int

    def __post_init__(self) -> None:
        if not isinstance(self.axis, str) or not self.axis:
            raise InputError(f"axis of a spatial dimension must be a name, got {self.axis!r}")
        settle(self, factor=whole(self.factor, f"spatial factor along {self.axis}"))


@dataclass(frozen=True)
class Level:
    """A memory level, the operands it keeps, and where their tiles sit in the loop sequence.

    at: loops outside of the level's tiles, counted from the outermost: one number for all operands (an *even* mapping)
        or one an operand (*uneven*). The tile is what those loops leave of the operand.
    per: array axes along which the level is replicated (a register of each processing element: all of them; one
        accumulator a column: the columns' axis). Without it one memory serves the whole array.
    """

    name: str
    keeps: tuple[str, ...] = OPERANDS
    at: int | Mapping[str, int] = 0
    per: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name of a level must be text, got {self.name!r}")
        settle(
            self, keeps=names(self.keeps, f"level {self.name}: keeps"), per=names(self.per, f"level {self.name}: per")
        )
        for operand in self.keeps:
            known(operand, OPERANDS, f"level {self.name}: operand")
        if isinstance(self.at, Mapping):
            for operand in self.at:
                known(operand, self.keeps, f"level {self.name}: position of")
            missing = [operand for operand in self.keeps if operand not in self.at]
            if missing:
                raise InputError(f"level {self.name} keeps {missing[0]} but 'at' gives no position for it")
            at = {x: whole(self.at[x], f"level {self.name}: position of {x}", smallest=0) for x in self.keeps}
        else:
            at = whole(self.at, f"level {self.name}: position", smallest=0)
        settle(self, at=at)

    def position(self, operand: str) -> int:
        """Loops outside of the level's tile of ``operand``."""
        return self.at[operand] if isinstance(self.at, Mapping) else self.at


def names(given: object, what: str) -> tuple[str, ...]:
    """A list of names as a tuple; raises InputError for anything else, also for one name that is not in a list."""
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{what} must be a list of names, got {given!r}")
    return tuple(given)


def table(given: object, where: str, allowed: Collection[str], required: Collection[str] = ()) -> dict:
    """``given`` as a dict whose keys are ``allowed`` and hold all ``required``; raises InputError otherwise."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a mapping of {', '.join(allowed)}, got {given!r}")
    for name in given:
        known(name, allowed, f"{where}: field")
    for name in required:
        if name not in given:
            raise InputError(f"{where}.{name} is missing")
    return dict(given)


def tile_sides(operand: str, extents: Mapping[str, int], window: bool) -> tuple[int, int]:
    """(rows, columns) of a tile of ``operand`` whose dimensions have these extents, as its mask lies: weights n x k
    (out x in), inputs m x k, outputs m x n; under a ``window`` the inputs are one line."""
    if window and operand == WINDOWED:
        return 1, extents["m"] + extents["k"] - 1
    rows, columns = ("n", "k") if operand == "weights" else OPERAND_DIMS[operand]
    return extents[rows], extents[columns]


def chunks(extent: int, tile: int) -> list[tuple[int, int]]:
    """(chunk size, how many) along ``extent`` cut by ``tile``: the full chunks first, then the short last one."""
    full, rest = divmod(extent, tile)
    found = [(tile, full)] if full else []
    return [*found, (rest, 1)] if rest else found
