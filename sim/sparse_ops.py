"""What a machine's sparse support makes of every op: lane cycles, stored bytes, compressed K; once per configuration.

Designs share few sparse configurations, so this table is small: [configurations, ops, SPARSE_COLUMNS]. Lane cycles come
from the profile when the design is on its grid, from walking the mask when the trace holds it, else from an estimate;
``labels`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim import op_emptiness
from sim.compute.dual_sided import DualSided
from sim.designs import (
    ASSIGNMENTS,
    DATAFLOWS,
    FORMATS,
    FULL_DEPTH,
    GATINGS,
    KINDS,
    ORIENTATIONS,
    STEALING,
    Designs,
    has_features,
)
from sim.groups import codes
from sim.memo import once
from sim.op_emptiness import emptiness, filled_blocks
from sim.sparse_columns import (
    S_ARRAY_BYTES,
    S_CUT_PASS,
    S_DECODE_CYCLES,
    S_DECODED,
    S_EFFECTUAL,
    S_FOLDS,
    S_GRAIN,
    S_INPUT_DENSITY,
    S_INPUT_GRANULES,
    S_NONZEROS,
    S_PACKED_K,
    S_PASS,
    S_POSITIONS,
    S_RESTART,
    S_ROOM_BYTES,
    S_STORED_BYTES,
    S_WEIGHT_FOLDS,
    SPARSE_COLUMNS,
)
from sim.sparsity import estimate, lanes
from sim.sparsity.density import Bernoulli
from sim.sparsity.estimate_errors import label
from sim.sparsity.formats import Format
from sim.sparsity.formats.hardware import decoded_apart
from sim.sparsity.formats.numbers import FIELDS, of_numbers
from sim.sparsity.lane_order import REORDERING
from sim.stored_weights import stored_weights
from sim.trace import Trace

_CONFIG = (
    "array.kind",
    "array.weight_bits",
    "sparsity.format",
    "sparsity.decoders",
    *(f"sparsity.{field}" for field in FIELDS),
    "sparsity.orientation",
    "sparsity.barrier_depth",
    "sparsity.fifo_depth",
    "sparsity.assignment",
    "sparsity.stealing",
    "sparsity.gating",
    "sparsity.empty_tile_cycles",
)
_KEYS = (*_CONFIG, "lanes", "block_n", "block_k", "outer_tile", "input_granule", "weight_granule", "position_vectors")
_NAMES = {
    table: {code: name for name, code in codes.items()}
    for table, codes in (
        ("format", FORMATS),
        ("orientation", ORIENTATIONS),
        ("assignment", ASSIGNMENTS),
        ("stealing", STEALING),
    )
}
GUESSED = "; stored bytes estimated, zeros spread at random"


@dataclass
class SparseTable:
    """``values`` [configurations, ops, SPARSE_COLUMNS], ``config`` [designs], ``labels`` [configurations][ops]."""

    values: NDArray[np.float64]
    config: NDArray[np.int64]
    labels: list[NDArray[np.object_]]


def sparse_table(designs: Designs, trace: Trace) -> SparseTable:
    """One row of values per distinct sparse configuration of ``designs``; with features at memory levels, how often
    tiles of inputs and weights are empty comes behind (:data:`sim.sparse_columns.S_EMPTY`)."""
    keys = _keys(designs)
    config = codes([keys]) if len(keys) > 1 else np.zeros(1, dtype=np.int64)
    _, first = np.unique(config, return_index=True)
    rows = [trace.remembered(("sparse", key.tobytes()), partial(_row, key, trace)) for key in keys[first]]
    values = np.stack([found for found, _ in rows])
    if has_features(designs):
        empty = trace.remembered(("emptiness",), partial(emptiness, trace))
        values = np.concatenate([values, np.broadcast_to(empty, (len(values), *empty.shape))], axis=2)
    return SparseTable(values, config, [labels for _, labels in rows])


def _row(key: NDArray[np.float64], trace: Trace) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """[ops, SPARSE_COLUMNS] and [ops] labels of one configuration."""
    values = np.zeros((len(trace), SPARSE_COLUMNS))
    labels = _fill(dict(zip(_KEYS, key, strict=True)), trace, values)
    return values, labels


@once
def _keys(designs: Designs) -> NDArray[np.float64]:
    is_lanes = designs["array.kind"] == KINDS["lanes"]
    skips = designs["sparsity.block_skipping"] > 0
    across = np.where(skips & (designs["array.dataflow"] != DATAFLOWS["is"]), designs["array.cols"], skips)
    down = np.where(skips & (designs["array.dataflow"] != DATAFLOWS["os"]), designs["array.rows"], skips)
    lane_count = np.where(is_lanes, designs["array.rows"], 0)
    outer = designs["array.kind"] == KINDS["outer_product"]
    sides = [outer * designs[f"array.{side}"] for side in ("outer_tile", "rows", "cols")]
    at_a_time = np.where(designs["array.dataflow"] == DATAFLOWS["os"], designs["array.rows"], designs["array.cols"])
    streams = ~is_lanes & (designs["array.dataflow"] == DATAFLOWS["ws"])
    vectors = np.where(designs["sparsity.position_skipping"] > 0, np.where(streams, np.inf, at_a_time), 0.0)
    return np.column_stack([designs[c] for c in _CONFIG] + [lane_count, across, down, *sides, vectors])


def configuration(designs: Designs) -> dict[str, float]:
    """Sparse support of the first design, as codes; ``lanes``: how many, 0 for a systolic array; ``block_n``,
    ``block_k``: the blocks of weights that it skips, 0 for none; ``outer_tile``, ``input_granule``, ``weight_granule``:
    of an outer-product array, 0 for others; ``position_vectors``: vectors that must all be zero for a position of K to
    be skipped, 0 where none is."""
    return dict(zip(_KEYS, (float(x) for x in _keys(designs)[0]), strict=True))


def block_of(c: dict[str, float]) -> tuple[int, int]:
    """(output features, input features) of the blocks of zeros that a configuration skips."""
    return int(c["block_n"]), int(c["block_k"])


def lane_settings(c: dict[str, float]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What :func:`sim.sparsity.lanes.walk` is asked for, and for walks that tiles cut (None: the same): lanes without
    barriers meet at the cuts, and FIFOs drain there: such a walk without FIFO and :func:`drained` bound its cycles."""
    depth: int | str = "full" if c["sparsity.barrier_depth"] == FULL_DEPTH else int(c["sparsity.barrier_depth"])
    fifo = int(c["sparsity.fifo_depth"])
    settings = {
        "lanes": int(c["lanes"]),
        "barrier_depth": depth,
        "orientation": _NAMES["orientation"][int(c["sparsity.orientation"])],
        "assignment": _NAMES["assignment"][int(c["sparsity.assignment"])],
        "fifo_depth": fifo,
        "empty_tile_cycles": int(c["sparsity.empty_tile_cycles"]),
        "stealing": _NAMES["stealing"][int(c["sparsity.stealing"])],
    }
    if depth != "full" and not fifo:
        return settings, None
    return settings, settings | {"barrier_depth": CUT_DEPTH if depth == "full" else depth, "fifo_depth": 0}


