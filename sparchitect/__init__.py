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
    from sim.operations import batched_gemm, conv2d, depthwise_conv2d, elementwise, gemv, reduction, sequence
    from sim.parallel.chips import simulate_chips
    from sim.parallel.network import Chips
    from sim.report import Report
    from sim.simulate import evaluate, simulate
    from sim.sparsity.removal.transform import remove
    from sim.sparsity.reorder.transform import reorder
    from sim.spec import Accelerator
    from sim.trace import Op, Sparsity, Trace, gemm
    from sparchitect.peers import from_scalesim, from_zigzag
    from validation.figures import figure
    from workloads.activations import with_activation_zeros
    from workloads.importers import from_onnx, from_torch
    from workloads.llm import llm
    from workloads.traces import load_trace

_HOME = {
    "Accelerator": "sim.spec",
    "Chips": "sim.parallel.network",
    "Op": "sim.trace",
    "Report": "sim.report",
    "Sparsity": "sim.trace",
    "Trace": "sim.trace",
    "accelerator": "accel_models",
    "batched_gemm": "sim.operations",
    "conv2d": "sim.operations",
    "depthwise_conv2d": "sim.operations",
    "elementwise": "sim.operations",
    "evaluate": "sim.simulate",
    "explore": "dse.explore",
    "figure": "validation.figures",
    "from_onnx": "workloads.importers",
    "from_scalesim": "sparchitect.peers",
    "from_torch": "workloads.importers",
    "from_zigzag": "sparchitect.peers",
    "gemm": "sim.trace",
    "gemv": "sim.operations",
    "llm": "workloads.llm",
    "load_trace": "workloads.traces",
    "reduction": "sim.operations",
    "remove": "sim.sparsity.removal.transform",
    "reorder": "sim.sparsity.reorder.transform",
    "sequence": "sim.operations",
    "simulate": "sim.simulate",
    "simulate_chips": "sim.parallel.chips",
    "sweep": "dse.sweep",
    "with_activation_zeros": "workloads.activations",
}

__all__ = [
    "Accelerator",
    "Chips",
    "InputError",
    "Op",
    "Report",
    "Sparsity",
    "Trace",
    "__version__",
    "accelerator",
    "batched_gemm",
    "conv2d",
    "depthwise_conv2d",
    "elementwise",
    "evaluate",
    "explore",
    "figure",
    "from_onnx",
    "from_scalesim",
    "from_torch",
    "from_zigzag",
    "gemm",
    "gemv",
    "llm",
    "load_trace",
    "reduction",
    "remove",
    "reorder",
    "sequence",
    "simulate",
    "simulate_chips",
    "sweep",
    "with_activation_zeros",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sparchitect' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
