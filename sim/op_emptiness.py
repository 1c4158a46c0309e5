"""How often tiles of every op's operands are empty: from masks where the trace holds them, else from what is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.compute.dual_sided import DualSided
from sim.sparsity.density import Actual, Hypergeometric
from sim.sparsity.emptiness import NEVER, SIDES, empty_of, independent, of_mask, of_profile, spread
from sim.sparsity.packed_blocks import BLOCKS, RUNS
from sim.trace import Trace

COUNTED = "blocks counted"
GUESSED = "blocks estimated, zeros spread at random"


def emptiness(trace: Trace) -> NDArray[np.float64]:
    """[ops, 2 x SIDES x SIDES]: tables (:mod:`sim.sparsity.emptiness`) of inputs (m x k) and weights (n x k)."""
    found = np.empty((len(trace), 2, SIDES, SIDES))
    known: dict[tuple[float, ...], NDArray[np.float64]] = {}
    columns = ("m", "n", "k", "nonzeros", "profile", "input_density", "input_union")
    for i, row in enumerate(zip(*(trace.ops[name].to_numpy(dtype=np.float64) for name in columns), strict=True)):
        m, n, k, nonzeros, profile, density, union = row
        found[i, 0] = independent(density, m, union) if density < 1.0 else NEVER
        key = (n, k, nonzeros, profile)
        if key not in known:
            known[key] = _weights(trace, int(n), int(k), nonzeros, int(profile))
        found[i, 1] = known[key]
    return found.reshape(len(trace), -1)


def positions_left(trace: Trace, vectors: float) -> NDArray[np.float64]:
    """[ops] share of the positions of K at which some of ``vectors`` (or of the op's M, if fewer) is not zero; 1 for no
    vectors: nothing is skipped."""
    if vectors <= 0:
        return np.ones(len(trace))
    m, density, union = (trace.ops[c].to_numpy(dtype=np.float64) for c in ("m", "input_density", "input_union"))
    together = zip(np.minimum(m, vectors), m, density, union, strict=True)
    return np.array([1.0 - empty_of(some, every, share, joint) for some, every, share, joint in together])


def _weights(trace: Trace, n: int, k: int, nonzeros: float, profile: int) -> NDArray[np.float64]:
    if nonzeros >= n * k:
        return NEVER
    if profile >= 0 and trace.masks is not None:
        return of_mask(trace.masks[profile])
    guess = spread(n, k, nonzeros)
    if profile >= 0 and trace.profiles is not None:
        return of_profile(guess, trace.profiles, profile)
    return guess


def filled_blocks(trace: Trace, op: int, outputs: int, inputs: int) -> tuple[float, str]:
    """(share of the aligned blocks of an op's weights that hold a nonzero, how it was found)."""
    row = trace.ops.iloc[op]
    n, k, at = int(row["n"]), int(row["k"]), int(row["profile"])
    outputs, inputs = min(outputs, n), min(inputs, k)
    if at >= 0 and trace.masks is not None:
        return 1.0 - Actual(trace.masks[at]).empty(outputs, inputs), COUNTED
    blocks = -(-n // outputs) * -(-k // inputs)
    if at >= 0 and trace.profiles is not None:
        if outputs == inputs and outputs in BLOCKS:
            return 1.0 - trace.profiles.empty_blocks[at, BLOCKS.index(outputs)] / blocks, COUNTED
        if outputs == 1 and inputs in RUNS:
            return 1.0 - trace.profiles.empty_runs[at, RUNS.index(inputs)] / blocks, COUNTED
    return 1.0 - Hypergeometric((n, k), float(row["nonzeros"]) / (n * k)).empty(outputs, inputs), GUESSED


def weight_granules(trace: Trace, op: int, array: DualSided) -> tuple[float, str]:
    """(granules of an op's weights that an outer-product array meets in one pass, how they were found)."""
    row = trace.ops.iloc[op]
    n, k, at = int(row["n"]), int(row["k"]), int(row["profile"])
    if row["nonzeros"] >= n * k:
        return array.weight_granules(Hypergeometric((n, k), 1.0)), "dense"
    if at >= 0 and trace.masks is not None:
        return array.weight_granules(Actual(trace.masks[at])), "granules counted"
    if at >= 0 and trace.counts is not None:
        held, times = np.unique(trace.counts[at].columns, return_counts=True)
        each = [array.weight_granules(Hypergeometric((n, 1), count / n)) for count in held]
        return float(np.dot(times, each)), "granules estimated from column counts"
    return array.weight_granules(Hypergeometric((n, k), float(row["nonzeros"]) / (n * k))), "granules estimated"