def drained(settings: dict[str, Any], owners: NDArray[np.float64], positions: Any) -> NDArray[np.float64]:
    """Cycles that a pass cut anywhere may take beyond one without FIFO: a cycle more to start each lane group, and
    with a FIFO of one tile, which takes its next one two cycles after the last, one more a tile."""
    if not settings["fifo_depth"]:
        return np.zeros_like(owners)
    depth = CUT_DEPTH if settings["barrier_depth"] == "full" else settings["barrier_depth"]
    tiles = np.ceil(positions / depth) if settings["fifo_depth"] == 1 else 0.0
    return np.ceil(owners / settings["lanes"]) * (1.0 + tiles)


def storage(c: dict[str, float]) -> Format:
    """The weight format of a configuration."""
    return of_numbers(_NAMES["format"][int(c["sparsity.format"])], {field: c[f"sparsity.{field}"] for field in FIELDS})


def _fill(c: dict[str, float], trace: Trace, out: NDArray[np.float64]) -> NDArray[np.object_]:
    ops = trace.ops
    nonzeros = ops["nonzeros"].to_numpy(dtype=np.float64)
    elements = ops["n"].to_numpy(dtype=np.float64) * ops["k"].to_numpy(dtype=np.float64)
    fetched = ops["stored_elements"].to_numpy(dtype=np.float64) / np.maximum(elements, 1.0)
    weights = stored_weights(storage(c), trace)
    stored, room, packed = weights.stored, weights.room, weights.packed_k
    out[:, S_GRAIN] = weights.grain
    scales = ops["weight_scale_bytes"].to_numpy(dtype=np.float64)
    out[:, S_NONZEROS] = nonzeros
    if decoded_apart(storage(c).name, c["array.kind"] != KINDS["systolic"]):
        compressed = weights.stored < elements * ops["weight_bits"].to_numpy(dtype=np.float64) / 8.0
        unit = storage(c).decoder(int(c["array.weight_bits"]))
        out[:, S_DECODED] = np.where(compressed, nonzeros if unit.per == "values" else elements, 0.0)
        if c["sparsity.decoders"]:
            out[:, S_DECODE_CYCLES] = out[:, S_DECODED] / (c["sparsity.decoders"] * unit.rate)
    out[:, S_PACKED_K] = packed
    out[:, S_STORED_BYTES] = (stored + scales) * fetched
    out[:, S_ROOM_BYTES] = room + scales
    out[:, S_ARRAY_BYTES] = stored + scales
    labels = np.where(packed < ops["k"].to_numpy(), "n:m", "dense").astype(object)
    out[:, S_FOLDS] = out[:, S_WEIGHT_FOLDS] = 1.0
    out[:, S_POSITIONS] = op_emptiness.positions_left(trace, c["position_vectors"])
    if c["block_n"] > 0:
        _skip_blocks(c, trace, out, labels, weights.stored < elements * ops["weight_bits"].to_numpy() / 8.0)
    walked = ops["n"].to_numpy(dtype=np.float64) * packed * out[:, S_FOLDS]
    out[:, S_EFFECTUAL] = _effectual(c, trace, nonzeros, walked, out[:, S_POSITIONS])
    out[:, S_INPUT_DENSITY] = ops["input_density"].to_numpy(dtype=np.float64)
    if c["array.kind"] == KINDS["lanes"]:
        labels = _lane_cycles(c, trace, out)
    if c["outer_tile"]:
        labels = _outer_granules(c, trace, out)
    labels[weights.guessed] = labels[weights.guessed] + GUESSED
    return labels


