"""A checkpoint pruned part by part, in the order its layers run: at most one part is in memory.

A part is a layer of a matrix-wise method, a stage of a method that says so (``ModelMethod.stage``), or the whole model
of one whose layers compete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from workloads.calibration import (
    LayerHessians,
    Progress,
    Walk,
    block_influence,
    calibrate,
    hessians_fit,
)
from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint, ModelConfig
from workloads.pruning import DenseModel, Latency, Method, ModelMethod, Pattern, Pruned
from workloads.pruning.allocation import allocate
from workloads.pruning.base import NEEDS
from workloads.pruning.model import Key, weights_left

#: The last layer of a part, and its pruned matrices.
Part = tuple[int, dict[Key, Pruned]]


@dataclass(frozen=True)
class Job:
    """What to prune and how. ``needs``: one of ``NEEDS``, of method and allocation together. ``windows``: calibration
    tokens [n, length], None when nothing is needed. ``stepwise``: each layer behind the pruned ones."""

    checkpoint: Checkpoint
    method: Method
    rule: Pattern
    types: tuple[str, ...]
    layers: tuple[int, ...]
    needs: str
    windows: np.ndarray | None
    stepwise: bool
    allocation: str
    latency: Latency | None
    progress: Progress | None

    @property
    def config(self) -> ModelConfig:
        """The model's dimensions."""
        return self.checkpoint.config

    @property
    def keys(self) -> list[Key]:
        """The matrices to prune, in the order they run."""
        return [(layer, t) for layer in self.layers for t in self.types]

    def told(self, done: int, total: int, what: str) -> None:
        """Pass on how far the work is."""
        if self.progress is not None:
            self.progress(done, total, what)

    def parts(self) -> Iterator[Part]:
        """The pruned model, part by part; what needs all of it (allocation, ranking) is done before the first."""
        if isinstance(self.method, ModelMethod):
            return self._model_method(self.method)
        if self.stepwise:
            return self._step_by_step()
        return self._matrix_by_matrix()

    def dense(self) -> DenseModel:
        """The dense model: with every Hessian at hand when they fit, else diagonals, or one layer's at a time."""
        c = self.checkpoint
        hessian, tokens = None, 0
        if self.windows is not None and NEEDS.index(self.needs) >= NEEDS.index("diagonal"):
            tokens = int(self.windows.size)
            if hessians_fit(c.config) or self.needs == "diagonal":
                diagonal = not hessians_fit(c.config)
                hessian = calibrate(c, self.windows, self.progress, diagonal=diagonal).hessian
            else:
                hessian = LayerHessians(c, self.windows, self.progress, held=getattr(self.method, "stage", None) or 1)
        influence = lambda: block_influence(c, self.windows)  # noqa: E731
        return DenseModel(c.config, c.matrix, hessian, tokens, influence, self.latency or weights_left)

    def _model_method(self, method: ModelMethod) -> Iterator[Part]:
        dense, step = self.dense(), method.stage or len(self.layers)
        for start in range(0, len(self.layers), step):
            stage = self.layers[start : start + step]
            self.told(start, len(self.layers), "pruning")
            yield stage[-1], method.prune(dense, self.rule, self.types, stage)
            self._let_go(stage)

    def _matrix_by_matrix(self) -> Iterator[Part]:
        dense = self.dense()
        rules = allocate(self.allocation, dense, self.keys, self.rule)
        for number, layer in enumerate(self.layers):
            found: dict[Key, Pruned] = {}
            for place, t in enumerate(self.types):
                self.told(number * len(self.types) + place, len(rules), "pruning")
                found[layer, t] = self.method.prune(
                    dense.matrix(layer, t),
                    dense.hessian(layer, t) if dense.hessian else None,  # no name holds it while others are made
                    dense.tokens,
                    rules[layer, t],
                )
            yield layer, found
            self._let_go((layer,))

    def _step_by_step(self) -> Iterator[Part]:
        """Each layer from what enters it behind the pruned layers; inside the layer, from its dense matrices."""
        # Only an allocation other than the uniform one looks at the dense model's Hessians.
        rules = dict.fromkeys(self.keys, self.rule)
        if self.allocation != "uniform":
            rules = allocate(self.allocation, self.dense(), self.keys, self.rule)
        matrix = self.checkpoint.matrix
        walk = Walk(self.checkpoint, self.windows, diagonal=self.needs == "diagonal" and not hessians_fit(self.config))
        for layer in range(self.layers[-1] + 1):
            self.told(layer, self.config.layers, "pruning")
            types = [t for t in MATRIX_TYPES if (layer, t) in rules]
            hessians = walk.hessians() if types else {}
            found = {
                (layer, t): self.method.prune(matrix(layer, t), hessians[MATRIX_INPUT[t]], walk.tokens, rules[layer, t])
                for t in types
            }
            hessians.clear()
            yield layer, found
            walk.step(lambda *key, found=found: found[key].weight if key in found else matrix(*key))
            del found
            self._let_go((layer,))

    def _let_go(self, layers: tuple[int, ...]) -> None:
        """Layers of a large model are not read again soon: nothing of them stays."""
        if not hessians_fit(self.config):
            for layer in layers:
                self.checkpoint.release(layer)


class Following:
    """(layer, type) -> weights of a model that is pruned while it runs: asked for a layer, its part is pruned.

    ``take`` is called with every pruned matrix, once. ``cpu_s``: CPU seconds spent on pruning.
    """

    def __init__(self, job: Job, take: Callable[[Key, Pruned], None]) -> None:
        self._dense, self._parts, self._take = job.checkpoint.matrix, job.parts(), take
        self._last, self._weights = -1, {}
        self.cpu_s = 0.0

    def __call__(self, layer: int, matrix_type: str) -> np.ndarray:
        """The pruned matrix, or the dense one where nothing is pruned. Layers are asked for in order."""
        while self._last < layer and self._advance():
            pass
        key = layer, matrix_type
        return self._weights[key] if key in self._weights else self._dense(*key)

    def finish(self) -> None:
        """Prune what has not been asked for."""
        while self._advance():
            pass

    def _advance(self) -> bool:
        """Make the next part; False after the last."""
        started = time.process_time()
        self._weights = {}  # before the next are made
        part = next(self._parts, None)
        if part is not None:
            self._last, found = part
            for key, pruned in found.items():
                self._take(key, pruned)
            self._weights = {key: pruned.weight for key, pruned in found.items()}
        self.cpu_s += time.process_time() - started
        return part is not None


def refuse_if_too_large(job: Job) -> None:
    """InputError when a method whose layers compete would hold more than this machine's memory.

    Counted are the pruned matrices alone, float32 and a byte a mask bit: less than what such a method takes.
    """
    if not isinstance(job.method, ModelMethod) or job.method.stage or job.needs == "influence":
        return
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = 5 * len(job.layers) * sum(int(np.prod(job.config.matrix_shape(t))) for t in job.types)
    if wanted > there:
        raise InputError(
            f"{job.method.name} holds the whole pruned model: at least {wanted / 1e9:.0f} GB, this machine has "
            f"{there / 1e9:.0f} GB; prune fewer layers or types, or take a method that goes layer by layer"
        )
