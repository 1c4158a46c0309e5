"""docs/pruning.md names every method and allocation, and the patterns that each really takes."""

from __future__ import annotations

import re
from pathlib import Path

from workloads.pruning import method, methods, parse_pattern
from workloads.pruning.allocation import ALLOCATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """Cells of the table whose first header cell is ``header``."""
    lines = PAGE.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_method_and_what_it_takes():
    table = {row[0].strip("`"): re.findall(r"`([^`]+)`", row[3]) for row in rows("method")}
    assert set(table) == set(methods())
    for name, written in table.items():
        kinds = [type(parse_pattern(pattern)) for pattern in written]
        assert len(set(kinds)) == len(kinds) and set(kinds) == set(method(name).takes), name


def test_every_allocation():
    assert [row[0].strip("`") for row in rows("allocation")] == list(ALLOCATIONS)


def test_every_pattern_written_is_one():
    for row in rows("written"):
        for written in re.findall(r"`([^`]+)`", row[0]):
            parse_pattern(written)
