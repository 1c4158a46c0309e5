"""One look for every figure: IEEE column widths, text >= 8 pt at final size, Okabe-Ito colours with markers, editable
fonts in vector files, and the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN_IN = 3.5
PAGE_IN = 7.16
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_RC = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.hashsalt": "sparchitect",
    "savefig.dpi": 300,
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this look and a backend that needs no screen."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def plain_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2, 5 of each decade of a log axis, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def write(figure: Figure, stem: Path) -> list[Path]:
    """``stem``.pdf and ``stem``.png, without time stamps, each whole or not at all."""
    import os

    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None, "ModDate": None}), (".png", {"Software": "sparchitect"})):
        temporary = stem.with_name(f".{stem.name}{suffix}")
        figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        target = stem.with_name(stem.name + suffix)
        os.replace(temporary, target)
        written.append(target)
    return written
