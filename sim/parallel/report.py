"""What several chips did with a trace: seconds by cause, energy, and what limits them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sim.parallel.network import Chips
from sim.report import Report
from sim.report_text import shares, si

CAUSES = ("compute", "waiting", "communication", "bubble")
"""Where the time of the slowest stage goes: its slowest chip's own report; chips that wait for others before a
collective; collectives and sends; stages that have nothing to do yet or any more. They sum to the total."""


@dataclass
class Stage:
    """One pipeline stage and one micro-batch: the reports of its chips, seconds by cause (no bubble), and its
    ``transfers`` (a row an op: kind, algorithm, bytes, how often, seconds, bytes on the wire, energy)."""

    reports: list[Report]
    seconds_by_cause: dict[str, float]
    transfers: pd.DataFrame

    @property
    def seconds(self) -> float:
        """Time of one micro-batch in this stage."""
        return sum(self.seconds_by_cause.values())

    @property
    def slowest(self) -> Report:
        """The report of the chip that takes longest."""
        return max(self.reports, key=lambda r: r.seconds)


@dataclass
class ChipsReport:
    """``micro_batches`` runs of a trace on ``tensor`` x ``pipeline`` chips.

    ``seconds_by_cause`` (:data:`CAUSES`) sums to ``seconds``; ``energy`` pJ by component, all chips, with "links".
    """

    machine: str
    trace: str
    engine: str
    chips: Chips
    tensor: int
    pipeline: int
    micro_batches: int
    seconds_by_cause: dict[str, float]
    energy: dict[str, float]
    stages: list[Stage]
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first micro-batch in to the last one out."""
        return sum(self.seconds_by_cause.values())

    @property
    def energy_pj(self) -> float:
        return float(sum(self.energy.values()))

    @property
    def area_mm2(self) -> float:
        """Of all chips."""
        return self.chips.count * self.stages[0].reports[0].area_mm2

    @property
    def bytes_on_wire(self) -> float:
        """Bytes times the links they cross, of all micro-batches."""
        return self.micro_batches * float(sum(s.transfers["wire_bytes"].sum() for s in self.stages))

    @property
    def transfers(self) -> pd.DataFrame:
        """All collectives and sends of one micro-batch, with their stage."""
        tables = [s.transfers.assign(stage=i) for i, s in enumerate(self.stages)]
        return pd.concat(tables, ignore_index=True)

    @property
    def limit(self) -> str:
        """One sentence: what would have to change first."""
        cause = max(self.seconds_by_cause, key=lambda c: self.seconds_by_cause[c])
        share = f"{100 * self.seconds_by_cause[cause] / max(self.seconds, 1e-30):.0f} % of the time"
        worst = max(self.stages, key=lambda s: s.seconds)
        if cause == "compute":
            stalls = worst.slowest.stalls
            return f"the chips themselves ({share}), most of it {max(stalls, key=lambda c: stalls[c])}"
        if cause == "communication":
            latency, total = (float(worst.transfers[c].sum()) for c in ("latency_seconds", "seconds"))
            return f"communication ({share}), most of it link {'latency' if 2 * latency > total else 'bandwidth'}"
        if cause == "bubble":
            return f"the pipeline bubble ({share}): more micro-batches or stages of equal length would shrink it"
        return f"chips that wait for slower ones before a collective ({share})"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the chips' own tables as plain numbers, strings, lists and dicts."""
        return {
            "machine": self.machine,
            "trace": self.trace,
            "engine": self.engine,
            "chips": self.chips.model_dump(mode="json"),
            "tensor": self.tensor,
            "pipeline": self.pipeline,
            "micro_batches": self.micro_batches,
            "seconds": self.seconds,
            "seconds_by_cause": self.seconds_by_cause,
            "energy_pj": self.energy_pj,
            "energy_by_component_pj": self.energy,
            "area_mm2": self.area_mm2,
            "bytes_on_wire": self.bytes_on_wire,
            "stage_seconds": [s.seconds for s in self.stages],
            "transfers": self.transfers.to_dict(orient="records"),
            "limit": self.limit,
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        batches = f", {self.micro_batches} micro-batches" if self.micro_batches > 1 else ""
        lines = [
            f"{self.trace} on {self.chips.count} x {self.machine} ({self.engine})",
            f"  tensor {self.tensor} x pipeline {self.pipeline}{batches}; {self.chips}",
            f"  {si(self.seconds, 's')}, {si(self.energy_pj * 1e-12, 'J')}, {self.area_mm2:.3f} mm2, "
            f"{si(self.bytes_on_wire, 'B')} on the links",
            f"  time:    {shares(self.seconds_by_cause, max(self.seconds, 1e-30))}",
        ]
        worst = max(self.stages, key=lambda s: s.seconds).slowest
        lines.append(f"  chip:    {shares(worst.stalls, max(sum(worst.stalls.values()), 1e-30))}")
        sent = self.transfers.groupby(["kind", "algorithm"])[["count", "wire_bytes", "seconds"]].sum()
        for (kind, algorithm), row in sent.iterrows():
            cost = f"{si(row['seconds'], 's')}, {si(row['wire_bytes'], 'B')} on the links"
            lines.append(f"  {kind} ({algorithm}): {row['count']:.0f} a micro-batch, {cost}")
        if self.pipeline > 1:
            times = [s.seconds for s in self.stages]
            lines.append(f"  stages:  {si(min(times), 's')} to {si(max(times), 's')} a micro-batch")
        lines.append(f"  limit:   {self.limit}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])
