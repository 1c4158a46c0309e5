"""What a tiled GEMM asks of the compute array: cycles, operand reads and partial-sum traffic, for any array kind.

Counts are sums over all tiles of one batch item, edge tiles at their true size. Systolic equations are
:mod:`sim.compute.systolic`'s; lane cycles are handed in per pass over the weights (:mod:`sim.sparsity.lanes`) and
repeat for every group of ``cols`` activation vectors.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.compute import systolic
from sim.designs import D_COLS, D_COUNT, D_DATAFLOW, D_KIND, D_ORIENTATION, D_OUTER_TILE, D_OVERLAP, D_ROWS
from sim.mapping import chunks
from sim.sparse_columns import (
    S_CUT_PASS,
    S_FOLDS,
    S_INPUT_DENSITY,
    S_INPUT_GRANULES,
    S_NONZEROS,
    S_PACKED_K,
    S_PASS,
    S_POSITIONS,
    S_RESTART,
    S_WEIGHT_FOLDS,
)
from sim.trace import position

_M, _N, _K = (position(c) for c in ("m", "n", "k"))

_fold_alone = numba.njit(systolic.fold_alone)
_fold_interval = numba.njit(systolic.fold_interval)
_tail = numba.njit(systolic.tail)


@numba.njit(cache=True)
def _pieces(size: float, tile: float, step: float) -> float:
    """Sum over tiles of ceil(tile / step)."""
    full, rest = chunks(size, tile)
    return full * np.ceil(tile / step) + np.ceil(rest / step)


@numba.njit(cache=True)
def _intervals(overlap, dataflow, rows, cols, size, tile, slow):
    """Sum over the streamed dimension's tiles of the fold interval; ``slow``: cycles a streamed vector takes."""
    full, rest = chunks(size, tile)
    stream = np.ceil(tile * slow)
    total = full * _fold_interval(overlap, rows, stream, _fold_alone(dataflow, rows, cols, stream))
    if rest > 0.0:
        stream = np.ceil(rest * slow)
        total += _fold_interval(overlap, rows, stream, _fold_alone(dataflow, rows, cols, stream))
    return total


@numba.njit(cache=True)
def systolic_work(d, m, n, k, packed_k, slow, full, tile_m, tile_n, tile_k):
    """(cycles at fold intervals, drain, cycles of full folds at full rate, weight passes, input passes, partial-sum
    write passes). A pass is one read of the whole operand. ``packed_k``: K after n:m compression. ``slow``: cycles a
    streamed vector takes (:mod:`sim.compute.precision`). ``full``: share of the folds (weight stationary) or of the
    stream that is done at all, the rest being blocks of zeros, for which nothing is read but weights (the caller's
    business) and no sum is touched."""
    rows, cols, dataflow, overlap = d[D_ROWS], d[D_COLS], d[D_DATAFLOW], d[D_OVERLAP]
    ratio = packed_k / k
    trips_m, trips_n, trips_k = np.ceil(m / tile_m), np.ceil(n / tile_n), np.ceil(k / tile_k)
    if dataflow == systolic.WS:
        down, across = _down(packed_k, tile_k, ratio, rows), _pieces(n, tile_n, cols)
        stream, stream_tile, last_across, last_down = m, tile_m, n, _last(packed_k, np.ceil(tile_k * ratio))
        weight_passes, input_passes, output_passes = trips_m, across * full, max(down * full, trips_k)
    elif dataflow == systolic.OS:
        down, across = _pieces(m, tile_m, rows), _pieces(n, tile_n, cols)
        stream, stream_tile, last_across, last_down = packed_k, np.ceil(tile_k * ratio), n, _last(m, tile_m)
        weight_passes, input_passes, output_passes = down, across * full, trips_k
    else:
        down, across = _down(packed_k, tile_k, ratio, rows), _pieces(m, tile_m, cols)
        stream, stream_tile, last_across, last_down = n, tile_n, m, _last(packed_k, np.ceil(tile_k * ratio))
        weight_passes, input_passes, output_passes = across, trips_n, max(down * full, trips_k)
    pace, folds = slow, down * across
    if dataflow == systolic.WS:
        folds = max(folds * full, 1.0)
    else:
        pace = slow * full
    cycles = folds * _intervals(overlap, dataflow, rows, cols, stream, stream_tile, pace)
    last = np.ceil(_last(stream, stream_tile) * slow)
    alone = _fold_alone(dataflow, rows, cols, last)
    interval = _fold_interval(overlap, rows, last, alone)
    drain = alone - interval - _tail(cols, last_across, np.ceil(last_down / rows), interval)
    return cycles, drain, down * across * stream * slow * full, weight_passes, input_passes, output_passes


@numba.njit(cache=True)
def _last(size: float, tile: float) -> float:
    """The last tile along a dimension."""
    _, rest = chunks(size, tile)
    return rest if rest > 0.0 else tile


@numba.njit(cache=True)
def _down(packed_k: float, tile_k: float, ratio: float, rows: float) -> float:
    return _pieces(packed_k, np.ceil(tile_k * ratio), rows)


