"""The dual-side sparse tensor core: latency against the densities of both operands, relative to dense."""

from __future__ import annotations

import pandas as pd

from sim.compute.dual_sided import DualSided
from sim.sparsity.density import Hypergeometric
from validation.sparseloop.data import table

SPARSELOOP_MEAN_ERROR_PERCENT = 7.6
"""Mean over the chart, as stated for Sparseloop (Wu et al., MICRO 2022); its single points are not in the rows."""


def compare() -> pd.DataFrame:
    """A row a point: latency over the dense one in the chart, of whole granules of nonzeros, and as the product of the
    densities; errors in per cent. The dense point is the unit, so it has no error."""
    rows = table("dstc_latency_vs_density")
    dense = rows[(rows.A_density == 1) & (rows.B_density == 1)].iloc[0]
    array = DualSided()

    def latency(row) -> float:
        inputs = Hypergeometric((int(row.M), int(row.K)), row.A_density)
        return array.cycles(inputs, Hypergeometric((int(row.N), int(row.K)), row.B_density))

    found = rows[["A_density", "B_density"]].assign(
        chart=rows.latency_units_fig21 / dense.latency_units_fig21,
        ours=[latency(row) / latency(dense) for row in rows.itertuples()],
        product=rows.A_density * rows.B_density,
    )
    for who in ("ours", "product"):
        found[f"{who}_error_percent"] = 100.0 * (found[who] / found.chart - 1.0)
    return found
