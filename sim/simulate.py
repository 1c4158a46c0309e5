"""Run things: one machine on one trace (:func:`simulate`), or many designs at once (:func:`evaluate`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim import analytic, timeline
from sim.cost import area as area_model
from sim.cost import energy as energy_model
from sim.cost.labels import labels
from sim.counts import ACTIONS, CAUSES, COLUMNS, named
from sim.designs import ARITHMETICS, KINDS, ORIENTATIONS, Designs
from sim.errors import InputError, nearest
from sim.explain import Nests, in_one_line
from sim.fixed import FixedMappings
from sim.mapping import T_K, T_N, TIER_COLUMNS
from sim.memory.traffic import S_CUT_PASS, S_PASS
from sim.report import Report
from sim.search import M_NEST
from sim.spec import Accelerator
from sim.trace import Trace

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
    designs = Designs.from_machines([machine])
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
    counts = {name: columns[:, i].sum(keepdims=True) for i, name in enumerate(COLUMNS)}
    energy = {k: float(v[0]) for k, v in energy_model.energy(designs, counts, counts["cycles"]).items()}
    area = {k: float(v[0]) for k, v in area_model.area(designs).items()}
    from sim.version import __version__

    return Report(
        machine=machine.name,
        trace=trace.name,
        engine=engine,
        objective=objective,
        clock_ghz=machine.clock_ghz,
        levels=designs.levels,
        table=_table(designs, trace, columns, detail),
        energy=energy,
        area=area,
        peak_macs_per_cycle=machine.array.rows * machine.array.cols * machine.array.count,
        nests=Nests(machine, trace, detail),
        events=events,
        notes=labels(machine) + _sparse_notes(detail, trace),
        provenance={"version": __version__, "config_hash": machine.config_hash(), "trace": trace.meta},
    )


def _overflow(name: str, designs: Designs, over: float, slot: int) -> str:
    if np.isinf(over):
        return f"op {name}: partial sums come back before they were stored, keep K innermost or use one buffer"
    return f"op {name} fits no mapping, memory.{designs.levels[slot]} overflows by at least {int(np.ceil(over))} bytes"


def _table(designs: Designs, trace: Trace, columns: NDArray[np.float64], detail: analytic.Detail) -> pd.DataFrame:
    """One row an op: what it is, its cycles and causes and actions, its mapping."""
    ops, states = trace.ops, detail.states
    table = ops[["name", "kind", "matrix_type", "layer", "batch", "m", "n", "k", "repeats"]].reset_index(drop=True)
    shown = named(COLUMNS, designs.levels)
    numbers = pd.DataFrame({new: columns[:, COLUMNS.index(old)] for old, new in shown.items()})
    texts = [
        "streamed" if kind == "vector" else in_one_line(row, sizes, int(designs["tiers"][0]))
        for kind, row, sizes in zip(ops["kind"], detail.mappings, ops[["m", "n", "k"]].to_numpy(), strict=True)
    ]
    extra = {
        "mapping": texts,
        "input_resident": (states & 1) > 0,
        "output_resident": states > 1,
        "weights_are": _weights(designs, detail, ops),
    }
    return pd.concat([table, numbers, pd.DataFrame(extra)], axis=1)


def _weights(designs: Designs, detail: analytic.Detail, ops: pd.DataFrame) -> NDArray[np.object_]:
    """How each op's lane cycles were found; a mapping that cuts the lanes' walk bounds a FIFO or full barrier from
    above."""
    labels = detail.labels.copy()
    if designs["array.kind"][0] == KINDS["lanes"]:
        inputs_walked = designs["sparsity.orientation"][0] == ORIENTATIONS["output"]
        walked, column = ("k", T_K) if inputs_walked else ("n", T_N)
        innermost = M_NEST + (int(designs["tiers"][0]) - 1) * TIER_COLUMNS
        cut = detail.mappings[:, innermost + column] < ops[walked].to_numpy()
        bound = cut & (detail.sparse[:, S_CUT_PASS] != detail.sparse[:, S_PASS]) & (labels != "dense")
        labels[bound] = labels[bound] + ", upper bound where tiles cut it"
    return labels


def _sparse_notes(detail: analytic.Detail, trace: Trace) -> list[str]:
    found = sorted({str(label) for label in detail.labels if str(label).startswith("estimate")})
    drawn = sorted({str(s) for s in trace.ops["sparsity_label"] if str(s) not in ("dense", "mask")})
    return [f"lane cycles: {f}" for f in found] + [f"weights: {d}" for d in drawn]


def feasible(designs: Designs, trace: Trace | None = None) -> tuple[NDArray[np.bool_], list[str]]:
    """Which designs can be built and can run the trace's precisions, and why not ("" if they can)."""
    ok, reasons = area_model.feasible(designs)
    reasons = list(reasons)
    ok = np.array(ok, dtype=bool)
    if trace is not None:
        gemms = trace.ops[trace.ops["kind"] == "gemm"]
        for field, column in (
            ("array.weight_bits", "weight_bits"),
            ("array.activation_bits", "activation_bits"),
            ("array.accumulator_bits", "accumulator_bits"),
        ):
            wanted = float(gemms[column].max()) if len(gemms) else 0.0
            fixed_width = designs["array.arithmetic"] == ARITHMETICS["parallel"]
            narrow = (designs[field] < wanted) & (fixed_width | (column == "accumulator_bits"))
            for i in np.flatnonzero(narrow & ok):
                ok[i] = False
                reasons[i] = f"{field} is {designs[field][i]:g}, the trace needs {wanted:g}"
    return ok, reasons


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
) -> Evaluation:
    """Evaluate every design by the analytic engine, no Python loop over designs.

    ``selection`` and ``objective`` as in :func:`sim.analytic.run`. Columns of the table: cycles, seconds, energy_pj,
    energy_without_leakage_pj, area_mm2, dram_bytes, one ``stall_*`` a cause (cycles), feasible, reason.
    """
    ok, reasons = feasible(designs, trace)
    totals = analytic.run(designs, trace, selection, objective)
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
