"""Cycles of a dense GEMM ``M x K . K x N`` on a systolic array of ``rows x cols`` processing elements.

A *fold* is one tile that fills the array. Each dataflow maps two of the GEMM's dimensions onto the array (``down`` its
rows, ``across`` its columns) and streams the third one through it:

=====================  ======  ========  ========
dataflow               stream  down      across
=====================  ======  ========  ========
``os`` output          K       M         N
``ws`` weight          M       K         N
``is`` input           N       K         M
=====================  ======  ========  ========

Cycles run from the first operand that enters to the last useful result that is visible, both included::

    total = (folds - 1) * interval + alone - tail

Exact against RTL, row by row (validation/data/rtl/arrays_cycles.csv, external_rtl_cycles.csv; own_arrays_cycles.csv
from validation/rtl, which also has ``is``: ``ws`` of the transposed product). n:m structured weights: pass the
compressed ``k = n * ceil(k / m)``.

Every equation below is plain arithmetic on numbers, arrays or Numba scalars alike: there is no second copy of any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from sim.compute.arguments import code, whole
from sim.errors import InputError

DATAFLOWS = ("os", "ws", "is")
OVERLAPS = ("none", "single_buffer", "double_buffer")
CONVENTIONS = ("rtl", "scalesim", "axis")
OS, WS, IS = range(3)
NONE, SINGLE_BUFFER, DOUBLE_BUFFER = range(3)
RTL, SCALESIM, AXIS = range(3)


@register_jitable
def stream_length(dataflow, m, n, k):
    """Operand vectors that a fold streams through the array."""
    return (dataflow == OS) * k + (dataflow == WS) * m + (dataflow == IS) * n


@register_jitable
def across_length(dataflow, m, n):
    """Size of the GEMM dimension laid along the array's columns."""
    return (dataflow == IS) * m + (dataflow != IS) * n


@register_jitable
def fold_count(dataflow, rows, cols, m, n, k):
    """Folds of the whole GEMM. An edge fold costs what a full one does."""
    down = (dataflow == OS) * m + (dataflow != OS) * k
    return -(-down // rows) * -(-across_length(dataflow, m, n) // cols)


@register_jitable
def fold_alone(dataflow, rows, cols, stream):
    """Cycles of one fold on its own. A stationary operand costs one more: its last row is registered."""
    return stream + 2 * rows + cols - 2 + (dataflow != OS)


@register_jitable
def fold_interval(overlap, rows, stream, alone):
    """Cycles from the start of one fold to the start of the next."""
    return (
        (overlap == NONE) * alone
        + (overlap == SINGLE_BUFFER) * (stream + rows - 1)
        + (overlap == DOUBLE_BUFFER) * np.maximum(stream, rows)
    )


@register_jitable
def tail(cols, across, blocks_down, interval):
    """Cycles that nobody waits for at the end: columns of the last fold that hold no useful result.

    With several blocks of columns the last full block may end after the last, partial one, which then saves no more
    than the time between them: its ``blocks_down`` folds at ``interval`` (validation/rtl, 4x8 and 2x16 arrays).
    """
    unused = cols * -(-across // cols) - across
    several = across > cols
    return several * np.minimum(unused, blocks_down * interval) + (1 - several) * unused


@register_jitable
def rtl_cycles(dataflow, rows, cols, m, n, k, overlap):
    """Cycles by the RTL convention, integer codes in (see the module docstring)."""
    stream = stream_length(dataflow, m, n, k)
    alone = fold_alone(dataflow, rows, cols, stream)
    folds = fold_count(dataflow, rows, cols, m, n, k)
    across = across_length(dataflow, m, n)
    interval = fold_interval(overlap, rows, stream, alone)
    return (folds - 1) * interval + alone - tail(cols, across, folds // -(-across // cols), interval)


@register_jitable
def scalesim_cycles(dataflow, rows, cols, m, n, k):
    """Cycles as SCALE-Sim 3.0.0 counts them: no overlap of folds, no tail (validation/data/peers)."""
    alone = stream_length(dataflow, m, n, k) + (1 + (dataflow != OS)) * rows + cols - 2
    return fold_count(dataflow, rows, cols, m, n, k) * alone - 1


@register_jitable
def axis_cycles(rows, cols, m, n, k):
    """Cycles of an output-stationary array with shadow registers and an output bus (external_rtl_cycles.csv).

    With several folds the RTL was observed for ``k >= 2 * rows`` only, where the bus never holds a fold up.
    """
    return fold_count(OS, rows, cols, m, n, k) * k + rows + 2 * cols


def cycles(
    dataflow: Any,
    rows: Any,
    cols: Any,
    m: Any,
    n: Any,
    k: Any,
    overlap: Any = "double_buffer",
    convention: Any = "rtl",
) -> np.int64 | np.ndarray:
    """Cycles of ``m x k . k x n`` on ``rows x cols``; every argument broadcasts, names included.

    Args:
        dataflow: ``os``, ``ws`` or ``is``, or codes into ``DATAFLOWS``.
        rows, cols: processing elements of the array. m, n, k: GEMM dimensions, elements. All whole, >= 1.
        overlap: ``none`` (a fold waits for the one before), ``single_buffer``, ``double_buffer``, or codes into
            ``OVERLAPS``. Only the ``rtl`` convention looks at it.
        convention: ``rtl``, ``scalesim`` (compatible with SCALE-Sim 3.0.0), ``axis`` (shadow registers and an output
            bus; ``os`` only), or codes into ``CONVENTIONS``.

    Returns:
        int64 cycles, scalar or of the broadcast shape.

    Raises:
        InputError: unknown name, dimension below 1, ``axis`` with another dataflow, shapes that do not broadcast.
    """
    flow = code("dataflow", dataflow, DATAFLOWS)
    over = code("overlap", overlap, OVERLAPS)
    kind = code("convention", convention, CONVENTIONS)
    sizes = [whole(name, value) for name, value in (("rows", rows), ("cols", cols), ("m", m), ("n", n), ("k", k))]
    try:
        shape = np.broadcast_shapes(flow.shape, over.shape, kind.shape, *(size.shape for size in sizes))
    except ValueError:
        shapes = [given.shape for given in (flow, kind, over, *sizes)]
        raise InputError(f"arguments must broadcast, got shapes {shapes}") from None
    if np.any((kind == AXIS) & (flow != OS)):
        raise InputError("convention 'axis' must go with dataflow 'os': no other was measured")
    total = np.zeros(shape, np.int64)
    if (kind == RTL).any():
        total = total + (kind == RTL) * rtl_cycles(flow, *sizes, over)
    if (kind == SCALESIM).any():
        total = total + (kind == SCALESIM) * scalesim_cycles(flow, *sizes)
    if (kind == AXIS).any():
        total = total + (kind == AXIS) * axis_cycles(*sizes)
    return total[()]
