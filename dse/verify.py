"""Measure again, on the real model, what the quality model predicted for the reported Pareto points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from dse.space import Space
from sim.errors import InputError
from workloads.calibration import bundled_windows
from workloads.perplexity import Meter
from workloads.recipe import Recipe
from workloads.variants import default_store


def measured(front: pd.DataFrame, space: Space, progress: Callable[[str, int, int], None]) -> pd.DataFrame:
    """``front`` with ``perplexity_measured`` (NaN where not reported) and ``nll_error`` = predicted - measured, nats.

    Each distinct recipe of the reported points is pruned from the dense model and evaluated with the arithmetic that is
    priced (W8A8KV8) on the windows of the bundle.
    """
    if space.model != "smollm2_135m":
        raise InputError(f"--verify can load smollm2_135m only, not {space.model}")
    keys = list(dict.fromkeys(front.loc[front["reported"], "recipe"]))
    store = default_store()
    meter = Meter(store.checkpoint, bundled_windows()["evaluation"])
    found: dict[str, float] = {}
    for i, key in enumerate(keys):
        progress("measuring perplexity on the real model", i, len(keys))
        found[key] = meter.recipe(Recipe.parse(key), store).ppl
    progress("measuring perplexity on the real model", len(keys), len(keys))
    values = front["recipe"].map(found).where(front["reported"])
    return front.assign(perplexity_measured=values, nll_error=np.log(front["perplexity"]) - np.log(values))
