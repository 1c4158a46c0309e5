"""The page of results, docs/benchmarks.md: what each benchmark measured goes between its own two marks."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it reads in a terminal too."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    wide = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * w for w in wide])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)) + " |" for line in lines
    )


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds, milliseconds or microseconds, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{seconds:.1e} s"


def surroundings(packages: Sequence[str]) -> str:
    """One line: date, processor, cores, load before the run, versions, commit."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{date.today().isoformat()}; {model}, {os.cpu_count()} cores{load}; Python {platform.python_version()}, "
        f"{versions}, commit {_commit()}."
    )


def _commit() -> str:
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end of name -->``; :class:`ValueError` without them."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = PAGE.read_text().partition(first)
    _, ends, after = rest.partition(last)
    if not found or not ends:
        raise ValueError(f"{PAGE}: no marks {first} and {last}")
    PAGE.write_text(f"{before}{first}\n\n{text.strip()}\n\n{last}{after}")
