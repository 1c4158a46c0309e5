"""What every kind of figure is: numbers first, then a drawing of them, then three files."""

from __future__ import annotations

import io
import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dse.figures.style import COLUMN_IN, PAGE_IN, styled, write
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTHS = (COLUMN_IN, PAGE_IN)


class Figure(ABC):
    """One kind of figure.

    A kind's constructor takes the data and the options, refuses what cannot be drawn, and sets ``numbers``: the table
    of exactly what is drawn, units in its column names. :meth:`draw` puts them on an empty canvas. :meth:`save` writes
    ``STEM.pdf``, ``STEM.png`` and ``STEM.csv`` (the numbers). In a notebook a figure shows itself.
    """

    numbers: pd.DataFrame
    shown_in: float = COLUMN_IN
    """Width in a notebook, inches."""

    @abstractmethod
    def draw(self, canvas: Canvas) -> None:
        """Draw ``numbers`` on ``canvas``, which has its final size."""

    def height_in(self, width_in: float) -> float:
        """Height of the figure of this width, inches."""
        return 2.6

    def canvas(self, width_in: float = COLUMN_IN) -> Canvas:
        """The drawing, a matplotlib figure at its final size.

        Raises:
            InputError: a width that is neither one column (3.5) nor the page (7.16).
        """
        from matplotlib.figure import Figure as Canvas

        checked_width(width_in)
        with styled():
            canvas = Canvas(figsize=(width_in, self.height_in(width_in)), layout="constrained")
            self.draw(canvas)
        return canvas

    def save(self, stem: str | Path, width_in: float = COLUMN_IN) -> list[Path]:
        """Write ``stem``.pdf, .png and .csv: all of them or, if one cannot be made, none.

        Raises:
            InputError: a wrong width, a folder that cannot be written, a stem that would overwrite a study's own table.
        """
        stem = checked_stem(stem)
        canvas = self.canvas(width_in)
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".figure.", dir=stem.parent) as scratch, styled():
                made = write(canvas, Path(scratch) / stem.name)
                made.append(Path(scratch) / f"{stem.name}.csv")
                self.numbers.to_csv(made[-1], index=False, lineterminator="\n")
                targets = [stem.with_name(path.name) for path in made]
                for path, target in zip(made, targets, strict=True):
                    os.replace(path, target)
        except OSError as error:
            raise InputError(f"{stem}: cannot be written ({error.strerror})") from None
        return targets

    def png(self, width_in: float = COLUMN_IN, dpi: float = 150) -> bytes:
        """The drawing as PNG bytes."""
        with styled():
            buffer = io.BytesIO()
            self.canvas(width_in).savefig(buffer, format="png", dpi=dpi, metadata={"Software": "sparchitect"})
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png(self.shown_in)


def checked_width(width_in: float) -> float:
    """:class:`InputError` unless the width is one that papers have."""
    if width_in not in WIDTHS:
        raise InputError(f"width must be {COLUMN_IN:g} (a column) or {PAGE_IN:g} (the page) inches, got {width_in!r}")
    return width_in


def checked_stem(stem: str | Path) -> Path:
    """A path without its ending; :class:`InputError` where a figure must not go."""
    path = Path(stem)
    if path.suffix in (".pdf", ".png", ".csv"):
        path = path.with_suffix("")
    if not path.name or path.is_dir():
        raise InputError(f"out '{stem}': must be a file name without its ending, like figures/roofline")
    if path.name == "pareto" and path.with_name("journal.log").exists():
        raise InputError(f"out '{stem}': {path}.csv is the study's own table, choose another name")
    return path
