"""Measure the perplexity of a recipe on real weights and real text."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workloads.calibration import windows_sha256
from workloads.checkpoint import Checkpoint
from workloads.quantise import quantise_rows
from workloads.recipe import Recipe
from workloads.transformer import Weights, token_nll
from workloads.variants import VariantStore


@dataclass(frozen=True)
class Measurement:
    """A measured perplexity and where it came from. ``nll`` is the mean over ``tokens`` predictions, in nats."""

    recipe: str
    arithmetic: str
    nll: float
    window_nll: tuple[float, ...]
    tokens: int
    realised_sparsity: float
    cpu_s: float
    seed: int
    model_sha256: str
    windows_sha256: str
    calibration_sha256: str

    @property
    def ppl(self) -> float:
        """exp(nll)."""
        return float(np.exp(self.nll))

    @property
    def nll_stderr(self) -> float:
        """Standard error of the mean NLL over windows (the texts' own spread)."""
        n = len(self.window_nll)
        return float(np.std(self.window_nll, ddof=1) / np.sqrt(n)) if n > 1 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.recipe}: perplexity {self.ppl:.3f} (NLL {self.nll:.4f} ± {self.nll_stderr:.4f} over "
            f"{len(self.window_nll)} windows, {self.tokens} tokens, {self.arithmetic}), "
            f"sparsity {self.realised_sparsity:.4f}"
        )


class Meter:
    """Measures recipes of one checkpoint on fixed windows [n, length]; the quantised head is made once."""

    def __init__(self, checkpoint: Checkpoint, windows: np.ndarray, seed: int = 0) -> None:
        self.checkpoint, self.windows, self.seed = checkpoint, windows, seed
        self.windows_sha256 = windows_sha256(windows)

    @cached_property
    def _head(self) -> tuple[np.ndarray, np.ndarray]:
        return quantise_rows(self.checkpoint.head)

    def measure(
        self, name: str, weights: Weights, sparsity: float, arithmetic: str = "w8a8kv8", calibration_sha256: str = ""
    ) -> Measurement:
        """Measure any (layer, matrix type) -> weight function under the label ``name``."""
        head = self._head if arithmetic == "w8a8kv8" else None
        started = time.process_time()
        nll = token_nll(self.checkpoint, self.windows, weights, arithmetic, head=head)
        return Measurement(
            recipe=name,
            arithmetic=arithmetic,
            nll=float(nll.mean()),
            window_nll=tuple(float(x) for x in nll.mean(axis=1)),
            tokens=int(nll.size),
            realised_sparsity=float(sparsity),
            cpu_s=time.process_time() - started,
            seed=self.seed,
            model_sha256=self.checkpoint.sha256,
            windows_sha256=self.windows_sha256,
            calibration_sha256=calibration_sha256,
        )

    def recipe(self, recipe: Recipe, store: VariantStore, arithmetic: str = "w8a8kv8") -> Measurement:
        """Measure a recipe of stored variants."""
        for variant in set(recipe.variants):
            store.ensure(variant)
        calibration = "" if recipe == Recipe.uniform("dense") else store.calibration.windows_sha256
        return self.measure(recipe.key, store.weights(recipe), store.sparsity(recipe), arithmetic, calibration)


def measure(
    checkpoint: Checkpoint, recipe: Recipe, windows: np.ndarray, store: VariantStore, arithmetic: str = "w8a8kv8"
) -> Measurement:
    """Perplexity of ``recipe`` on ``windows`` [n, length], with the masks and weights of ``store``."""
    return Meter(checkpoint, windows).recipe(recipe, store, arithmetic)
