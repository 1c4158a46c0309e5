"""Prune a whole checkpoint in one call: masks, weights, realised sparsity, perplexity and where it all came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError, nearest
from workloads.calibration import (
    Calibration,
    Progress,
    Walk,
    block_influence,
    bundled_windows,
    calibrate,
    windows_sha256,
)
from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint, ModelConfig, open_checkpoint
from workloads.fetch import SMOLLM2
from workloads.perplexity import Measurement, Meter
from workloads.pruning import DenseModel, Latency, Method, ModelMethod, Pattern, Pruned, PruningMethod, parse_pattern
from workloads.pruning import method as method_by_name
from workloads.pruning.allocation import ALLOCATIONS, allocate
from workloads.pruning.model import Key, weights_left
from workloads.recipe import FFN_TYPES

GROUPS = {"all": MATRIX_TYPES, "attn": MATRIX_TYPES[:4], "ffn": FFN_TYPES}
WINDOW = 512


@dataclass(frozen=True)
class PrunedModel:
    """A pruned checkpoint. ``masks[layer, type]``: bool out x in of the uncut matrix, for pruned matrices only; of the
    sparse part where a matrix became factors. ``realised_sparsity``: zeros of the masks over all prunable weights.

    ``weights`` holds the pruned matrices (float32; cut smaller where FFN channels went). ``details`` holds what each
    method returned, with factors, orders and stored bits where there are some. ``perplexity`` and ``dense_perplexity``
    are None unless they were asked for.
    """

    masks: dict[tuple[int, str], np.ndarray]
    weights: dict[tuple[int, str], np.ndarray] = field(repr=False)
    realised_sparsity: float
    perplexity: Measurement | None
    dense_perplexity: Measurement | None
    provenance: dict[str, Any]
    config: ModelConfig
    details: dict[Key, Pruned] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        p = self.provenance
        m = self.perplexity
        quality = f", perplexity {m.ppl:.2f} ({m.arithmetic})" if m else ""
        what = f"{p['model']}, {p['method']} {p['pattern']}"
        return f"PrunedModel({what}, sparsity {self.realised_sparsity:.4f}{quality})"

    def save(self, path: Path | str) -> Path:
        """Write the masks (packed bits) and the provenance as one npz, complete or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        arrays = {f"{layer}/{t}": np.packbits(mask, axis=1) for (layer, t), mask in self.masks.items()}
        columns = {f"{layer}/{t}": mask.shape[1] for (layer, t), mask in self.masks.items()}
        about = json.dumps({**self.provenance, "in_features": columns})
        try:
            with open(partial, "wb") as stream:
                np.savez_compressed(stream, provenance=about, **arrays)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        return path


