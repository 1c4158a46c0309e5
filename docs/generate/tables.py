"""Markdown tables, and pydantic fields as rows of one."""

from __future__ import annotations

import csv
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from prose import cell
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_SIGNS = ((Gt, ">", "gt"), (Ge, ">=", "ge"), (Lt, "<", "lt"), (Le, "<=", "le"))


@dataclass(frozen=True)
class Row:
    """A field as a file spells it; ``part`` is the class that holds it."""

    path: str
    part: type[BaseModel]
    default: str
    allowed: str


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def fields(model: type[BaseModel], below: Mapping[str, tuple[str, type[BaseModel]]], prefix: str = "") -> Iterator[Row]:
    """Every leaf field; ``below``: fields that map free names to parts, with what the name is called."""
    for name, info in model.model_fields.items():
        path = prefix + name
        annotation = info.annotation
        if path in below:
            called, part = below[path]
            yield from fields(part, below, f"{path}.<{called}>.")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from fields(annotation, below, f"{path}.")
        else:
            yield Row(path, model, _default(info), _allowed(info))


def meanings(file: Path) -> dict[str, tuple[str, str]]:
    """Path to (unit, meaning), of a CSV file."""
    with file.open(newline="", encoding="utf-8") as lines:
        return {line["path"]: (line["unit"], line["meaning"]) for line in csv.DictReader(lines)}


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence | Mapping) and not value:
        return "empty"
    return f"`{', '.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def _allowed(info: FieldInfo) -> str:
    """Type and range in words."""
    limits = [
        f"{sign} {_number(getattr(rule, name))}"
        for rule in info.metadata
        for kind, sign, name in _SIGNS
        if isinstance(rule, kind)
    ]
    return cell(", ".join([_kind(info.annotation), *limits]))


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    if origin in (tuple, list):
        return f"list of: {_kind(get_args(annotation)[0])}"
    if origin is dict:
        return f"mapping to {_kind(get_args(annotation)[1])}"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "value"}
    return names.get(annotation, str(annotation))
