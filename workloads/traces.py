"""Traces by name: bundled recipes of a bundled model, trace files, and traces of a model pruned here and now."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from sim.errors import InputError, nearest
from sim.sparsity.profile import Profile, profile
from sim.trace import Trace
from workloads.pruning.pattern import NofM
from workloads.recipe import CHANNEL_VARIANTS, MATRIX_VARIANTS, VARIANTS, Recipe

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
            return Trace.load(path)
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
) -> tuple[Path, Trace]:
    """Prune a real model, measure it, and write its trace with profiles, counts and masks. Returns (file, trace)."""
    from workloads.llm import llm
    from workloads.prune import prune_model

    pruned = prune_model(
        model,
        method=method,
        pattern=pattern,
        types=types or "all",
        evaluate=evaluate,
        seed=seed,
        progress=lambda done, total, what: progress(what, done, total),
    )
    suffix = str(pruned.provenance["pattern"]).translate(str.maketrans(": .", "___"))
    name = f"{pruned.config.name}_{method}_{suffix}"
    cut = method == "ffn_channels"
    found: dict[tuple[int, str], Profile] = {}
    for done, (key, mask) in enumerate(pruned.masks.items()):
        progress("profiling masks", done, len(pruned.masks))
        if not cut:
            found[key] = profile(mask)
    progress("profiling masks", len(pruned.masks), len(pruned.masks))
    widths = {layer: w.shape[0] for (layer, t), w in pruned.weights.items() if cut and t == "ffn_gate"}
    trace = llm(
        pruned.config,
        phase=phase,
        tokens=tokens if phase == "prefill" else None,
        context=context if phase == "decode" else None,
        sparsity=lambda layer, matrix_type: found.get((layer, matrix_type)),
        ffn_width=(lambda layer: widths.get(layer)) if cut else None,
    )
    trace.meta |= {"name": name, **pruned.provenance, "realised_sparsity": pruned.realised_sparsity}
    for label, quality in (("perplexity", pruned.perplexity), ("dense_perplexity", pruned.dense_perplexity)):
        if quality is not None:
            trace.meta |= {label: quality.ppl, f"{label}_nll": quality.nll, f"{label}_tokens": quality.tokens}
    if not cut:
        trace.masks = [pruned.masks[key] for key in found]
    target = trace.save(out if out is not None else Path("traces") / name)
    return target, trace
