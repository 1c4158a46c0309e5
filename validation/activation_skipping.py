"""What zeros of activations are worth in decoding, by what the machine does about them.

    python -m validation.activation_skipping            # prints the table of docs/gating.md

SmolLM2-135M, one decode step at 512 cached positions, half of the inputs of every matrix dropped by a threshold
(measured: :mod:`workloads.activations`), one sequence and a batch of four. Every machine is ``dense_ws`` with fields
changed; a batch needs the union of its sequences' inputs, which is what its weights are fetched for.
"""

from __future__ import annotations

import pandas as pd

from accel_models import accelerator
from sim.simulate import simulate
from sim.trace import Trace
from workloads.activations import with_activation_zeros
from workloads.llm import llm

BASE = "dense_ws"
BY_VECTOR = "skip weights <- inputs by vector"
MACHINES: dict[str, dict[str, str | bool]] = {
    "nothing": {},
    "PEs gated by inputs": {"sparsity.gating": "inputs"},
    "weight buffer gated": {"memory.weight_buffer.features": BY_VECTOR.replace("skip", "gate")},
    "DRAM skips, by tile": {"dram.features": "skip weights <- inputs"},
    "DRAM skips, by vector": {"dram.features": BY_VECTOR},
    "array skips positions": {"sparsity.position_skipping": True},
    "DRAM and array skip": {"dram.features": BY_VECTOR, "sparsity.position_skipping": True},
    "both, PEs gated": {"dram.features": BY_VECTOR, "sparsity.position_skipping": True, "sparsity.gating": "inputs"},
}


def trace(batch: int, level: float | None, model: str = "smollm2_135m", layers: int | None = None) -> Trace:
    """One decode step of ``batch`` sequences; ``level``: share of inputs dropped, None for none."""
    found = llm(model, phase="decode", batch=batch, context=512, layers=layers)
    return found if level is None else with_activation_zeros(found, level)


def table(batches: tuple[int, ...] = (1, 4), level: float = 0.5, layers: int | None = None) -> pd.DataFrame:
    """One row a machine and batch: ms, mJ, DRAM MB, skipped MB, mm2, and time over that of nothing done."""
    rows = []
    for batch in batches:
        work = trace(batch, level, layers=layers)
        for name, fields in MACHINES.items():
            report = simulate(accelerator(BASE).override(dict(fields)), work)
            ops = report.table
            rows.append(
                {
                    "batch": batch,
                    "machine": name,
                    "ms": report.seconds * 1e3,
                    "mJ": report.energy_pj * 1e-9,
                    "DRAM MB": ops[["dram_read_bytes", "dram_write_bytes"]].to_numpy().sum() / 1e6,
                    "DRAM MB skipped": ops["dram_skipped_bytes"].sum() / 1e6,
                    "mm2": report.area_mm2,
                }
            )
    found = pd.DataFrame(rows)
    found["speed-up"] = found.groupby("batch")["ms"].transform("first") / found["ms"]
    return found


if __name__ == "__main__":
    print(table().to_string(index=False, float_format=lambda x: f"{x:.3f}"))
