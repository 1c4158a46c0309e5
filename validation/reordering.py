"""What reordering gains on real masks, and what is left of it when it is paid for: ``python -m validation.reordering``.

Needs the real weights (``[llm]``; fetched by pip the first time), because masks are pruned again. Three tables, all of
them or those named on the command line:

- ``lanes``: lane cycles over nonzeros / lanes (imbalance and restarts) of all 210 matrices of SmolLM2-135M, before and
  after :mod:`sim.sparsity.reorder.balance`, with orders that neighbours share and with orders of their own;
- ``tiles``: empty tiles and violated 2:4 groups of four matrices of a layer, before and after, and the same for masks
  with as many nonzeros in random places (what chance and search give without structure);
- ``speed``: speed-up of ten layers through ``simulate``, run-time cost included; orders shared by neighbours are free,
  own ones are paid for by vector ops or by index tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accel_models import accelerator
from sim.simulate import simulate
from sim.sparsity import lanes
from sim.sparsity.reorder.arrangement import alone
from sim.sparsity.reorder.cluster import cluster
from sim.sparsity.reorder.cost import RUNTIMES
from sim.sparsity.reorder.pattern import fit
from sim.sparsity.reorder.transform import applied, arrange
from sim.trace import Sparsity, Trace
from workloads.llm import llm
from workloads.recipe import METHODS
from workloads.variants import default_store

LEVELS = (50, 70)
LANES = 16
DEPTHS: tuple[int | str, ...] = (64, "full")
TILES = ((16, 16), (4, 4), (1, 8))
TILE_LAYER, TILE_TYPES = 15, ("attn_q", "attn_v", "ffn_up", "ffn_down")
PHASES = {"prefill": {"tokens": 128}, "decode": {"context": 512}}
SPEED_RUNS = (
    ("magnitude_50", "prefill"),
    ("wanda_50", "prefill"),
    ("sparsegpt_50", "prefill"),
    ("wanda_70", "prefill"),
    ("wanda_50", "decode"),
)
SPEED_LAYERS = 10
MACHINES = {"32 vectors": {}, "8 vectors": {"array.cols": 8}}
Row = dict[str, Any]


def variants() -> list[str]:
    return [f"{method}_{level}" for level in LEVELS for method in METHODS]


@lru_cache(maxsize=2)
def trace_of(variant: str, phase: str = "prefill", layers: int | None = None) -> Trace:
    """SmolLM2-135M, all of it or its first layers, with the masks of a pruned variant."""
    store = default_store()
    return llm(
        "smollm2_135m",
        phase=phase,
        layers=layers,
        sparsity=lambda layer, t: Sparsity(mask=np.ascontiguousarray(store.mask(variant, layer, t))),
        **PHASES[phase],
    )


def mask_of(variant: str, matrix_type: str) -> NDArray[np.bool_]:
    """A matrix of layer :data:`TILE_LAYER`."""
    return np.ascontiguousarray(default_store().mask(variant, TILE_LAYER, matrix_type))


def imbalance(traces: Callable[[str], Trace] = trace_of, names: Sequence[str] | None = None) -> Iterator[Row]:
    """A (variant, orientation, depth): lane cycles over nonzeros / lanes; of all variants unless ``names`` says."""
    for variant in variants() if names is None else names:
        trace = traces(variant)
        assert trace.masks is not None
        even = sum(int(mask.sum()) for mask in trace.masks) / LANES
        for orientation in lanes.ORIENTATIONS:
            for depth in DEPTHS:
                design = {"lanes": LANES, "barrier_depth": depth, "orientation": orientation}
                shared, own = (arrange(trace, "balance", **design, paid=paid) for paid in ((), "all"))
                found = {"before": shared.before / even, "shared": shared.after / even, "own": own.after / even}
                yield {"masks": variant, "lanes own": f"{orientation}s", "barrier": depth} | found


def gathered(
    masks_of: Callable[[str, str], NDArray[np.bool_]] = mask_of, names: Sequence[str] | None = None
) -> Iterator[Row]:
    """A (variant, tile): empty tiles (violated groups for 2:4) in % of all, every matrix in orders of its own."""
    for variant in variants() if names is None else names:
        masks = [masks_of(variant, t) for t in TILE_TYPES]
        mixed = [shuffled(mask, seed) for seed, mask in enumerate(masks)]
        for tile in TILES:
            total = sum(-(-mask.shape[0] // tile[0]) * -(-mask.shape[1] // tile[1]) for mask in masks)
            made = [sums(cluster(alone([mask]), tile) for mask in each) for each in (masks, mixed)]
            yield {"masks": variant, "what": f"empty {tile[0]}x{tile[1]}"} | percent(*made, total)
        total = sum(mask.shape[0] * -(-mask.shape[1] // 4) for mask in masks)
        made = [sums(fit(alone([mask]), 2, 4) for mask in each) for each in (masks, mixed)]
        yield {"masks": variant, "what": "violate 2:4"} | percent(*made, total)


def sums(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """(before, after) of several matrices."""
    before, after = zip(*pairs, strict=True)
    return sum(before), sum(after)


def percent(real: tuple[float, float], mixed: tuple[float, float], total: int) -> Row:
    names = ("before", "after", "shuffled before", "shuffled after")
    return {name: 100 * value / total for name, value in zip(names, (*real, *mixed), strict=True)}


def shuffled(mask: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """As many nonzeros, anywhere."""
    return np.random.default_rng(seed).permutation(mask.ravel()).reshape(mask.shape)


def speed(
    traces: Callable[[str, str, int], Trace] = trace_of, runs: Sequence[tuple[str, str]] = SPEED_RUNS
) -> Iterator[Row]:
    """A (variant, phase, orientation, machine): cycles before over cycles after, a column a mode."""
    for variant, phase in runs:
        trace = traces(variant, phase, SPEED_LAYERS)
        for orientation in lanes.ORIENTATIONS:
            design = {"lanes": LANES, "barrier_depth": DEPTHS[0], "orientation": orientation}
            shared, own = (arrange(trace, "balance", **design, paid=paid) for paid in ((), "all"))
            made = {"shared": applied(trace, shared)}
            made |= {f"own, {runtime}": applied(trace, own, runtime) for runtime in RUNTIMES}
            for label, fields in MACHINES.items():
                base = {"array.rows": LANES, "sparsity.orientation": orientation, "sparsity.fifo_depth": 0}
                machine = accelerator("sparse_lanes").override(base | fields)
                before = simulate(machine, trace)
                gains = {mode: before.cycles / simulate(machine, after).cycles for mode, after in made.items()}
                waiting = before.stalls["imbalance"] / before.cycles
                about = {"masks": variant, "phase": phase, "lanes own": f"{orientation}s", "machine": label}
                yield about | {"waiting": waiting} | gains


TABLES = {"lanes": imbalance, "tiles": gathered, "speed": speed}


def main(names: list[str]) -> None:
    """Print the tables asked for, or all; rows go to stderr as they come."""
    for name in names or list(TABLES):
        rows = []
        for row in TABLES[name]():
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
        print(f"{name}\n{pd.DataFrame(rows).round(3).to_string(index=False)}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
