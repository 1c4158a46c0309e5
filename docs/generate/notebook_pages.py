"""Notebooks as pages: text as it is, code in fences, outputs below; pictures become files beside the page."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "notebooks"
LONGEST = 60  # lines of an output that a page shows


@dataclass
class Page:
    """``name``: without suffix; ``pictures``: file name beside the page to bytes."""

    name: str
    title: str
    text: str
    pictures: dict[str, bytes] = field(default_factory=dict)


def pages() -> list[Page]:
    """Every notebook with outputs (``.ipynb``), in order."""
    return [page(file) for file in sorted(FOLDER.glob("*.ipynb"))]


def page(file: Path) -> Page:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    made = Page(file.stem, file.stem, "")
    parts: list[str] = []
    for cell in cells:
        source = _text(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell["outputs"] if (shown := _output(output, made))]
    heading = next((line for part in parts for line in part.splitlines() if line.startswith("# ")), None)
    if heading is None:
        parts.insert(0, f"# {made.title}")
    else:
        made.title = heading.removeprefix("# ").strip()
    without = "" if any(cell.get("outputs") for cell in cells) else ", which holds no outputs"
    made.text = "\n\n".join(parts) + f"\n\n*From `notebooks/{file.name}`{without}.*\n"
    return made


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _output(output: dict[str, Any], made: Page) -> str:
    """A picture if there is one, else the text; errors are not hidden."""
    data = output.get("data", {})
    for kind, suffix in (("image/png", "png"), ("image/svg+xml", "svg")):
        if kind in data:
            name = f"{made.name}_{len(made.pictures)}.{suffix}"
            raw = _text(data[kind])
            made.pictures[name] = base64.b64decode(raw) if suffix == "png" else raw.encode()
            return f"![output]({name})"
    if output["output_type"] == "error":
        return f"```text\n{output['ename']}: {output['evalue']}\n```"
    lines = _text(output.get("text", data.get("text/plain", ""))).rstrip().splitlines()
    cut = [f"... {len(lines) - LONGEST:,} more lines"] if len(lines) > LONGEST else []
    return "```text\n" + "\n".join(lines[:LONGEST] + cut) + "\n```" if lines else ""
