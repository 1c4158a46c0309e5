"""A simulation's table, one row an op, and what it says of how its numbers were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.counts import COLUMNS, named
from sim.designs import KINDS, ORIENTATIONS, Designs
from sim.explain import in_one_line
from sim.mapping import T_K, T_N, TIER_COLUMNS
from sim.search import M_NEST
from sim.sparse_columns import S_CUT_PASS, S_PASS
from sim.sparse_ops import GUESSED
from sim.trace import Trace

if TYPE_CHECKING:
    from sim.analytic import Detail


def op_table(designs: Designs, trace: Trace, columns: NDArray[np.float64], detail: Detail) -> pd.DataFrame:
    """One row an op: what it is, its cycles and causes and actions (``columns`` [ops, N_COLUMNS]), its mapping."""
    ops, states = trace.ops, detail.states
    table = ops[["name", "kind", "matrix_type", "layer", "batch", "m", "n", "k", "repeats"]].reset_index(drop=True)
    shown = named(COLUMNS, designs.levels)
    numbers = pd.DataFrame({new: columns[:, COLUMNS.index(old)] for old, new in shown.items()})
    tiers = int(designs["tiers"][0])
    texts = [
        "streamed" if kind == "vector" else in_one_line(row, sizes, tiers)
        for kind, row, sizes in zip(ops["kind"], detail.mappings, ops[["m", "n", "k"]].to_numpy(), strict=True)
    ]
    extra = {
        "mapping": texts,
        "input_resident": (states & 1) > 0,
        "output_resident": states > 1,
        "weights_are": weights_are(designs, trace, detail),
    }
    return pd.concat([table, numbers, pd.DataFrame(extra)], axis=1)


def weights_are(designs: Designs, trace: Trace, detail: Detail) -> NDArray[np.object_]:
    """How each op's lane cycles were found; a mapping that cuts the lanes' walk bounds a FIFO or full barrier from
    above."""
    labels = detail.labels.copy()
    if designs["array.kind"][0] == KINDS["lanes"]:
        inputs_walked = designs["sparsity.orientation"][0] == ORIENTATIONS["output"]
        walked, column = ("k", T_K) if inputs_walked else ("n", T_N)
        innermost = M_NEST + (int(designs["tiers"][0]) - 1) * TIER_COLUMNS
        cut = detail.mappings[:, innermost + column] < trace.ops[walked].to_numpy()
        bound = (
            cut
            & (detail.sparse[:, S_CUT_PASS] != detail.sparse[:, S_PASS])
            & ~np.isin(labels, ("dense", "dense" + GUESSED))
        )
        labels[bound] = labels[bound] + ", upper bound where tiles cut it"
    return labels


def sparse_notes(detail: Detail, trace: Trace) -> list[str]:
    """Which lane cycles and stored bytes are estimates, and which masks were drawn."""
    labels = sorted({str(label) for label in detail.labels})
    found = sorted({label.removesuffix(GUESSED) for label in labels if label.startswith("estimate")})
    drawn = sorted({str(s) for s in trace.ops["sparsity_label"] if str(s) not in ("dense", "mask")})
    guessed = [GUESSED.removeprefix("; ")] if any(label.endswith(GUESSED) for label in labels) else []
    return [f"lane cycles: {f}" for f in found] + [f"weights: {d}" for d in drawn + guessed]
