"""Traces by name: bundled recipes of a bundled model, trace files, and traces of a model pruned here and now."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError, nearest
from sim.sparsity.packing import Packed
from sim.sparsity.profile import Profile, profile
from sim.trace import Trace
from sim.trace_tools.reading import read
from workloads.arithmetic import Arithmetic
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
from workloads.factored import Factored, whole_type
from workloads.fetch import SMOLLM2
from workloads.pruning.base import Pruned
from workloads.pruning.model import Key
from workloads.pruning.pattern import NofM
from workloads.recipe import CHANNEL_VARIANTS, FFN_TYPES, MATRIX_VARIANTS, VARIANTS, Recipe
from workloads.shapes import Numerics, Step

MODEL = "smollm2_135m"
PHASES = {"": {"phase": "prefill", "tokens": 128}, "_decode": {"phase": "decode", "context": 512}}
"""Suffix of a bundled trace's name -> what it runs."""

Progress = Callable[[str, int, int], None]


def bundled_traces() -> dict[str, str]:
    """Name -> summary of every bundled trace."""
    texts = {"": "prefill of 128 tokens", "_decode": "decode step at 512 cached positions"}
    return {
        f"{MODEL}_{variant}{suffix}": f"{_told(variant)}; {text}"
        for variant in VARIANTS
        for suffix, text in texts.items()
    }


def _told(variant: str) -> str:
    if variant in CHANNEL_VARIANTS:
        return f"{CHANNEL_VARIANTS[variant].sparsity:.0%} of the FFN channels removed"
    if variant not in MATRIX_VARIANTS:
        return "nothing pruned"
    method, pattern = MATRIX_VARIANTS[variant]
    return f"{pattern} kept by {method}" if isinstance(pattern, NofM) else f"{pattern.sparsity:.0%} removed by {method}"


def load_trace(source: str | Path) -> Trace:
    """A bundled trace (``smollm2_135m_wanda_50``, ``..._decode``) or a trace file that ``prune`` or ``Trace.save``
    wrote.

    Raises:
        InputError: neither a bundled name nor a file, or a file that cannot be read.
    """
    name = str(source)
    if name in bundled_traces():
        return _bundled(name)
    path = Path(source)
    if path.name and (path.is_file() or path.with_name(path.name + ".parquet").is_file()):
        if path.is_file() and path.suffix != ".parquet":
            raise InputError(f"trace '{name}': a trace file ends in .parquet")
        try:
            return read(path)
        except zipfile.BadZipFile as error:  # of the npz files beside it
            raise InputError(f"trace '{name}': cannot be read ({error})") from None
    hint = nearest(name, bundled_traces())
    if hint.startswith("known"):
        hint = "'sparchitect list' names the bundled ones"
    raise InputError(f"trace '{name}': no such file or bundled trace, {hint}")


def _bundled(name: str) -> Trace:
    from workloads.codesign import Codesign
    from workloads.quality import read_measured

    suffix = "_decode" if name.endswith("_decode") else ""
    variant = name.removeprefix(f"{MODEL}_").removesuffix(suffix)
    recipe = Recipe.uniform(variant)
    trace = Codesign.bundled(MODEL, **PHASES[suffix]).trace_of(recipe, name)
    rows = read_measured()
    row = rows[(rows["key"] == recipe.key) & (rows["arithmetic"] == "w8a8kv8")]
    if len(row):
        first = row.iloc[0]
        trace.meta |= {
            "perplexity": float(first["ppl"]),
            "arithmetic": "w8a8kv8",
            "model_sha256": str(first["model_sha256"]),
            "windows_sha256": str(first["windows_sha256"]),
            "quality": "measured",
        }
    return trace


