"""Measure what single layers cost: ``python -m workloads.quality.measure_layers`` (about 20 CPU-minutes, resumable).

Three files of the bundle:

- ``layer_output_error.npz``: squared output error of every variant relative to the output, ‖X (W - W')ᵀ‖² / ‖X Wᵀ‖² on
  the calibration tokens, float32 [variants, layers, 7].
- ``layer_alone.csv``: ΔNLL with one matrix of one layer pruned as one of ``PROBED``, the rest dense; float arithmetic,
  4 x 256 evaluation tokens; layers before the pruned one run once.
- ``layered.csv``: plans that differ from layer to layer, measured like the bundle's mixes and with the same columns.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from workloads.arithmetic import FLOAT
from workloads.calibration import bundled_windows, windows_sha256
from workloads.checkpoint import MATRIX_TYPES, Checkpoint
from workloads.fetch import cache_dir
from workloads.measure_bundle import COLUMNS, Parts, Task, parts, random_mix, row, say
from workloads.perplexity import Meter
from workloads.pruning.hessian import output_error
from workloads.quality.layers import LAYER_ALONE, OUTPUT_ERROR
from workloads.quality.plan import Plan
from workloads.quality.table import LAYERED
from workloads.recipe import DENSE, VARIANTS, Recipe
from workloads.transformer import head_nll, layer_forward, rms_norm, rope_tables
from workloads.variants import VariantStore, default_store

SEED = 2027
PLANS = 40
#: Variant -> layers where it is measured alone: everywhere, and by magnitude where outliers live: in the outer layers
#: and in layer 11, whose ffn_down makes the massive activation of the first token, which dominates its output error.
PROBED = {"wanda_70": range(30), "magnitude_50": (0, 1, 2, 11, 24, 25, 26, 27, 28, 29)}
#: Rows and length of the evaluation windows that single layers are measured on.
PROBE_WINDOWS = ([0, 2, 4, 5], 256)
ALONE_COLUMNS = (
    "layer", "matrix_type", "variant", "arithmetic", "delta_nll", "tokens", "cpu_s",
    "model_sha256", "windows_sha256", "calibration_sha256",
)  # fmt: skip


def random_plan(rng: np.random.Generator, layers: int) -> Plan:
    """Two to six bands of layers, or (one in five) every layer, each pruned as its own random mix."""
    bands = layers if rng.random() < 0.2 else int(rng.integers(2, 7))
    cuts = np.sort(rng.choice(np.arange(1, layers), bands - 1, replace=False))
    sizes = np.diff([0, *cuts, layers])
    return Plan.of(recipe for size in sizes for recipe in [random_mix(rng)] * int(size))


def plans(layers: int = 30) -> list[Plan]:
    """The bundle's plans, the same every time."""
    rng = np.random.default_rng(SEED)
    return [random_plan(rng, layers) for _ in range(PLANS)]


def sparsity(plan: Plan, store: VariantStore) -> float:
    """Share of all prunable weights that ``plan`` removes, counted on the masks."""
    kept = total = 0
    for layer, recipe in enumerate(plan.recipes):
        for matrix_type in MATRIX_TYPES:
            mask = store.mask(recipe[matrix_type], layer, matrix_type)
            kept, total = kept + int(mask.sum()), total + mask.size
    return 1 - kept / total


def relative_output_error(store: VariantStore) -> np.ndarray:
    """float32 [variants, layers, 7]; FFN channels count where their product ends, in ``ffn_down``."""
    layers = store.checkpoint.config.layers
    found = np.zeros((len(VARIANTS), layers, len(MATRIX_TYPES)), np.float32)
    for layer in range(layers):
        for column, matrix_type in enumerate(MATRIX_TYPES):
            dense = store.checkpoint.matrix(layer, matrix_type)
            hessian = np.asarray(store.calibration.hessian(layer, matrix_type))
            whole = output_error(dense, hessian)
            for code, variant in enumerate(VARIANTS):
                channels = variant.startswith("ffn_channels")
                if variant == DENSE or (channels and matrix_type != "ffn_down"):
                    continue
                pruned = dense * store.mask(variant, layer, matrix_type) if channels else None
                weight = store.weight(variant, layer, matrix_type) if pruned is None else pruned
                found[code, layer, column] = output_error(dense - weight, hessian) / whole
        say(f"output errors of layer {layer + 1}/{layers}")
    return found


