"""Every kind of figure by name: those of :mod:`dse.figures`, and those whose data come from validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.figures.kinds import KINDS as OWN
from dse.figures.kinds import make

if TYPE_CHECKING:
    from dse.figures.base import Figure

KINDS = OWN | {
    "speedup": "validation.speedup:Speedup",
    "validation": "validation.scatter:Scatter",
}


def figure(kind: str, data: Any = None, *, out: str | Path | None = None, width: float = 3.5, **options: Any) -> Figure:
    """A figure for a paper; with ``out``, written to ``OUT.pdf``, ``OUT.png`` and ``OUT.csv`` (the numbers in it).

    Kinds, what each takes as ``data`` and its options: :mod:`dse.figures`. ``width``: 3.5 (a column) or 7.16 inches.

    Raises:
        InputError: an unknown kind or option, data that cannot be drawn so, a bad width or path.
    """
    return make(KINDS, kind, data, out, width, options)
