"""A result for people, in parts: the same page as text, Markdown or one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTH = 160
_STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0;font-size:13px}td,th{padding:.2em .7em;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child,td:last-child,th:last-child{text-align:left}"
    "img{max-width:100%}"
)


@dataclass(frozen=True)
class Part:
    """``lines`` of text, then perhaps a table: ``names`` of columns and ``rows`` of cells, all text."""

    title: str
    lines: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass
class Page:
    """``facts``: the same as plain data, what ``--json`` prints. ``figure``: a PNG that belongs to it."""

    title: str
    parts: list[Part] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    figure: Path | None = None

    def text(self) -> str:
        """For a terminal or a pipe."""
        lines = [self.title]
        for part in self.parts:
            lines += ["", f"{part.title}:"]
            for line in part.lines:
                lines += textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ") or [""]
            if part.rows:
                lines += [f"  {line}" for line in _columns(part)]
        return "\n".join(lines)

    def markdown(self) -> str:
        lines = [f"# {self.title}"]
        for part in self.parts:
            lines += ["", f"## {part.title[0].upper()}{part.title[1:]}", ""]
            lines += [f"- {line}" for line in part.lines]
            if part.rows:
                lines += [*([""] if part.lines else []), f"| {' | '.join(part.names)} |"]
                lines += [f"|---|{'---:|' * (len(part.names) - 1)}"]
                lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in part.rows]
        if self.figure is not None:
            lines += ["", f"Figure: `{self.figure}`"]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        title = html.escape(self.title)
        lines = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">']
        lines += [f"<title>{title}</title><style>{_STYLE}</style></head><body>", f"<h1>{title}</h1>"]
        for part in self.parts:
            lines.append(f"<h2>{html.escape(part.title[0].upper() + part.title[1:])}</h2>")
            if part.lines:
                lines.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in part.lines) + "</ul>")
            if part.rows:
                lines += ["<table><tr>" + "".join(f"<th>{html.escape(n)}</th>" for n in part.names) + "</tr>"]
                lines += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in part.rows]
                lines.append("</table>")
        if self.figure is not None:
            lines.append(f'<p><img alt="Pareto front" src="{_png(self.figure)}"></p>')
        return "\n".join([*lines, "</body></html>"]) + "\n"


def _columns(part: Part) -> list[str]:
    """Cells under their names: the first and the last column to the left, numbers between to the right."""
    table = [part.names, *part.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(part.names))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _png(path: Path) -> str:
    """The picture itself as a link, so that the page needs no second file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