def prune_to_trace(
    model: Path | None = None,
    method: str = "wanda",
    pattern: str = "0.5",
    types: list[str] | None = None,
    out: Path | None = None,
    phase: str = "prefill",
    tokens: int = 128,
    context: int = 512,
    evaluate: bool = True,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
    allocation: str = "uniform",
    sequential: bool | None = None,
    calibration_tokens: int = 8192,
    arithmetic: str = "w8a8kv8",
    windows: np.ndarray | None = None,
    evaluation: np.ndarray | None = None,
) -> tuple[Path, Trace]:
    """Prune a real model, measure it, and write its trace with profiles, counts and masks. Returns (file, trace).

    Default file: ``traces/MODEL_METHOD_PATTERN[_TYPES][_decode]``. Under FFN channels the trace is of narrower dense
    matrices, without profiles or masks; so is that of any method that cuts channels. A matrix that became factors is
    the ops of ``workloads.factored``. ``arithmetic``: of the perplexity, and of the trace where it rounds an operand
    ("float" and "wxa8kv8" leave the trace 8 bits). The others: see :func:`workloads.prune.prune_model`.

    Raises:
        InputError: what :func:`workloads.prune.prune_model` or :func:`workloads.llm.llm` refuse, and a file that cannot
            be written; all before the work begins.
    """
    from workloads.llm import llm
    from workloads.prune import prune_model

    if seed < 0:
        raise InputError(f"seed must be >= 0, got {seed}")
    run = {"phase": phase, **({"tokens": tokens} if phase == "prefill" else {"context": context})}
    Step.of(**run)
    widths_of = {name: bits for name, bits in vars(Arithmetic.parse(arithmetic)).items() if bits is not None}
    Numerics(**widths_of)
    writable(Path("traces/trace") if out is None else Path(out))
    if model is not None and "ffn_gate" not in open_checkpoint(model).matrix_types:
        raise InputError(f"{model}: only gated, Llama-like decoders become a trace; give the masks to llm")
    shapes: dict[Key, tuple[int, int]] = {}
    factors: dict[Key, tuple[int, bool]] = {}

    def note(key: Key, one: Pruned) -> None:
        """What the trace needs to know of a matrix beside its mask."""
        shapes[key] = one.weight.shape
        if one.factors is not None:
            factors[key] = len(one.factors.right), one.factors.remainder is not None

    pruned = prune_model(
        model,
        method=method,
        pattern=pattern,
        types=types or "all",
        calibration_tokens=calibration_tokens,
        evaluate=evaluate,
        seed=seed,
        progress=lambda done, total, what: progress(what, done, total),
        arithmetic=arithmetic,
        sequential=sequential,
        allocation=allocation,
        keep="masks",
        on_matrix=note,
        windows=windows,
        evaluation=evaluation,
    )
    about = pruned.provenance
    name = _name(about, phase)
    cut = {key for key, shape in shapes.items() if shape != pruned.masks[key].shape and key not in factors}
    found: dict[Key, Profile | Factored] = {}
    masks = {key: mask for key, mask in pruned.masks.items() if key not in cut}
    for done, (key, mask) in enumerate(masks.items()):
        progress("profiling masks", done, len(masks))
        found[key] = profile(mask)
        if key in factors:
            rank, beside = factors[key]
            found[key] = Factored(rank, remainder=found[key]) if beside else Factored(rank, left=found[key])
    if masks:
        progress("profiling masks", len(masks), len(masks))
    widths = {layer: shapes[layer, t][0] for layer, t in cut if t == "ffn_gate"}
    trace = llm(
        replace(pruned.config, name=_model_name(about)),
        **run,
        **widths_of,
        sparsity=lambda layer, matrix_type: found.get((layer, matrix_type)),
        ffn_width=(lambda layer: widths.get(layer)) if cut else None,
    )
    renamed = {"model": "model_file", "layers": "pruned_layers", "types": "pruned_types"}
    trace.meta |= {renamed.get(key, key): value for key, value in about.items()}
    if cut:
        trace.meta["pruned_types"] = list(FFN_TYPES)
    trace.meta |= {"name": name, "realised_sparsity": pruned.realised_sparsity}
    if factors and pruned.perplexity is not None:  # the ops are priced factor by factor
        rounded = ", rounded as one matrix" if "weight_bits" in widths_of else ""
        trace.meta["perplexity_of"] = f"the product of the factors{rounded}"
    for label, quality in (("perplexity", pruned.perplexity), ("dense_perplexity", pruned.dense_perplexity)):
        if quality is not None:
            trace.meta |= {label: quality.ppl, f"{label}_nll": quality.nll, f"{label}_tokens": quality.tokens}
    if found:
        # profiles are numbered in the order of the ops
        used = trace.ops[trace.ops["profile"] >= 0].sort_values("profile")
        keys = [(int(op.layer), whole_type(str(op.matrix_type))) for op in used.itertuples()]
        trace.masks = PackedMasks([pruned.masks[key] for key in keys])
    return save(trace, Path(out) if out is not None else Path("traces") / name), trace


class PackedMasks(Sequence[np.ndarray]):
    """Masks (out x in) held as bits and unpacked one at a time, whenever one is asked for."""

    def __init__(self, packed: list[Packed]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return PackedMasks(self._packed[index])
        return self._packed[index].unpacked()


def _model_name(about: dict[str, Any]) -> str:
    """The zoo's name of the default model, else the file's own without what a file name should not hold."""
    if about["model_sha256"] == SMOLLM2.sha256:
        return MODEL
    return re.sub(r"[^\w.-]+", "_", Path(about["model"]).stem).strip("._") or "model"


def _name(about: dict[str, Any], phase: str) -> str:
    parts = [_model_name(about), about["method"], re.sub(r"\W+", "_", about["pattern"].removeprefix("ffn "))]
    if about["method"] != "ffn_channels" and tuple(about["types"]) != MATRIX_TYPES:
        parts += about["types"]
    return "_".join([*parts, *(["decode"] if phase == "decode" else [])])


def writable(target: Path) -> None:
    """:class:`InputError` unless a trace can be written there; made before long work.

    Tried, for permissions alone do not tell (a read-only disk, a superuser); what the trial makes is taken away.
    """
    name = target.name.removesuffix(".parquet")
    if not name:
        raise InputError(f"--out {target}: must end in a file's name")
    made: list[Path] = []
    try:
        if target.with_name(f"{name}.parquet").is_dir():
            raise InputError(f"--out {target}: {name}.parquet is a folder")
        made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{name}.", suffix=".profiles.npz", dir=target.parent):
            pass
    except OSError as error:
        raise InputError(f"--out {target}: cannot be written ({error.strerror})") from None
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not made after all, or used by another meanwhile
                folder.rmdir()


def save(trace: Trace, target: Path) -> Path:
    """Save beside the target, then move the files in, the table last; files of an older trace of that name go."""
    target = target.with_name(target.name.removesuffix(".parquet"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            table = trace.save(Path(scratch) / target.name)
            for what in ("profiles", "counts", "masks"):
                sibling = target.with_name(f"{target.name}.{what}.npz")
                sibling.unlink(missing_ok=True)
                if (made := table.with_name(sibling.name)).is_file():
                    os.replace(made, sibling)
            os.replace(table, target.with_name(table.name))
    except OSError as error:
        raise InputError(f"--out {target}: cannot be written ({error.strerror})") from None
    return target.with_name(table.name)
