"""Prune a whole checkpoint in one call: masks, weights, realised sparsity, perplexity and where it all came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError, nearest
from sim.sparsity.packing import pack
from workloads.arithmetic import Arithmetics, per_layer
from workloads.calibration import Progress, bundled_windows, windows_sha256
from workloads.checkpoint import MATRIX_TYPES, Checkpoint, open_checkpoint
from workloads.fetch import SMOLLM2
from workloads.perplexity import Meter
from workloads.prune_stream import Following, Job, refuse_if_too_large
from workloads.pruned_model import Mask, PrunedModel, load_masks
from workloads.pruning import Blocks, Latency, Method, ModelMethod, Pattern, Pruned, Unstructured, parse_pattern
from workloads.pruning import method as method_by_name
from workloads.pruning.allocation import ALLOCATIONS
from workloads.pruning.base import NEEDS
from workloads.pruning.model import Key
from workloads.recipe import FFN_TYPES
from workloads.token_windows import token_windows
from workloads.transformer import Weights

if TYPE_CHECKING:
    from workloads.tokenizer import Tokenizer

__all__ = ["GROUPS", "PrunedModel", "load_masks", "prune_model"]

GROUPS = {"all": MATRIX_TYPES, "attn": MATRIX_TYPES[:4], "ffn": FFN_TYPES}
WINDOW = 512
KEEP = ("all", "masks", "nothing")
_NO_CALIBRATION = (
    "give token ids (--windows FILE.npy, or prune_model(windows=..., evaluation=...)), or a method without calibration "
    "(magnitude) with --no-evaluate"
)
_NO_EVALUATION = (
    "give token ids to measure on (--evaluation FILE.npy, or prune_model(evaluation=...)), or do not measure "
    "(--no-evaluate, evaluate=False)"
)
#: What an allocation looks at of every matrix's input; those not named: the Hessian.
_ALLOCATION_NEEDS = {"uniform": "nothing", "owl": "diagonal"}


def prune_model(
    model: Path | str | None = None,
    method: str = "wanda",
    pattern: str | float | Pattern = "0.5",
    types: str | Iterable[str] = "all",
    calibration_tokens: int = 8192,
    evaluate: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    arithmetic: Arithmetics = "w8a8kv8",
    layers: Iterable[int] | None = None,
    sequential: bool | None = None,
    allocation: str = "uniform",
    latency: Latency | None = None,
    keep: str = "all",
    on_matrix: Callable[[Key, Pruned], None] | None = None,
    windows: np.ndarray | None = None,
    evaluation: np.ndarray | None = None,
) -> PrunedModel:
    """Prune a checkpoint and measure it when asked.

    ``model``: a model file or folder, or None for SmolLM2-135M. ``method``: one of ``pruning.methods()``. ``pattern``:
    see ``parse_pattern``. ``types``: all, attn, ffn or matrix types. ``seed`` chooses the calibration windows when
    fewer are asked for than there are. ``progress(done, total, what)`` is called as work goes on. ``arithmetic``: of
    the measured perplexities.

    ``sequential``: calibrate each layer on the outputs of the layers already pruned; False: all on one pass of the
    dense model; None: as the method was published. ``allocation``: how a share is spread over matrices, one of
    ``allocation.ALLOCATIONS``. ``latency(out, in, pattern)``: the time of one matrix (pattern None: dense), for methods
    and allocations that ask; without it time is the number of weights left.

    ``keep``: what of every matrix is in the result: "all", "masks" (packed bits) or "nothing". With the latter two the
    model is pruned and measured layer by layer and never in memory at once, but for methods whose layers compete
    (``ModelMethod.stage``). ``on_matrix((layer, type), pruned)`` is called once for every matrix as it is made.

    ``windows``, ``evaluation``: token ids [n, length] to calibrate and to measure on, in place of the project's texts;
    a model without a tokenizer needs them.

    Raises InputError for anything it cannot do, before it begins.
    """
    if keep not in KEEP:
        raise InputError(f"keep {keep!r} is unknown: {nearest(keep, KEEP)}")
    pruner = method_by_name(method)
    rule = pruner.read(parse_pattern(pattern))
    asked, together = _types(types), pruner.together(rule)
    if not set(together) <= set(asked):
        raise InputError(f"{method} '{rule}' prunes {', '.join(together)} together; types must include all of them")
    stepwise = pruner.sequential if sequential is None else sequential
    _fits(pruner, rule, stepwise, allocation)
    if windows is None:
        _enough(calibration_tokens)
    checkpoint = open_checkpoint(model)
    if evaluate:
        if checkpoint.gap:
            raise InputError(f"{checkpoint.path}: {checkpoint.gap}; it can be pruned but not measured")
        per_layer(arithmetic, checkpoint.config.layers)
    chosen = tuple(t for t in asked if t in checkpoint.matrix_types)
    if not chosen or not set(together) <= set(chosen):
        wanted = ", ".join(together or asked)
        raise InputError(f"{checkpoint.path} has {', '.join(checkpoint.matrix_types)}; {method} needs {wanted}")
    where = tuple(sorted(set(range(checkpoint.config.layers) if layers is None else layers)))
    if not where or where[0] < 0 or where[-1] >= checkpoint.config.layers:
        raise InputError(f"layers must be in 0..{checkpoint.config.layers - 1}, got {list(where)}")
    pruner.fits(rule, checkpoint.config, chosen, where)
    if windows is not None:
        windows = token_windows("windows", windows, checkpoint.config.vocab)
    if evaluation is not None:
        evaluation = token_windows("evaluation", evaluation, checkpoint.config.vocab, least=2)
    needs = max(pruner.needs, _ALLOCATION_NEEDS.get(allocation, "hessian"), key=NEEDS.index)
    calibration = None
    if needs != "nothing":
        calibration = windows if windows is not None else _calibration_windows(checkpoint, calibration_tokens, seed)
    if evaluate and evaluation is None:
        evaluation = _evaluation_windows(checkpoint)
    job = Job(checkpoint, pruner, rule, chosen, where, needs, calibration, stepwise, allocation, latency, progress)
    refuse_if_too_large(job)

    c = checkpoint.config
    kept = _Kept(keep, on_matrix)
    following = Following(job, kept.take)
    if keep == "all" or not evaluate:
        following.finish()
    measured_dense = measured = None
    calibrated = windows_sha256(calibration) if calibration is not None else ""
    if evaluate:
        meter = Meter(checkpoint, evaluation, seed)
        job.told(0, 2, "measuring perplexity")
        measured_dense = meter.measure("dense", checkpoint.matrix, 0.0, arithmetic)
        job.told(1, 2, "measuring perplexity")
        weights = kept.weights_or(checkpoint.matrix) if keep == "all" else following
        before = following.cpu_s
        measured = meter.measure(f"{method} {rule}", weights, 0.0, arithmetic, calibrated)
        measured = replace(measured, cpu_s=measured.cpu_s - (following.cpu_s - before))  # without the pruning
        following.finish()
    total = c.layers * sum(int(np.prod(c.matrix_shape(t))) for t in checkpoint.matrix_types)
    sparsity = kept.zeros / total
    provenance = {
        "model": checkpoint.path.resolve().name or c.name,
        "model_sha256": checkpoint.sha256,
        "method": method,
        "pattern": str(rule),
        "types": list(chosen),
        "layers": list(where),
        "calibration_tokens": int(calibration.size) if calibration is not None else 0,
        "calibration_sha256": calibrated,
        "sequential": stepwise,
        "allocation": allocation,
        "seed": seed,
        "arithmetic": measured.arithmetic if measured else "",
        "version": _version(),
    }
    if measured is not None:
        measured = replace(measured, realised_sparsity=sparsity)
    return PrunedModel(kept.masks, kept.weights, sparsity, measured, measured_dense, provenance, c, kept.details)


class _Kept:
    """What stays of the matrices as they are made."""

    def __init__(self, keep: str, on_matrix: Callable[[Key, Pruned], None] | None) -> None:
        self._keep, self._on_matrix, self.zeros = keep, on_matrix, 0
        self.masks: dict[Key, Mask] = {}
        self.details: dict[Key, Pruned] = {}

    def take(self, key: Key, pruned: Pruned) -> None:
        """One pruned matrix."""
        self.zeros += int(pruned.mask.size - np.count_nonzero(pruned.mask))
        if self._keep == "all":
            self.masks[key], self.details[key] = pruned.mask, pruned
        elif self._keep == "masks":
            self.masks[key] = pack(pruned.mask)
        if self._on_matrix is not None:
            self._on_matrix(key, pruned)

    @property
    def weights(self) -> dict[Key, np.ndarray]:
        """Pruned matrices by key."""
        return {key: pruned.weight for key, pruned in self.details.items()}

    def weights_or(self, dense: Weights) -> Weights:
        """Pruned matrices, dense ones where nothing is pruned."""
        return lambda *key: self.details[key].weight if key in self.details else dense(*key)


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


def _fits(pruner: Method, rule: Pattern, sequential: bool, allocation: str) -> None:
    if allocation not in ALLOCATIONS:
        raise InputError(f"allocation {allocation!r} is unknown: {nearest(allocation, ALLOCATIONS)}")
    if isinstance(pruner, ModelMethod) and allocation != "uniform":
        raise InputError(f"{pruner.name} spreads its budget itself; allocation must be uniform, got {allocation!r}")
    if allocation != "uniform" and not isinstance(rule, Unstructured | Blocks):
        raise InputError(f"allocation {allocation} spreads a share of weights or blocks; pattern '{rule}' fixes it")
    if sequential and isinstance(pruner, ModelMethod):
        raise InputError(f"{pruner.name} looks at the whole dense model; sequential must be False")
    if sequential and pruner.needs == "nothing":
        raise InputError(f"{pruner.name} needs no calibration; sequential must be False")


def _enough(tokens: int) -> None:
    if tokens < WINDOW:
        raise InputError(f"calibration tokens must be at least {WINDOW}, got {tokens}")


def _calibration_windows(checkpoint: Checkpoint, tokens: int, seed: int) -> np.ndarray:
    _enough(tokens)
    bundled = bundled_windows()["calibration"]
    if checkpoint.sha256 == SMOLLM2.sha256 and tokens <= bundled.size:
        pool = bundled
    else:
        from workloads.text import calibration_windows

        pool = calibration_windows(_tokenizer(checkpoint, _NO_CALIBRATION), tokens)
    chosen = np.random.default_rng(seed).permutation(len(pool))[: -(-tokens // WINDOW)]
    return pool[np.sort(chosen)]


def _evaluation_windows(checkpoint: Checkpoint) -> np.ndarray:
    if checkpoint.sha256 == SMOLLM2.sha256:
        return bundled_windows()["evaluation"]
    from workloads.text import evaluation_windows

    return evaluation_windows(_tokenizer(checkpoint, _NO_EVALUATION))


def _tokenizer(checkpoint: Checkpoint, instead: str) -> Tokenizer:
    """The model's tokenizer; InputError that says what to give ``instead`` where it has none."""
    from workloads.tokenizer import Tokenizer

    if checkpoint.tokenizer_file is None and checkpoint.metadata("tokenizer.ggml.model") is None:
        raise InputError(f"{checkpoint.path}: no tokenizer.json in it: {instead}")
    return Tokenizer(checkpoint)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sparchitect")
    except PackageNotFoundError:
        return "unknown"
