"""A report for people: what limits the machine, and what would change it, on one screen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sim import advice
from sim.counts import CAUSES, COLUMNS, INDEX, named
from sim.designs import D_DRAM_BPC
from sim.memory.on_chip import level_cycles
from sim.sparse_columns import S_FOLDS, S_INPUT_DENSITY, S_PACKED_K, S_POSITIONS

if TYPE_CHECKING:
    from sim.report import Report

WIDTH, LINES = 110, 30
_HELPS = 0.9  # of the time; where no single change leaves less, pairs are tried
_SLOWEST = 5
_UNIT = re.compile(r"(?<=\d) (?=%|op/B|GB/s|TOPS|[TGMkmunp]?[BJs]\b)")
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def text(report: Report) -> str:
    """At most :data:`LINES` lines of at most :data:`WIDTH` columns."""
    first = f"{report.trace} on {report.machine} ({report.engine})"
    if report.objective != "latency":
        first = f"{first[:-1]}, mapped for {report.objective})"
    lines = [textwrap.shorten(first, WIDTH, placeholder=" ...")]
    total = max(report._totals["cycles"], 1e-30)
    lines += _part(
        "",
        f"{report.cycles:,} cycles = {si(report.seconds, 's')} at {report.clock_ghz:g} GHz; "
        f"{si(report.energy_pj * 1e-12, 'J')} ({si(report.energy_without_leakage_pj * 1e-12, 'J')} without leakage); "
        f"{report.area_mm2:.3f} mm2",
    )
    lines += _part("compute:", _roofline(report))
    lines += _part("cycles:", shares(report.stalls, total))
    lines += _part("limit:", _limit(report))
    lines += [line for i, level in enumerate(_levels(report)) for line in _part("" if i else "moved:", level, i > 0)]
    if len(report.work) > 1:
        lines += ["  slowest:", *_slowest(report, total)]
    lines += _part("energy:", shares(report.energy, max(report.energy_pj, 1e-30)))
    lines += _part("area:", shares(report.area, max(report.area_mm2, 1e-30)))
    lines += _part("mapping:", _mapping(report))
    notes = _part("notes:", "; ".join(report.notes))
    room = LINES - len(lines)
    if len(notes) > room:
        notes = [*notes[: max(room - 1, 0)], "           ... (report.notes has them all)"][: max(room, 0)]
    return "\n".join(lines + notes)


def first_notes(report: Report) -> list[str]:
    """What the machine was not told, and support for zeros that found no work in the trace."""
    machine, notes = report.spec, []
    if "standard" not in machine.dram.model_fields_set:
        notes.append(f"dram not stated: {machine.dram.standard} x{machine.dram.channels} taken")
    return notes + _unused(report)


def _unused(report: Report) -> list[str]:
    """Each kind of support for zeros that no op of the trace can use."""
    ops, sparse, s, array = report.work.ops, report.detail.sparse, report.spec.sparsity, report.spec.array
    gemms = (ops["kind"] == "gemm").to_numpy()
    if not gemms.any():
        return []
    k, full = ops["k"].to_numpy()[gemms], (ops["n"] * ops["k"]).to_numpy()[gemms]
    dense = not (ops["nonzeros"].to_numpy()[gemms] < full).any()
    notes = []
    if s.n_of_m and array.kind == "systolic" and not (sparse[gemms, S_PACKED_K] < k).any():
        notes.append(f"{s.n_of_m} unused: no op's weights fit it")
    if array.kind == "lanes" and dense:
        notes.append("skipping unused: no op's weights have zeros")
    if array.kind == "outer_product" and dense and (sparse[gemms, S_INPUT_DENSITY] >= 1.0).all():
        notes.append("skipping unused: no op's weights or inputs have zeros")
    if s.block_skipping and (sparse[gemms, S_FOLDS] >= 1.0).all():
        notes.append("sparsity.block_skipping unused: no op's weights have an empty block of the array's size")
    if s.position_skipping and (sparse[gemms, S_POSITIONS] >= 1.0).all():
        notes.append("sparsity.position_skipping unused: no op has a position at which all inputs are zero")
    return notes


def _part(label: str, content: str, indented: bool = False) -> list[str]:
    """``content`` after its label, wrapped; numbers stay beside their units."""
    start = f"  {label:<9}" if label or indented else "  "
    kept = _UNIT.sub("\u00a0", content)
    lines = textwrap.wrap(kept, WIDTH, initial_indent=start, subsequent_indent=" " * 11, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]


def _roofline(report: Report) -> str:
    """Peak and achieved rate, and on which side of the roofline's ridge the work is (Williams et al. 2009): operations
    (two per MAC done) per byte of DRAM against the machine's peak operations over its peak DRAM bytes."""
    seconds = max(report._totals["cycles"], 1e-30) / (report.clock_ghz * 1e9)
    done = 2.0 * report._totals["macs"]
    peak = report.spec.peak_tops * 1e12
    bandwidth = report.detail.kernel[D_DRAM_BPC] * report.clock_ghz * 1e9
    said = (
        f"{done / seconds * 1e-12:.4g} of {report.spec.peak_tops:.4g} TOPS peak ({100 * report.utilization:.1f} % busy)"
    )
    dense = 2.0 * report.work.macs
    if dense > 1.0005 * done:
        said += f", {dense / seconds * 1e-12:.4g} TOPS counting zeros skipped"
    if report.dram_bytes <= 0.0:
        return f"{said}; nothing from DRAM"
    intensity, balance = done / report.dram_bytes, peak / bandwidth
    side = "compute" if intensity >= balance else "memory"
    roof = min(peak, intensity * bandwidth)
    of_roof = f", {100 * done / seconds / roof:.0f} % of that roof reached" if roof > 0.0 else ""
    return f"{said}; {intensity:.4g} op/B from DRAM, the machine balances at {balance:.4g}: {side} bound{of_roof}"


