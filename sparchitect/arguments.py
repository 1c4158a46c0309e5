"""Command-line words to values: ``PATH=VALUE``, ``MxNxK``."""

from __future__ import annotations

from typing import Any

import yaml

from sim.errors import InputError


def assignments(words: list[str]) -> dict[str, Any]:
    """``["array.rows=64", "sparsity.barrier_depth=full"]`` as a dict; values are read as YAML scalars."""
    found: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise InputError(f"--set must read PATH=VALUE, like array.rows=64, got '{word}'")
        found[path.strip()] = scalar(text, word)
    return found


def grid(words: list[str]) -> dict[str, list[Any]]:
    """``["array.rows=8,16,32"]`` as a dict of lists."""
    found: dict[str, list[Any]] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path or not text:
            raise InputError(f"--vary must read PATH=V1,V2,..., like array.rows=8,16,32, got '{word}'")
        found[path.strip()] = [scalar(part, word) for part in text.split(",")]
    return found


def scalar(text: str, word: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"'{word}': '{text}' is not a plain value") from None
    if isinstance(value, dict | list):
        raise InputError(f"'{word}': '{text}' is not a plain value")
    return value


def shape(text: str) -> tuple[int, int, int]:
    """``"128x576x1536"`` as (m, n, k)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.strip().isdigit() for p in parts):
        raise InputError(f"--gemm must read MxNxK with three whole numbers, like 128x1536x576, got '{text}'")
    m, n, k = (int(p) for p in parts)
    for name, value in zip("MNK", (m, n, k), strict=True):
        if value < 1:
            raise InputError(f"--gemm {text}: {name} must be >= 1, got {value}")
    return m, n, k
