"""Pruning patterns as a user writes them: "0.5" or "50%" (the share removed), "2:4" (2 of every 4 kept), "ffn 0.1" …"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, get_args

from sim.errors import InputError


@dataclass(frozen=True)
class Unstructured:
    """The share ``sparsity`` of the weights removed, anywhere."""

    example: ClassVar[str] = "0.5"
    sparsity: float

    def __str__(self) -> str:
        return f"{self.sparsity:g}"


@dataclass(frozen=True)
class NofM:
    """``keep`` of every ``group`` consecutive inputs kept."""

    example: ClassVar[str] = "2:4"
    keep: int
    group: int

    @property
    def sparsity(self) -> float:
        return 1 - self.keep / self.group

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


@dataclass(frozen=True)
class Blocks:
    """The share ``sparsity`` of blocks of ``rows`` outputs x ``columns`` inputs removed; smaller ones at the edges."""

    example: ClassVar[str] = "0.5 1x16"
    rows: int
    columns: int
    sparsity: float

    def __str__(self) -> str:
        return f"{self.sparsity:g} {self.rows}x{self.columns}"


@dataclass(frozen=True)
class Diagonal:
    """Only the ``blocks`` blocks on the diagonal of a permuted matrix kept."""

    example: ClassVar[str] = "diagonal 4"
    blocks: int

    @property
    def sparsity(self) -> float:
        return 1 - 1 / self.blocks

    def __str__(self) -> str:
        return f"diagonal {self.blocks}"


@dataclass(frozen=True)
class LowRank:
    """Two factors of rank ``rank`` beside a sparse remainder with the share ``sparsity`` removed."""

    example: ClassVar[str] = "rank 32 + 0.5"
    rank: int
    sparsity: float

    def __str__(self) -> str:
        return f"rank {self.rank} + {self.sparsity:g}"


@dataclass(frozen=True)
class Channels:
    """The share ``sparsity`` of the FFN's hidden channels removed from gate, up and down."""

    example: ClassVar[str] = "ffn 0.1"
    sparsity: float

    def __str__(self) -> str:
        return f"ffn {self.sparsity:g}"


@dataclass(frozen=True)
class Heads:
    """The share ``sparsity`` of the query heads removed; ``whole_groups``: of the KV heads, with all their queries."""

    example: ClassVar[str] = "heads 0.25"
    sparsity: float
    whole_groups: bool = False

    def __str__(self) -> str:
        return f"{'kv_heads' if self.whole_groups else 'heads'} {self.sparsity:g}"


@dataclass(frozen=True)
class Layers:
    """The share ``sparsity`` of the decoder layers removed."""

    example: ClassVar[str] = "layers 0.1"
    sparsity: float

    def __str__(self) -> str:
        return f"layers {self.sparsity:g}"


Pattern = Unstructured | NofM | Blocks | Diagonal | LowRank | Channels | Heads | Layers
KINDS = get_args(Pattern)
_SHARE = r"(?P<share>\d*\.?\d+)\s*(?P<percent>%)?"
_SIZE = r"(?P<rows>\d+)\s*[xX×]\s*(?P<columns>\d+)"


def examples(kinds: tuple[type, ...]) -> str:
    """How patterns of these kinds are written: "'0.5' or '2:4'"."""
    *most, last = (f"'{kind.example}'" for kind in kinds)
    return f"{', '.join(most)} or {last}" if most else last


def parse_pattern(text: str | float | Pattern) -> Pattern:
    """A Pattern from what a user wrote; InputError for anything else, shares outside (0, 1) and sizes below 1."""
    if isinstance(text, Pattern):
        return text
    written = str(text).strip()
    if found := re.fullmatch(r"(\d+)\s*:\s*(\d+)", written):
        keep, group = int(found[1]), int(found[2])
        if not 0 < keep < group:
            raise InputError(f"pruning pattern {written!r}: n:m needs 0 < n < m (n kept of every m)")
        return NofM(keep, group)
    if found := re.fullmatch(r"diagonal\s+(\d+)", written):
        if int(found[1]) < 2:
            raise InputError(f"pruning pattern {written!r}: a block diagonal needs at least 2 blocks")
        return Diagonal(int(found[1]))
    if found := re.fullmatch(rf"(?:blocks?\s+)?(?:{_SIZE}\s+{_SHARE})", written):
        return _blocks(found, written)
    if found := re.fullmatch(rf"{_SHARE}\s+{_SIZE}", written):
        return _blocks(found, written)
    if found := re.fullmatch(rf"rank\s+(?P<rank>\d+)\s*\+\s*{_SHARE}", written):
        if int(found["rank"]) < 1:
            raise InputError(f"pruning pattern {written!r}: the rank must be at least 1")
        return LowRank(int(found["rank"]), _share(found, written))
    found = re.fullmatch(rf"(?:(?P<what>ffn|heads|kv_heads|layers)\s+)?{_SHARE}", written)
    if not found:
        raise InputError(f"pruning pattern {written!r} is unknown; write {examples(KINDS)}")
    share = _share(found, written)
    match found["what"]:
        case "ffn":
            return Channels(share)
        case "heads" | "kv_heads":
            return Heads(share, found["what"] == "kv_heads")
        case "layers":
            return Layers(share)
    return Unstructured(share)


def _share(found: re.Match[str], written: str) -> float:
    share = float(found["share"]) / (100 if found["percent"] else 1)
    if not 0 < share < 1:
        raise InputError(f"pruning pattern {written!r}: the share removed must be between 0 and 1, exclusive")
    return share


def _blocks(found: re.Match[str], written: str) -> Blocks:
    rows, columns = int(found["rows"]), int(found["columns"])
    if not rows or not columns:
        raise InputError(f"pruning pattern {written!r}: a block has at least 1 output and 1 input")
    return Blocks(rows, columns, _share(found, written))
