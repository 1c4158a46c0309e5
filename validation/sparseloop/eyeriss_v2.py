"""The processing element of Eyeriss v2 on sparse MobileNet: cycles from shapes and densities alone.

Assumed: inputs and weights are stored without zeros (offsets and runs, as in the reference); each nonzero
input meets the nonzero weights of its channel, one multiply-accumulate a cycle (the published element has two
multipliers, but the reference counts one product a cycle); no bubbles where a channel has no weight; loading and
draining are hidden. Channels are taken as equally dense: whether dense channels of the inputs meet dense channels of
the weights is not in a density.
"""

from __future__ import annotations

import pandas as pd

from sim.nest import Level, Loop, Nest
from sim.sparsity.density import Hypergeometric
from sim.sparsity.features import Counts, Features, Rank, Saf, count
from validation.sparseloop.data import table

TILE = 8  # input channels and output channels at a time


def element(positions: int, channels: int, features: int, input_density: float, weight_density: float) -> Counts:
    """Counts of one 1 x 1 layer: ``positions`` x ``channels`` inputs, ``features`` x ``channels`` weights."""
    nest = Nest(
        {"m": positions, "n": features, "k": channels},
        [Loop("n", TILE), Loop("k", TILE), Loop("m", 1), Loop("k", 1), Loop("n", 1)],
        [
            Level("backing"),
            Level("input_pad", ("inputs",), at=3),
            Level("weight_pad", ("weights",), at=3),
            Level("sum_pad", ("outputs",), at=3),
        ],
        latched=("inputs",),
    )
    sparse = Features(
        (
            Saf("skip", "weight_pad", "weights", "inputs"),
            Saf("skip", "sum_pad", "outputs", ("inputs", "weights")),
        ),
        {
            ("input_pad", "inputs"): (Rank("uop", "m", 1), Rank("rle", "k", TILE)),
            ("weight_pad", "weights"): (Rank("uop", "k", TILE), Rank("rle", "n", TILE)),
        },
        compute="skip",
    )
    densities = {
        "inputs": Hypergeometric((positions, channels), input_density),
        "weights": Hypergeometric((features, channels), weight_density),
    }
    return count(nest, densities, sparse)


def compare() -> pd.DataFrame:
    """The layers whose shape and densities are stated: cycles and errors in per cent."""
    rows = table("eyerissv2_pe_mobilenet_cycles").dropna(subset=["M"])
    ours = [
        element(int(r.E * r.F), int(r.C), int(r.M), r.input_density, r.weight_density).total_cycles
        for r in rows.itertuples()
    ]
    found = rows[["layer", "M", "C", "E", "F", "input_density", "weight_density"]].assign(
        truth=rows.truth_cycles_single_PE, sparseloop=rows.sparseloop_cycles, ours=ours
    )
    for who in ("sparseloop", "ours"):
        found[f"{who}_error_percent"] = 100.0 * (found[who] / found.truth - 1.0)
    return found.reset_index(drop=True)
