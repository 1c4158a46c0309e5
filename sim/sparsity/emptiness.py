"""How often a tile of an operand is empty, for tiles of any sides: a table once an op, a look-up in the kernels.

The table holds ``log(-log P)`` of the share P of empty tiles at sides that are powers of two. Between them it is linear
in the logarithms of the sides: exact for elements that are zero independently of each other, P = (1 - d)^elements.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sim.sparsity.density import Hypergeometric
from sim.sparsity.packed_blocks import BLOCKS, RUNS
from sim.sparsity.profile import ProfileTable

SIDES = 11
"""Powers of two a side, 1 to 1024; longer ones go on as the last two do, as far as the operand reaches."""
_LEAST, _MOST = -30.0, 6.6  # log(-log P) of P next to 1, and of P = 0
NEVER = np.full((SIDES, SIDES), _MOST)
"""The table of an operand without zeros."""


def of_mask(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Table of a mask [rows, columns], exact at powers of two and at the whole of a side. Short last tiles count as
    what they are, so that a tile within another is empty no less often."""
    table = np.empty((SIDES, SIDES))
    tall, heights = np.asarray(mask, dtype=bool), np.ones(len(mask))
    for i in range(SIDES):
        wide, widths = tall, np.ones(tall.shape[1])
        for j in range(SIDES):
            table[i, j] = 1.0 - (heights @ wide @ widths) / mask.size
            wide, widths = _pairs(wide.T).T, _sums(widths)
        tall, heights = _pairs(tall), _sums(heights)
    found = _to_the_end(of_shares(table), mask.shape[0])
    return _to_the_end(found.T, mask.shape[1]).T


def _to_the_end(table: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The power of two above a side moved so that the line from the one below it meets the whole side's value there."""
    last = int(np.log2(side))
    if 2**last == side or last + 1 >= SIDES:
        return table
    found = table.copy()
    found[last + 1] = table[last] + (table[last + 1] - table[last]) / (np.log2(side) - last)
    return found


def of_shares(empty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of empty tiles as the table holds them."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(-np.log(empty)), _LEAST, _MOST)


def spread(rows: int, columns: int, nonzeros: float) -> NDArray[np.float64]:
    """Table of a matrix whose zeros are spread at random; only the elements of a tile count."""
    model = Hypergeometric((rows, columns), min(1.0, nonzeros / (rows * columns)))
    shares = [model.empty_of(min(2**power, rows * columns)) for power in range(2 * SIDES - 1)]
    return of_shares(np.array([[shares[i + j] for j in range(SIDES)] for i in range(SIDES)]))


def of_profile(guess: NDArray[np.float64], profiles: ProfileTable, at: int) -> NDArray[np.float64]:
    """``guess`` (:func:`spread`) moved to what a profile counted: square blocks, and runs along the columns. Tiles in
    between are moved as far as the square block of as many elements, single rows as far as the run."""
    rows, columns = profiles.shapes[at].astype(float)
    squares = np.array(
        [profiles.empty_blocks[at, i] / (-(-rows // b) * -(-columns // b)) for i, b in enumerate(BLOCKS)]
    )
    runs = np.array([profiles.empty_runs[at, i] / (rows * -(-columns // g)) for i, g in enumerate(RUNS)])
    known, lines = np.log2(BLOCKS).astype(int), np.log2(RUNS).astype(int)
    moved = np.interp(np.arange(SIDES), [0, *known], [0.0, *(of_shares(squares) - guess[known, known])])
    side = np.add.outer(np.arange(SIDES), np.arange(SIDES)) / 2
    found = guess + np.interp(side, np.arange(SIDES), moved)
    found[0] = guess[0] + np.interp(np.arange(SIDES), [0, *lines], [0.0, *(of_shares(runs) - guess[0, lines])])
    found = np.maximum.accumulate(np.maximum.accumulate(found, axis=0), axis=1)
    return np.clip(found, _LEAST, _MOST)


def independent(density: float, vectors: float, union: float) -> NDArray[np.float64]:
    """Table of inputs (vectors x K), see :func:`empty_of`; positions of K are independent of each other."""
    if density >= 1.0:
        return NEVER.copy()
    if density <= 0.0:
        return np.full((SIDES, SIDES), _LEAST)
    one, power = _growth(density, vectors, union)
    table = np.log(one) + np.log(2.0) * np.add.outer(power * np.arange(SIDES), np.arange(SIDES))
    return np.clip(table, _LEAST, _MOST)


def empty_of(some: float, vectors: float, density: float, union: float) -> float:
    """Share of the positions of K at which ``some`` of the ``vectors`` are all zero, when a share ``density`` of the
    elements is not zero and a share ``union`` of the positions in one vector or more: between one vector and all, -log
    P grows as a power of their number. ``union`` 0: vectors have their zeros independently of each other."""
    if density >= 1.0:
        return 0.0
    if density <= 0.0:
        return 1.0
    one, power = _growth(density, vectors, union)
    return float(np.exp(-one * some**power))


def _growth(density: float, vectors: float, union: float) -> tuple[float, float]:
    """(-log P of one vector, the power that it grows with)."""
    one = -np.log1p(-density)
    if vectors <= 1 or union <= 0:
        return one, 1.0
    most = -np.log1p(-min(max(union, density), 1 - 1e-12))
    return one, np.log(most / one) / np.log(vectors)


def _sums(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes of neighbours joined."""
    joined = sizes[0::2].copy()
    joined[: len(sizes) // 2] += sizes[1::2]
    return joined


def _pairs(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Neighbouring rows joined, the last one alone if there is no other."""
    joined = bits[0::2].copy()
    joined[: len(bits) // 2] |= bits[1::2]
    return joined


@numba.njit(cache=True)
def empty_share(table, rows, columns):
    """Share of empty tiles of ``rows`` x ``columns``; ``table`` flattened [SIDES * SIDES]."""
    a, b = np.log2(max(rows, 1.0)), np.log2(max(columns, 1.0))
    i, j = min(int(a), SIDES - 2), min(int(b), SIDES - 2)
    u, v = a - i, b - j
    at = i * SIDES + j
    low = table[at] + v * (table[at + 1] - table[at])
    high = table[at + SIDES] + v * (table[at + SIDES + 1] - table[at + SIDES])
    found = low + u * (high - low)
    if found >= _MOST - 1e-9:
        return 0.0
    if found <= _LEAST + 1e-9:
        return 1.0
    return np.exp(-np.exp(found))
