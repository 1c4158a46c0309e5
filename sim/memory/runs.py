"""How much of DRAM's bandwidth a tile's transfers get: by the contiguous runs that they make, and by writes."""

from __future__ import annotations

import numba
import numpy as np

from sim.designs import D_AVOIDS, D_EFFICIENCY
from sim.memory.dram import RUN_BYTES
from sim.memory.operands import INPUTS, WEIGHTS
from sim.sparse_columns import S_STORED_BYTES
from sim.sparsity.level_features import VECTOR_SHIFT
from sim.trace import position

_M, _N, _K = (position(c) for c in ("m", "n", "k"))
_ABITS, _OBITS = position("activation_bits"), position("output_bits")
_RUNS = len(RUN_BYTES)
_FIRST_RUN = float(np.log2(RUN_BYTES[0]))


@numba.njit(cache=True)
def run_efficiency(d, run_bytes):
    """(achieved over peak bandwidth, how much of it a third of writes costs) for runs of ``run_bytes`` contiguous
    bytes. Between the lengths of :func:`sim.memory.dram.efficiency_table`, powers of two, the time of a run is linear
    in its length (something fixed and something a byte), so a longer run never takes less."""
    at = min(max(np.log2(max(run_bytes, 1.0)) - _FIRST_RUN, 0.0), _RUNS - 1.0)
    low = min(int(at), _RUNS - 2)
    part = min(max(run_bytes * 2.0 ** -(_FIRST_RUN + low) - 1.0, 0.0), 1.0)
    short, long = D_EFFICIENCY + 2 * low, D_EFFICIENCY + 2 * low + 2
    reads = (1.0 + part) / ((1.0 - part) / d[short] + 2.0 * part / d[long])
    mixed = (1.0 + part) / ((1.0 - part) / d[short + 1] + 2.0 * part / d[long + 1])
    return reads, reads - mixed


@numba.njit(cache=True)
def write_efficiency(pair, write_fraction):
    """Achieved over peak bandwidth of writes that make up a share of all bytes; ``pair``: :func:`run_efficiency`.

    Turning the bus around is paid by the writes: each as much as makes a stream of two thirds reads and one third
    writes what it was simulated to be. Beyond a third the reads in between are what limits how often it turns, so more
    bytes of either kind never take less time.
    """
    reads, mixed = pair[0], pair[0] - pair[1]
    turns = 3.0 * (1.0 / mixed - 1.0 / reads)
    return 1.0 / (1.0 / reads + turns * min(1.0, 1.0 / (3.0 * max(write_fraction, 1e-300))))


@numba.njit(cache=True)
def tile_runs(d, o, s, m, n, k):
    """:func:`run_efficiency` of the runs that a tile's inputs, outputs and weights make in DRAM: rows of row-major
    matrices, which merge where the tile spans them, and weights stored tile by tile. What DRAM skips vector by vector
    comes vector by vector."""
    in_run = k * o[_ABITS] / 8.0 * (m if k >= o[_K] else 1.0)
    if int(d[D_AVOIDS + INPUTS]) >> VECTOR_SHIFT:
        in_run = o[_ABITS] / 8.0
    out_run = n * o[_OBITS] / 8.0 * (m if n >= o[_N] else 1.0)
    deep = 1.0 if int(d[D_AVOIDS + WEIGHTS]) >> VECTOR_SHIFT else k
    weight_run = s[S_STORED_BYTES] * (n * deep) / (o[_N] * o[_K])
    return run_efficiency(d, in_run), run_efficiency(d, out_run), run_efficiency(d, weight_run)
