"""How many mappings an op can choose from on a machine: what the search covers, whether it bounds or evaluates them."""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd

from sim.analytic import slow_of
from sim.candidates import R_K, R_M, R_N, R_ORDER, R_SPLIT_K, R_SPLIT_M, R_SPLIT_N, build, grains
from sim.designs import D_TIERS, Designs, kernel_matrix
from sim.mapping import CUTS, EFFORTS, QUICK, QUICK_CUTS, inner_tile
from sim.sparse_ops import sparse_table
from sim.spec import MAX_TIERS, Accelerator
from sim.trace import Trace, position

_SIZES = [position(c) for c in ("m", "n", "k")]


@numba.njit(cache=True)
def _nests(sizes, splits, tiles, tiers, grain, effort):
    """Nests under each row of tier-1 ``tiles`` [rows, 3], split over arrays by ``splits`` [rows, 3]: walks a cut and a
    loop order at each inner tier, ``at`` [tier] the next cut to try."""
    found = np.zeros(len(tiles), dtype=np.int64)
    tile, trips = np.ones((MAX_TIERS + 1, 3)), np.ones((MAX_TIERS + 1, 3))
    at = np.zeros(MAX_TIERS + 2, dtype=np.int64)
    for row in range(len(tiles)):
        tile[1] = tiles[row]
        trips[1] = np.ceil(sizes / tiles[row])
        tier = 2
        at[2] = 0
        while tier >= 2:
            if tier > tiers:
                found[row] += 1
                tier -= 1
            elif at[tier] == len(CUTS):
                tier -= 1
            else:
                cut, allowed = CUTS[at[tier]], effort != QUICK or QUICK_CUTS[at[tier]]
                at[tier] += 1
                if allowed and _cut_to(sizes, splits[row], tile, trips, tier, cut, grain):
                    tier += 1
                    at[tier] = 0
    return found


@numba.njit(cache=True)
def _cut_to(sizes, split, tile, trips, tier, cut, grain):
    """Set a tier's tile and trips from its parent's; False where that is no candidate."""
    for axis in range(3):
        parent = np.ceil(tile[1, axis] / split[axis]) if tier == 2 else tile[tier - 1, axis]
        size = inner_tile(parent, cut[axis], trips[tier - 1, axis] <= 1.0, grain[axis])
        if size <= 0.0:
            return False
        tile[tier, axis] = size
        trips[tier, axis] = max(trips[tier - 1, axis], np.ceil(np.ceil(sizes[axis] / split[axis]) / size))
    return True


def count_candidates(machine: Accelerator | Designs, trace: Trace, effort: str = "full") -> pd.DataFrame:
    """One line a GEMM of the trace, for the first design: ``rows`` (tiling, loop order and split over arrays of tier 1
    that fit in some residency) and ``nests`` (those times every tiling and loop order of the inner tiers). Not counted
    apart: four residencies, and which operands pass by an inner level."""
    designs = machine if isinstance(machine, Designs) else Designs.from_machines([machine])
    table = sparse_table(designs, trace)
    design, ops = kernel_matrix(designs)[0], trace.numeric()
    lines = []
    for i in np.flatnonzero((trace.ops["kind"] == "gemm").to_numpy()):
        sparse = table.values[table.config[0]][i]
        _, rows, _ = build(design, ops[i], sparse, slow_of(design, ops[i]), EFFORTS[effort])
        rows = np.unique(rows[:, [R_M, R_N, R_K, R_ORDER, R_SPLIT_M, R_SPLIT_N, R_SPLIT_K]], axis=0)
        grain = grains(design, sparse)
        nests = _nests(
            ops[i][_SIZES],
            np.ascontiguousarray(rows[:, 4:]),
            np.ascontiguousarray(rows[:, :3]),
            int(design[D_TIERS]),
            np.array(grain, dtype=np.float64),
            EFFORTS[effort],
        )
        lines.append({"op": trace.ops["name"].iloc[i], "rows": len(rows), "nests": int(nests.sum())})
    return pd.DataFrame(lines)
