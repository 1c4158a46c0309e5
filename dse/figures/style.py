"""One look for every figure: IEEE column widths, text >= 8 pt at final size, Okabe-Ito colours with markers and hatches
(black and white survives), editable fonts in vector files, and the same bytes for the same data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN_IN = 3.5
PAGE_IN = 7.16
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)), (0, (3, 1)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++", "oo", "||||")
_FILLS = OKABE_ITO[:7]  # hatches would not show on black
_LINES = (*OKABE_ITO[:6], OKABE_ITO[7], OKABE_ITO[6])  # thin yellow hardly shows on white

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.4,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "text.usetex": False,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.hashsalt": "sparchitect",
    "savefig.dpi": 300,
}
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this look and a backend that needs no screen."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own matplotlibrc changes nothing
        matplotlib.rcParams.update(_RC)
        yield


def bar_look(i: int) -> dict[str, Any]:
    """Fill, hatch and edge of the i-th part of a bar; no two of 63 that follow each other are alike in both."""
    return {
        "facecolor": _FILLS[i % len(_FILLS)],
        "hatch": HATCHES[i % len(HATCHES)],
        "edgecolor": "black",
        "linewidth": 0.4,
    }


def distinct_looks(places: Sequence[int]) -> list[int]:
    """Arguments of :func:`bar_look` for parts at ``places`` of a longer list: their own, or the next whose fill and
    hatch no part before has; whole pairs are compared once every fill, or every hatch, is in use."""
    found: list[int] = []
    for place in places:
        fills, hatches = {i % len(_FILLS) for i in found}, {i % len(HATCHES) for i in found}
        free = [
            i
            for i in range(place, place + len(_FILLS) * len(HATCHES))
            if i not in found
            and (len(fills) == len(_FILLS) or i % len(_FILLS) not in fills)
            and (len(hatches) == len(HATCHES) or i % len(HATCHES) not in hatches)
        ]
        found.append(free[0])
    return found


def line_look(i: int) -> dict[str, Any]:
    """Colour, marker and dashes of the i-th line."""
    return {
        "color": _LINES[i % len(_LINES)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[i % len(DASHES)],
        "markersize": 4,
        "markeredgewidth": 0.4,
        "markeredgecolor": "black",
    }


def prefixed(largest: float, unit: str) -> tuple[float, str]:
    """(factor, unit with a decimal prefix) that write ``largest`` with one to three digits before the point."""
    for scale, prefix in _PREFIXES:
        if abs(largest) >= scale:
            return 1.0 / scale, prefix + unit
    return (1e9, "n" + unit) if largest else (1.0, unit)


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a log axis, written as plain numbers: 1, 2 and 5 of each decade over up to two decades, else 1 only, and
    whole powers of 1000 where there are many."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = 0.0 if low <= 0 or high <= low else _log10(high / low)
    if decades <= 2.2:
        locator = LogLocator(subs=(1.0, 2.0, 5.0), numticks=20)
    else:
        step = 1 if decades <= 6 else 2 if decades <= 12 else 3
        locator = FixedLocator([10.0**e for e in range(-30, 31) if e % step == 0])
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A number as people write it on an axis: 0.05, 20, 5k, 2M."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    factor, prefix = prefixed(value, "")
    return f"{value * factor:g}{prefix}" if abs(value) >= 1e-6 else f"{value:.0e}"


def _log10(value: float) -> float:
    import math

    return math.log10(value)


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str | None = None) -> None:
    """A legend over all axes, outside them, in as many columns as the width takes."""
    if not labels:
        return
    for columns in range(min(len(labels), 6), 0, -1):
        legend = figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=columns,
            title=title,
            frameon=False,
            handletextpad=0.4,
            columnspacing=0.9,
            handlelength=1.6,
            labelspacing=0.3,
            borderaxespad=0.1,
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width * 0.98:
            return
        legend.remove()


def write(figure: Figure, stem: Path) -> list[Path]:
    """``stem``.pdf and ``stem``.png, without time stamps, each whole or not at all.

    Raises:
        InputError: they cannot be written there.
    """
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None, "ModDate": None}), (".png", {"Software": "sparchitect"})):
        temporary = stem.with_name(f".{stem.name}{suffix}")
        target = stem.with_name(stem.name + suffix)
        try:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
            os.replace(temporary, target)
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror})") from None
        finally:
            temporary.unlink(missing_ok=True)
        written.append(target)
    return written
