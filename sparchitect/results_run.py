"""What ``simulate --json`` and ``validate --json`` printed, as pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sim.errors import InputError
from sparchitect.page import Page, Part

_SLOWEST = 10
_MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a page of numbers and words raises when the file holds others."""


def run_page(path: Path, found: dict[str, Any]) -> Page:
    """One simulation: totals, what limits it, its slowest ops, energy, area, notes, and where it is from."""
    from sim.report_text import shares, si

    try:
        total = max(float(sum(found["stall_cycles"].values())), 1e-30)
        largest = max(found["stall_cycles"], key=lambda cause: found["stall_cycles"][cause])
        page = Page(f"{found['trace']} on {found['machine']} ({found['engine']}, mapped for {found['objective']})")
        page.facts = {
            "kind": "simulation",
            "file": str(path),
            **{key: value for key, value in found.items() if key not in ("ops", "nest")},
            "limit": {"cause": largest, "share": found["stall_cycles"][largest] / total},
            "slowest": _slowest(found),
        }
        time = (
            f"{found['cycles']:,} cycles, {si(found['seconds'], 's')}, {100 * found['utilization']:.1f} % of PEs busy"
        )
        page.parts.append(
            Part(
                "totals",
                (
                    time,
                    f"{si(found['energy_pj'] * 1e-12, 'J')} "
                    f"({si(found['energy_without_leakage_pj'] * 1e-12, 'J')} without leakage)",
                    f"{found['area_mm2']:.3f} mm2",
                    f"{si(found['dram_bytes'], 'B')} from and to DRAM",
                ),
            )
        )
        page.parts += [
            Part("cycles by cause", (shares(found["stall_cycles"], total),)),
            _ops(page.facts["slowest"]),
            Part("energy", (shares(found["energy_by_component_pj"], max(found["energy_pj"], 1e-30)),)),
            Part("area", (shares(found["area_by_component_mm2"], max(found["area_mm2"], 1e-30)),)),
            Part("notes", tuple(str(note) for note in found["notes"])),
            _origin(found["provenance"]),
        ]
    except _MISSHAPEN as error:
        raise InputError(f"{path}: is no output of simulate --json ({_first_line(error)})") from None
    return page


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:80]


def _slowest(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Ops of one kind (layers together) by cycles, each with its largest cause."""
    kinds: dict[str, dict[str, Any]] = {}
    for op in found["ops"]:
        kind = re.sub(r"^layer\d+\.", "", str(op["name"]))
        entry = kinds.setdefault(kind, {"ops": kind, "count": 0, "cycles": 0.0, "causes": {}})
        entry["count"] += 1
        entry["cycles"] += float(op["cycles"])
        for cause in found["stall_cycles"]:
            entry["causes"][cause] = entry["causes"].get(cause, 0.0) + float(op.get(cause) or 0.0)
    shown = sorted(kinds.values(), key=lambda entry: -entry["cycles"])[:_SLOWEST]
    for entry in shown:
        causes = entry.pop("causes")
        cause = max(causes, key=lambda name: causes[name])
        entry |= {"largest_cause": cause, "share_of_it": causes[cause] / max(entry["cycles"], 1e-30)}
    return shown


def _ops(slowest: list[dict[str, Any]]) -> Part:
    rows = tuple(
        (e["ops"], f"{e['count']:,}", f"{e['cycles']:,.0f}", f"{e['largest_cause']} {100 * e['share_of_it']:.0f} %")
        for e in slowest
    )
    return Part("slowest ops", (), ("op", "of them", "cycles", "largest cause"), rows)


def _origin(provenance: dict[str, Any]) -> Part:
    lines = [f"sparchitect {provenance['version']}, machine {provenance['config_hash']}"]
    stated = {k: v for k, v in (provenance.get("trace") or {}).items() if isinstance(v, str | int | float)}
    if stated:
        lines.append("trace: " + ", ".join(f"{key} {value}" for key, value in sorted(stated.items())))
    return Part("where from", tuple(lines))


def validation_page(path: Path, found: dict[str, Any]) -> Page:
    """What ``validate`` measured; :class:`InputError` if it is not that."""
    from validation.runner import equal_text, error_texts

    names = ("reference", "what", "rows", "equal", "mean", "median", "p90", "worst", "from")
    try:
        measures = found["measures"]
        failed = [m for m in measures if not m["holds"]]
        rows = tuple(
            (str(m["name"]), str(m["what"]), f"{m['rows']:,}", equal_text(m), *error_texts(m), str(m["source"]))
            for m in measures
        )
        parts = [Part("measures", (), names, rows), Part("where from", (f"sparchitect {found['version']}",))]
    except _MISSHAPEN as error:
        raise InputError(f"{path}: is no output of validate --json ({_first_line(error)})") from None
    page = Page(f"Validation {path}: {'all exact claims hold' if not failed else f'{len(failed)} exact claims FAIL'}")
    page.facts = {"kind": "validation", "file": str(path), **found}
    page.parts = parts
    return page
