"""What each assignment and stealing leave of the lanes' imbalance on real masks: cycles over those of even lanes.

    python -m validation.lane_balance

needs the real weights (``[llm]``). A row a method, orientation and way of waiting: masks of five layers of SmolLM2-135M
at 50 %, 16 lanes; even lanes take nonzeros / lanes and the groups' restarts
(:func:`sim.sparsity.estimate.from_density`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.sparsity import estimate, lanes
from sim.sparsity.lane_order import ALL
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import METHODS
from workloads.variants import default_store

LANES, LEVEL, LAYERS = 16, 50, (0, 7, 15, 23, 29)
WAYS = {
    "barrier 64": {"barrier_depth": 64},
    "barrier full": {"barrier_depth": "full"},
    "FIFO 2 x 64": {"barrier_depth": 64, "fifo_depth": 2},
    "stealing 64": {"barrier_depth": 64, "stealing": "group"},
}


def real_masks() -> dict[str, list[NDArray[np.bool_]]]:
    """Method to its masks of :data:`LAYERS`."""
    store = default_store()
    return {
        method: [store.mask(f"{method}_{LEVEL}", layer, t) for layer in LAYERS for t in MATRIX_TYPES]
        for method in METHODS
    }


def table(chosen: Mapping[str, Sequence[NDArray[np.bool_]]] | None = None) -> pd.DataFrame:
    """Columns: method, lanes own, waiting, and a ratio an assignment; of :func:`real_masks` unless others are given."""
    by_method = real_masks() if chosen is None else chosen
    rows = []
    for (method, masks), orientation in itertools.product(by_method.items(), lanes.ORIENTATIONS):
        for way, settings in WAYS.items():
            restart = 2.0 if "fifo_depth" in settings else 1.0
            owners = [lanes.owners_first(mask, orientation).shape[0] for mask in masks]
            even = sum(
                float(estimate.from_density(mask.sum(), n, LANES, restart))
                for mask, n in zip(masks, owners, strict=True)
            )
            row: dict[str, object] = {"method": method, "lanes own": f"{orientation}s", "waiting": way}
            for assignment in ALL:
                walked = sum(
                    lanes.walk(mask, LANES, orientation=orientation, assignment=assignment, **settings)
                    for mask in masks
                )
                row[assignment] = round(walked / even, 3)
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(table().to_string(index=False))
