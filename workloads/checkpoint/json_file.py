"""JSON that nobody vouches for: bounded, one object, no name twice, one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sim.errors import InputError

MAX_JSON = 4 << 20


def read_json(path: Path, limit: int = MAX_JSON) -> dict[str, Any]:
    """The JSON object in a file of at most ``limit`` bytes; InputError otherwise."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as stream:
            text = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > limit:
        raise InputError(f"{path}: more than {limit} bytes of JSON")
    return json_object(text, str(path))


def json_object(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``text`` (UTF-8); InputError beginning with ``where`` otherwise."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_finite)
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(found, dict):
        raise InputError(f"{where}: must be a JSON object, got {type(found).__name__}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {twice[:80]!r} comes twice")
    return found


def _finite(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")
