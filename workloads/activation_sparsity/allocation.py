"""How a layer's activation sparsity is shared out over its tensors: TEAL's greedy search, from memory of the paper.

From nothing dropped, in steps that each drop ``STEP`` of the layer's products: of all tensors, the one whose further
sparsity moves the layer's output least (L2, calibration tokens, the dense model's inputs to the layer) takes the step.
A tensor that few weights read takes a large step in its own share, one that many read a small one. The path to a high
sparsity passes through every lower one, so one search serves all; it is kept in the user's cache.
"""

from __future__ import annotations

import os

import numpy as np

from workloads.activation_sparsity.facts import Facts
from workloads.arithmetic import FLOAT
from workloads.calibration import windows_sha256
from workloads.checkpoint import INPUTS
from workloads.fetch import cache_dir
from workloads.transformer import layer_forward, rope_tables

STEP = 0.02
#: No tensor loses more.
MOST = 0.95
#: Calibration windows and tokens of each that the error is counted on; the first token of each stays whole.
WINDOWS, TOKENS = 4, 16


def allocate(facts: Facts, sparsity: float) -> dict[tuple[int, str], float]:
    """(layer, tensor) to the share of it to drop, so that every layer drops ``sparsity`` of its products.

    The last step is taken in part. A layer in which ``MOST`` leaves no more to drop stays below ``sparsity``.
    """
    taken = path(facts)
    part = np.clip(sparsity / STEP - np.arange(taken.shape[1]), 0, 1)
    return {
        (layer, name): float(part[taken[layer] == tensor].sum() * step_sizes(facts, layer)[tensor])
        for layer in range(len(taken))
        for tensor, name in enumerate(INPUTS)
    }


def step_sizes(facts: Facts, layer: int) -> np.ndarray:
    """[tensors] share of each tensor that makes ``STEP`` of the layer's products."""
    products = np.array([facts.outputs(layer, name) * _features(facts, layer, name) for name in INPUTS], float)
    return STEP * products.sum() / products


def path(facts: Facts) -> np.ndarray:
    """[layers, steps] which tensor takes each step, int8 index into INPUTS; -1 once none can."""
    about = f"{facts.checkpoint.sha256[:16]}_{windows_sha256(facts.windows)[:16]}_{facts.every}"
    file = cache_dir("activation_sparsity") / f"{about}_{STEP}_{MOST}_{WINDOWS}x{TOKENS}.npy"
    dense = facts.weights == facts.checkpoint.matrix  # what the file's name does not tell apart
    if dense and file.is_file():
        return np.load(file)
    found = search(facts)
    if dense:
        partial = file.with_suffix(f".{os.getpid()}.part")
        with open(partial, "wb") as stream:
            np.save(stream, found)
        os.replace(partial, file)
    return found


def search(facts: Facts) -> np.ndarray:
    """:func:`path`, searched: about two CPU-minutes for SmolLM2-135M."""
    c, windows = facts.checkpoint.config, facts.windows[:WINDOWS, :TOKENS]
    tables = rope_tables(windows.shape[1], c.head_dim, c.rope_theta, facts.checkpoint.rope_divisors)
    hidden = facts.checkpoint.embedding[windows.astype(np.int64)]
    found = np.full((c.layers, round(1 / STEP)), -1, np.int8)
    for layer in range(c.layers):
        target = hidden.copy()
        layer_forward(facts.checkpoint, layer, target, facts.weights, FLOAT, tables, None)
        sizes, shares = step_sizes(facts, layer), np.zeros(len(INPUTS))
        for step in range(found.shape[1]):
            open_ = np.flatnonzero(shares + sizes <= MOST)
            if not open_.size:
                break
            errors = []
            for tensor in open_:
                trial = shares + sizes * (np.arange(len(INPUTS)) == tensor)
                errors.append(_error(facts, layer, hidden, target, dict(zip(INPUTS, trial, strict=True)), tables))
            best = open_[int(np.argmin(errors))]
            shares[best] += sizes[best]
            found[layer, step] = best
        hidden = target
    return found


def _error(
    facts: Facts,
    layer: int,
    hidden: np.ndarray,
    target: np.ndarray,
    shares: dict[str, float],
    tables: tuple[np.ndarray, np.ndarray],
) -> float:
    """Sum of squares by which the layer's output moves when each tensor drops its share."""
    thresholds = {name: facts.threshold(layer, name, share) for name, share in shares.items()}

    def edit(layer: int, name: str, x: np.ndarray) -> np.ndarray:
        kept = np.abs(x) >= thresholds[name]
        kept[0] = True
        return np.where(kept, x, np.float32(0))

    found = hidden.copy()
    layer_forward(facts.checkpoint, layer, found, facts.weights, FLOAT, tables, None, edit)
    return float(np.square(found - target, dtype=np.float64).sum())


def _features(facts: Facts, layer: int, name: str) -> int:
    c = facts.checkpoint.config
    if name == "ffn_down_in":
        return int(facts.weights(layer, "ffn_down").shape[1])
    return c.heads * c.head_dim if name == "attn_o_in" else c.d_model
