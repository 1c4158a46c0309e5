"""What a machine's sparse support makes of every op: lane cycles, stored bytes, compressed K; once per configuration.

Designs share few sparse configurations, so this table is small: [configurations, ops, SPARSE_COLUMNS]. Lane cycles come
from the profile when the design is on its grid, from walking the mask when the trace holds it, else from an estimate;
``labels`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.designs import ASSIGNMENTS, FORMATS, FULL_DEPTH, KINDS, ORIENTATIONS, Designs
from sim.groups import codes
from sim.mapping import GRAIN
from sim.memo import once
from sim.memory.traffic import (
    S_ARRAY_BYTES,
    S_CUT_PASS,
    S_GRAIN,
    S_NONZEROS,
    S_PACKED_K,
    S_PASS,
    S_RESTART,
    S_ROOM_BYTES,
    S_STORED_BYTES,
    SPARSE_COLUMNS,
)
from sim.sparsity import estimate, formats, lanes
from sim.trace import Trace

_CONFIG = (
    "array.kind",
    "sparsity.format",
    "sparsity.n",
    "sparsity.m",
    "sparsity.orientation",
    "sparsity.barrier_depth",
    "sparsity.fifo_depth",
    "sparsity.assignment",
    "sparsity.empty_tile_cycles",
)
_NAMES = {
    table: {code: name for name, code in codes.items()}
    for table, codes in (("orientation", ORIENTATIONS), ("assignment", ASSIGNMENTS))
}


@dataclass
class SparseTable:
    """``values`` [configurations, ops, SPARSE_COLUMNS], ``config`` [designs], ``labels`` [configurations][ops]."""

    values: NDArray[np.float64]
    config: NDArray[np.int64]
    labels: list[NDArray[np.object_]]


def sparse_table(designs: Designs, trace: Trace) -> SparseTable:
    """One row of values per distinct sparse configuration of ``designs``."""
    keys = _keys(designs)
    config = codes([keys]) if len(keys) > 1 else np.zeros(1, dtype=np.int64)
    _, first = np.unique(config, return_index=True)
    rows = [trace.remembered(("sparse", key.tobytes()), partial(_row, key, trace)) for key in keys[first]]
    values = np.stack([found for found, _ in rows])
    return SparseTable(values, config, [labels for _, labels in rows])


def _row(key: NDArray[np.float64], trace: Trace) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """[ops, SPARSE_COLUMNS] and [ops] labels of one configuration."""
    values = np.zeros((len(trace), SPARSE_COLUMNS))
    labels = _fill(dict(zip((*_CONFIG, "lanes"), key, strict=True)), trace, values)
    return values, labels


@once
def _keys(designs: Designs) -> NDArray[np.float64]:
    is_lanes = designs["array.kind"] == KINDS["lanes"]
    return np.column_stack([designs[c] for c in _CONFIG] + [np.where(is_lanes, designs["array.rows"], 0)])


def configuration(designs: Designs) -> dict[str, float]:
    """Sparse support of the first design, as codes; ``lanes``: how many, 0 for a systolic array."""
    return dict(zip((*_CONFIG, "lanes"), (float(x) for x in _keys(designs)[0]), strict=True))


def lane_settings(c: dict[str, float]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What :func:`sim.sparsity.lanes.walk` is asked for, and for walks that tiles cut (None: the same): lanes without
    barriers meet at the cuts, and FIFOs are taken as drained there."""
    depth: int | str = "full" if c["sparsity.barrier_depth"] == FULL_DEPTH else int(c["sparsity.barrier_depth"])
    fifo = int(c["sparsity.fifo_depth"])
    settings = {
        "lanes": int(c["lanes"]),
        "barrier_depth": depth,
        "orientation": _NAMES["orientation"][int(c["sparsity.orientation"])],
        "assignment": _NAMES["assignment"][int(c["sparsity.assignment"])],
        "fifo_depth": fifo,
        "empty_tile_cycles": int(c["sparsity.empty_tile_cycles"]),
    }
    if depth != "full" and not fifo:
        return settings, None
    return settings, settings | {"barrier_depth": CUT_DEPTH if depth == "full" else depth, "fifo_depth": 0}


