"""``sparchitect validate``: the error against every reference we have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InputError
from sparchitect import arguments
from sparchitect.completion import references

if TYPE_CHECKING:
    from validation.runner import Validation


def validate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="References; default: all that need no download and no tools.",
            metavar="[NAME]...",
            autocompletion=references,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the references and run none.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table, and for every row compared.", metavar="DIR")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")] = False,
) -> None:
    """Print the error against every reference.

    RTL, other simulators, measurements. Exit code 1 if something that is claimed to be exact is not.

    \b
    Examples:
      sparchitect validate
      sparchitect validate gemmini dram --out results/validation
      sparchitect validate --list
    """
    from sparchitect.display import progress
    from validation.runner import listed, run

    if list_:
        if names or out is not None:
            raise InputError("--list runs nothing, leave out names and --out")
        found = listed()
        print(arguments.one_json(found) if json_ else _names(found))
        return
    with progress(quiet=json_) as tick:
        result = run(names or [], tick)
    paths = [] if out is None else result.save(out)
    if json_:
        files = {} if out is None else {"files": [str(path) for path in paths]}
        print(arguments.one_json(result.to_dict() | files))
    else:
        _table(result)
        if paths:
            print(f"  {paths[0].parent}: {len(paths)} files")
    raise typer.Exit(0 if result.holds else 1)


def _names(found: dict[str, dict[str, str]]) -> str:
    lines = []
    for only_by_name in (False, True):
        lines.append("only by name:" if only_by_name else "by default:")
        for name, entry in found.items():
            if bool(entry["only_by_name"]) == only_by_name:
                why = f" ({entry['only_by_name']})" if only_by_name else ""
                lines.append(f"  {name:<16} {entry['what']}{why}")
    return "\n".join(lines)


def _table(result: Validation) -> None:
    """A line a measure; the name and the time of a reference stand once."""
    from rich.console import Console
    from rich.table import Table

    from validation.runner import equal_text, error_texts

    console = Console(width=None if Console().is_terminal else 160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("reference", "what"):
        table.add_column(name, overflow="fold")
    for name in ("rows", "equal", "mean", "median", "p90", "worst"):
        table.add_column(name, justify="right", no_wrap=name != "equal")
    table.add_column("reference values from", overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for outcome in result.outcomes:
        head: list[Any] = [outcome.reference.name, outcome.reference.source, f"{outcome.seconds:.1f}"]
        for row in outcome.rows():
            style = None if row["holds"] else "bold red"
            cells = [head[0], row["what"], f"{row['rows']:,}", equal_text(row), *error_texts(row), head[1], head[2]]
            table.add_row(*cells, style=style)
            head = [""] * 3
    console.print(table)
    failed = [row for outcome in result.outcomes for row in outcome.rows() if not row["holds"]]
    exact = sum(row["exact"] for outcome in result.outcomes for row in outcome.rows())
    said = f"{exact} claims of exactness hold" if not failed else f"{len(failed)} of {exact} claims of exactness FAIL"
    console.print(f"{said}; errors are absolute, ours against the reference", highlight=False)
