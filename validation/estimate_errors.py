"""How far estimates of lane cycles are from walks over real masks, and how long both take for large matrices.

    python -m validation.estimate_errors            # prints the table
    python -m validation.estimate_errors --write    # and stores it for the labels of reports
    python -m validation.estimate_errors --large    # 11008 x 4096 instead: seconds and errors beside a drawn mask

needs the real weights (``[llm]``): masks of SmolLM2-135M from three layers of every method at several sparsities. A row
of the table is an estimate, an orientation, an assignment and what lanes wait for, over masks and :data:`DESIGNS`.
n:m masks are left out: of them counts say more (output lanes are exact), which would flatter the medians.
``--large`` draws its masks itself: none that large is at hand.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.sparsity import estimate, lanes
from sim.sparsity.estimate_errors import COLUMNS, TABLE, waiting
from sim.sparsity.lane_order import ALL
from sim.sparsity.profile import Counts
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import METHODS
from workloads.variants import default_store

LEVELS = ("20", "50", "70")
LAYERS = (0, 10, 20)
DESIGNS = ((16, 16), (16, 64), (24, 48), (64, 256))
"""Lanes and barrier depth; FIFOs of 2 tiles."""
LARGE = (11008, 4096)


def settings_of(orientation: str, assignment: str) -> Iterator[dict[str, Any]]:
    """Lane designs of one orientation and assignment."""
    for (lane_count, depth), (fifo, stealing) in itertools.product(DESIGNS, ((0, "none"), (2, "none"), (0, "group"))):
        yield {
            "lanes": lane_count, "barrier_depth": depth, "orientation": orientation, "assignment": assignment,
            "fifo_depth": fifo, "stealing": stealing,
        }  # fmt: skip


def counts_of(mask: NDArray[np.bool_]) -> Counts:
    """Row and column counts of a mask."""
    return Counts(mask.sum(axis=1, dtype=np.int64), mask.sum(axis=0, dtype=np.int64))


def real_masks() -> Iterator[NDArray[np.bool_]]:
    """Every method at :data:`LEVELS`, all matrices of :data:`LAYERS`."""
    store = default_store()
    for method, level, layer, matrix_type in itertools.product(METHODS, LEVELS, LAYERS, MATRIX_TYPES):
        yield store.mask(f"{method}_{level}", layer, matrix_type)


def measure(chosen: Sequence[NDArray[np.bool_]] | None = None) -> pd.DataFrame:
    """The table: errors in per cent of the walk, absolute but for the mean; of :func:`real_masks` unless others are
    given."""
    masks = [(mask, counts_of(mask)) for mask in (real_masks() if chosen is None else chosen)]
    rows = []
    for orientation, assignment in itertools.product(lanes.ORIENTATIONS, ALL):
        found: dict[tuple[str, str], list[float]] = {}
        for settings in settings_of(orientation, assignment):
            for mask, counts in masks:
                walked = lanes.walk(mask, **settings)
                by_counts = estimate.from_counts(counts, **settings)
                owners = len(counts.rows if orientation == "output" else counts.columns)
                restart = 2.0 if settings["fifo_depth"] else 1.0
                by_density = float(estimate.from_density(counts.rows.sum(), owners, settings["lanes"], restart))
                for name, cycles in (("counts", by_counts), ("density", by_density)):
                    found.setdefault((name, waiting(settings)), []).append(100 * (cycles / walked - 1))
        for (name, waits), errors in found.items():
            size = np.abs(errors)
            numbers = (np.median(size), np.quantile(size, 0.9), size.max(), np.mean(errors))
            rows.append([name, orientation, assignment, waits, *(round(float(x), 2) for x in numbers), len(errors)])
    return pd.DataFrame(sorted(rows), columns=list(COLUMNS))


def write(found: pd.DataFrame) -> None:
    """Store the table beside the code that labels with it."""
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(found.itertuples(index=False))


def large_masks(shape: tuple[int, int] = LARGE, seed: int = 0) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Half of ``shape`` kept: the largest of each row (as Wanda) and the largest of all (as magnitude), of normal
    weights times log-normal row and column scales."""
    rng = np.random.default_rng(seed)
    score = np.abs(rng.standard_normal(shape, dtype=np.float32))
    score *= np.exp(rng.normal(0, 0.5, shape[1])).astype(np.float32)
    half = shape[1] // 2
    yield "half of each row", score >= np.partition(score, half, axis=1)[:, half, None]
    score *= np.exp(rng.normal(0, 0.35, shape[0])).astype(np.float32)[:, None]
    yield "half of all", score >= np.partition(score.ravel(), score.size // 2)[score.size // 2]


def measure_large(shape: tuple[int, int] = LARGE) -> pd.DataFrame:
    """Seconds and errors of the estimate and of a drawn mask, walked; both after one call that compiles."""
    designs = [
        {"lanes": 16, "barrier_depth": 64, "orientation": "output"},
        {"lanes": 64, "barrier_depth": 256, "orientation": "input"},
        {"lanes": 16, "barrier_depth": 16, "orientation": "input"},
        {"lanes": 16, "barrier_depth": 64, "orientation": "output", "fifo_depth": 2},
        {"lanes": 16, "barrier_depth": 64, "orientation": "output", "assignment": "balanced"},
        {"lanes": 16, "barrier_depth": 64, "orientation": "output", "stealing": "group"},
    ]
    rows = []
    for kept, mask in large_masks(shape):
        counts = counts_of(mask)
        for design in designs:
            estimate.from_counts(counts, **design)
            walked = lanes.walk(mask, **design)
            row = {"kept": kept, "design": " ".join(str(x) for x in design.values())}
            for name, method in (("counts", estimate.from_counts), ("drawn mask", estimate.from_drawn_mask)):
                began = time.perf_counter()
                cycles = method(counts, **design)
                row[f"{name} s"] = round(time.perf_counter() - began, 3)
                row[f"{name} error %"] = round(100 * (cycles / walked - 1), 2)
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store the table for the labels of reports")
    parser.add_argument("--large", action="store_true", help="time 11008 x 4096 beside a drawn mask instead")
    options = parser.parse_args()
    found = measure_large() if options.large else measure()
    print(found.to_string(index=False))
    if options.write and not options.large:
        write(found)


if __name__ == "__main__":
    main()
