"""Docstrings of this code as Markdown: roles become code, ``Args:`` lists, indented text blocks of code."""

from __future__ import annotations

import re
import textwrap

SECTIONS = ("Args", "Returns", "Raises")
_ROLE = re.compile(r":(?:class|mod|func|data|attr|meth):`~?([^`]+)`")
_NAMED = re.compile(r"^([\w, *]+): (.*)$", re.DOTALL)


def inline(text: str) -> str:
    """One line of Markdown: roles and double backticks as code, nothing that a table cell would end at."""
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    return " ".join(text.split())


def first_sentence(docstring: str | None) -> str:
    """The first paragraph up to its first full stop."""
    paragraph = inline((docstring or "").split("\n\n")[0])
    return re.split(r"(?<=[.])\s(?=[A-Z`])", paragraph)[0]


def cell(text: str) -> str:
    """As :func:`inline`, inside a table: bars escaped, but not in code, where Python-Markdown keeps backslashes."""
    parts = re.split(r"(`[^`]*`)", inline(text))
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def markdown(docstring: str) -> str:
    """Paragraphs, lists of arguments and errors, and code, of a cleaned docstring (``inspect.getdoc``)."""
    return "\n\n".join(_block(block) for block in _blocks(docstring.strip("\n")))


def _blocks(text: str) -> list[str]:
    """Parts between empty lines; a section stays with what is indented below it."""
    found: list[str] = []
    for part in re.split(r"\n\s*\n", text):
        indented = part.startswith((" ", "\t"))
        if indented and found and (found[-1].startswith("    ") or _heading(found[-1])):
            found[-1] += "\n\n" + part
        else:
            found.append(part)
    return found


def _heading(block: str) -> str | None:
    word, colon, _ = block.partition(":")
    return word if colon and word in SECTIONS and block[len(word) + 1 : len(word) + 2] == "\n" else None


def _block(block: str) -> str:
    word = _heading(block)
    if word is not None:
        return f"**{word}**\n\n{_items(textwrap.dedent(block.partition(chr(10))[2]), word)}"
    if block.startswith("    ") or block.startswith("==="):
        return f"```text\n{textwrap.dedent(block)}\n```"
    lines = block.splitlines()
    if lines[0].startswith("- "):
        return "\n".join(f"- {inline(item)}" for item in re.split(r"(?:^|\n)- ", block)[1:])
    cut = next((i for i, line in enumerate(lines) if line.startswith("- ") and i), None)
    if cut is not None:
        return _block("\n".join(lines[:cut])) + "\n\n" + _block("\n".join(lines[cut:]))
    return inline(re.sub(r"::$", ":", block))


def _items(text: str, section: str) -> str:
    """One bullet an argument or error; lines indented further belong to the one before."""
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")) and items:
            items[-1] += " " + line.strip()
        elif line.strip():
            items.append(line.strip())
    if section == "Returns":
        return inline(" ".join(items))
    told = []
    for item in items:
        named = _NAMED.match(item)
        told.append(f"- `{named[1]}`: {inline(named[2])}" if named else f"- {inline(item)}")
    return "\n".join(told)