def _skip_blocks(
    c: dict[str, float], trace: Trace, out: NDArray[np.float64], labels: NDArray[np.object_], compressed: Any
) -> None:
    """Shares of folds (or of the stream) that an array with ``block_skipping`` does; a bit a block says which, stored
    with the weights."""
    outputs, inputs = block_of(c)
    n, k = (trace.ops[dim].to_numpy(dtype=np.float64) for dim in ("n", "k"))
    for i in np.flatnonzero(trace.ops["nonzeros"].to_numpy() < n * k):
        share, how = filled_blocks(trace, int(i), outputs, inputs)
        out[i, S_FOLDS] = share
        out[i, S_WEIGHT_FOLDS] = 1.0 if compressed[i] else share
        labels[i] = how
    is_weight = (trace.ops["weight_source"] == "weights").to_numpy() & (trace.ops["kind"] == "gemm").to_numpy()
    bits = np.where(is_weight, np.ceil(n / outputs) * np.ceil(k / inputs) / 8.0, 0.0)
    for column in (S_STORED_BYTES, S_ROOM_BYTES, S_ARRAY_BYTES):
        out[:, column] += bits


def outer_array(c: dict[str, float]) -> DualSided:
    """The outer-product array of a configuration."""
    return DualSided(*(int(c[side]) for side in ("outer_tile", "input_granule", "weight_granule")))


def _outer_granules(c: dict[str, float], trace: Trace, out: NDArray[np.float64]) -> NDArray[np.object_]:
    """Granules of both operands that an outer-product array meets; labels say how those of the weights were found."""
    labels = np.full(len(trace), "dense", dtype=object)
    array = outer_array(c)
    for i in np.flatnonzero((trace.ops["kind"] == "gemm").to_numpy()):
        op = trace.ops.iloc[i]
        out[i, S_INPUT_GRANULES] = array.input_granules(Bernoulli((int(op["m"]), 1), float(op["input_density"])))
        out[i, S_PASS], labels[i] = op_emptiness.weight_granules(trace, int(i), array)
    return labels


