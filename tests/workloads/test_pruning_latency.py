"""Pruning with the simulator in the loop: what HAPE removes is what the machine at hand gains from."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

import sparchitect as sp
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.pruning import Blocks, DenseModel, NofM, Unstructured, method
from workloads.pruning.allocation import allocate
from workloads.pruning.latency import simulated

CONFIG = ModelConfig("random", 2, 192, 512, 6, 2, 32, 100, 1e4, 1e-5, True)


@lru_cache
def matrix(layer: int, matrix_type: str) -> np.ndarray:
    rng = np.random.default_rng([layer, MATRIX_TYPES.index(matrix_type)])
    return rng.standard_t(4, CONFIG.matrix_shape(matrix_type)).astype(np.float32)


@lru_cache
def hessian(layer: int, matrix_type: str) -> np.ndarray:
    size = CONFIG.matrix_shape(matrix_type)[1]
    x = np.random.default_rng(size).normal(size=(2 * size, size)).astype(np.float32)
    return x.T @ x


def model(machine: str) -> DenseModel:
    return DenseModel(CONFIG, matrix, hessian, 1024, None, simulated(sp.accelerator(machine), tokens=1))


def test_latency_is_the_simulator():
    latency = simulated(sp.accelerator("sparse_lanes"), tokens=4)
    alone = sp.simulate(sp.accelerator("sparse_lanes"), sp.gemm(m=4, k=192, n=512, bits=8, sparsity=0.5)).seconds
    assert latency(512, 192, Unstructured(0.5)) == alone
    for pattern in (Unstructured(0.5), NofM(2, 4), Blocks(16, 16, 0.5)):
        assert latency(512, 192, pattern) < latency(512, 192, None)


def prunes(machine: str, target: float) -> tuple[set[str], float]:
    """Kinds of structure that HAPE takes, and the share of the time that it saves."""
    dense = model(machine)
    found = method("hape").prune(dense, Unstructured(target), MATRIX_TYPES, (0, 1))
    kinds, left = set(), 0.0
    for layer in (0, 1):
        for t in MATRIX_TYPES:
            shape, pattern = CONFIG.matrix_shape(t), None
            if (layer, t) in found:
                mask = found[layer, t].mask
                shape = int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())
                if mask.mean() == 0.5 and shape == mask.shape:
                    kinds.add("2:4")
                    pattern = NofM(2, 4)
                else:
                    kinds.add("heads" if t.startswith("attn") else "channels")
            left += dense.latency(*shape, pattern)
    whole = 2 * sum(dense.latency(*CONFIG.matrix_shape(t), None) for t in MATRIX_TYPES)
    return kinds, 1 - left / whole


def test_a_dense_machine_gets_structures_only():
    kinds, saved = prunes("dense_ws", 0.3)
    assert "2:4" not in kinds and kinds and saved >= 0.3


def test_a_machine_that_skips_gets_masks():
    kinds, saved = prunes("sparse_lanes", 0.3)
    assert "2:4" in kinds and saved >= 0.3


@pytest.mark.parametrize("machine", ["dense_ws", "sparse_lanes"])
def test_latency_allocation_holds_its_budget(machine):
    keys = [(layer, t) for layer in (0, 1) for t in MATRIX_TYPES]
    rules = allocate("latency", model(machine), keys, Unstructured(0.5))
    gone = sum(round(rules[key].sparsity * matrix(*key).size) for key in keys)
    assert gone == sum(matrix(*key).size for key in keys) // 2
