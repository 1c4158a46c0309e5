"""The measured rows that come with the package: perplexity of (method, sparsity), and densities that it leaves."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

from sim.errors import InputError, nearest
from workloads.calibration import BUNDLE

FOLDER = BUNDLE / "activation_sparsity"
#: One row a measurement: ``setting`` is "default" (every tensor, first token whole) or what was done otherwise.
PERPLEXITY = FOLDER / "perplexity.csv"
DEFAULT = "default"
DENSE = "dense"


def densities_file(method: str) -> Path:
    """One row a (sparsity, layer, tensor or matrix type) of a method."""
    return FOLDER / f"{method}.csv"


@lru_cache(maxsize=8)
def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def perplexities() -> pd.DataFrame:
    """The bundled measurements of SmolLM2-135M in W8A8KV8, one row a (method, sparsity, setting, domain)."""
    return _read(PERPLEXITY).copy()


def densities(method: str) -> pd.DataFrame:
    """What a method left in the pass whose perplexity is bundled; :class:`InputError` if none is."""
    if not densities_file(method).is_file():
        known = [p.stem for p in FOLDER.glob("*.csv") if p != PERPLEXITY]
        raise InputError(f"activations under {method!r} are not measured: {nearest(method, known)}")
    return _read(densities_file(method)).copy()


def measured(method: str, sparsity: float, domain: str = "wikipedia") -> pd.Series | None:
    """The row of exactly that method and sparsity in its default setting; None if there is none."""
    rows = perplexities()
    found = rows[(rows["method"] == method) & (rows["setting"] == DEFAULT) & (rows["domain"] == domain)]
    found = found[(found["sparsity"] - sparsity).abs() < 1e-9]
    return found.iloc[0] if len(found) else None
