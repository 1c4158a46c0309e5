"""How many array cycles a streamed vector takes as a function of the op's bits, for each kind of arithmetic.

- ``parallel``: PEs of fixed width; narrower operands gain nothing (Eyeriss, TPU).
- ``composable``: a PE splits into, or is joined from, 2-bit bricks: throughput grows as widths shrink, in powers of two
  (Bit Fusion, Sharma et al., ISCA 2018).
- ``bit_serial_weights``: weights arrive one bit a cycle, activations in parallel (Stripes with the operands' roles
  swapped, Judd et al., MICRO 2016; UNPU, Lee et al., JSSC 2019).
- ``bit_serial``: both operands serially, one product bit a cycle (Loom, Sharify et al., DAC 2018).
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

ARITHMETICS = ("parallel", "composable", "bit_serial_weights", "bit_serial")
PARALLEL, COMPOSABLE, SERIAL_WEIGHTS, SERIAL = range(4)
BRICK_BITS = 2.0


@register_jitable
def brick_bits(bits):
    """Width of the bricks that ``bits`` need: 2, 4, 8, 16."""
    return 2.0 ** np.ceil(np.log2(np.maximum(bits, BRICK_BITS)))


@register_jitable
def cycles_per_vector(arithmetic, weight_bits, activation_bits, native_weight_bits, native_activation_bits):
    """Array cycles per vector of operands, relative to a PE that does one native MAC a cycle; broadcasts."""
    bricks = brick_bits(weight_bits) / native_weight_bits * brick_bits(activation_bits) / native_activation_bits
    return (
        (arithmetic == PARALLEL) * 1.0
        + (arithmetic == COMPOSABLE) * bricks
        + (arithmetic == SERIAL_WEIGHTS) * weight_bits
        + (arithmetic == SERIAL) * weight_bits * activation_bits
    )