def _fill(c: dict[str, float], trace: Trace, out: NDArray[np.float64]) -> NDArray[np.object_]:
    ops = trace.ops
    n, k, bits = (ops[name].to_numpy(dtype=np.float64) for name in ("n", "k", "weight_bits"))
    nonzeros = ops["nonzeros"].to_numpy(dtype=np.float64)
    is_weight = (ops["weight_source"] == "weights").to_numpy() & (ops["kind"] == "gemm").to_numpy()
    fetched = ops["stored_elements"].to_numpy(dtype=np.float64) / np.maximum(n * k, 1.0)
    dense = n * k * bits / 8.0
    stored, room, packed = dense.copy(), dense.copy(), k.copy()
    out[:, S_GRAIN] = GRAIN
    if c["sparsity.format"] == FORMATS["bitmap"]:
        bitmap = formats.bytes_of("bitmap", n, k, nonzeros, bits)
        stored = np.where(is_weight, np.minimum(bitmap, dense), dense)  # a matrix too dense for a bitmap goes without
        room = np.where(is_weight, formats.bytes_of("bitmap", n, k, n * k, bits), dense)
    elif c["sparsity.format"] == FORMATS["n_of_m"]:
        kept, group = int(c["sparsity.n"]), int(c["sparsity.m"])
        column = f"group{group}_max"
        fits = is_weight & ((ops[column].to_numpy() <= kept) if column in ops else False)
        compressed = formats.bytes_of("n_of_m", n, k, nonzeros, bits, n_of_m=(kept, group))
        fits &= (kept * np.ceil(k / group) <= k) & (compressed <= dense)
        stored = room = np.where(fits, compressed, dense)
        packed = np.where(fits, kept * np.ceil(k / group), k)
        out[:, S_GRAIN] = max(GRAIN, group)
    scales = ops["weight_scale_bytes"].to_numpy(dtype=np.float64)
    out[:, S_NONZEROS] = nonzeros
    out[:, S_PACKED_K] = packed
    out[:, S_STORED_BYTES] = (stored + scales) * fetched
    out[:, S_ROOM_BYTES] = room + scales
    out[:, S_ARRAY_BYTES] = stored + scales
    labels = np.where(packed < k, "n:m", "dense").astype(object)
    if c["array.kind"] == KINDS["lanes"]:
        labels = _lane_cycles(c, trace, out)
    return labels


CUT_DEPTH = 256  # where lanes without barriers ("full") are cut: they then meet at the cuts


def _lane_cycles(c: dict[str, float], trace: Trace, out: NDArray[np.float64]) -> NDArray[np.object_]:
    """Cycles of one pass of all lane groups over the weights, for every op; labels say how they were found."""
    ops = trace.ops
    settings, cut = lane_settings(c)
    depth, fifo = settings["barrier_depth"], settings["fifo_depth"]
    owner, walked = ("n", "k") if settings["orientation"] == "output" else ("k", "n")
    owners = ops[owner].to_numpy(dtype=np.float64)
    groups, positions = np.ceil(owners / c["lanes"]), ops[walked].to_numpy(dtype=np.float64)
    out[:, S_RESTART] = 2.0 if fifo else 1.0
    out[:, S_GRAIN] = CUT_DEPTH if depth == "full" else depth
    out[:, S_PASS] = groups * (positions + out[:, S_RESTART])
    out[:, S_CUT_PASS] = groups * (positions + 1.0)
    labels = np.full(len(trace), "dense", dtype=object)
    rows = np.flatnonzero(ops["profile"].to_numpy() >= 0)
    if not len(rows):
        return labels
    out[rows, S_PASS], label = _one_pass(trace, rows, settings, owners[rows])
    out[rows, S_CUT_PASS] = out[rows, S_PASS] if cut is None else _one_pass(trace, rows, cut, owners[rows])[0]
    labels[rows] = label
    return labels


def _one_pass(
    trace: Trace, rows: NDArray[np.int64], settings: dict[str, Any], owners: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    """Cycles of the ops ``rows``, which have masks, and how they were found."""
    assert trace.profiles is not None
    which = trace.ops["profile"].to_numpy(dtype=np.int64)[rows]
    known = trace.profiles.cycles(**settings)
    if known is not None:
        return known[which].astype(np.float64), "profile (exact)"
    if trace.masks is not None:
        return np.array(
            [lanes.walk(trace.masks[i], **settings) for i in which], dtype=np.float64
        ), "mask walked (exact)"
    if trace.counts is not None:
        found = np.array([estimate.from_counts(trace.counts[i], **settings) for i in which], dtype=np.float64)
        return found, "estimate: maximum entropy from row and column counts"
    restart = 2.0 if settings["fifo_depth"] else 1.0
    nonzeros = trace.ops["nonzeros"].to_numpy(dtype=np.float64)[rows]
    found = estimate.from_density(nonzeros, owners, settings["lanes"], restart)
    return found, "estimate: density, lanes assumed balanced"
