"""What ``mkdocs build`` calls: reference pages, notebooks and files of the repository's root become pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import api_page
import cli_page
import field_pages
import notebook_pages
import pruning_page
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

#: Pages that are made, and by what.
PAGES = {
    "reference/machine_fields.md": field_pages.machine_page,
    "reference/cli.md": cli_page.page,
    "reference/python.md": api_page.page,
    "reference/pruning_methods.md": pruning_page.page,
    "project/contributing.md": lambda: from_root("CONTRIBUTING.md"),
    "project/changelog.md": lambda: from_root("CHANGELOG.md"),
}
#: Text that pages in docs/ leave a place for.
PLACES = {"<!-- space fields -->": field_pages.space_table, "<!-- bundled spaces -->": field_pages.bundled_spaces}


def from_root(name: str) -> str:
    """A file of the repository's root, its links into docs/ as seen from project/."""
    return re.sub(r"\]\(docs/", "](../", (ROOT / name).read_text(encoding="utf-8"))


def on_config(config: Any) -> Any:
    """Notebooks, as many as there are, go into the navigation under the page about them."""
    section = next(part["Notebooks"] for part in config.nav if "Notebooks" in part)
    section += [{page.title: f"notebooks/{page.name}.md"} for page in notebook_pages.pages()]
    return config


def on_files(files: Files, config: Any) -> Files:
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    for page in notebook_pages.pages():
        files.append(File.generated(config, f"notebooks/{page.name}.md", content=page.text))
        for name, content in page.pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    for place, make in PLACES.items():
        if place in markdown:
            markdown = markdown.replace(place, make())
    return markdown
