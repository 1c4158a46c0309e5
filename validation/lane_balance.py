"""What each assignment and stealing leave of the lanes' imbalance on real masks: cycles over those of even lanes.

    python -m validation.lane_balance

needs the real weights (``[llm]``). A row a method, orientation and way of waiting: masks of five layers of SmolLM2-135M
at 50 %, 16 lanes; even lanes take nonzeros / lanes and the groups' restarts
(:func:`sim.sparsity.estimate.from_density`).
"""

from __future__ import annotations

import itertools

import pandas as pd

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


def table() -> pd.DataFrame:
    """Columns: method, lanes own, waiting, and a ratio an assignment."""
    store = default_store()
    rows = []
    for method, orientation in itertools.product(METHODS, lanes.ORIENTATIONS):
        masks = [store.mask(f"{method}_{LEVEL}", layer, t) for layer in LAYERS for t in MATRIX_TYPES]
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
