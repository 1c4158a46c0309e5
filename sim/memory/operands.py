"""Bytes of a GEMM's operands: whole, by tile, and as DRAM holds them."""

from __future__ import annotations

import numba

from sim.sparse_columns import S_ARRAY_BYTES, S_ROOM_BYTES
from sim.trace import position

_BATCH, _M, _N, _K = (position(c) for c in ("batch", "m", "n", "k"))
_ABITS, _OBITS, _PBITS = (position(c) for c in ("activation_bits", "output_bits", "accumulator_bits"))
_INPUT_ELEMENTS = position("input_elements")

INPUTS, WEIGHTS, OUTPUTS = range(3)


@numba.njit(cache=True)
def whole_bytes(o, s, operand):
    """Bytes of a whole operand below DRAM, all batch items; outputs as partial sums."""
    if operand == INPUTS:
        return o[_BATCH] * o[_M] * o[_K] * o[_ABITS] / 8.0
    if operand == WEIGHTS:
        return o[_BATCH] * s[S_ARRAY_BYTES]
    return o[_BATCH] * o[_M] * o[_N] * o[_PBITS] / 8.0


@numba.njit(cache=True)
def final_bytes(o):
    """Bytes of the whole output at its own precision."""
    return o[_BATCH] * o[_M] * o[_N] * o[_OBITS] / 8.0


@numba.njit(cache=True)
def tile_bytes(o, s, operand, m, n, k):
    """Room for one tile of an operand; weights as provisioned, outputs as partial sums."""
    if operand == INPUTS:
        return m * k * o[_ABITS] / 8.0
    if operand == WEIGHTS:
        return s[S_ROOM_BYTES] * (n * k) / (o[_N] * o[_K])
    return m * n * o[_PBITS] / 8.0


@numba.njit(cache=True)
def input_dram_bytes(o):
    """Bytes of inputs that one pass over them fetches from DRAM: distinct elements only (a convolution's patches
    overlap)."""
    elements = o[_INPUT_ELEMENTS] if o[_INPUT_ELEMENTS] > 0.0 else o[_M] * o[_K]
    return o[_BATCH] * elements * o[_ABITS] / 8.0