def load_masks(path: Path | str) -> tuple[dict[tuple[int, str], np.ndarray], dict[str, Any]]:
    """Masks and provenance that ``PrunedModel.save`` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            provenance = json.loads(str(stored["provenance"]))
            masks = {}
            for name, columns in provenance.pop("in_features").items():
                layer, _, matrix_type = name.partition("/")
                masks[int(layer), matrix_type] = np.unpackbits(stored[name], axis=1, count=columns).view(bool)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a file of pruned masks ({type(error).__name__})") from None
    return masks, provenance


def prune_model(
    model: Path | str | None = None,
    method: str = "wanda",
    pattern: str | float | Pattern = "0.5",
    types: str | Iterable[str] = "all",
    calibration_tokens: int = 8192,
    evaluate: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    arithmetic: str = "w8a8kv8",
    layers: Iterable[int] | None = None,
    sequential: bool | None = None,
    allocation: str = "uniform",
    latency: Latency | None = None,
) -> PrunedModel:
    """Prune a checkpoint and measure it when asked.

    ``model``: a model file or folder, or None for SmolLM2-135M. ``method``: one of ``pruning.methods()``. ``pattern``:
    see ``parse_pattern``. ``types``: all, attn, ffn or matrix types. ``seed`` chooses the calibration windows when
    fewer are asked for than there are. ``progress(done, total, what)`` is called as work goes on.

    ``sequential``: calibrate each layer on the outputs of the layers already pruned; False: all on one pass of the
    dense model; None: as the method was published. ``allocation``: how a share is spread over matrices, one of
    ``allocation.ALLOCATIONS``. ``latency(out, in, pattern)``: the time of one matrix (pattern None: dense), for methods
    and allocations that ask; without it time is the number of weights left.

    Raises InputError for anything it cannot do, before it begins.
    """
    pruner = method_by_name(method)
    rule = pruner.read(parse_pattern(pattern))
    asked, together = _types(types), pruner.together(rule)
    if not set(together) <= set(asked):
        raise InputError(f"{method} '{rule}' prunes {', '.join(together)} together; types must include all of them")
    stepwise = pruner.sequential if sequential is None else sequential
    _fits(pruner, stepwise, allocation)
    checkpoint = open_checkpoint(model)
    if evaluate and checkpoint.gap:
        raise InputError(f"{checkpoint.path}: {checkpoint.gap}; it can be pruned but not measured")
    chosen = tuple(t for t in asked if t in checkpoint.matrix_types)
    if not chosen or not set(together) <= set(chosen):
        wanted = ", ".join(together or asked)
        raise InputError(f"{checkpoint.path} has {', '.join(checkpoint.matrix_types)}; {method} needs {wanted}")
    where = tuple(sorted(set(range(checkpoint.config.layers) if layers is None else layers)))
    if not where or where[0] < 0 or where[-1] >= checkpoint.config.layers:
        raise InputError(f"layers must be in 0..{checkpoint.config.layers - 1}, got {list(where)}")
    calibration = windows = None
    if pruner.needs_calibration or allocation != "uniform":
        windows = _calibration_windows(checkpoint, calibration_tokens, seed)
        if not stepwise or allocation != "uniform":
            calibration = calibrate(checkpoint, windows, progress)
    evaluation = _evaluation_windows(checkpoint) if evaluate else None

    dense = _dense(checkpoint, calibration, windows, latency)
    if isinstance(pruner, ModelMethod):
        if progress is not None:
            progress(0, 1, "pruning")
        details = pruner.prune(dense, rule, chosen, where)
    else:
        rules = allocate(allocation, dense, [(layer, t) for layer in where for t in chosen], rule)
        if stepwise:
            details = _step_by_step(checkpoint, windows, pruner, rules, progress)
        else:
            details = _matrix_by_matrix(dense, pruner, rules, progress)
    masks = {key: pruned.mask for key, pruned in details.items()}
    weights = {key: pruned.weight for key, pruned in details.items()}
    c = checkpoint.config
    total = c.layers * sum(int(np.prod(c.matrix_shape(t))) for t in checkpoint.matrix_types)
    sparsity = sum(int(mask.size - np.count_nonzero(mask)) for mask in masks.values()) / total
    calibrated = windows_sha256(windows) if windows is not None else ""
    measured_dense = measured = None
    if evaluation is not None:
        meter = Meter(checkpoint, evaluation, seed)

        def pick(layer: int, t: str) -> np.ndarray:
            return weights[layer, t] if (layer, t) in weights else checkpoint.matrix(layer, t)

        if progress is not None:
            progress(0, 2, "measuring perplexity")
        measured_dense = meter.measure("dense", checkpoint.matrix, 0.0, arithmetic)
        if progress is not None:
            progress(1, 2, "measuring perplexity")
        measured = meter.measure(f"{method} {rule}", pick, sparsity, arithmetic, calibrated)
    provenance = {
        "model": checkpoint.path.name,
        "model_sha256": checkpoint.sha256,
        "method": method,
        "pattern": str(rule),
        "types": list(chosen),
        "layers": list(where),
        "calibration_tokens": int(windows.size) if windows is not None else 0,
        "calibration_sha256": calibrated,
        "sequential": stepwise,
        "allocation": allocation,
        "seed": seed,
        "arithmetic": arithmetic if evaluate else "",
        "version": _version(),
    }
    return PrunedModel(masks, weights, sparsity, measured, measured_dense, provenance, c, details)


def _types(types: str | Iterable[str]) -> tuple[str, ...]:
    given = [types] if isinstance(types, str) else list(types)
    chosen: set[str] = set()
    for name in given:
        if name not in GROUPS and name not in MATRIX_TYPES:
            raise InputError(f"matrix type {name!r} is unknown: {nearest(name, [*GROUPS, *MATRIX_TYPES])}")
        chosen |= set(GROUPS.get(name, (name,)))
    if not chosen:
        raise InputError("no matrix type to prune; name some of " + ", ".join(MATRIX_TYPES))
    return tuple(t for t in MATRIX_TYPES if t in chosen)


def _fits(pruner: Method, sequential: bool, allocation: str) -> None:
    if allocation not in ALLOCATIONS:
        raise InputError(f"allocation {allocation!r} is unknown: {nearest(allocation, ALLOCATIONS)}")
    if isinstance(pruner, ModelMethod) and allocation != "uniform":
        raise InputError(f"{pruner.name} spreads its budget itself; allocation must be uniform, got {allocation!r}")
    if sequential and isinstance(pruner, ModelMethod):
        raise InputError(f"{pruner.name} looks at the whole dense model; sequential must be False")
    if sequential and not pruner.needs_calibration:
        raise InputError(f"{pruner.name} needs no calibration; sequential must be False")


def _dense(
    checkpoint: Checkpoint, calibration: Calibration | None, windows: np.ndarray | None, latency: Latency | None
) -> DenseModel:
    return DenseModel(
        checkpoint.config,
        checkpoint.matrix,
        calibration.hessian if calibration else None,
        calibration.tokens if calibration else 0,
        influence=lambda: block_influence(checkpoint, windows),
        latency=latency or weights_left,
    )


def _matrix_by_matrix(
    dense: DenseModel, pruner: PruningMethod, rules: dict[Key, Pattern], progress: Progress | None
) -> dict[Key, Pruned]:
    found = {}
    for done, (key, rule) in enumerate(rules.items()):
        if progress is not None:
            progress(done, len(rules), "pruning")
        hessian = dense.hessian(*key) if dense.hessian else None
        found[key] = pruner.prune(dense.matrix(*key), hessian, dense.tokens, rule)
    return found


def _step_by_step(
    checkpoint: Checkpoint,
    windows: np.ndarray,
    pruner: PruningMethod,
    rules: dict[Key, Pattern],
    progress: Progress | None,
) -> dict[Key, Pruned]:
    """Each layer from what enters it behind the pruned layers; inside the layer, from its dense matrices."""
    found: dict[Key, Pruned] = {}
    walk = Walk(checkpoint, windows)
    for layer in range(max(layer for layer, _ in rules) + 1):
        if progress is not None:
            progress(layer, checkpoint.config.layers, "pruning")
        types = [t for t in MATRIX_TYPES if (layer, t) in rules]
        hessians = walk.hessians() if types else {}
        for t in types:
            key = layer, t
            found[key] = pruner.prune(checkpoint.matrix(*key), hessians[MATRIX_INPUT[t]], walk.tokens, rules[key])
        walk.step(lambda *key: found[key].weight if key in found else checkpoint.matrix(*key))
    return found


def _calibration_windows(checkpoint: Checkpoint, tokens: int, seed: int) -> np.ndarray:
    if tokens < WINDOW:
        raise InputError(f"calibration tokens must be at least {WINDOW}, got {tokens}")
    bundled = bundled_windows()["calibration"]
    if checkpoint.sha256 == SMOLLM2.sha256 and tokens <= bundled.size:
        pool = bundled
    else:
        from workloads.text import calibration_windows
        from workloads.tokenizer import Tokenizer

        pool = calibration_windows(Tokenizer(checkpoint), tokens)
    chosen = np.random.default_rng(seed).permutation(len(pool))[: -(-tokens // WINDOW)]
    return pool[np.sort(chosen)]


def _evaluation_windows(checkpoint: Checkpoint) -> np.ndarray:
    if checkpoint.sha256 == SMOLLM2.sha256:
        return bundled_windows()["evaluation"]
    from workloads.text import evaluation_windows
    from workloads.tokenizer import Tokenizer

    return evaluation_windows(Tokenizer(checkpoint))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sparchitect")
    except PackageNotFoundError:
        return "unknown"
