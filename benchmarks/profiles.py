"""Counting packed masks beside reading them, and profiling all masks of a model.

    python benchmarks/profiles.py            # prints the tables
    python benchmarks/profiles.py --write    # and puts them into docs/benchmarks.md

Each kernel runs in turn with a NumPy sum over the same bytes, matrix by matrix and far more than caches hold; a ratio
is the median of the pairs' ratios, so that other load on the machine falls on both. The masks of the second table are
the real ones (``[llm]``; pruned the first time, which takes a minute). About a minute on two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from page import duration, number, surroundings, table, write

from sim.sparsity import packed_blocks, packing
from sim.sparsity.profile import ProfileTable, profile, profiles
from workloads.bundled import profile_tables
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
from workloads.variants import default_store

ROWS, COLUMNS = 11008, 4096
KERNELS: dict[str, Callable[[packing.Packed], Any]] = {
    "all bits": lambda packed: packing.total(packed.words),
    "bits of every row": lambda packed: packing.row_counts(packed.words),
    "bits of every column": packing.column_counts,
    "tiles of 16 along rows": packing.tiles_along,
    "tiles of 16 down columns": packing.tiles_down,
    "n:m fit (groups of 4 to 32)": packed_blocks.group_maxima,
    "empty runs of 4 to 32": packed_blocks.empty_runs,
    "empty blocks of 2 to 64": packed_blocks.empty_blocks,
}


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def each(call: Callable[[Any], Any], over: list[Any]) -> None:
    """Call for one after another; what comes back is let go."""
    for one in over:
        call(one)


def counting(mebibytes: int, runs: int) -> str:
    """Table of the kernels on one thread: GB/s of packed bits, NumPy's beside it, and how many times longer."""
    rng = np.random.default_rng(0)
    shape = (ROWS, COLUMNS // packing.WORD)
    many = [rng.integers(0, 2**64, shape, dtype=np.uint64) for _ in range((mebibytes << 20) // (ROWS * COLUMNS // 8))]
    packed = [packing.Packed(words, COLUMNS) for words in many]
    size = sum(words.nbytes for words in many)
    lines = []
    for name, kernel in KERNELS.items():
        kernel(packed[0])
        pairs = np.array(
            [(seconds(lambda k=kernel: each(k, packed)), seconds(lambda: each(np.sum, many))) for _ in range(runs)]
        )
        ours, plain = np.median(pairs, axis=0)
        ratio = np.median(pairs[:, 0] / pairs[:, 1])
        lines.append([name, number(size / ours / 1e9), number(size / plain / 1e9), f"{ratio:.1f}"])
    return table([f"{len(many)} masks of {ROWS} × {COLUMNS}", "GB/s", "NumPy sum GB/s", "times as long"], lines)


def grid(variant: str, runs: int) -> str:
    """Table of profiling every mask of SmolLM2-135M, from bools and from the bits that the cache holds."""
    store, layers = default_store(), open_checkpoint().config.layers
    masks = [store.mask(variant, layer, t) for layer in range(layers) for t in MATRIX_TYPES]
    bits = [packing.pack(mask) for mask in masks]
    found = ProfileTable.from_profiles(profiles(masks))
    bundled = profile_tables("smollm2_135m").index(variant)
    for field in ProfileTable.__dataclass_fields__:
        if not np.array_equal(getattr(found, field), getattr(bundled, field)):
            raise SystemExit(f"{field} of {variant} differs from the bundled profiles")
    lines = []
    for name, call in (
        ("one thread, bools", lambda: [profile(mask) for mask in masks]),
        ("one thread, bits", lambda: [profile(mask) for mask in bits]),
        (f"{os.cpu_count()} threads, bits", lambda: profiles(bits)),
    ):
        wall, cpu = [], []
        for _ in range(runs):
            began = time.process_time()
            wall.append(seconds(call))
            cpu.append(time.process_time() - began)
        lines.append([name, duration(float(np.median(wall))), duration(float(np.median(cpu)))])
    weights = sum(mask.size for mask in masks)
    title = f"{len(masks)} masks of {variant} ({weights / 1e6:.0f} M weights), whole grid"
    return table([title, "wall", "processor time"], lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="refresh docs/benchmarks.md")
    parser.add_argument("--mebibytes", type=int, default=256, help="packed bits to count")
    parser.add_argument("--runs", type=int, default=15, help="runs of each kernel")
    parser.add_argument("--variant", default="wanda_50", help="whose masks to profile")
    options = parser.parse_args()
    where = surroundings(["sparchitect", "numba", "numpy"])
    page_text = "\n".join(
        [
            f"Measured {where} Medians of {options.runs} runs.",
            "",
            counting(options.mebibytes, options.runs),
            "",
            grid(options.variant, max(options.runs // 3, 1)),
            "",
            "The profiles were equal to the bundled ones in every number.",
        ]
    )
    print(page_text)
    if options.write:
        write("profiles", page_text)
