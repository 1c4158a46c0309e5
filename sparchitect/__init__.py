"""Sparchitect: choose hardware and pruning together.

    import sparchitect as sp
    machine = sp.accelerator("sparse_lanes")
    report = sp.simulate(machine, sp.load_trace("smollm2_135m_wanda_50"))
    print(report)

Names are loaded when first used, so that importing the package costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sim.errors import InputError
from sim.version import __version__

if TYPE_CHECKING:
    from accel_models import accelerator
    from dse.explore import explore
    from dse.sweep import sweep
    from sim.report import Report
    from sim.simulate import evaluate, simulate
    from sim.spec import Accelerator
    from sim.trace import Op, Sparsity, Trace, gemm
    from workloads.llm import llm
    from workloads.traces import load_trace

_HOME = {
    "Accelerator": "sim.spec",
    "Op": "sim.trace",
    "Report": "sim.report",
    "Sparsity": "sim.trace",
    "Trace": "sim.trace",
    "accelerator": "accel_models",
    "evaluate": "sim.simulate",
    "explore": "dse.explore",
    "gemm": "sim.trace",
    "llm": "workloads.llm",
    "load_trace": "workloads.traces",
    "simulate": "sim.simulate",
    "sweep": "dse.sweep",
}

__all__ = [
    "Accelerator",
    "InputError",
    "Op",
    "Report",
    "Sparsity",
    "Trace",
    "__version__",
    "accelerator",
    "evaluate",
    "explore",
    "gemm",
    "llm",
    "load_trace",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sparchitect' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
