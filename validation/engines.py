"""How far the closed form is from the walk of every tile: ``python -m validation.engines``.

Every GEMM of one decoder layer of several models, prefill and decode, on every bundled machine, by both engines at the
same mapping. On uniform work they are equal (``tests/sim/test_engines.py``, ``test_laws_slow.py``); here tiles have
edges and load unevenly, and the closed form averages over them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from accel_models import accelerator, names
from sim.simulate import simulate
from workloads.llm import llm

MODELS = ("smollm2_135m", "llama2_7b")
PHASES = (("prefill", {"tokens": 128}), ("prefill", {"tokens": 2048}), ("decode", {"context": 2048}))
QUANTILES = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)


def compare() -> pd.DataFrame:
    """One row a GEMM: machine, model, phase, op, cycles by both engines, and analytic / timeline - 1."""
    rows = []
    for name in names():
        machine = accelerator(name)
        for model in MODELS:
            for phase, size in PHASES:
                trace = llm(model, phase=phase, layers=1, **size)
                closed, walked = (simulate(machine, trace, engine).table for engine in ("analytic", "timeline"))
                gemms = closed["kind"] == "gemm"
                for op, a, b in zip(
                    closed["name"][gemms], closed["cycles"][gemms], walked["cycles"][gemms], strict=True
                ):
                    rows.append((name, model, f"{phase} {next(iter(size.values()))}", op, a, b))
    table = pd.DataFrame(rows, columns=["machine", "model", "phase", "op", "analytic", "timeline"])
    return table.assign(error=table["analytic"] / table["timeline"] - 1.0)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the error in %, by machine and over all."""
    groups = [(name, part) for name, part in table.groupby("machine")] + [("all", table)]
    found = {name: [100 * float(np.quantile(part["error"], q)) for q in QUANTILES] for name, part in groups}
    return pd.DataFrame.from_dict(found, orient="index", columns=[f"p{100 * q:g}" for q in QUANTILES])


def main() -> None:
    """Print the quantiles and the worst ops."""
    table = compare()
    print(f"analytic against timeline, {len(table)} GEMMs, error of the closed form in %")
    print(summary(table).round(2).to_string())
    worst = table.reindex(table["error"].abs().sort_values(ascending=False).index).head(5)
    print("furthest apart:")
    print(worst.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