CUT_DEPTH = 256  # where lanes without barriers ("full") are cut: they then meet at the cuts


def _effectual(
    c: dict[str, float],
    trace: Trace,
    nonzeros: NDArray[np.float64],
    walked: NDArray[np.float64],
    positions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[ops] share of the MACs that an array performs whose operands do not gate it, zeros of weights and inputs taken
    as independent. ``walked`` [ops]: stationary elements that a systolic array multiplies; lanes skip zero weights.
    ``positions`` [ops]: share of K that is taken at all, in which inputs are denser."""
    gating = int(c["sparsity.gating"])
    share = np.ones(len(trace))
    if c["array.kind"] == KINDS["outer_product"]:
        return np.ones(len(trace))
    if gating & GATINGS["weights"] and c["array.kind"] == KINDS["systolic"]:
        share = np.minimum(nonzeros / np.maximum(walked, 1.0), 1.0)
    if gating & GATINGS["inputs"]:
        density = trace.ops["input_density"].to_numpy(dtype=np.float64)
        share = share * np.minimum(1.0, density / np.maximum(positions, 1e-300))
    return share


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
    more = drained(settings, owners, positions)
    out[:, S_CUT_PASS] = groups * (positions + 1.0) + more
    if settings["stealing"] == "group":
        for i, (owned, walk) in enumerate(zip(owners.astype(int), positions.astype(int), strict=True)):
            out[i, S_PASS] = _dense_pass(owned, walk, settings)
            out[i, S_CUT_PASS] = out[i, S_PASS] if cut is None else _dense_pass(owned, walk, cut) + more[i]
    labels = np.full(len(trace), "dense", dtype=object)
    rows = np.flatnonzero(ops["profile"].to_numpy() >= 0)
    if not len(rows):
        return labels
    out[rows, S_PASS], label = _one_pass(trace, rows, settings, owners[rows])
    out[rows, S_CUT_PASS] = (
        out[rows, S_PASS] if cut is None else _one_pass(trace, rows, cut, owners[rows])[0] + more[rows]
    )
    labels[rows] = label
    if settings["assignment"] in REORDERING:  # the compiler's permutation comes with the weights
        index_bytes = owners[rows] * np.ceil(np.log2(np.maximum(owners[rows], 2.0))) / 8.0
        fetched = ops["stored_elements"].to_numpy(dtype=np.float64)[rows] / (owners * positions)[rows]
        out[rows, S_STORED_BYTES] += index_bytes * fetched
        out[rows, S_ROOM_BYTES] += index_bytes
        out[rows, S_ARRAY_BYTES] += index_bytes
    return labels


@lru_cache(maxsize=256)
def _dense_cycles(rest: int, positions: int, lane_count: int, depth: int | str, empty: int) -> int:
    """A last group of ``rest`` owners without zeros, whose idle lanes help."""
    return lanes.walk(np.ones((rest, positions), dtype=bool), lane_count, depth, empty_tile_cycles=empty, stealing=1)


def _dense_pass(owners: int, positions: int, settings: dict[str, Any]) -> float:
    """Cycles of one pass without zeros when lanes steal: full groups gain nothing, a short one does."""
    groups, rest = divmod(owners, settings["lanes"])
    depth, empty = settings["barrier_depth"], settings["empty_tile_cycles"]
    last = _dense_cycles(rest, positions, settings["lanes"], depth, empty) if rest else 0
    return float(groups * (positions + 1) + last)


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
        patterns = {i: trace.profiles.n_of_m(i) for i in set(which.tolist())}
        once_each = {i: estimate.from_counts(trace.counts[i], **settings, n_of_m=n) for i, n in patterns.items()}
        return np.array([once_each[i] for i in which.tolist()], dtype=np.float64), label("counts", settings)
    restart = 2.0 if settings["fifo_depth"] else 1.0
    nonzeros = trace.ops["nonzeros"].to_numpy(dtype=np.float64)[rows]
    found = estimate.from_density(nonzeros, owners, settings["lanes"], restart)
    return found, label("density", settings)
