"""A format and its options as a handful of numbers, for tables of machines, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim.sparsity.formats.base import Format
from sim.sparsity.formats.ranks import RANKS
from sim.sparsity.formats.registry import FORMATS, format_of

FIELDS = ("n", "m", "block_rows", "block_columns", "ranks", "index_bits", "word_bits", "code_bits")
"""0 in any of them: not given."""

_BASE = len(RANKS) + 1


def to_numbers(chosen: Format) -> dict[str, float]:
    """:data:`FIELDS` of a format."""
    block = getattr(chosen, "block", None) or (0, 0)
    ranks = 0
    for name in getattr(chosen, "stack", ()):
        ranks = ranks * _BASE + RANKS.index(name) + 1
    found = {"block_rows": block[0], "block_columns": block[1], "ranks": ranks}
    return {field: float(found[field] if field in found else getattr(chosen, field, None) or 0) for field in FIELDS}


def of_numbers(name: str, numbers: Mapping[str, float]) -> Format:
    """The format that :func:`to_numbers` took apart."""
    given: dict[str, Any] = {field: int(numbers[field]) for field in ("n", "m", "index_bits", "word_bits")}
    given["code_bits"] = numbers["code_bits"]
    block = int(numbers["block_rows"]), int(numbers["block_columns"])
    given["block"] = block if all(block) else None
    stack, code = [], int(numbers["ranks"])
    while code:
        code, digit = divmod(code, _BASE)
        stack.append(RANKS[digit - 1])
    given["ranks"] = "-".join(reversed(stack))
    known = FORMATS[name].__dataclass_fields__
    return format_of(name, **{option: value for option, value in given.items() if value and option in known})
