"""Run one trace on several equal chips: tensor parallel inside a stage, stages one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.compute.arguments import whole
from sim.errors import InputError
from sim.parallel import collectives
from sim.parallel.collectives import Collective
from sim.parallel.network import Chips
from sim.parallel.report import ChipsReport, Stage
from sim.parallel.split import Shards, shards, stages
from sim.report import Report
from sim.simulate import simulate
from sim.spec import Accelerator
from sim.trace import Trace

STANDING = ("leakage", "dram_background")
"""Energy components that a chip spends while it waits, too."""
NOT_CHARGED = (
    "communication is not overlapped with compute; memory traffic and additions of collectives are not charged"
)
_TRANSFER = ("op", "kind", "algorithm", "size_bytes", "count", "seconds", "latency_seconds", "wire_bytes", "energy_pj")


def simulate_chips(
    machine: Accelerator,
    trace: Trace,
    chips: Chips,
    tensor: int = 1,
    pipeline: int = 1,
    micro_batches: int = 1,
    engine: str = "analytic",
    objective: str = "latency",
) -> ChipsReport:
    """Report of ``chips.count`` = ``tensor`` x ``pipeline`` chips, each a ``machine``.

    The trace is the work of *one* micro-batch; ``micro_batches`` of them flow through the pipeline, so the seconds and
    the energy are those of ``micro_batches`` runs. With stages of t_s seconds a micro-batch the last one leaves after
    ``sum t_s + (micro_batches - 1) max t_s`` (GPipe, Huang et al. 2019: for equal stages a bubble of
    (p - 1) / (m + p - 1)). Chips of a stage meet at every collective: between two of them the slowest counts.
    ``objective``: what the mapping of every op on its chip minimises, as in :func:`sim.simulate.simulate`.

    Raises:
        InputError: numbers that are not whole and >= 1, or do not multiply to the chips; a trace that cannot be cut so
            (:mod:`sim.parallel.split`); whatever :func:`sim.simulate.simulate` says of a chip's part.
    """
    named = (("tensor", tensor), ("pipeline", pipeline), ("micro_batches", micro_batches))
    tensor, pipeline, micro_batches = (int(whole(name, value)) for name, value in named)
    if tensor * pipeline != chips.count:
        raise InputError(f"tensor x pipeline must be the {chips.count} chips, got {tensor} x {pipeline}")
    if not len(trace):
        raise InputError(f"trace {trace.name} has no ops")
    group = chips.group(tensor)
    found, notes = [], []
    for number, part in enumerate(stages(trace, pipeline)):
        cut = shards(part, tensor)
        notes += [n for n in cut.notes if n not in notes]
        sends = number < pipeline - 1
        found.append(_stage(machine, cut, part, chips, group, engine, objective, sends))
    slowest = max(found, key=lambda s: s.seconds)
    by_cause = {cause: micro_batches * s for cause, s in slowest.seconds_by_cause.items()}
    by_cause["bubble"] = sum(s.seconds for s in found) - slowest.seconds
    said = [n for stage in found for report in stage.reports for n in report.notes]
    if chips.count > 1:
        notes.append(NOT_CHARGED)
    return ChipsReport(
        machine=machine.name,
        trace=trace.name,
        engine=engine,
        chips=chips,
        tensor=tensor,
        pipeline=pipeline,
        micro_batches=micro_batches,
        seconds_by_cause=by_cause,
        energy=_energy(found, micro_batches, sum(by_cause.values())),
        stages=found,
        notes=list(dict.fromkeys([*notes, *said])),
    )


def _stage(
    machine: Accelerator,
    cut: Shards,
    part: Trace,
    chips: Chips,
    group: Chips,
    engine: str,
    objective: str,
    sends: bool,
) -> Stage:
    """Simulate every chip of one stage (equal traces once) and what its chips exchange."""
    known: dict[bytes, Report] = {}
    reports = []
    for one in cut.traces:
        key = one.numeric().tobytes() if one.profiles is None else str(len(reports)).encode()
        if key not in known:
            known[key] = simulate(machine, one, engine, objective)
        reports.append(known[key])
    seconds = np.array([r.table["cycles"].to_numpy() / (r.clock_ghz * 1e9) for r in reports])
    starts = [0, *(i + 1 for i in sorted(cut.transfers) if i + 1 < len(part))]
    slowest = np.add.reduceat(seconds, starts, axis=1).max(axis=0).sum()
    rows = []
    for i, transfer in sorted(cut.transfers.items()):
        what = getattr(collectives, transfer.kind)(group, transfer.size_bytes)
        op = part.ops.iloc[i]
        rows.append(_row(str(op["name"]), what, transfer.size_bytes, float(op["repeats"])))
    if sends:
        rows += _send(part, chips, group)
    table = pd.DataFrame(rows, columns=list(_TRANSFER))
    causes = {
        "compute": max(r.seconds for r in reports),
        "waiting": max(0.0, float(slowest - seconds.sum(axis=1).max())),
        "communication": float(table["seconds"].sum()),
    }
    return Stage(reports, causes, table)


def _row(op: str, what: Collective, size_bytes: float, count: float) -> tuple[Any, ...]:
    per_run = (what.seconds, what.latency_seconds, what.bytes_on_wire, what.energy_pj)
    return op, what.kind, what.algorithm, size_bytes, count, *(count * x for x in per_run)


def _send(part: Trace, chips: Chips, group: Chips) -> list[tuple[Any, ...]]:
    """What is alive after a stage goes to the next one: every chip sends its copy to its counterpart, or its 1/tensor
    of it, gathered there (Narayanan et al. 2021), whichever is faster."""
    op, size = str(part.ops["name"].iloc[-1]), float(part.ops["live_out_bytes"].iloc[-1])
    hops = _hops(chips, group)
    copies = collectives.point_to_point(chips, size, hops, hops)
    sliced = collectives.point_to_point(chips, size / group.count, hops, hops)
    gather = collectives.all_gather(group, size)
    if sliced.seconds + gather.seconds < copies.seconds:
        return [_copied(op, sliced, size / group.count, group.count), _row(op, gather, size, 1.0)]
    return [_copied(op, copies, size, group.count)]


def _copied(op: str, what: Collective, size_bytes: float, senders: int) -> tuple[Any, ...]:
    """One row for messages that ``senders`` chips send at the same time."""
    wire, energy = senders * what.bytes_on_wire, senders * what.energy_pj
    return op, what.kind, what.algorithm, size_bytes, 1.0, what.seconds, what.latency_seconds, wire, energy


def _hops(chips: Chips, group: Chips) -> int:
    """Channels between a chip and its counterpart in the next group, which as many messages share."""
    if chips.topology in ("switch", "all_to_all"):
        return 1
    cols = chips.shape[1]
    return group.count // cols if chips.topology == "mesh" and group.count >= cols else group.count


def _energy(found: list[Stage], micro_batches: int, seconds: float) -> dict[str, float]:
    """pJ of all chips: their own work, what they leak while others work, and the links."""
    total: dict[str, float] = {}
    for stage in found:
        for report in stage.reports:
            waiting = seconds / report.seconds if report.seconds > 0 else micro_batches
            for component, spent in report.energy.items():
                times = max(waiting, micro_batches) if component in STANDING else micro_batches
                total[component] = total.get(component, 0.0) + times * spent
    total["links"] = micro_batches * float(sum(s.transfers["energy_pj"].sum() for s in found))
    return total
