"""Fields of a 64-bit word: their masks, shifts of the right type for Numba, and a word's population count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

# every second field of 1, 2, 4, 8, 16 bits
M1 = np.uint64(0x5555555555555555)
M2 = np.uint64(0x3333333333333333)
M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
M8 = np.uint64(0x00FF00FF00FF00FF)
M16 = np.uint64(0x0000FFFF0000FFFF)
# the lowest bit of every field of 4, 8, 16, 32 bits
L4 = np.uint64(0x1111111111111111)
L8 = np.uint64(0x0101010101010101)
L16 = np.uint64(0x0001000100010001)
L32 = np.uint64(0x0000000100000001)
S0, S1, S2, S3, S4, S7, S8, S16, S32 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 7, 8, 16, 32))


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Bits set in a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate
