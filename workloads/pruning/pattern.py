"""Pruning patterns as a user writes them: "0.5" or "50%" (that share removed), "2:4" (2 of every 4 kept), "ffn 0.1"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim.errors import InputError


@dataclass(frozen=True)
class Unstructured:
    """The share ``sparsity`` of the weights removed, anywhere."""

    sparsity: float

    def __str__(self) -> str:
        return f"{self.sparsity:g}"


@dataclass(frozen=True)
class NofM:
    """``keep`` of every ``group`` consecutive inputs kept."""

    keep: int
    group: int

    @property
    def sparsity(self) -> float:
        return 1 - self.keep / self.group

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


@dataclass(frozen=True)
class Channels:
    """The share ``sparsity`` of the FFN's hidden channels removed from gate, up and down."""

    sparsity: float

    def __str__(self) -> str:
        return f"ffn {self.sparsity:g}"


Pattern = Unstructured | NofM | Channels
_ACCEPTED = "'0.5', '50%', '2:4' or 'ffn 0.1'"


def parse_pattern(text: str | float | Pattern) -> Pattern:
    """A Pattern from what a user wrote; InputError for anything else or for shares outside (0, 1)."""
    if isinstance(text, Pattern):
        return text
    written = str(text).strip()
    if found := re.fullmatch(r"(\d+)\s*:\s*(\d+)", written):
        keep, group = int(found[1]), int(found[2])
        if not 0 < keep < group:
            raise InputError(f"pruning pattern {written!r}: n:m needs 0 < n < m (n kept of every m)")
        return NofM(keep, group)
    found = re.fullmatch(r"(ffn\s+)?(\d*\.?\d+)\s*(%)?", written)
    if not found:
        raise InputError(f"pruning pattern {written!r} is unknown; write {_ACCEPTED}")
    share = float(found[2]) / (100 if found[3] else 1)
    if not 0 < share < 1:
        raise InputError(f"pruning pattern {written!r}: the share removed must be between 0 and 1, exclusive")
    return Channels(share) if found[1] else Unstructured(share)
