"""What would help a run: its largest cause of time taken away at the same mappings, and changes mapped anew.

Two questions with two answers. With the cause's resource without limit and every mapping as it is, how much of the time
is left (:func:`limit`)? And what do changes of the machine bring, mappings searched again: one at a time
(:func:`changes`), or two together where two resources limit it (:func:`pairs`)? All use the closed forms of the
analytic engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import analytic
from sim.account import N_COLUMNS, account_gemm, account_rest, account_vector
from sim.cost import area
from sim.counts import CAUSES, named
from sim.designs import (
    D_DRAM_BPC,
    D_DRAM_LATENCY,
    D_LEVELS,
    D_NETWORK_BPC,
    D_SPECIAL,
    D_VECTOR,
    L_READ_BPC,
    L_WRITE_BPC,
    LEVEL_COLUMNS,
    Designs,
)
from sim.errors import InputError
from sim.trace import position

if TYPE_CHECKING:
    from sim.report import Report
    from sim.sparse_columns import S_DECODE_CYCLES
from sim.spec import Accelerator

_KIND, _REPEATS = position("kind"), position("repeats")
_UNLIMITED = 1e30  # bytes or operations a cycle


@dataclass(frozen=True)
class Change:
    """A change of field values (``before`` -> ``after``) and the time it leaves, as a share of what it was."""

    before: dict[str, Any]
    after: dict[str, Any]
    time: float

    def __str__(self) -> str:
        parts = [f"{path} {self.before[path]:{_form(v)}} -> {v:{_form(v)}}" for path, v in self.after.items()]
        return f"{' and '.join(parts)}: {self.time:.2f}"


def _form(value: Any) -> str:
    return "" if isinstance(value, str) else ".4g"


def limit(report: Report, cause: str) -> tuple[str, float] | None:
    """(what is without limit, share of the time that is left at the same mappings), for a cause that a rate decides;
    None for what the array itself does.

    ``cause``: a name of :attr:`Report.stalls`."""
    d, sparse, slots = report.detail.kernel.copy(), report.detail.sparse, named(CAUSES, report.levels)
    column = next(c for c, name in slots.items() if name == cause)
    if column in ("dram_bandwidth", "dependency"):
        what, d[D_DRAM_BPC] = "infinite DRAM bandwidth", _UNLIMITED
    elif column == "dram_latency":
        what, d[D_DRAM_LATENCY] = "no DRAM latency", 0.0
    elif column == "network_bandwidth":
        what, d[D_NETWORK_BPC] = "an infinitely fast network", _UNLIMITED
    elif column == "vector":
        what, d[D_VECTOR], d[D_SPECIAL] = "an infinitely fast vector unit", _UNLIMITED, _UNLIMITED
    elif column.startswith("level"):
        slot = int(column.removeprefix("level").partition("_")[0])
        what, at = f"infinite {report.levels[slot]} bandwidth", D_LEVELS + slot * LEVEL_COLUMNS
        d[at + L_READ_BPC] = _UNLIMITED
        d[at + L_WRITE_BPC] = _UNLIMITED if d[at + L_WRITE_BPC] > 0.0 else 0.0
    elif column == "decode":
        what, sparse = "decoders that keep up", report.detail.sparse.copy()
        sparse[:, S_DECODE_CYCLES] = 0.0
    else:
        return None
    before = _cycles(report, report.detail.kernel, report.detail.sparse)
    return what, _cycles(report, d, sparse) / max(before, 1e-30)


def _cycles(report: Report, d: np.ndarray, sparse: np.ndarray) -> float:
    """Cycles of all ops at their mappings and residencies on the kernel row ``d``, ``sparse`` a row an op."""
    ops, detail = report.work.numeric(), report.detail
    out = np.zeros(N_COLUMNS)
    for i in range(len(ops)):
        o, state, mapping = ops[i], int(detail.states[i]), detail.mappings[i]
        if o[_KIND] == 1.0:
            account_vector(d, o, state, out)
        else:
            one = np.zeros(N_COLUMNS)
            account_gemm(d, o, sparse[i], analytic.slow_of(d, o), mapping, state, one)
            out += o[_REPEATS] * one
        account_rest(d, o, state, mapping, out)
    return float(out[0])


def changes(report: Report, cause: str) -> list[Change]:
    """Changes of the machine that bear on ``cause`` and shorten the time, those that leave least first. Each is one
    that can be built; mappings are searched again under the report's objective, fixed ones are not kept."""
    return _tried(report, _candidates(report, cause))


