"""Command-line words to values (``PATH=VALUE``, ``MxNxK``), and results to one JSON object."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

from sim.errors import InputError


def assignments(words: list[str]) -> dict[str, Any]:
    """``["array.rows=64", "sparsity.barrier_depth=full"]`` as a dict; values are read as YAML scalars."""
    found: dict[str, Any] = {}
    for word in words:
        path, text = _halves(word, "--set must read PATH=VALUE, like array.rows=64", found)
        found[path] = scalar(text, word)
    return found


def grid(words: list[str]) -> dict[str, list[Any]]:
    """``["array.rows=8,16,32"]`` as a dict of lists."""
    found: dict[str, list[Any]] = {}
    for word in words:
        path, text = _halves(word, "--vary must read PATH=V1,V2,..., like array.rows=8,16,32", found)
        found[path] = [scalar(part, word) for part in text.split(",")]
    return found


def _halves(word: str, rule: str, taken: dict[str, Any]) -> tuple[str, str]:
    path, equals, text = (part.strip() for part in word.partition("="))
    if not (path and equals and text):
        raise InputError(f"{rule}, got '{word}'")
    if path in taken:
        raise InputError(f"{rule.split()[0]} names '{path}' twice, the second time in '{word}'")
    return path, text


def scalar(text: str, word: str) -> Any:
    """A YAML scalar, except that ``2:4`` stays text (YAML would read base 60)."""
    if not text.strip():
        raise InputError(f"'{word}': a value is missing")
    if re.fullmatch(r"\d+:\d+", text.strip()):
        return text.strip()
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise InputError(f"'{word}': '{text}' is not a plain value") from None
    if not isinstance(value, str | int | float | None):
        raise InputError(f"'{word}': '{text}' is not a plain value")
    return value


def shape(text: str) -> tuple[int, int, int]:
    """``"128x576x1536"`` as (m, n, k)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.strip().isdecimal() for p in parts):
        raise InputError(f"--gemm must read MxNxK with three whole numbers, like 128x1536x576, got '{text}'")
    m, n, k = (int(p) for p in parts)
    for name, value in zip("MNK", (m, n, k), strict=True):
        if value < 1:
            raise InputError(f"--gemm {text}: {name} must be >= 1, got {value}")
    return m, n, k


def one_json(value: Any) -> str:
    """``value`` as strict JSON on one line; numbers that are not finite become null."""
    return json.dumps(_plain(value), sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
