"""Reports as data of figures: one or many, named, and their ops in groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.report import Report

_LAYER = re.compile(r"^(layer|block)\d+\.")


def as_list(data: Any, kind: type, what: str) -> list[Any]:
    """One or many of ``kind``; :class:`InputError` for anything else and for none."""
    found = [data] if isinstance(data, kind) else data
    if not isinstance(found, list | tuple) or not found or not all(isinstance(one, kind) for one in found):
        got = type(data).__name__ if not isinstance(data, list | tuple) else f"a list of {_kinds(data)}"
        raise InputError(f"this figure needs {what}, got {got}")
    return list(found)


def _kinds(data: Sequence[Any]) -> str:
    return ", ".join(sorted({type(one).__name__ for one in data})) or "nothing"


def as_reports(data: Any) -> list[Report]:
    """The reports of a figure."""
    return as_list(data, Report, "one report or a list of them (sp.simulate)")


def names_of(reports: Sequence[Report], labels: Sequence[str] | None = None) -> list[str]:
    """A name for each report: ``labels``, or what differs of machine and trace.

    Raises:
        InputError: not one label a report, the same label twice, or two reports that differ in neither.
    """
    if labels is not None:
        return checked_labels(labels, len(reports))
    machines, traces = [r.machine for r in reports], shortened([r.trace for r in reports])
    if len(set(traces)) == 1:
        found = machines
    elif len(set(machines)) == 1:
        found = traces
    else:
        found = [f"{m}, {t}" for m, t in zip(machines, traces, strict=True)]
    if len(set(found)) < len(found):
        raise InputError(f"two reports are both called '{_twice(found)}': give labels, one a report")
    return found


def checked_labels(labels: Sequence[str], count: int) -> list[str]:
    """``labels`` if there are ``count`` different ones."""
    found = [str(label) for label in labels]
    if len(found) != count:
        raise InputError(f"labels: {count} are needed, got {len(found)}")
    if len(set(found)) < count:
        raise InputError(f"labels: '{_twice(found)}' is there twice")
    return found


def _twice(names: Sequence[str]) -> str:
    return next(name for name in names if list(names).count(name) > 1)


def shortened(names: Sequence[str]) -> list[str]:
    """Names without the words, joined by ``_``, with which all of them begin."""
    words = [name.split("_") for name in names]
    if len(set(names)) < 2:
        return list(names)
    same = 0
    while all(len(w) > same + 1 for w in words) and len({w[same] for w in words}) == 1:
        same += 1
    return ["_".join(w[same:]) for w in words]


def op_groups(report: Report) -> dict[str, NDArray[np.int64]]:
    """Op name without its layer -> rows of ``report.columns``, in the order of the trace."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(report.work.ops["name"].tolist()):
        found.setdefault(_LAYER.sub("", name), []).append(i)
    return {name: np.array(rows) for name, rows in found.items()}
