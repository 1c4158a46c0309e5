"""``sparchitect report``: what a finished run found, read again from its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sim.errors import InputError
from sparchitect import arguments

FORMATS = {".md": "markdown", ".html": "html", ".txt": "text"}


def report(
    result: Annotated[
        Path,
        typer.Argument(
            help="An explored folder, a sweep's .csv or .parquet, or the .json of simulate, sweep or validate.",
            metavar="PATH",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write it here too: .md, .html or .txt.", metavar="FILE.md|.html")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")] = False,
) -> None:
    """Summarise what a finished run left behind.

    Best designs, Pareto front, what limits them, what cannot run, versions, hashes, seed.

    \b
    Examples:
      sparchitect report results/edge_codesign_001 --out report.html
      sparchitect report sweep.parquet
      sparchitect simulate -a nm_24 --gemm 128x1536x576 --json > run.json
      sparchitect report run.json --out run.md
    """
    from sparchitect.results import read

    if out is not None and out.suffix not in FORMATS:
        raise InputError(f"--out {out}: must end in {', '.join(FORMATS)}")
    page = read(result)
    if out is not None:
        _write(out, getattr(page, FORMATS[out.suffix])())
    if json_:
        print(arguments.one_json(page.facts | ({} if out is None else {"written": str(out)})))
        return
    print(page.text())
    if out is not None:
        print(f"\n{out}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror})") from None
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
