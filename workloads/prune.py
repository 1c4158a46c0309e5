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
from workloads.calibration import Calibration, Progress, bundled_windows, calibrate
from workloads.checkpoint import MATRIX_TYPES, Checkpoint, ModelConfig, open_checkpoint
from workloads.fetch import SMOLLM2
from workloads.perplexity import Measurement, Meter
from workloads.pruning import Channels, NofM, Pattern, Unstructured, ffn_channels, methods, parse_pattern
from workloads.pruning import method as method_by_name
from workloads.recipe import FFN_TYPES

CHANNEL_METHOD = "ffn_channels"
GROUPS = {"all": MATRIX_TYPES, "attn": MATRIX_TYPES[:4], "ffn": FFN_TYPES}
WINDOW = 512


@dataclass(frozen=True)
class PrunedModel:
    """A pruned checkpoint. ``masks[layer, type]`` is bool out x in of the uncut matrix, for pruned matrices only.

    ``weights`` holds the pruned matrices (float32; cut smaller under FFN channels). ``perplexity`` and
    ``dense_perplexity`` are None unless they were asked for.
    """

    masks: dict[tuple[int, str], np.ndarray]
    weights: dict[tuple[int, str], np.ndarray] = field(repr=False)
    realised_sparsity: float
    perplexity: Measurement | None
    dense_perplexity: Measurement | None
    provenance: dict[str, Any]
    config: ModelConfig

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
) -> PrunedModel:
    """Prune a checkpoint with masks from one pass of the dense model, and measure it when asked.

    ``model``: a Llama-like GGUF file, or None for SmolLM2-135M. ``method``: magnitude, wanda, sparsegpt or
    ffn_channels. ``pattern``: see ``parse_pattern``. ``types``: all, attn, ffn or matrix types. ``seed`` chooses the
    calibration windows when fewer are asked for than there are. ``progress(done, total, what)`` is called as work goes
    on. Raises InputError for anything it cannot do, before it begins.
    """
    chosen = _types(types)
    rule = _pattern(method, pattern, chosen)
    checkpoint = open_checkpoint(model)
    where = sorted(set(range(checkpoint.config.layers) if layers is None else layers))
    if not where or where[0] < 0 or where[-1] >= checkpoint.config.layers:
        raise InputError(f"layers must be in 0..{checkpoint.config.layers - 1}, got {where}")
    calibration = None
    if isinstance(rule, Channels) or method_by_name(method).needs_calibration:
        calibration = calibrate(checkpoint, _calibration_windows(checkpoint, calibration_tokens, seed), progress)
    evaluation = _evaluation_windows(checkpoint) if evaluate else None

    masks, weights = _prune(checkpoint, method, rule, chosen, where, calibration, progress)
    c = checkpoint.config
    total = c.layers * sum(int(np.prod(c.matrix_shape(t))) for t in MATRIX_TYPES)
    sparsity = sum(int(mask.size - np.count_nonzero(mask)) for mask in masks.values()) / total
    measured = dense = None
    if evaluation is not None:
        meter = Meter(checkpoint, evaluation, seed)
        if progress is not None:
            progress(0, 2, "measuring perplexity")
        dense = meter.measure("dense", checkpoint.matrix, 0.0, arithmetic)
        if progress is not None:
            progress(1, 2, "measuring perplexity")
        name = f"{method} {rule}"
        calibrated = calibration.windows_sha256 if calibration else ""

        def pick(layer: int, t: str) -> np.ndarray:
            return weights[layer, t] if (layer, t) in weights else checkpoint.matrix(layer, t)

        measured = meter.measure(name, pick, sparsity, arithmetic, calibrated)
    provenance = {
        "model": checkpoint.path.name,
        "model_sha256": checkpoint.sha256,
        "method": method,
        "pattern": str(rule),
        "types": list(chosen),
        "layers": where,
        "calibration_tokens": calibration.tokens if calibration else 0,
        "calibration_sha256": calibration.windows_sha256 if calibration else "",
        "seed": seed,
        "arithmetic": arithmetic if evaluate else "",
        "version": _version(),
    }
    return PrunedModel(masks, weights, sparsity, measured, dense, provenance, c)


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


def _pattern(method: str, pattern: str | float | Pattern, types: tuple[str, ...]) -> Pattern:
    rule = parse_pattern(pattern)
    if method != CHANNEL_METHOD:
        if method not in methods():
            hint = nearest(method, [*methods(), CHANNEL_METHOD])
            raise InputError(f"pruning method {method!r} is unknown: {hint}")
        if isinstance(rule, Channels):
            raise InputError(f"pattern '{rule}' removes channels; use the method {CHANNEL_METHOD}")
        return rule
    if isinstance(rule, NofM):
        raise InputError(f"{CHANNEL_METHOD} removes whole channels; pattern '{rule}' does not fit, write 'ffn 0.1'")
    if not set(FFN_TYPES) <= set(types):
        raise InputError(f"{CHANNEL_METHOD} cuts gate, up and down together; types must include all three")
    return Channels(rule.sparsity) if isinstance(rule, Unstructured) else rule


def _prune(
    checkpoint: Checkpoint,
    method: str,
    rule: Pattern,
    types: tuple[str, ...],
    layers: list[int],
    calibration: Calibration | None,
    progress: Progress | None,
) -> tuple[dict[tuple[int, str], np.ndarray], dict[tuple[int, str], np.ndarray]]:
    masks, weights = {}, {}
    pruner = None if isinstance(rule, Channels) else method_by_name(method)
    for done, layer in enumerate(layers):
        if progress is not None:
            progress(done, len(layers), "pruning")
        if pruner is None:
            mean_square = calibration.mean_square(layer, "ffn_down")
            kept = ffn_channels.kept_channels(checkpoint.matrix(layer, "ffn_down"), mean_square, rule.sparsity)
            for t in FFN_TYPES:
                masks[layer, t] = ffn_channels.as_mask(checkpoint.config.matrix_shape(t), t, kept)
                weights[layer, t] = ffn_channels.cut(checkpoint.matrix(layer, t), t, kept)
            continue
        for t in types:
            hessian = calibration.hessian(layer, t) if calibration else None
            tokens = calibration.tokens if calibration else 0
            pruned = pruner.prune(checkpoint.matrix(layer, t), hessian, tokens, rule)
            masks[layer, t], weights[layer, t] = pruned.mask, pruned.weight
    return masks, weights


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
