"""Kinds of figures by name, loaded when asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dse.figures.base import Figure, checked_stem, checked_width
from sim.errors import InputError, nearest

KINDS = {
    "roofline": "dse.figures.roofline:Roofline",
    "latency": "dse.figures.latency:Latency",
    "energy": "dse.figures.energy:Energy",
    "stalls": "dse.figures.stalls:Stalls",
    "traffic": "dse.figures.traffic:Traffic",
    "area": "dse.figures.area:Area",
    "sensitivity": "dse.figures.sensitivity:Sensitivity",
    "sparsity": "dse.figures.sparsity:Gains",
    "heatmap": "dse.figures.heatmap:Heatmap",
    "gantt": "dse.figures.gantt:Gantt",
    "mask": "dse.figures.mask:Mask",
    "imbalance": "dse.figures.imbalance:Imbalance",
    "pareto": "dse.figures.front:Front",
    "hypervolume": "dse.figures.hypervolume:Hypervolume",
    "importance": "dse.figures.importance:Importance",
}
"""Name -> module:class."""


def make(
    kinds: Mapping[str, str], kind: str, data: Any, out: str | Path | None, width: float, options: Mapping[str, Any]
) -> Figure:
    """The figure ``kind`` of ``kinds``, written to ``out`` (a path without its ending) if that is given.

    Raises:
        InputError: an unknown kind or option, data or options that the kind refuses, a bad width or path.
    """
    if kind not in kinds:
        raise InputError(f"figure kind '{kind}' is unknown, {nearest(kind, kinds)}")
    checked_width(width)
    if out is not None:
        checked_stem(out)
    module, _, name = kinds[kind].partition(":")
    cls = getattr(importlib.import_module(module), name)
    known = list(inspect.signature(cls).parameters)
    wrong = next((option for option in options if option not in known[1:]), None)
    if wrong is not None:
        hint = nearest(wrong, known[1:]) if known[1:] else "it has none"
        raise InputError(f"figure '{kind}' has no option '{wrong}', {hint}")
    needed = [p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty][1:]
    missing = next((option for option in needed if option not in options), None)
    if missing is not None:
        raise InputError(f"figure '{kind}' needs {missing}=...")
    made: Figure = cls(data, **options)
    made.shown_in = width
    if out is not None:
        made.save(out, width)
    return made