def pairs(report: Report, cause: str, behind: str) -> list[Change]:
    """The same for twice the bandwidth of ``behind``, the cause that would come next: by itself, and together with each
    change for ``cause``."""
    more = next(iter(_candidates(report, behind)))
    return _tried(report, ({**after, **more} for after in [{}, *_candidates(report, cause)]))


def _tried(report: Report, candidates: Iterable[dict[str, Any]]) -> list[Change]:
    machine, found = report.spec, []
    for after in candidates:
        try:
            found.append((after, machine.override(after)))
        except InputError:
            continue
    if not found:
        return []
    designs = Designs.from_machines([machine, *(m for _, m in found)])
    built, _ = area.feasible(designs)
    totals = analytic.run(designs, report.work, objective=report.objective)
    cycles = totals["cycles"] / designs["clock_ghz"]
    kept = []
    for i, (after, _) in enumerate(found, 1):
        if built[i] and totals.failed[i] < 0 and cycles[i] < 0.995 * cycles[0]:
            before = {path: _value(report, path) for path in after}
            kept.append(Change(before, after, float(cycles[i] / cycles[0])))
    return sorted(kept, key=lambda change: (round(change.time, 3), len(change.after)))


def _value(report: Report, path: str) -> Any:
    if path == "dram.bandwidth_gb_per_s":
        return float(report.designs["dram.peak_gb_per_s"][0])
    node: Any = report.spec.model_dump()
    for key in path.split("."):
        node = node[key]
    return node


def _candidates(report: Report, cause: str) -> Iterator[dict[str, Any]]:
    """Fields to change, by cause: twice the resource, or the other choices of what the array does."""
    machine = report.spec
    array = machine.array
    lanes = array.kind == "lanes"
    if cause in ("dram_bandwidth", "dependency"):
        yield {"dram.bandwidth_gb_per_s": 2 * _value(report, "dram.bandwidth_gb_per_s")}
        if machine.dma.in_flight_kib:
            yield {"dma.in_flight_kib": 2 * machine.dma.in_flight_kib}
        for name in machine.tiers[0]:
            yield {f"memory.{name}.capacity_kib": 2 * machine.memory[name].capacity_kib}
        yield from _single_buffers(machine)
    elif cause == "network_bandwidth" and machine.network.bandwidth_gb_per_s:
        yield {"network.bandwidth_gb_per_s": 2 * machine.network.bandwidth_gb_per_s}
    elif cause == "vector":
        yield {"vector.lanes": 2 * machine.vector.lanes}
        yield {"vector.special_function_lanes": 2 * machine.vector.special_function_lanes}
    elif cause == "decode":
        yield {"sparsity.decoders": 2 * (machine.sparsity.decoders or 1)}
        yield {"sparsity.decoders": None}
    elif cause in ("compute", "edge"):
        yield {"array.rows": 2 * array.rows}
        yield {"array.cols": 2 * array.cols}
        if cause == "edge" and array.rows > 1 and array.cols > 1:
            yield {"array.rows": array.rows // 2, "array.cols": 2 * array.cols}
            yield {"array.rows": 2 * array.rows, "array.cols": array.cols // 2}
    elif cause in ("imbalance", "fill_drain") and lanes:
        yield from _lane_choices(machine)
    elif cause == "fill_drain":
        if array.overlap != "double_buffer":
            yield {"array.overlap": "double_buffer"}
        yield from ({"array.dataflow": flow} for flow in ("os", "ws", "is") if flow != array.dataflow)
        yield {"array.rows": 2 * array.rows}
        yield {"array.cols": 2 * array.cols}
    else:
        for name, level in machine.memory.items():
            if cause == f"{name}_bandwidth":
                more = {f"memory.{name}.bandwidth_gb_per_s": 2 * level.bandwidth_gb_per_s}
                yield more
                yield {**more, f"memory.{name}.banks": 2 * level.banks}
                yield {f"memory.{name}.ports": 2}
        yield from _single_buffers(machine)


def _lane_choices(machine: Accelerator) -> Iterator[dict[str, Any]]:
    s = machine.sparsity
    yield {"sparsity.orientation": "input" if s.orientation == "output" else "output"}
    yield {"sparsity.assignment": "interleaved" if s.assignment == "contiguous" else "contiguous"}
    yield from ({"sparsity.fifo_depth": depth} for depth in (2, 8) if depth > s.fifo_depth)
    yield {"sparsity.barrier_depth": "full"}


def _single_buffers(machine: Accelerator) -> Iterator[dict[str, Any]]:
    """Double buffering where there is none."""
    for name, level in machine.memory.items():
        if not level.double_buffered:
            yield {f"memory.{name}.double_buffered": True}
