"""The output contract: a :class:`Report`, what a machine did with a trace, nested by op, level and cause."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim import perfetto
from sim.analytic import Detail
from sim.cost import area as area_model
from sim.cost import energy as energy_model
from sim.cost.labels import labels
from sim.counts import CAUSES, COLUMNS, named
from sim.designs import Designs
from sim.explain import Nests
from sim.op_table import op_table, sparse_notes
from sim.report_text import first_notes, text
from sim.spec import Accelerator
from sim.timeline import Events
from sim.trace import Trace


@dataclass
class Report:
    """Cycles, energy and area of one machine on one trace; what is not asked for is not computed.

    ``columns`` [ops, N_COLUMNS] holds every number of the run (:data:`sim.counts.COLUMNS`); ``spec`` and ``work`` are
    the machine and the trace, ``designs`` and ``detail`` what the engine made of them. ``events``: when each tile ran
    (timeline engine only).
    """

    machine: str
    trace: str
    engine: str
    objective: str
    clock_ghz: float
    levels: tuple[str, ...]
    columns: NDArray[np.float64]
    spec: Accelerator
    work: Trace
    designs: Designs
    detail: Detail
    meta: dict[str, Any] = field(default_factory=dict)
    events: list[Events] = field(default_factory=list)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an op: cycles, one column a cause, one a kind of action, mapping, where the lane cycles came from."""
        return op_table(self.designs, self.work, self.columns, self.detail)

    @cached_property
    def _totals(self) -> dict[str, float]:
        return dict(zip(COLUMNS, self.columns.sum(axis=0).tolist(), strict=True))

    @cached_property
    def energy(self) -> dict[str, float]:
        """pJ by component; they sum to the total."""
        counts = {name: np.array([value]) for name, value in self._totals.items()}
        return {k: float(v[0]) for k, v in energy_model.energy(self.designs, counts, counts["cycles"]).items()}

    @cached_property
    def area(self) -> dict[str, float]:
        """mm2 by component; they sum to the total."""
        return {k: float(v[0]) for k, v in area_model.area(self.designs).items()}

    @cached_property
    def notes(self) -> list[str]:
        """What is scaled, estimated or assumed in these numbers."""
        return first_notes(self) + labels(self.designs) + sparse_notes(self.detail, self.work)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Version, hash of the machine's fields, and what the trace says of itself."""
        from sim.version import __version__

        return {"version": __version__, "config_hash": self.spec.config_hash(), "trace": self.meta}

    @cached_property
    def nests(self) -> Nests:
        """The loop nest of every GEMM by op name."""
        return Nests(self.spec, self.work, self.detail)

    @property
    def peak_macs_per_cycle(self) -> float:
        """MACs a cycle if every PE did one (of native width; bit-serial PEs take several cycles)."""
        return self.spec.array.rows * self.spec.array.cols * self.spec.array.count

    @property
    def cycles(self) -> int:
        """Cycles of the whole trace: the sum over ops of their exact (rational) time, rounded up once."""
        return int(np.ceil(self._totals["cycles"] - 1e-6))

    @property
    def seconds(self) -> float:
        return self.cycles / (self.clock_ghz * 1e9)

    @property
    def energy_pj(self) -> float:
        return float(sum(self.energy.values()))

    @property
    def energy_without_leakage_pj(self) -> float:
        return self.energy_pj - self.energy.get("leakage", 0.0)

    @property
    def area_mm2(self) -> float:
        return float(sum(self.area.values()))

    @property
    def stalls(self) -> dict[str, float]:
        """Cycles by cause; they sum to the cycles of all ops."""
        return {name: self._totals[cause] for cause, name in named(CAUSES, self.levels).items()}

    @property
    def mapping(self) -> str:
        """The loop nest of every GEMM as people write it, with tile footprints and what each level reuses."""
        return self.nests.text()

    @property
    def dram_bytes(self) -> float:
        return self._totals["dram_read_bytes"] + self._totals["dram_write_bytes"]

    @property
    def utilization(self) -> float:
        """Share of all PE-cycles that went into MACs."""
        return self._totals["mac_cycles"] / (self.peak_macs_per_cycle * max(self._totals["cycles"], 1e-30))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts (JSON-ready)."""
        return {
            "machine": self.machine,
            "trace": self.trace,
            "engine": self.engine,
            "objective": self.objective,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_pj": self.energy_pj,
            "energy_without_leakage_pj": self.energy_without_leakage_pj,
            "area_mm2": self.area_mm2,
            "utilization": self.utilization,
            "dram_bytes": self.dram_bytes,
            "stall_cycles": self.stalls,
            "energy_by_component_pj": self.energy,
            "area_by_component_mm2": self.area,
            "notes": self.notes,
            "provenance": self.provenance,
            "ops": json.loads(self.table.to_json(orient="records")),
        }

    def save_perfetto(self, path: str | Path) -> Path:
        """Write when each tile ran as a trace for ui.perfetto.dev (:mod:`sim.perfetto`; timeline engine only)."""
        return perfetto.save(self, path)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    def __repr__(self) -> str:
        return text(self)
