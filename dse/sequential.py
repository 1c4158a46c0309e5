"""The way it is done today: prune first, design second. A baseline for co-exploration at equal evaluations.

Stage 1 searches pruning on the dense machine as its file has it. Stage 2 searches machines for the pruning that was
fastest within the perplexity limit; or, a stronger baseline, for several prunings that span stage 1's front, sharing
the evaluations. Every evaluation of both stages counts, and every evaluated point may enter the final front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from accel_models import accelerator
from dse.explore import anchors, front, front_volume, reference_point
from dse.objectives import Objectives, admissible
from dse.pareto import representatives
from dse.space import Space
from dse.study import OBJECTIVES, in_memory, optimise
from workloads.recipe import Recipe

DENSE_MACHINE = "dense_ws"


def sequential(space: Space, objectives: Objectives, trials: int, seed: int, carried: int = 1) -> pd.DataFrame:
    """All trials of both stages (half of ``trials`` each), with a ``stage`` column; ``carried`` prunings reach stage
    2."""
    base = accelerator(DENSE_MACHINE)

    def on_dense(params: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        return objectives.of([base] * len(params), [space.recipe(p) for p in params])

    first = optimise(in_memory(seed), space.distributions(hardware=False), on_dense, trials // 2)
    stages = [first.assign(stage=1)]
    chosen = _carry(first, carried)
    left = trials - trials // 2
    for i, recipe in enumerate(chosen):
        share = left // len(chosen) + (i < left % len(chosen))

        def with_recipe(params: Sequence[Mapping[str, Any]], recipe: Recipe = recipe) -> pd.DataFrame:
            return objectives.of([space.machine(p) for p in params], [recipe] * len(params))

        second = optimise(in_memory(seed + i), space.distributions(prune=False), with_recipe, share)
        stages.append(second.assign(stage=2))
    return pd.concat(stages, ignore_index=True)


def _carry(first: pd.DataFrame, count: int) -> list[Recipe]:
    """The fastest admissible recipe; with ``count`` > 1, recipes that span stage 1's front."""
    good = first[admissible(first)] if admissible(first).any() else first
    if count == 1:
        return [Recipe.parse(good.loc[good["latency_s"].idxmin(), "recipe"])]
    best = front(good)
    spread = representatives(np.log10(best[list(OBJECTIVES)].to_numpy(dtype=np.float64)), count)
    return [Recipe.parse(key) for key in best["recipe"].iloc[spread]]


def compare(space: Space, trials: int, seeds: Sequence[int]) -> pd.DataFrame:
    """One row a seed: hypervolume (log10 objectives, the space's reference point) of each way at ``trials``
    evaluations; ``sequential_5`` carries five prunings to stage 2."""
    objectives = Objectives(space)
    reference = reference_point(space, objectives)
    rows = []
    for seed in seeds:
        together = optimise(in_memory(seed), space.distributions(), objectives, trials, anchors(space))
        rows.append(
            {
                "seed": seed,
                "evaluations": trials,
                "co_exploration": front_volume(together, reference),
                "sequential": front_volume(sequential(space, objectives, trials, seed), reference),
                "sequential_5": front_volume(sequential(space, objectives, trials, seed, carried=5), reference),
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(
        ratio=table["co_exploration"] / table["sequential"], ratio_5=table["co_exploration"] / table["sequential_5"]
    )