@numba.njit(cache=True)
def lanes_work(d, m, n, k, nonzeros, pass_cycles, cut_cycles, restart, slow, tile_m, tile_n, tile_k):
    """As :func:`systolic_work`, plus cycles without fill: (cycles, edge cycles, cycles without restarts, weight passes,
    input passes, partial-sum write passes).

    ``pass_cycles``: one pass with every walk uncut, ``restart`` cycles of it a lane group's start. Cutting the walked
    dimension (at barriers, see ``sim.search``) drains the FIFO at every cut: ``cut_cycles``
    (:func:`sim.sparse_ops.drained`) bounds that from above and is exact where there is no FIFO. Input lanes add into
    every output once per lane group.
    """
    lanes, vectors = d[D_ROWS], d[D_COLS]
    trips_n, trips_k = np.ceil(n / tile_n), np.ceil(k / tile_k)
    vector_groups = _pieces(m, tile_m, vectors)
    passes = vector_groups * slow
    if d[D_ORIENTATION] == 0:
        owned, lane_groups, walks = n, _pieces(n, tile_n, lanes), trips_k
        input_passes, output_passes = lane_groups, trips_k
    else:
        owned, lane_groups, walks = k, _pieces(k, tile_k, lanes), trips_n
        input_passes, output_passes = trips_n, lane_groups
    one_pass = cut_cycles if walks > 1.0 else pass_cycles
    groups = np.ceil(owned / lanes)
    restarts = (lane_groups - groups) + groups * (walks - 1.0)
    cycles = passes * (one_pass + restart * restarts)
    balanced = passes * max(0.0, one_pass - restart * groups)
    edge = min(balanced, passes * nonzeros / lanes * (groups * lanes / owned))
    return cycles, edge, balanced, vector_groups, input_passes, output_passes


@numba.njit(cache=True)
def share(size, tile, parts):
    """What the first of ``parts`` arrays gets of a dimension when each tile of it is split among them."""
    if parts == 1.0:
        return size
    full, rest = chunks(size, tile)
    return full * np.ceil(tile / parts) + np.ceil(rest / parts)


@numba.njit(cache=True)
def array_work(d, o, s, first, split, slow, tile_m, tile_n, tile_k):
    """(cycles, drain, ideal, edge, unfilled cycles, passes of inputs, weights and partial sums) of one array on its
    share of the op, one batch item; ``first`` [3]: the tier-1 tile, ``split`` [3]: arrays along m, n, k."""
    m, n, k = share(o[_M], first[0], split[0]), share(o[_N], first[1], split[1]), share(o[_K], first[2], split[2])
    area = n * k / (o[_N] * o[_K])
    wanted = s[S_POSITIONS]
    if d[D_KIND] == 0.0:
        packed, pace = np.ceil(np.ceil(s[S_PACKED_K] / split[2]) * wanted), slow
        if slow < 1.0:  # a PE sums several narrow products at once: K shrinks, vectors do not
            packed, pace = np.ceil(packed * slow), 1.0
        full = s[S_FOLDS]
        cycles, drain, unfilled, weights, inputs, sums = systolic_work(
            d, m, n, k, packed, pace, full, tile_m, tile_n, tile_k
        )
        ideal = o[_M] * o[_N] * s[S_PACKED_K] / (d[D_ROWS] * d[D_COLS] * d[D_COUNT]) * slow * full * wanted
        weights, inputs = weights * s[S_WEIGHT_FOLDS] * wanted, inputs * wanted
        return cycles, drain, ideal, unfilled, unfilled, inputs, weights, sums
    if d[D_KIND] == 2.0:
        side = d[D_OUTER_TILE]
        # what an array has of a tile is whole granules, if no operand is sparse: exact then, else at the least
        whole_m = m if split[0] == 1.0 else min(o[_M], np.ceil(m / d[D_ROWS]) * d[D_ROWS])
        whole_n = n if split[1] == 1.0 else min(o[_N], np.ceil(n / d[D_COLS]) * d[D_COLS])
        granules = s[S_INPUT_GRANULES] * whole_m / o[_M] * s[S_PASS] * (whole_n * k / (o[_N] * o[_K]))
        cycles = granules * slow
        macs = o[_M] * s[S_NONZEROS] * s[S_INPUT_DENSITY]
        ideal = min(cycles, macs / (d[D_ROWS] * d[D_COLS] * d[D_COUNT]) * slow)
        inputs, weights = _pieces(n, tile_n, side), _pieces(m, tile_m, side)
        return cycles, 0.0, ideal, cycles, cycles, inputs, weights, np.ceil(k / tile_k)
    owner, walked = (1, 2) if d[D_ORIENTATION] == 0.0 else (2, 1)
    owned = (o[_M], o[_N], o[_K])[owner]
    groups = np.ceil(np.ceil(owned / split[owner]) / d[D_ROWS]) / np.ceil(owned / d[D_ROWS])
    walk = groups / split[walked]  # a group's walk is one array's; more arrays take more groups, or parts of the walk
    starts = np.ceil(share(owned, first[owner], split[owner]) / d[D_ROWS])
    cycles, edge, unfilled, weights, inputs, sums = lanes_work(
        d,
        m,
        n,
        k,
        s[S_NONZEROS] * area * wanted,
        _shorter(s[S_PASS] * walk, s[S_RESTART] * starts, wanted),
        _shorter(s[S_CUT_PASS] * walk, s[S_RESTART] * starts, wanted),
        s[S_RESTART],
        slow,
        tile_m,
        tile_n,
        tile_k,
    )
    ideal = o[_M] * s[S_NONZEROS] / (d[D_ROWS] * d[D_COLS] * d[D_COUNT]) * slow * wanted
    return cycles, 0.0, min(ideal, edge), edge, unfilled, inputs * wanted, weights * wanted, sums


@numba.njit(cache=True)
def _shorter(cycles, starts, wanted):
    """A pass of lanes over a share of its positions; groups start as before."""
    return max(cycles - starts, 0.0) * wanted + min(starts, cycles)
