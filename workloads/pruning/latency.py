"""The simulator as a ``Latency``: what a machine takes for one matrix under a pattern, for methods that ask."""

from __future__ import annotations

from functools import cache

import numpy as np

from sim.simulate import simulate
from sim.spec import Accelerator
from sim.trace import gemm
from workloads.pruning.model import Latency
from workloads.pruning.pattern import Blocks, NofM, Pattern, Unstructured
from workloads.pruning.select import choose


def simulated(machine: Accelerator, tokens: int, bits: int = 8) -> Latency:
    """Seconds of ``tokens`` x in times in x out on ``machine``, with a random mask of the pattern; each shape once.

    Zeros drawn at random are a stand-in for a method's own mask, which is not known before it is chosen.
    """

    @cache
    def seconds(outputs: int, inputs: int, pattern: Pattern | None) -> float:
        sparsity = None
        if isinstance(pattern, NofM):
            sparsity = str(pattern)
        elif isinstance(pattern, Unstructured):
            sparsity = 1 - pattern.sparsity
        elif isinstance(pattern, Blocks):
            sparsity = choose(np.random.default_rng(0).random((outputs, inputs)), pattern, per_row=False)
        return simulate(machine, gemm(tokens, inputs, outputs, bits, sparsity)).seconds

    return seconds
