"""Bytes of sparse storage formats, metadata and padding counted, as closed forms that broadcast.

``rows x columns`` is the stored matrix as out x in: rows are output features. Sources: definitions, as collected in
``validation/data/tech/storage_format_formulas.csv``; :func:`encoded_bytes` counts what a real mask takes, and the tests
hold the closed forms against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError, nearest

INDEX_BITS = 32  # column indices and row pointers of CSR, CSC and COO, as the common libraries store them
RUN_BITS = 5  # zeros before a value, as in Eyeriss' run-length code
Number = Any


def _dense(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    return rows * columns * bits / 8.0 + 0.0 * nonzeros


def _bitmap(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    return (nonzeros * bits + rows * columns) / 8.0


def _csr(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    return (nonzeros * (bits + INDEX_BITS) + (rows + 1.0) * INDEX_BITS) / 8.0 + 0.0 * columns


def _csc(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    return _csr(columns, rows, nonzeros, bits)


def _coo(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    return nonzeros * (bits + 2.0 * INDEX_BITS) / 8.0 + 0.0 * (rows + columns)


def _n_of_m(
    rows: Number, columns: Number, nonzeros: Number, bits: Number, n_of_m: tuple[int, int] = (2, 4), **_: Any
) -> Number:
    n, m = n_of_m
    kept = rows * n * np.ceil(columns / m)
    return kept * (bits + np.ceil(np.log2(m))) / 8.0 + 0.0 * nonzeros


def _run_length(rows: Number, columns: Number, nonzeros: Number, bits: Number, **_: Any) -> Number:
    """Expected: geometric gaps; a run beyond 2^RUN_BITS - 1 zeros needs a zero value of its own."""
    density = np.clip(nonzeros / (rows * columns), 1e-12, 1.0)
    longest = 2.0**RUN_BITS
    full = (1.0 - density) ** longest
    return nonzeros * (1.0 + full / (1.0 - np.minimum(full, 1.0 - 1e-12))) * (bits + RUN_BITS) / 8.0


def _block(
    rows: Number,
    columns: Number,
    nonzeros: Number,
    bits: Number,
    block: int = 4,
    stored_blocks: Number = None,
    **_: Any,
) -> Number:
    """1 x ``block`` blocks along the inputs, whole if they hold anything; a column index each and CSR's row pointers.
    Without ``stored_blocks`` their number is the expected one for zeros spread at random."""
    if stored_blocks is None:
        density = nonzeros / (rows * columns)
        whole, rest = np.floor(columns / block), columns % block
        stored_blocks = rows * (whole * (1.0 - (1.0 - density) ** block) + 1.0 - (1.0 - density) ** rest)
    return (stored_blocks * (block * bits + INDEX_BITS) + (rows + 1.0) * INDEX_BITS) / 8.0 + 0.0 * (columns + nonzeros)


FORMATS: dict[str, Callable[..., Number]] = {
    "dense": _dense,
    "bitmap": _bitmap,
    "csr": _csr,
    "csc": _csc,
    "coo": _coo,
    "n_of_m": _n_of_m,
    "run_length": _run_length,
    "block": _block,
}


def bytes_of(
    name: str,
    rows: ArrayLike,
    columns: ArrayLike,
    nonzeros: ArrayLike,
    bits: ArrayLike,
    n_of_m: tuple[int, int] = (2, 4),
    block: int = 4,
    stored_blocks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Stored bytes (fractions of a byte kept) of matrices, everything broadcast.

    Exact but for ``run_length`` and, without ``stored_blocks`` (a profile knows them: all 1 x ``block`` runs less its
    ``empty_runs``), ``block``: these take the zeros as spread at random.

    Raises:
        InputError: an unknown format.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got '{name}', {nearest(name, FORMATS)}")
    values = (np.asarray(v, dtype=np.float64) for v in (rows, columns, nonzeros, bits))
    stored = None if stored_blocks is None else np.asarray(stored_blocks, dtype=np.float64)
    return np.asarray(FORMATS[name](*values, n_of_m=n_of_m, block=block, stored_blocks=stored))


def bits_per_weight(
    name: str, rows: ArrayLike, columns: ArrayLike, nonzeros: ArrayLike, bits: ArrayLike, **options: Any
) -> NDArray[np.float64]:
    """Stored bits per element of the matrix, metadata included; options as in :func:`bytes_of`."""
    return 8.0 * bytes_of(name, rows, columns, nonzeros, bits, **options) / (np.asarray(rows) * np.asarray(columns))


def encoded_bytes(name: str, mask: ArrayLike, bits: int, n_of_m: tuple[int, int] = (2, 4), block: int = 4) -> float:
    """Bytes that encoding this very mask (out x in) takes, counted symbol by symbol.

    Raises:
        InputError: unknown format, or a mask that does not fit ``n_of_m``.
    """
    mask = np.asarray(mask) != 0
    rows, columns = mask.shape
    nonzeros = int(mask.sum())
    if name == "n_of_m":
        n, m = n_of_m
        padded = np.zeros((rows, -(-columns // m) * m), dtype=bool)
        padded[:, :columns] = mask
        if padded.reshape(rows, -1, m).sum(axis=2).max(initial=0) > n:
            raise InputError(f"the mask has more than {n} nonzeros in some group of {m}: it does not fit {n}:{m}")
        symbols = rows * (padded.shape[1] // m) * n
        return symbols * (bits + int(np.ceil(np.log2(m)))) / 8.0
    if name == "run_length":
        gaps = np.diff(np.flatnonzero(np.concatenate([[True], mask.reshape(-1)]))) - 1
        symbols = len(gaps) + int((gaps // 2**RUN_BITS).sum())
        return symbols * (bits + RUN_BITS) / 8.0
    if name == "block":
        stored = np.count_nonzero(np.add.reduceat(mask, np.arange(0, columns, block), axis=1))
        return float(bytes_of(name, rows, columns, nonzeros, bits, block=block, stored_blocks=stored))
    return float(bytes_of(name, rows, columns, nonzeros, bits))
