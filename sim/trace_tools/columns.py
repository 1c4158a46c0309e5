"""The op table's columns, from ``columns.csv``: unit, range, which kind of op uses each, what it means."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sim.trace import NUMBERS

_TABLE = Path(__file__).parent / "columns.csv"


@dataclass(frozen=True)
class Column:
    """A column: ``most`` is a number, ``n x k`` or ``m x k`` (of the same op) or empty; ``of``: gemm, vector, both."""

    unit: str
    whole: bool
    least: float | None
    most: str
    of: str
    meaning: str

    @property
    def allowed(self) -> str:
        """The range in words: ``a whole number in 1..16``."""
        if self.least is None:
            return "text"
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} in {self.least:g}..{self.most}" if self.most else f"{kind} >= {self.least:g}"


def _read() -> Mapping[str, Column]:
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return MappingProxyType(
            {
                line["column"]: Column(
                    line["unit"], line["whole"] == "yes", float(line["least"]) if line["least"] else None,
                    line["most"], line["of"], line["meaning"],
                )
                for line in csv.DictReader(file)
            }
        )  # fmt: skip


COLUMNS: Mapping[str, Column] = _read()
"""Every column of the op table, texts first, in the order of the file."""


def markdown() -> str:
    """The table of ``docs/traces.md``."""
    lines = ["| column | unit | allowed | of | default | meaning |", "|---|---|---|---|---|---|"]
    for name, column in COLUMNS.items():
        default = f"{NUMBERS[name]:g}" if name in NUMBERS else ""
        allowed = column.allowed if column.least is not None else ""
        lines.append(f"| `{name}` | {column.unit} | {allowed} | {column.of} | {default} | {column.meaning} |")
    return "\n".join(lines)
