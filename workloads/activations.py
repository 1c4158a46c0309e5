"""Zeros of activations at run time, measured: what enters each matrix when small values are dropped.

    python -m workloads.activations            # prints the table by tensor
    python -m workloads.activations --write    # refreshes data/smollm2_135m/activations.csv (about a minute)

A value is dropped below a threshold of its tensor, the quantile of |x| over calibration tokens (TEAL, Liu et al. 2024);
densities are then counted on other tokens of the dense model. A weight column is needed if any token of the batch needs
it, so what a batch saves is the *union* over its tokens: over neighbours of one text (prefill, speculative decoding) or
over texts (batched decoding). SwiGLU models have no exact zeros; these are an approximation that costs accuracy, of
which ``energy_lost`` (share of the sum of squares) is only a proxy; :mod:`workloads.activation_sparsity` measures
it, and other methods. :func:`with_activation_zeros` puts them into a trace.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from sim.trace import Trace
from workloads.activation_sparsity import table as sparse
from workloads.activation_sparsity.facts import EVERY
from workloads.activation_sparsity.unions import NEIGHBOURS, TEXTS, union_density
from workloads.calibration import BUNDLE, bundled_windows
from workloads.checkpoint import INPUTS, MATRIX_INPUT, Checkpoint, open_checkpoint
from workloads.llm import llm
from workloads.transformer import token_nll

FILE = BUNDLE / "activations.csv"
SPARSITIES = (0.3, 0.5, 0.7, 0.9)
MODEL = "smollm2_135m"
"""Whose activations the bundled table holds: the dense model's."""
UNIONS = ("tokens", "texts", "none")
DEFAULT_METHOD = "teal"
NOT_MEASURED = "not measured with activation zeros"
_PREFIX = "threshold_"
_WORK = [
    "matrix_type",
    "layer",
    "batch",
    "m",
    "n",
    "k",
    "nonzeros",
    "weight_bits",
    "activation_bits",
    "weight_scale_bytes",
]


def sizes(checkpoint: Checkpoint, windows: NDArray[np.integer]) -> dict[tuple[int, str], NDArray[np.float32]]:
    """(layer, tensor) to |x| [windows, length, features] of what enters its matrices on ``windows`` [n, length]; about
    0.4 MB a token of SmolLM2-135M."""
    found: dict[tuple[int, str], list[NDArray[np.float32]]] = {}

    def hook(layer: int, name: str, x: NDArray[np.float32]) -> None:
        found.setdefault((layer, name), []).append(np.abs(x).reshape(-1, windows.shape[1], x.shape[-1]))

    token_nll(checkpoint, windows, hook=hook, layers_only=True)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def thresholds(size: NDArray[np.float32], sparsities: tuple[float, ...] = SPARSITIES) -> NDArray[np.float64]:
    """[sparsities] quantiles of a tensor's |x|."""
    return np.quantile(size.reshape(-1)[::EVERY], sparsities)


def masks(
    checkpoint: Checkpoint,
    windows: NDArray[np.integer],
    sparsity: float,
    calibration: NDArray[np.integer] | None = None,
) -> dict[tuple[int, str], NDArray[np.bool_]]:
    """(layer, tensor) to what is kept [texts, length, features] on ``windows`` [texts, length]; thresholds from
    ``calibration`` (default: the bundled windows)."""
    known = sizes(checkpoint, bundled_windows()["calibration"] if calibration is None else calibration)
    found = sizes(checkpoint, windows)
    return {key: size >= thresholds(known[key], (sparsity,))[0] for key, size in found.items()}


def measure(checkpoint: Checkpoint, calibration: NDArray[np.integer], windows: NDArray[np.integer]) -> pd.DataFrame:
    """One row a (layer, tensor, sparsity asked): threshold, density, of the densest token too, energy lost, density of
    the union over ``tokens_V`` neighbours and over ``texts_V`` texts."""
    known = {key: thresholds(size) for key, size in sizes(checkpoint, calibration).items()}
    rows = []
    for (layer, name), size in sizes(checkpoint, windows).items():
        squares = np.square(size, dtype=np.float64)
        for sparsity, threshold in zip(SPARSITIES, known[layer, name], strict=True):
            kept = size >= threshold
            row = {
                "layer": layer,
                "tensor": name,
                "sparsity": sparsity,
                "threshold": float(threshold),
                "density": float(kept.mean()),
                "densest_token": float(kept.mean(axis=2).max()),
                "energy_lost": float(squares[~kept].sum() / squares.sum()),
            }
            row |= {f"tokens_{v}": union_density(kept, v) for v in NEIGHBOURS}
            row |= {f"texts_{v}": union_density(kept, v, across=True) for v in TEXTS}
            rows.append(row)
    return pd.DataFrame(rows).sort_values(["layer", "sparsity"], kind="stable", ignore_index=True)


