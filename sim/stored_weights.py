"""Bytes that a machine's weight format takes: what each op's weights fill, and what has to be provisioned for them.

Exact where the format's bytes follow from counts, where the trace holds the masks, or where its profiles know the
blocks; else zeros are taken as spread at random, and ``guessed`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import lcm

import numpy as np
from numpy.typing import NDArray

from sim.mapping import GRAIN
from sim.sparsity.formats import Format, StoredBytes
from sim.sparsity.formats.n_of_m import NofM
from sim.sparsity.formats.zeros import Actual, Known
from sim.sparsity.profile import BLOCKS, GROUPS, RUNS, ProfileTable
from sim.trace import Trace


@dataclass(frozen=True)
class StoredWeights:
    """[ops] each: bytes stored, bytes to provision for a whole matrix, K as it is multiplied; ``grain``: multiples that
    K is cut in; ``guessed`` [ops]: stored bytes are a mean over random masks."""

    stored: NDArray[np.float64]
    room: NDArray[np.float64]
    packed_k: NDArray[np.float64]
    grain: int
    guessed: NDArray[np.bool_]


def stored_weights(chosen: Format, trace: Trace) -> StoredWeights:
    """What ``chosen`` makes of every op's weights; a matrix that it would only enlarge is stored dense, and so is one
    that does not fit n:m. Room is for the worst mask, since a tile of a sparse matrix may be dense."""
    return trace.remembered(("stored weights", chosen), partial(_stored_weights, chosen, trace))


def _stored_weights(chosen: Format, trace: Trace) -> StoredWeights:
    ops = trace.ops
    n, k, bits = (ops[name].to_numpy(dtype=np.float64) for name in ("n", "k", "weight_bits"))
    is_weight = (ops["weight_source"] == "weights").to_numpy() & (ops["kind"] == "gemm").to_numpy()
    dense = n * k * bits / 8.0
    never = np.zeros(len(trace), dtype=bool)
    if chosen.name == "dense":
        return StoredWeights(dense, dense, k.copy(), GRAIN, never)
    if isinstance(chosen, NofM):
        kept = chosen.n * np.ceil(k / chosen.m)
        compressed = chosen.closed(n, k, ops["nonzeros"].to_numpy(dtype=np.float64), bits).total
        fits = is_weight & _fits(chosen, trace) & (kept <= k) & (compressed <= dense)
        stored = np.where(fits, compressed, dense)
        return StoredWeights(stored, stored, np.where(fits, kept, k), lcm(GRAIN, chosen.m), never)
    stored, room, guessed = dense.copy(), dense.copy(), never.copy()
    rows = np.flatnonzero(is_weight)
    found, unsure = _bytes(chosen, trace, rows)
    stored[rows], room[rows] = np.minimum(found, dense[rows]), chosen.worst(n[rows], k[rows], bits[rows])
    guessed[rows] = unsure & (found < dense[rows])
    return StoredWeights(stored, room, k.copy(), GRAIN, guessed)


def _bytes(chosen: Format, trace: Trace, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Bytes of the ops ``rows``, and whether they are guessed."""
    columns = ("n", "k", "nonzeros", "weight_bits")
    n, k, nonzeros, bits = (trace.ops[name].to_numpy(dtype=np.float64)[rows] for name in columns)
    which = trace.ops["profile"].to_numpy(dtype=np.int64)[rows]
    found = np.array(chosen.closed(n, k, nonzeros, bits).total)
    unsure = (nonzeros > 0) & (nonzeros < n * k)
    guessed = unsure & (not chosen.counts_suffice)
    if chosen.codes_values or not guessed.any() or trace.profiles is None:
        return found, guessed
    masked = np.flatnonzero(guessed & (which >= 0))
    if trace.masks is not None:
        for i in masked:
            found[i] = chosen.stored(trace.masks[which[i]], int(bits[i])).total
        guessed[masked] = False
        return found, guessed
    known = Known(n[masked], k[masked], nonzeros[masked], _known_tiles(trace.profiles.take(which[masked])))
    found[masked] = StoredBytes.of_bits(chosen.bits(known, bits[masked])).total
    guessed[masked] = known.guessed
    return found, guessed


def _known_tiles(table: ProfileTable) -> dict[tuple[int, int], NDArray[np.float64]]:
    """How many blocks and runs hold a nonzero, [masks] for every size that profiles count."""
    rows, columns = table.shapes.T.astype(np.float64)
    blocks = {(b, b): np.ceil(rows / b) * np.ceil(columns / b) - table.empty_blocks[:, i] for i, b in enumerate(BLOCKS)}
    runs = {(1, g): rows * np.ceil(columns / g) - table.empty_runs[:, i] for i, g in enumerate(RUNS)}
    return blocks | runs


def _fits(chosen: NofM, trace: Trace) -> NDArray[np.bool_]:
    """Which ops' masks are known to fit n:m: by the mask, or by the most nonzeros of larger or smaller groups."""
    fits = np.zeros(len(trace), dtype=bool)
    for size in GROUPS:
        most = trace.ops[f"group{size}_max"].to_numpy(dtype=np.float64) * max(1, chosen.m // size)
        if chosen.m % size == 0 or size % chosen.m == 0:
            fits |= most <= chosen.n
    if trace.masks is not None and chosen.m not in GROUPS:
        for i, at in enumerate(trace.ops["profile"].to_numpy(dtype=np.int64)):
            fits[i] |= at >= 0 and not Actual(trace.masks[at]).beyond(chosen.m, chosen.n)
    return fits