class LayerProbe:
    """ΔNLL of single pruned matrices on windows [n, length], float arithmetic; layers must be asked for in order."""

    def __init__(self, checkpoint: Checkpoint, windows: np.ndarray) -> None:
        c = checkpoint.config
        self.checkpoint, self.windows, self.layer = checkpoint, windows, 0
        self._tables = rope_tables(windows.shape[1], c.head_dim, c.rope_theta, checkpoint.rope_divisors)
        self._before = checkpoint.embedding[windows.astype(np.int64)]
        self.dense_nll = self._finish(self._before.copy(), 0)

    def delta_nll(self, layer: int, matrix_type: str, weight: np.ndarray) -> float:
        """NLL with ``weight`` in place of one matrix, minus the dense NLL, in nats."""
        while self.layer < layer:
            self._step(self._before, self.layer)
            self.layer += 1
        hidden = self._before.copy()
        layer_forward(
            self.checkpoint,
            layer,
            hidden,
            lambda i, t: weight if t == matrix_type else self.checkpoint.matrix(i, t),
            FLOAT,
            self._tables,
            None,
        )
        return self._finish(hidden, layer + 1) - self.dense_nll

    def _step(self, hidden: np.ndarray, layer: int) -> None:
        layer_forward(self.checkpoint, layer, hidden, self.checkpoint.matrix, FLOAT, self._tables, None)

    def _finish(self, hidden: np.ndarray, layer: int) -> float:
        for i in range(layer, self.checkpoint.config.layers):
            self._step(hidden, i)
        rows = [
            head_nll(
                rms_norm(h[:-1], self.checkpoint.output_norm, self.checkpoint.config.norm_eps),
                ids[1:].astype(np.int64),
                self.checkpoint.head,
                None,
            )
            for h, ids in zip(hidden, self.windows, strict=True)
        ]
        return float(np.mean(rows))


def probe_windows() -> np.ndarray:
    """The evaluation tokens that single layers are measured on, [4, 256]."""
    rows, length = PROBE_WINDOWS
    return bundled_windows()["evaluation"][rows, :length]


def measure_alone(store: VariantStore, target: Path = LAYER_ALONE) -> None:
    """Measure every (layer, matrix type) of ``PROBED`` that ``target`` does not hold yet, and write it."""
    rows = []
    if target.is_file():
        with open(target, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    for variant, layers in PROBED.items():
        if not any(row["variant"] == variant for row in rows):
            rows += alone(store, variant, layers)
    with open(target, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ALONE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def alone(store: VariantStore, variant: str, layers: Iterable[int]) -> list[dict[str, object]]:
    """Rows of ``layer_alone.csv`` for ``variant`` in ``layers``, which rise."""
    windows = probe_windows()
    probe = LayerProbe(store.checkpoint, windows)
    tokens = windows.shape[0] * (windows.shape[1] - 1)
    sums = store.checkpoint.sha256, windows_sha256(windows), store.calibration.windows_sha256
    store.ensure(variant)
    rows = []
    for layer in layers:
        for matrix_type in MATRIX_TYPES:
            started = time.process_time()
            delta = probe.delta_nll(layer, matrix_type, store.weight(variant, layer, matrix_type))
            seconds = f"{time.process_time() - started:.2f}"
            values = (layer, matrix_type, variant, "float", f"{delta:.6f}", tokens, seconds, *sums)
            rows.append(dict(zip(ALONE_COLUMNS, values, strict=True)))
        say(f"{variant} in layer {layer} alone, ΔNLL: {[row['delta_nll'] for row in rows[-7:]]}")
    return rows


def layered_parts() -> Parts:
    """Finished rows of plans, beside the bundle's own."""
    return Parts(cache_dir("bundle", f"{parts().folder.name}_layered"))


def measure_plans(store: VariantStore, count: int) -> None:
    """Measure the first ``count`` plans that are not finished yet."""
    shared = layered_parts()
    meter = Meter(store.checkpoint, bundled_windows()["evaluation"], SEED)
    for number, plan in enumerate(plans(store.checkpoint.config.layers)[:count]):
        with shared.claim(f"plan-{number:03d}") as mine:
            if not mine or (plan.key, "w8a8kv8") in shared.rows():
                continue
            measured = meter.measure(
                plan.key,
                lambda layer, t, plan=plan: store.weight(plan.recipes[layer][t], layer, t),
                sparsity(plan, store),
                calibration_sha256=store.calibration.windows_sha256,
            )
            shared.append(row(Task("layered", Recipe.uniform(DENSE)), measured) | {"recipe": ""})
            say(f"{number + 1}/{count} {measured}")


def merge_plans(target: Path = LAYERED) -> None:
    """Write the finished plans to ``target`` in their order."""
    found = layered_parts().rows()
    ready = [found[plan.key, "w8a8kv8"] for plan in plans() if (plan.key, "w8a8kv8") in found]
    with open(target, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ready)
    say(f"{target}: {len(ready)} of {PLANS} plans")


def main() -> None:
    """Measure what is missing; ``--plans N`` stops after N plans."""
    parser = argparse.ArgumentParser(prog="python -m workloads.quality.measure_layers")
    parser.add_argument("--plans", type=int, default=PLANS, help="how many plans to measure")
    count = parser.parse_args().plans
    store = default_store()
    measure_alone(store)
    if not OUTPUT_ERROR.is_file():
        np.savez_compressed(OUTPUT_ERROR, relative_error=relative_output_error(store), variants=np.array(VARIANTS))
    measure_plans(store, count)
    merge_plans()


if __name__ == "__main__":
    main()