def _limit(report: Report) -> str:
    """The largest cause, what is left without it, and the changes that help most."""
    cause = max(report.stalls, key=lambda name: report.stalls[name])
    share = 100 * report.stalls[cause] / max(report._totals["cycles"], 1e-30)
    said = f"{cause} {share:.0f} %"
    found = advice.limit(report, cause)
    if found is not None:
        said += f": with {found[0]} the same mapping would take {found[1]:.2f} of the time"
    changes = advice.changes(report, cause)[:2]
    if changes and changes[0].time < _HELPS:
        return f"{said}; mapped anew: {', '.join(str(c) for c in changes)} of the time"
    used = {name: use for name, _, _, use, _ in _traffic(report) if cause not in _causes_of(name)}
    behind = max(used, key=lambda name: used[name])
    said += "" if changes else "; no single change tried for it helps"
    said += f"; {behind} comes next, in use {100 * used[behind]:.0f} % of the time"
    pairs = advice.pairs(report, cause, _causes_of(behind)[0])[:1]
    if pairs and changes and pairs[0].time > _HELPS * changes[0].time:
        pairs = []
    if changes or pairs:
        return f"{said}; mapped anew: {', '.join(str(c) for c in [*changes, *pairs])} of the time"
    return f"{said}, and more of it does not help either"


def _causes_of(name: str) -> tuple[str, ...]:
    """Causes that more bandwidth of a level, or of DRAM, bears on."""
    return ("dram_bandwidth", "dependency") if name == "DRAM" else (f"{name}_bandwidth",)


def _traffic(report: Report) -> Iterator[tuple[str, float, float, float, str]]:
    """(level, bytes read, bytes written, share of the time its bandwidth is in use, that bandwidth), DRAM first."""
    t, d = report._totals, report.detail.kernel
    total = max(t["cycles"], 1e-30)
    read, write, peak = t["dram_read_bytes"], t["dram_write_bytes"], d[D_DRAM_BPC]
    yield "DRAM", read, write, (read + write) / peak / total, f"{peak * report.clock_ghz:.4g} GB/s peak"
    for slot, name in enumerate(report.levels):
        read, write = t[f"level{slot}_read_bytes"], t[f"level{slot}_write_bytes"]
        each = " each" if report.spec.array.count > 1 and name not in report.spec.tiers[0] else ""
        rate = f"{report.spec.memory[name].bandwidth_gb_per_s:.4g} GB/s{each}"
        yield name, read, write, level_cycles(d, slot, read, write, report.spec.array.count) / total, rate


def _levels(report: Report) -> list[str]:
    """A line a level."""
    found = list(_traffic(report))
    wide = min(max(len(name) for name, *_ in found), 24)
    return [
        f"{name:<{wide}} {si(read, 'B'):>9} read, {si(write, 'B'):>9} written, {100 * used:3.0f} % of {rate}"
        + _avoided(report, slot)
        for slot, (name, read, write, used, rate) in enumerate(found, -1)
    ]


def _avoided(report: Report, slot: int) -> str:
    """What a level (-1: DRAM) gated and skipped, if anything."""
    place = "dram" if slot < 0 else f"level{slot}"
    counts = {how: report._totals.get(f"{place}_{how}_bytes", 0.0) for how in ("gated", "skipped")}
    return "".join(f", {si(count, 'B')} {how}" for how, count in counts.items() if count > 0)


def _slowest(report: Report, total: float) -> list[str]:
    """The ops that take longest, layers of one kind together, each with its largest cause."""
    kinds: dict[str, list[int]] = {}
    for i, name in enumerate(report.work.ops["name"].tolist()):
        kinds.setdefault(re.sub(r"^layer\d+\.", "", name), []).append(i)
    causes = named(CAUSES, report.levels)
    columns = [INDEX[c] for c in causes]
    sums = {kind: report.columns[rows].sum(axis=0) for kind, rows in kinds.items()}
    lines = []
    for kind in sorted((k for k in sums if sums[k][0] > 0.0), key=lambda k: -sums[k][0])[:_SLOWEST]:
        row, rows = sums[kind], kinds[kind]
        at = columns[int(np.argmax(row[columns]))]
        label = f"{kind} x{len(rows)}" if len(rows) > 1 else kind
        most = f"{causes[COLUMNS[at]]} {100 * row[at] / max(row[0], 1e-30):.0f} %"
        label = textwrap.shorten(label, 40, placeholder="...")
        lines.append(f"    {label:<40} {100 * row[0] / total:5.1f} %  {row[0]:>16,.0f} cycles, {most}")
    return lines


def _mapping(report: Report) -> str:
    """The mapping of the op that takes longest."""
    gemms = np.flatnonzero((report.work.ops["kind"] == "gemm").to_numpy())
    if not len(gemms):
        return "no GEMM, all streamed"
    at = int(gemms[np.argmax(report.columns[gemms, 0])])
    row = report.table.iloc[at]
    said = f"{row['mapping']}; weights {row['weights_are']}"
    return said if len(report.work) == 1 else f"{row['name']}: {said}"


def shares(parts: dict[str, float], total: float) -> str:
    """Parts of a total in percent, largest first; those below 0.05 % are left out."""
    found = sorted(((v, k) for k, v in parts.items() if v > 0.0005 * total), reverse=True)
    return ", ".join(f"{name} {100 * value / total:.1f} %" for value, name in found)


def si(value: float, unit: str) -> str:
    """``value`` with a decimal prefix: 1.23 mJ."""
    for scale, prefix in (*_PREFIXES, (1e-12, "p")):
        if abs(value) >= scale:
            return f"{value / scale:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"
