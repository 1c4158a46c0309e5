"""What one's own machines gain from really pruned weights, against sparsity."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from accel_models import accelerator
from dse.figures.base import Figure
from dse.figures.reports import as_list, checked_labels
from dse.figures.style import legend_above, line_look, plain_log_ticks
from sim.errors import InputError, nearest
from sim.report import Report
from sim.simulate import simulate
from sim.spec import Accelerator
from sim.trace import Trace
from workloads.recipe import DENSE, LEVELS, MATRIX_VARIANTS, METHODS
from workloads.traces import MODEL, PHASES, load_trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_GAINS = {"latency": "speed-up", "energy": "energy gain", "edp": "energy × delay gain"}
_COSTS = {"latency": ["seconds"], "energy": ["energy_pj"], "edp": ["seconds", "energy_pj"]}
_SUFFIXES = {str(run["phase"]): suffix for suffix, run in PHASES.items()}
_WORKLOAD = ("model", "phase", "tokens", "context", "batch")
_LOG_FROM = 8.0  # largest over smallest gain from which the axis is logarithmic


class Gains(Figure):
    """``numbers``: machine, trace, method, sparsity, cycles, seconds, energy_pj, gain (the baseline's cost on dense
    weights over this run's).

    Takes machines (or their names), which run the bundled dense trace and those of ``method`` at 10 to 70 per cent, or
    the reports of runs of one workload on dense and pruned weights. ``sparsity`` is measured: the share of the weights
    in the layers' matrices that the trace no longer holds (0 to 1; heads and embeddings do not count). The ideal is
    1 / (1 - s), what skipping every zero would save of those matrices alone. ``baseline``: a machine drawn, or with
    machines any other; default: the first. ``labels``: a name a machine.

    Raises:
        InputError: neither machines nor reports, an unknown method, phase, metric or baseline, two machines of one
            name, a machine that cannot run a trace, reports that have no dense run of the baseline, of more than one
            workload or method, or of one run twice.
    """

    def __init__(
        self,
        machines: Any,
        method: str | None = None,
        phase: str | None = None,
        metric: str = "latency",
        baseline: str | Accelerator | None = None,
        labels: Sequence[str] | None = None,
    ):
        what = "machines, their names, or reports"
        found = as_list(machines, (str, Accelerator, Report), what)
        _known("metric", metric, _GAINS)
        self._metric = metric
        if all(isinstance(one, Report) for one in found):
            if method is not None or phase is not None:
                raise InputError("method and phase choose bundled traces: leave them out with reports")
            _check_alike(found)
            runs = {name: [r for r in found if r.spec == spec] for name, spec in _named(found, labels).items()}
            if baseline is not None:
                _known("baseline", str(baseline), runs)
            self._baseline = next(iter(runs)) if baseline is None else str(baseline)
            base = max(runs[self._baseline], key=lambda r: _weights(r.work)[0])
        elif any(isinstance(one, Report) for one in found):
            raise InputError(f"this figure needs {what}, not both")
        else:
            method, phase = method or "wanda", phase or "prefill"
            _known("method", method, METHODS)
            _known("phase", phase, _SUFFIXES)
            specs = _named([_machine(one) for one in found], labels)
            baseline = next(iter(specs)) if baseline is None else baseline
            drawn = isinstance(baseline, str) and baseline in specs
            other = specs[str(baseline)] if drawn else _machine(baseline)
            self._baseline = str(baseline) if drawn else other.name
            dense, *pruned = _traces(method, phase)
            runs = {name: [simulate(spec, trace) for trace in (dense, *pruned)] for name, spec in specs.items()}
            base = runs[self._baseline][0] if drawn else simulate(other, dense)
        nonzeros, elements = _weights(base.work)
        if nonzeros < elements:
            raise InputError(f"no report of '{self._baseline}' on dense weights: gains are over it")
        rows = [_row(name, report, nonzeros) for name, reports in runs.items() for report in reports]
        table = pd.DataFrame(rows)
        cost = table[_COSTS[metric]].prod(axis=1)
        table["gain"] = pd.DataFrame([_row("", base, nonzeros)])[_COSTS[metric]].prod(axis=1).iloc[0] / cost
        order = table["machine"].map(list(runs).index)
        self.numbers = table.iloc[np.lexsort([table["sparsity"], order])].reset_index(drop=True)

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        table = self.numbers
        smooth = np.linspace(0, table["sparsity"].max(), 100)
        axis.plot(100 * smooth, 1 / (1 - smooth), "k--", label="ideal 1 / (1 - s)", zorder=1.9)
        for i, (name, part) in enumerate(table.groupby("machine", sort=False)):
            look = line_look(i) | {"linestyle": "-"}  # dashes are the ideal's
            axis.plot(100 * part["sparsity"], part["gain"], label=name, **look)
        low, high = table["gain"].min(), max(table["gain"].max(), 1 / (1 - smooth[-1]))
        if high / low >= _LOG_FROM:
            axis.set_yscale("log")
            plain_log_ticks(axis.yaxis)
        else:
            axis.set_ylim(0, 1.05 * high)
        axis.set_xlabel("measured sparsity of the layers' weights (%)")
        over = textwrap.wrap(f"over {self._baseline}, dense weights", 30)
        axis.set_ylabel("\n".join([f"{_GAINS[self._metric]} (×)", *over]))
        legend_above(canvas, *axis.get_legend_handles_labels())


def _known(what: str, name: str, known: Any) -> None:
    if name not in known:
        raise InputError(f"{what} '{name}' is unknown, {nearest(name, known)}")


def _machine(one: str | Accelerator) -> Accelerator:
    return accelerator(one) if isinstance(one, str) else one


def _traces(method: str, phase: str) -> list[Trace]:
    """The bundled dense trace, then those of ``method``."""
    variants = (DENSE, *(f"{method}_{level}" for level in LEVELS))
    return [load_trace(f"{MODEL}_{variant}{_SUFFIXES[phase]}") for variant in variants]


def _named(found: Sequence[Accelerator | Report], labels: Sequence[str] | None) -> dict[str, Accelerator]:
    """Name -> machine, each machine once."""
    specs: list[Accelerator] = []
    for one in found:
        if isinstance(one, Accelerator):
            specs.append(one)
        elif one.spec not in specs:  # of a report: it has several
            specs.append(one.spec)
    names = [spec.name for spec in specs] if labels is None else checked_labels(labels, len(specs))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two machines are both called '{twice}': give labels, one a machine")
    return dict(zip(names, specs, strict=True))


def _check_alike(reports: Sequence[Report]) -> None:
    """Refuse reports that do not lie on one line a machine."""
    for key in _WORKLOAD:
        values = sorted({str(report.work.meta.get(key)) for report in reports})
        if len(values) > 1:
            raise InputError(f"reports must be of one workload, these are of {key} {' and '.join(values)}")
    methods = sorted({_method(report.work) for report in reports} - {DENSE, ""})
    if len(methods) > 1:
        raise InputError(f"reports must be of one pruning method, these are of {' and '.join(methods)}")
    for i, report in enumerate(reports):
        if any(report.spec == other.spec and report.trace == other.trace for other in reports[:i]):
            raise InputError(f"the run of '{report.machine}' on '{report.trace}' is there twice")


def _method(trace: Trace) -> str:
    """What pruned a trace, as far as it says so."""
    recipe = str(trace.meta.get("recipe", ""))
    return str(trace.meta.get("method", MATRIX_VARIANTS[recipe][0] if recipe in MATRIX_VARIANTS else recipe))


def _weights(trace: Trace) -> tuple[float, float]:
    """(nonzeros, elements) of the weights in layers; of all weights where a trace has no layers."""
    ops = trace.ops[(trace.ops["kind"] == "gemm") & (trace.ops["weight_source"] == "weights")]
    if (ops["layer"] >= 0).any():
        ops = ops[ops["layer"] >= 0]
    times = ops["repeats"] * ops["batch"]
    return float((times * ops["nonzeros"]).sum()), float((times * ops["n"] * ops["k"]).sum())


def _row(machine: str, report: Report, dense: float) -> dict[str, Any]:
    return {
        "machine": machine,
        "trace": report.trace,
        "method": _method(report.work),
        "sparsity": 1 - _weights(report.work)[0] / dense,
        "cycles": report.cycles,
        "seconds": report.seconds,
        "energy_pj": report.energy_pj,
    }
