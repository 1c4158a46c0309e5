"""How two traces differ: ops that only one has, columns of those that both have, what their masks are, and ``meta``.

Ops are matched by name, ops of one name in their order; an op that only moved counts as ``reordered``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.sparsity.profile import ProfileTable
from sim.trace import NUMBERS, TEXTS, Trace

Key = tuple[str, int]
_SKIPPED = ("name", "profile")  # the profile's number says nothing, its content is compared


def diff(a: Trace, b: Trace, with_meta: bool = True) -> dict[str, Any]:
    """``same``; ``only_in_a``, ``only_in_b`` (op names), ``reordered``, ``changed`` (op, column, a, b), ``parts``
    (profiles, counts, masks that only one has), ``meta`` (key -> [a, b]), and of both ``macs`` and ``ops``."""
    left, right = _keyed(a), _keyed(b)
    both = [key for key in left if key in right]
    meta = {
        key: [a.meta.get(key), b.meta.get(key)]
        for key in sorted({*a.meta, *b.meta})
        if with_meta and a.meta.get(key) != b.meta.get(key)
    }
    parts = {
        what: [getattr(t, what) is not None for t in (a, b)]
        for what in ("profiles", "counts", "masks")
        if (getattr(a, what) is None) != (getattr(b, what) is None)
    }
    found = {
        "only_in_a": [name for name, i in left if (name, i) not in right],
        "only_in_b": [name for name, i in right if (name, i) not in left],
        "reordered": both != [key for key in right if key in left],
        "changed": list(_changed(a, b, [(left[key], right[key]) for key in both])),
        "parts": parts,
        "meta": meta,
    }
    return {"same": not any(found.values()), **found, "macs": [a.macs, b.macs], "ops": [len(a), len(b)]}


def _keyed(trace: Trace) -> dict[Key, int]:
    """(name, how manieth of that name) to the op's row."""
    seen: dict[str, int] = {}
    found: dict[Key, int] = {}
    for row, name in enumerate(trace.ops["name"].astype(str)):
        found[name, seen.setdefault(name, 0)] = row
        seen[name] += 1
    return found


def _changed(a: Trace, b: Trace, pairs: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    if not pairs:
        return
    here, there = (np.array(side) for side in zip(*pairs, strict=True))
    differ: list[tuple[int, str, Any, Any]] = []
    for column in (c for c in (*TEXTS, *NUMBERS) if c not in _SKIPPED):
        x, y = a.ops[column].to_numpy()[here], b.ops[column].to_numpy()[there]
        equal = x == y if column in TEXTS else (x == y) | (np.isnan(x.astype(float)) & np.isnan(y.astype(float)))
        differ += [(int(i), column, _plain(x[i]), _plain(y[i])) for i in np.flatnonzero(~equal)]
    for i, (row, other) in enumerate(pairs):
        told = _mask_change(a, row, b, other)
        differ += [(i, "mask", *told)] if told else []
    names = a.ops["name"].astype(str).to_numpy()
    for i, column, x, y in sorted(differ, key=lambda item: item[0]):
        yield {"op": names[here[i]], "column": column, "a": x, "b": y}


def _mask_change(a: Trace, row: int, b: Trace, other: int) -> tuple[str, str] | None:
    """What is said of the masks of an op in both traces, where it differs."""
    at = [int(t.ops["profile"].iloc[i]) for t, i in ((a, row), (b, other))]
    if at[0] < 0 and at[1] < 0:
        return None
    if min(at) < 0:
        return ("none", "a mask") if at[0] < 0 else ("a mask", "none")
    if a.masks is not None and b.masks is not None:
        return None if np.array_equal(a.masks[at[0]], b.masks[at[1]]) else ("a mask", "another mask")
    if a.profiles is None or b.profiles is None:
        return None
    fields = ProfileTable.__dataclass_fields__
    same = all(np.array_equal(getattr(a.profiles, f)[at[0]], getattr(b.profiles, f)[at[1]]) for f in fields)
    return None if same else ("a mask", "another mask, by its profile")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
