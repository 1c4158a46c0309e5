"""Zeros of activations at run time, measured: what enters each matrix when small values are dropped.

    python -m workloads.activations            # prints the table by tensor
    python -m workloads.activations --write    # refreshes data/smollm2_135m/activations.csv (about three minutes)

A value is dropped below a threshold of its tensor, the quantile of |x| over calibration tokens (TEAL, Liu et al. 2024;
DynaTran, Tuli and Jha 2023); densities are then counted on other tokens. A weight column is needed if any token of the
batch needs it, so what a batch saves is the *union* over its tokens: over neighbours of one text (prefill, speculative
decoding) or over texts (batched decoding). SwiGLU models have no exact zeros; these are an approximation that costs
accuracy, of which ``energy_lost`` (share of the sum of squares) is only a proxy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workloads.calibration import BUNDLE, bundled_windows
from workloads.checkpoint import INPUTS, Checkpoint, open_checkpoint
from workloads.transformer import token_nll

FILE = BUNDLE / "activations.csv"
SPARSITIES = (0.3, 0.5, 0.7, 0.9)
NEIGHBOURS = (2, 4, 8, 16, 32, 64)
TEXTS = (2, 4, 8)
_SAMPLE = 61  # every so manieth value goes into a quantile; no divisor of a width, so that all features do


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
    return np.quantile(size.reshape(-1)[::_SAMPLE], sparsities)


def union_density(kept: NDArray[np.bool_], tokens: int, across: bool = False) -> float:
    """Share of features that any of ``tokens`` tokens keeps, in the mean over groups. ``kept`` [texts, length,
    features]: groups are neighbours in a text, or (``across``) the same place of several texts; a short last group is
    left out."""
    rows = kept.swapaxes(0, 1) if across else kept
    whole = rows.shape[1] // tokens * tokens
    groups = rows[:, :whole].reshape(rows.shape[0], -1, tokens, rows.shape[2])
    return float(groups.any(axis=2).mean())


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


def measured() -> pd.DataFrame:
    """The bundled table of SmolLM2-135M (:func:`measure`; calibration and evaluation windows of the bundle)."""
    return pd.read_csv(FILE)


def by_tensor(table: pd.DataFrame) -> pd.DataFrame:
    """Means over layers, one row a (tensor, sparsity)."""
    named = table.assign(tensor=pd.Categorical(table["tensor"], INPUTS, ordered=True))
    return named.drop(columns=["layer", "threshold"]).groupby(["tensor", "sparsity"], observed=True).mean()


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
