"""Run things: one machine on one trace (:func:`simulate`), or many designs at once (:func:`evaluate`)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim import analytic, timeline
from sim.cost import area as area_model
from sim.cost import energy as energy_model
from sim.counts import ACTIONS, CAUSES, named
from sim.designs import ARITHMETICS, Designs
from sim.errors import InputError, nearest
from sim.fixed import FixedMappings
from sim.report import Report
from sim.spec import Accelerator
from sim.trace import GEMM, Trace, position

ENGINES = ("analytic", "timeline")


def simulate(
    machine: Accelerator,
    trace: Trace,
    engine: str = "analytic",
    objective: str = "latency",
    mapping: Any = None,
) -> Report:
    """Report of ``machine`` on ``trace``.

    ``objective``: what the mapping of every op minimises: latency, energy, edp (of the op) or traffic (DRAM bytes).
    ``mapping``: fixed mappings as plain data (:mod:`sim.fixed`); ops that it does not name are searched.

    Raises:
        InputError: unknown engine or objective; trace with no ops; bits that the array does not have; a machine that
            fits no mapping of some op (says which op and which level overflows by how many bytes), a fixed mapping that
            does not fit or is none of this machine's; a machine that cannot be clocked so.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got '{engine}', {nearest(engine, ENGINES)}")
    designs = _designs_of(machine)
    ok, reasons = feasible(designs, trace)
    if not ok[0]:
        raise InputError(f"{machine.name} cannot run {trace.name}: {reasons[0]}")
    fixed = FixedMappings.build(mapping) if mapping is not None else None
    detail = analytic.run_detailed(designs, trace, objective, fixed)
    if detail.failed >= 0:
        overflow = _overflow(trace.ops["name"].iloc[detail.failed], designs, detail.over_bytes, detail.over_slot)
        raise InputError(f"{machine.name} cannot run {trace.name}: {overflow}")
    columns, events = detail.columns, []
    if engine == "timeline":
        walked = timeline.run_detailed(designs, trace, detail, machine.dma)
        columns, events = walked.columns, walked.events
    return Report(
        machine=machine.name,
        trace=trace.name,
        engine=engine,
        objective=objective,
        clock_ghz=machine.clock_ghz,
        levels=designs.levels,
        columns=columns,
        spec=machine,
        work=trace.snapshot(),
        designs=designs,
        detail=detail,
        meta=trace.meta,
        events=events,
    )


_KNOWN: OrderedDict[str, Designs] = OrderedDict()  # machines simulated last, with what was found for them
_KNOWN_MOST = 64


def _designs_of(machine: Accelerator) -> Designs:
    """The machine as columns, made once for machines whose fields are equal (the prose aside)."""
    key = machine.model_dump_json(exclude={"summary", "sources"})
    found = _KNOWN.pop(key, None)
    if found is None:
        found = Designs.from_machines([machine])
    _KNOWN[key] = found
    if len(_KNOWN) > _KNOWN_MOST:
        _KNOWN.popitem(last=False)
    return found


def _overflow(name: str, designs: Designs, over: float, slot: int) -> str:
    if np.isinf(over):
        return f"op {name}: partial sums come back before they were stored, keep K innermost or use one buffer"
    return f"op {name} fits no mapping, memory.{designs.levels[slot]} overflows by at least {int(np.ceil(over))} bytes"


_ANY_WIDTH = {  # what an array takes in more cycles if it is wider than its PEs; the rest must fit them
    ARITHMETICS["composable"]: ("weight_bits", "activation_bits"),
    ARITHMETICS["bit_serial_weights"]: ("weight_bits",),
    ARITHMETICS["bit_serial"]: ("weight_bits", "activation_bits"),
}


def feasible(designs: Designs, trace: Trace | None = None) -> tuple[NDArray[np.bool_], list[str]]:
    """Which designs can be built and can run the trace's precisions, and why not ("" if they can)."""
    ok, reasons = area_model.feasible(designs)
    reasons = list(reasons)
    ok = np.array(ok, dtype=bool)
    if trace is not None:
        widest = trace.remembered("widest", partial(_widest, trace))
        for column, wanted in widest.items():
            field = f"array.{column}"
            any_width = [arithmetic for arithmetic, columns in _ANY_WIDTH.items() if column in columns]
            narrow = (designs[field] < wanted) & ~np.isin(designs["array.arithmetic"], any_width)
            for i in np.flatnonzero(narrow & ok):
                ok[i] = False
                reasons[i] = f"{field} is {designs[field][i]:g}, the trace needs {wanted:g}"
    return ok, reasons


def _widest(trace: Trace) -> dict[str, float]:
    """Most bits that any GEMM of the trace asks for, by column."""
    ops = trace.numeric()
    gemms = ops[ops[:, position("kind")] == GEMM]
    columns = ("weight_bits", "activation_bits", "accumulator_bits")
    return {column: float(gemms[:, position(column)].max(initial=0.0)) for column in columns}


@dataclass
class Evaluation:
    """Many designs on one trace: ``table`` has one row a design; infeasible ones say why and hold NaN."""

    table: pd.DataFrame
    totals: analytic.Totals


def evaluate(
    designs: Designs,
    trace: Trace,
    selection: NDArray[np.int64] | None = None,
    objective: str = "latency",
    effort: str = "full",
) -> Evaluation:
    """Evaluate every design by the analytic engine, no Python loop over designs.

    ``selection``, ``objective`` and ``effort`` as in :func:`sim.analytic.run`. Columns of the table: cycles, seconds,
    energy_pj, energy_without_leakage_pj, area_mm2, dram_bytes, one ``stall_*`` a cause (cycles), feasible, reason.
    """
    ok, reasons = feasible(designs, trace)
    totals = analytic.run(designs, trace, selection, objective, effort=effort)
    for i in np.flatnonzero((totals.failed >= 0) & ok):
        ok[i] = False
        rows = np.arange(len(trace)) if selection is None else selection[i if len(selection) > 1 else 0]
        name = trace.ops["name"].iloc[int(rows[totals.failed[i]])]
        reasons[i] = _overflow(name, designs, totals.over_bytes[i], int(totals.over_slot[i]))
    counts: dict[str, Any] = totals.counts()
    energy = energy_model.energy(designs, counts, counts["cycles"])
    total_energy = sum(energy.values())
    cycles = np.ceil(counts["cycles"] - 1e-6)
    columns: dict[str, Any] = {
        "cycles": cycles,
        "seconds": cycles / (designs["clock_ghz"] * 1e9),
        "energy_pj": total_energy,
        "energy_without_leakage_pj": total_energy - energy["leakage"],
        "area_mm2": sum(area_model.area(designs).values()),
        "dram_bytes": counts["dram_read_bytes"] + counts["dram_write_bytes"],
        "macs": counts[ACTIONS[0]],
    }
    columns |= {f"stall_{name}": counts[cause] for cause, name in named(CAUSES, designs.levels).items()}
    table = pd.DataFrame(columns)
    if not ok.all():
        table.loc[~ok, [c for c in table.columns if c != "area_mm2"]] = np.nan
    table["feasible"] = ok
    table["reason"] = reasons
    return Evaluation(table, totals)