@lru_cache(maxsize=1)
def _bundled() -> pd.DataFrame:
    return pd.read_csv(FILE)


def measured() -> pd.DataFrame:
    """The bundled table of SmolLM2-135M (:func:`measure`; calibration and evaluation windows of the bundle)."""
    return _bundled().copy()


def by_tensor(table: pd.DataFrame) -> pd.DataFrame:
    """Means over layers, one row a (tensor, sparsity)."""
    named = table.assign(tensor=pd.Categorical(table["tensor"], INPUTS, ordered=True))
    return named.drop(columns=["layer", "threshold"]).groupby(["tensor", "sparsity"], observed=True).mean()


def with_activation_zeros(
    trace: Trace,
    level: float | str,
    *,
    method: str = DEFAULT_METHOD,
    union: str | None = None,
    table: pd.DataFrame | None = None,
) -> Trace:
    """``trace`` with the zeros of its decoder layers' inputs where a method drops a share of them.

    ``input_density`` becomes the share of inputs that stay, token by token (what a PE can gate); ``input_union`` the
    share of features that any of the op's M rows keeps (what must be fetched or walked). Attention scores, attention
    values and the head keep theirs: what enters them is not measured. Between measured shares, and between measured
    sizes of a union (in its logarithm), numbers are interpolated linearly.

    Args:
        level: share of inputs dropped (0.5), or its name ("threshold_50").
        method: "teal" (the thresholds of this module's table) or another that is measured
            (:mod:`workloads.activation_sparsity`), whose densities are those of the pass its perplexity is from.
        union: how the M rows of an op come together: "tokens" of one text, or one of each of several "texts"; default:
            what the trace's phase and batch say. "none" leaves the union unknown.
        table: :func:`measure` of the trace's model; default: the bundled one, for traces of SmolLM2-135M.

    Returns:
        A new trace; ``meta["activation_zeros"]`` says what was dropped. A perplexity in ``meta`` goes: it was measured
        with every input. Where exactly this method and level was measured (dense weights, all layers, W8A8KV8), that
        perplexity takes its place, and ``meta["quality"]`` is "measured".

    Raises:
        InputError: an unknown union or method, a share or a number of rows outside of what is measured, a trace of
            another model than the table's, one whose phase does not tell the union, one without decoder layers.
    """
    share, how = _share(level), _union(trace, union)
    if table is None and trace.meta.get("model") != MODEL:
        raise InputError(
            f"trace {trace.name}: activations are measured for {MODEL}, not for '{trace.meta.get('model', '')}': "
            "give the table of its own measurement"
        )
    if table is not None and method != DEFAULT_METHOD:
        raise InputError(f"a table given is of thresholds: method must be '{DEFAULT_METHOD}', got '{method}'")
    if table is None:
        table, of = measured() if method == DEFAULT_METHOD else sparse.densities(method), MODEL
    else:
        of = "a table given"
    tensors = trace.ops["matrix_type"].map(MATRIX_INPUT)
    wanted = tensors.notna() & (trace.ops["kind"] == "gemm") & (trace.ops["layer"] >= 0)
    if not wanted.any():
        raise InputError(f"trace {trace.name}: no matrix of a decoder layer, whose inputs could be dropped")
    known = dict(iter(table.groupby(["layer", "tensor"])))
    density, joint = (trace.ops[name].astype(np.float64) for name in ("input_density", "input_union"))
    for at in trace.ops.index[wanted]:
        layer, tensor, tokens = int(trace.ops.at[at, "layer"]), str(tensors[at]), int(trace.ops.at[at, "m"])
        own = layer, str(trace.ops.at[at, "matrix_type"])
        rows = known.get(own if own in known else (layer, tensor))
        if rows is None:
            raise InputError(f"trace {trace.name}: {tensor} of layer {layer} is not in the table of activations")
        density[at] = _density(rows, share, 1, "tokens")
        joint[at] = _density(rows, share, tokens, how) if how != "none" else 0.0
    meta = {key: value for key, value in trace.meta.items() if not key.startswith("perplexity")}
    meta["activation_zeros"] = {"method": method, "dropped": share, "union": how, "of": of}
    meta |= _quality(trace, method, share) if of == MODEL else {"quality": NOT_MEASURED}
    return replace(trace, ops=trace.ops.assign(input_density=density, input_union=joint), meta=meta)


