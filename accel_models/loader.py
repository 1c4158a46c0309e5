"""Machine files: one YAML page a machine, read into :class:`sim.spec.Accelerator`.

A file holds plain mappings, lists, names and numbers. Tags, aliases and duplicate keys are refused before anything is
built, so a file from a stranger can do no more than describe a machine. Every complaint is one line that names the
file, the line, the field, the value and what would be right.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sim.errors import InputError, nearest
from sim.memory.dram import STANDARDS
from sim.spec import Accelerator, build

DATA = Path(__file__).parent / "data"
_SUFFIXES = (".yaml", ".yml")
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null"))
_DEEPEST = 16  # a machine needs four

FieldPath = tuple[str, ...]


class _Lines(dict[FieldPath, int]):
    """Line of every field; a field that is not there gets the line of the part it is missing from."""

    def get(self, path: FieldPath, default: Any = None) -> Any:
        while path:
            if path in self:
                return self[path]
            path = path[:-1]
        return default


def names() -> list[str]:
    """Bundled machines, in alphabetical order."""
    return sorted(file.stem for file in DATA.glob("*.yaml"))


def summaries() -> dict[str, str]:
    """Bundled machine to its one-line summary."""
    return {name: accelerator(name).summary for name in names()}


def accelerator(source: str | os.PathLike[str] | Mapping[str, Any]) -> Accelerator:
    """A machine from a bundled name (``"dense_ws"``), a YAML path, or a mapping of its fields. A file must say which
    DRAM the machine has: a default would decide most of a language model's time. Of a mapping, a report notes it.

    Text that ends in ``.yaml`` or ``.yml``, or holds a path separator, is a path. :class:`InputError` for anything
    that is not a machine.
    """
    if isinstance(source, Mapping):
        return build(dict(source), where=f"machine '{source.get('name', 'without a name')}'")
    if isinstance(source, str) and source in names():
        return _from_file(DATA / f"{source}.yaml")
    if isinstance(source, os.PathLike) or (
        isinstance(source, str) and (source.endswith(_SUFFIXES) or os.sep in source or "/" in source)
    ):
        return _from_file(Path(source))
    if isinstance(source, str):
        raise InputError(f"no machine '{source}', {nearest(source, names())} (or give the path of a YAML file)")
    raise InputError(f"a machine is a bundled name, a YAML path or a mapping, got {type(source).__name__}")


def _from_file(path: Path) -> Accelerator:
    raw, lines = plain_fields(path, f"no such machine file; bundled machines: {', '.join(names())}")
    machine = build(raw, where=str(path), line_of=lines)
    if "standard" not in machine.dram.model_fields_set:
        missing, line = ("dram.standard", f" line {lines[('dram',)]}") if "dram" in raw else ("dram", "")
        wanted = f"like 'dram: {{standard: lpddr4_3200, channels: 4}}'; standards: {', '.join(sorted(STANDARDS))}"
        raise InputError(f"{path}{line}: field '{missing}' is missing, {wanted}")
    return machine


def plain_fields(path: Path, missing: str = "no such file") -> tuple[Any, Mapping[FieldPath, int]]:
    """What a YAML file from a stranger holds, as plain data, and the line of every field.

    :class:`InputError` for a file that cannot be read (``missing``: what to say where there is none), broken YAML,
    tags, aliases, duplicate keys, deep nesting.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{where}: {missing}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where}: not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    lines = _Lines()
    try:
        _refuse_events(text, where)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise InputError(f"{where}: the file is empty")
        for field, line in _fields(node, where):
            lines[field] = line
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: broken YAML, {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: broken YAML, {str(error).splitlines()[0]}") from None
    except InputError:
        raise
    except ValueError as error:  # a number or date that YAML recognises but Python refuses
        raise InputError(f"{where}: broken YAML, {str(error).splitlines()[0]}") from None
    return raw, lines


def _refuse_events(text: str, where: str) -> None:
    """Stop at what would make reading the file expensive: aliases (they can grow without bound) and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{where} line {line}: aliases (*{event.anchor}) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise InputError(f"{where} line {line}: nested more than {_DEEPEST} levels deep")


def _fields(node: yaml.Node, where: str, path: FieldPath = ()) -> Iterator[tuple[FieldPath, int]]:
    """Field path and line of every node below, after refusing what a machine file may not hold."""
    line = node.start_mark.line + 1
    name = ".".join(path) or "the file"
    if node.tag not in _PLAIN:
        shown = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise InputError(f"{where} line {line}: {name} has the YAML tag {shown}; only plain values are allowed")
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and ":" in node.value:
        raise InputError(f'{where} line {line}: {name} needs quotes, "{node.value}": without them YAML reads base 60')
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _fields(item, where, (*path, str(index)))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN:
                raise InputError(f"{where} line {at}: a field name must be plain text")
            field = (*path, key.value)
            if key.value in first:
                again = f"'{'.'.join(field)}' is given twice, first in line {first[key.value]}"
                raise InputError(f"{where} line {at}: {again}")
            first[key.value] = at
            yield field, at
            yield from _fields(value, where, field)
