"""The command line reference, from the typer app: every command, argument, option and example."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from prose import cell, inline
from tables import table
from typer.main import get_command

from sparchitect.cli import app


def commands(command: Any = None, words: str = "sparchitect") -> list[tuple[str, Any]]:
    """(words, command) of every command that does something, groups left out."""
    command = command or get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        return [(words, command)]
    return [found for name in below for found in commands(below[name], f"{words} {name}")]


def page() -> str:
    text = [
        "# Command line",
        "Generated from the program. `--help` after any command prints the same. Bad input is one line on stderr and "
        "exit code 2, with nothing half-written; `--json` prints one JSON object to stdout and nothing else.",
    ]
    for words, command in commands():
        text += [f"## {words}", *_about(command.help or ""), _usage(words, command)]
        rows = [_row(parameter) for parameter in command.params]
        if rows:
            text.append(table(("", "default", "meaning"), rows))
    return "\n\n".join(text) + "\n"


def _about(help_text: str) -> list[str]:
    """Paragraphs of a command's docstring; what follows click's mark for kept lines are examples."""
    found = []
    for part in re.split(r"\n\s*\n", help_text.strip()):
        kept = part.lstrip("\n").removeprefix("\b").lstrip("\n")
        if kept.startswith("Examples:"):
            found.append(f"```bash\n{textwrap.dedent(kept.partition(chr(10))[2])}\n```")
        else:
            found.append(inline(kept))
    return found


def _usage(words: str, command: Any) -> str:
    places = [_spelled(parameter) for parameter in command.params if _placed(parameter)]
    return f"`{' '.join([words, *places, '[OPTIONS]'])}`"


def _placed(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _spelled(parameter: Any) -> str:
    if _placed(parameter):
        return parameter.metavar or parameter.name.upper()
    spelled = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return spelled if parameter.is_flag else f"{spelled} {parameter.metavar or ''}".rstrip()


def _row(parameter: Any) -> tuple[str, str, str]:
    default = "required" if parameter.required else _default(parameter)
    return f"`{_spelled(parameter)}`", default, cell(parameter.help or "")


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value in ((), []):
        return ""
    return "on" if value is True else f"`{value}`"
