"""Random masks of a pattern for a trace's layer weights: a stand-in where there is no checkpoint to prune.

Only counts and balance of such masks mean something: real pruning puts zeros where weights matter little, so its rows,
columns and blocks are less even (``docs/lanes.md``), and no quality belongs to a random mask. Matrices of one shape
share a mask, and its profile; the mask itself is made a slab of rows at a time, as bits, and not kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.errors import InputError
from sim.sparsity.packing import Packed, pack
from sim.sparsity.profile import ProfileTable, profile
from sim.trace import Sparsity, Trace, sparse_columns
from workloads.pruning.pattern import NofM, Pattern, Unstructured, examples, parse_pattern

KINDS = (Unstructured, NofM)
_SLAB = 1 << 22  # weights drawn at a time


def with_random_zeros(trace: Trace, pattern: str | float | Pattern, seed: int = 0) -> Trace:
    """``trace`` with random zeros of ``pattern`` ("0.5": the share removed, or "2:4") in the weights of its layers.

    Embedding, head and the routers of experts stay dense, as pruning leaves them. The same seed gives the same trace.
    ``meta["random_zeros"]`` and each op's ``sparsity_label`` say that masks are random.

    Raises:
        InputError: another kind of pattern, a negative seed, a trace that has masks already or no weights in layers.
    """
    chosen = parse_pattern(pattern)
    if not isinstance(chosen, KINDS):
        raise InputError(f"random zeros need a pattern like {examples(KINDS)}, got '{chosen}'")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number >= 0, got {seed!r}")
    if trace.profiles is not None:
        raise InputError(f"trace '{trace.name}' has masks already, random zeros would replace them")
    ops = trace.ops.copy()
    prunable = (ops["kind"] == "gemm") & (ops["weight_source"] == "weights") & (ops["layer"] >= 0)
    prunable &= ~ops["matrix_type"].str.endswith("_router")
    if not prunable.any():
        raise InputError(f"trace '{trace.name}' has no weights in layers that random zeros could be in")
    found = []
    for (n, k), of_shape in ops[prunable].groupby(["n", "k"], sort=True):
        own = profile(_mask(int(n), int(k), chosen, seed))
        values = sparse_columns(own) | {"profile": len(found), "sparsity_label": f"random {chosen} mask, seed {seed}"}
        for column, value in values.items():
            ops.loc[of_shape.index, column] = value
        found.append(own)
    said = {"pattern": str(chosen), "seed": seed, "masks": len(found), "note": "random masks, not a pruned model's"}
    name = f"{trace.name}_random_{str(chosen).replace(':', '_')}"
    meta = {**trace.meta, "name": name, "random_zeros": said}
    return replace(
        trace, ops=ops, profiles=ProfileTable.from_profiles(found), counts=[p.counts for p in found], meta=meta
    )


def _mask(outputs: int, inputs: int, pattern: Unstructured | NofM, seed: int) -> Packed:
    """A random mask [outputs, inputs], each slab of rows drawn with a seed of its own."""
    rows = max(1, _SLAB // inputs)
    starts = range(0, outputs, rows)
    seeds = np.random.SeedSequence([seed, outputs, inputs]).generate_state(len(starts))
    slabs = []
    for start, own in zip(starts, seeds.tolist(), strict=True):
        zeros = (
            Sparsity(n_of_m=str(pattern), seed=own)
            if isinstance(pattern, NofM)
            else Sparsity(density=1 - pattern.sparsity, seed=own)
        )
        slabs.append(pack(zeros.draw(min(rows, outputs - start), inputs)[0]).words)
    return Packed(np.concatenate(slabs), inputs)