def _quality(trace: Trace, method: str, share: float) -> dict[str, object]:
    """What is known of perplexity with these zeros: a row of exactly this method and share, on dense weights."""
    row = sparse.measured(method, share)
    if row is None or trace.meta.get("numerics") != row["arithmetic"] or not _dense(trace):
        return {"quality": NOT_MEASURED}
    return {
        "perplexity": float(row["ppl"]),
        "perplexity_interval": [float(row["ppl_low"]), float(row["ppl_high"])],
        "arithmetic": str(row["arithmetic"]),
        "model_sha256": str(row["model_sha256"]),
        "windows_sha256": str(row["windows_sha256"]),
        "quality": "measured",
    }


def _dense(trace: Trace) -> bool:
    """Whether the trace is the whole model as it is: no weight, channel, layer or cached position is gone."""
    about = trace.meta
    if about.get("phase") not in ("prefill", "decode"):
        return False
    length = {"tokens": about["tokens"]} if about["phase"] == "prefill" else {"context": about["context"]}
    whole = llm(MODEL, phase=about["phase"], batch=about["batch"], **length).ops
    return len(whole) == len(trace.ops) and bool((whole[_WORK] == trace.ops[_WORK]).all(axis=None))


def _share(level: float | str) -> float:
    percent = level.removeprefix(_PREFIX) if isinstance(level, str) else ""
    if isinstance(level, str) and not (level.startswith(_PREFIX) and percent.isdecimal() and len(percent) < 4):
        raise InputError(f"level must be a share of inputs dropped or look like '{_PREFIX}50', got '{level}'")
    return int(percent) / 100 if isinstance(level, str) else float(level)


def _union(trace: Trace, union: str | None) -> str:
    if union is not None:
        if union not in UNIONS:
            raise InputError(f"union must be one of {', '.join(UNIONS)}, got '{union}', {nearest(union, UNIONS)}")
        return union
    phase = str(trace.meta.get("phase", "prefill"))
    texts, tokens = int(trace.meta.get("batch", 1)), int(trace.meta.get("tokens", 1))
    if phase not in ("prefill", "decode") or (texts > 1 and tokens > 1):
        raise InputError(
            f"trace {trace.name}: the union over {tokens} tokens of each of {texts} texts ({phase}) is not measured; "
            "say union 'tokens' (as if of one text) or 'none'"
        )
    return "texts" if texts > 1 else "tokens"


def _density(rows: pd.DataFrame, share: float, tokens: int, union: str) -> float:
    """Of one (layer, tensor) at a share dropped, in the union over so many tokens."""
    rows = rows.sort_values("sparsity")
    low, high = float(rows["sparsity"].iloc[0]), float(rows["sparsity"].iloc[-1])
    if not low <= share <= high:
        raise InputError(f"level must be within {low:g}..{high:g}, what is measured, got {share:g}")
    columns = {1: "density"} | {int(name.rpartition("_")[2]): name for name in rows if name.startswith(f"{union}_")}
    if not 1 <= tokens <= max(columns):
        raise InputError(f"a union over {tokens} {union} is not measured, only over up to {max(columns)}")
    found = rows[list(columns.values())].to_numpy(dtype=np.float64)
    at, sizes = np.log2(tokens), np.log2(list(columns))
    return float(np.interp(share, rows["sparsity"], [np.interp(at, sizes, line) for line in found]))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"measure again and refresh {Path(FILE).name}")
    if parser.parse_args().write:
        windows = bundled_windows()
        found = measure(open_checkpoint(), windows["calibration"][::4], windows["evaluation"])
        found.to_csv(FILE, index=False, float_format="%.5g")
    print(by_tensor(measured()).round(3).to_string())


if __name__ == "__main__":
    _main()
