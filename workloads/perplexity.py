"""Measure the perplexity of a recipe on real weights and real text, in two domains, with its uncertainty.

``python -m workloads.perplexity`` measures the dense model and one recipe on both bundled domains. Intervals are
percentile bootstraps over windows (Efron 1979, "Bootstrap methods"): windows of different texts are independent, tokens
of one text are not. They say how far other texts of the domain would move the number; eight windows make such an
interval somewhat too narrow. Two measurements on the same windows are compared window by window (``nll_change``), which
takes the texts' own spread out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError, nearest
from workloads.arithmetic import Arithmetics, label, per_layer
from workloads.calibration import BUNDLE, bundled_windows, windows_sha256
from workloads.checkpoint import Checkpoint
from workloads.quantise import quantise_rows
from workloads.recipe import Recipe
from workloads.transformer import Edit, Weights, token_nll
from workloads.variants import VariantStore, default_store

DOMAINS = ("wikipedia", "speeches")
RESAMPLES = 10_000
LEVEL = 0.95


def domain_windows(domain: str) -> np.ndarray:
    """Bundled evaluation tokens [8, 512] of one of ``DOMAINS``; InputError for any other."""
    if domain not in DOMAINS:
        raise InputError(f"domain {domain!r} is unknown: {nearest(domain, DOMAINS)}")
    if domain == "wikipedia":
        return bundled_windows()["evaluation"]
    with np.load(BUNDLE / "windows_speeches.npz") as stored:
        return stored["evaluation"]


def bootstrap(values: Sequence[float], level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` [n], drawn again with replacement ``RESAMPLES`` times.

    Raises InputError for fewer than two values or a level outside (0, 1).
    """
    values = np.asarray(values, dtype=float)
    if values.size < 2:
        raise InputError(f"a bootstrap needs at least 2 windows, got {values.size}")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level!r}")
    drawn = np.random.default_rng(seed).integers(values.size, size=(RESAMPLES, values.size))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
    domain: str = ""

    @property
    def ppl(self) -> float:
        """exp(nll)."""
        return float(np.exp(self.nll))

    @property
    def nll_stderr(self) -> float:
        """Standard error of the mean NLL over windows (the texts' own spread)."""
        n = len(self.window_nll)
        return float(np.std(self.window_nll, ddof=1) / np.sqrt(n)) if n > 1 else 0.0

    @property
    def cpu_s_per_1k_tokens(self) -> float:
        """CPU seconds of this process for 1,000 predictions (all its threads together)."""
        return 1000 * self.cpu_s / self.tokens

    def ppl_interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Bootstrap interval of the perplexity over windows, seeded with ``seed``."""
        low, high = bootstrap(self.window_nll, level, self.seed)
        return float(np.exp(low)), float(np.exp(high))

    def nll_change(self, dense: Measurement, level: float = LEVEL) -> tuple[float, float, float]:
        """NLL above ``dense`` in nats and its bootstrap interval over windows; both on the same windows.

        Raises InputError when windows or arithmetic differ.
        """
        mine, other = (self.windows_sha256, self.arithmetic), (dense.windows_sha256, dense.arithmetic)
        if mine != other:
            raise InputError(f"{self.recipe} and {dense.recipe} were not measured on the same windows and arithmetic")
        change = np.subtract(self.window_nll, dense.window_nll)
        return (self.nll - dense.nll, *bootstrap(change, level, self.seed))

    def __str__(self) -> str:
        where = f"{self.domain}, " if self.domain else ""
        interval = ""
        if len(self.window_nll) > 1:
            low, high = self.ppl_interval()
            interval = f" [{low:.2f}, {high:.2f}]"
        return (
            f"{self.recipe}: perplexity {self.ppl:.3f}{interval} (measured, {where}NLL {self.nll:.4f} ± "
            f"{self.nll_stderr:.4f} over {len(self.window_nll)} windows, {self.tokens} tokens, {self.arithmetic}, "
            f"{self.cpu_s_per_1k_tokens:.2f} CPU-s/1k tokens), sparsity {self.realised_sparsity:.4f}"
        )


class Meter:
    """Measures recipes of one checkpoint on fixed windows [n, length]; the quantised head is made once."""

    def __init__(self, checkpoint: Checkpoint, windows: np.ndarray, seed: int = 0, domain: str = "") -> None:
        self.checkpoint, self.windows, self.seed, self.domain = checkpoint, windows, seed, domain
        self.windows_sha256 = windows_sha256(windows)
        self._heads: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _head(self, bits: int | None) -> tuple[np.ndarray, np.ndarray] | None:
        if bits and bits not in self._heads:
            self._heads[bits] = quantise_rows(self.checkpoint.head, bits)
        return self._heads[bits] if bits else None

    def measure(
        self,
        name: str,
        weights: Weights,
        sparsity: float,
        arithmetic: Arithmetics = "w8a8kv8",
        calibration_sha256: str = "",
        edit: Edit | None = None,
    ) -> Measurement:
        """Measure any (layer, matrix type) -> weight function under the label ``name``; ``arithmetic`` and ``edit``
        as ``token_nll`` takes them."""
        arithmetics = per_layer(arithmetic, self.checkpoint.config.layers)
        head = self._head(arithmetics[-1].head_bits)
        started = time.process_time()
        nll = token_nll(self.checkpoint, self.windows, weights, arithmetics, head=head, edit=edit)
        return Measurement(
            recipe=name,
            arithmetic=label(arithmetics),
            nll=float(nll.mean()),
            window_nll=tuple(float(x) for x in nll.mean(axis=1)),
            tokens=int(nll.size),
            realised_sparsity=float(sparsity),
            cpu_s=time.process_time() - started,
            seed=self.seed,
            model_sha256=self.checkpoint.sha256,
            windows_sha256=self.windows_sha256,
            calibration_sha256=calibration_sha256,
            domain=self.domain,
        )

    def recipe(self, recipe: Recipe, store: VariantStore, arithmetic: Arithmetics = "w8a8kv8") -> Measurement:
        """Measure a recipe of stored variants."""
        for variant in set(recipe.variants):
            store.ensure(variant)
        calibration = "" if recipe == Recipe.uniform("dense") else store.calibration.windows_sha256
        return self.measure(recipe.key, store.weights(recipe), store.sparsity(recipe), arithmetic, calibration)


def measure(
    checkpoint: Checkpoint,
    recipe: Recipe,
    windows: np.ndarray,
    store: VariantStore,
    arithmetic: Arithmetics = "w8a8kv8",
) -> Measurement:
    """Perplexity of ``recipe`` on ``windows`` [n, length], with the masks and weights of ``store``."""
    return Meter(checkpoint, windows).recipe(recipe, store, arithmetic)


def measure_domains(
    recipe: Recipe, store: VariantStore, arithmetic: Arithmetics = "w8a8kv8", seed: int = 0
) -> dict[str, tuple[Measurement, Measurement]]:
    """(dense, ``recipe``) measured on each of ``DOMAINS``."""
    found = {}
    for domain in DOMAINS:
        meter = Meter(store.checkpoint, domain_windows(domain), seed, domain)
        found[domain] = (
            meter.recipe(Recipe.uniform("dense"), store, arithmetic),
            meter.recipe(recipe, store, arithmetic),
        )
    return found


def main(arguments: Sequence[str] | None = None, store: Callable[[], VariantStore] = default_store) -> None:
    """Measure the dense model and a recipe on both domains and print them with their intervals."""
    parser = argparse.ArgumentParser(prog="python -m workloads.perplexity", description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="wanda_50", help="like wanda_50 or attn_q=wanda_50,ffn=ffn_channels_10")
    parser.add_argument(
        "--arithmetic", default="w8a8kv8", help="float, w8a8kv8, wxa8kv4, ... or one a layer: w8a8kv8*10,w8a4kv4*20"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    given = parser.parse_args(arguments)
    try:
        recipe = Recipe.parse(given.recipe)
        found = measure_domains(recipe, store(), given.arithmetic, given.seed)
    except InputError as error:
        parser.error(str(error))
    for dense, pruned in found.values():
        print(dense)
        print(pruned)
        change, low, high = pruned.nll_change(dense)
        print(f"  ΔNLL {change:+.4f} [{low:+.4f}, {high:+.4f}] nats")


if __name__ == "__main__":
    main()
