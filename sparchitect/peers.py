"""Other simulators' inputs as machines and traces of ours: SCALE-Sim's ``.cfg`` and ``.csv``, ZigZag's YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sim.errors import InputError

if TYPE_CHECKING:
    from accel_models.importers import Draft
    from sim.spec import Accelerator
    from sim.trace import Trace


@dataclass(frozen=True)
class Imported:
    """``machine`` and, if a workload was given, ``trace``. ``notices``: a line for everything that the file does not
    say, or says and has no counterpart here; nothing is dropped without one."""

    machine: Accelerator
    trace: Trace | None
    notices: tuple[str, ...]
    draft: Draft

    def save(self, folder: str | Path = ".") -> list[Path]:
        """Write ``MACHINE.yaml`` and the trace's files into ``folder``; :class:`InputError` if that cannot be."""
        from workloads.traces import save

        folder = Path(folder)
        paths = [self.draft.save(folder / f"{self.machine.name}.yaml")]
        if self.trace is not None:
            paths.append(save(self.trace, folder / self.trace.name))
        return paths


def from_scalesim(config: str | Path, topology: str | Path | None = None, clock_ghz: float = 1.0) -> Imported:
    """A SCALE-Sim configuration (version 2 or 3) and, if given, a topology (convolutions or GEMMs).

    ``clock_ghz``: SCALE-Sim states none. :func:`scalesim_cycles` counts the trace as SCALE-Sim 3.0.0 does.

    Raises:
        InputError: a file that cannot be read, a field that is missing or wrong, a part without a counterpart here.
    """
    from accel_models.importers import read_config
    from workloads.importers.scalesim import read_topology

    found = read_config(config)
    read = None if topology is None else read_topology(topology, sparse=found.sparse)
    notices = [] if read is None else read.notices
    pattern = _one_pattern(str(topology), read.patterns, notices) if read is not None else None
    if found.sparse and pattern is None:
        notices = [*notices, "SparsitySupport: no layer has a ratio below 1, the machine is dense"]
    draft = found.machine(pattern, clock_ghz)
    return _imported(draft, None if read is None else read.trace, notices, str(config))


def from_zigzag(accelerator: str | Path, workload: str | Path | None = None, clock_ghz: float = 1.0) -> Imported:
    """A ZigZag accelerator (YAML, version 3) and, if given, a workload (YAML).

    ``clock_ghz``: ZigZag states none.

    Raises:
        InputError: a file that cannot be read, a field that is missing or wrong, a part without a counterpart here.
    """
    from accel_models import plain_fields
    from accel_models.importers import zigzag_machine
    from workloads.importers.zigzag import from_layers

    trace, notices, sum_bits = None, [], None
    if workload is not None:
        layers, _ = plain_fields(Path(workload))
        trace, notices, sum_bits = from_layers(layers, str(workload), Path(workload).stem)
    return _imported(zigzag_machine(accelerator, clock_ghz, sum_bits), trace, notices, str(accelerator))


def _imported(draft: Draft, trace: Trace | None, notices: list[str], where: str) -> Imported:
    machine = draft.machine(where)
    if trace is not None and trace.name == machine.name:
        trace.meta["name"] = f"{trace.name}_trace"
    return Imported(machine, trace, (*draft.notices, *notices), draft)


def _one_pattern(where: str, patterns: tuple[str, ...], notices: list[str]) -> str | None:
    """The pattern that the array is built for: of several with one m, the one that keeps most."""
    if not patterns:
        return None
    pairs = [tuple(int(x) for x in pattern.split(":")) for pattern in patterns]
    if len({m for _, m in pairs}) > 1:
        told = f"{where}: sparsity ratios {', '.join(patterns)}"
        raise InputError(f"{told}: an array is built for groups of one size, split the file")
    n, m = max(pairs)
    if len(pairs) > 1:
        notices.append(
            f"sparsity ratios {', '.join(patterns)}: the array is built for {n}:{m}, the others gain no more"
        )
    return f"{n}:{m}"


def scalesim_cycles(machine: Accelerator, trace: Trace) -> dict[str, int]:
    """Compute cycles of every GEMM of an imported topology by SCALE-Sim 3.0.0's convention
    (:func:`sim.compute.systolic.scalesim_cycles`): a layer's weights compressed along K to its own ratio n:m."""
    from sim.compute import systolic

    array, ratios = machine.array, trace.meta.get("ratios", {})
    found: dict[str, int] = {}
    for op in trace.ops[trace.ops["kind"] == "gemm"].to_dict("records"):
        n, m = (int(x) for x in ratios.get(op["name"], "1:1").split(":"))
        sizes = int(op["m"]), int(op["n"]), n * -(-int(op["k"]) // m)
        once = systolic.cycles(array.dataflow, array.rows, array.cols, *sizes, convention="scalesim")
        found[str(op["name"])] = int(once) * int(op["batch"]) * int(op["repeats"])
    return found
