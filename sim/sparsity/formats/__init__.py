"""Storage formats of sparse weights: what they store, to the bit, and what undoes it.

:data:`FORMATS` maps names to classes (:class:`~sim.sparsity.formats.base.Format`); :func:`format_of` makes one with its
options. The functions below are short cuts for plain numbers and masks. ``rows x columns`` is the stored matrix as
out x in: rows are output features. Sources are named in each format's file; the formulas others collected are
``validation/data/tech/storage_format_formulas.csv``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.sparsity.formats.base import Encoded, Format, StoredBytes
from sim.sparsity.formats.block import Block
from sim.sparsity.formats.csr import INDEX_BITS
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.registry import FORMATS, format_of
from sim.sparsity.formats.zeros import Known

__all__ = [
    "FORMATS",
    "INDEX_BITS",
    "Decoder",
    "Encoded",
    "Format",
    "Part",
    "StoredBytes",
    "bits_per_weight",
    "bytes_of",
    "encoded_bytes",
    "format_of",
]


def bytes_of(
    name: str,
    rows: ArrayLike,
    columns: ArrayLike,
    nonzeros: ArrayLike,
    bits: ArrayLike,
    n_of_m: tuple[int, int] = (2, 4),
    block: int | tuple[int, int] = 4,
    stored_blocks: ArrayLike | None = None,
    **options: Any,
) -> NDArray[np.float64]:
    """Stored bytes (fractions of a byte kept) of matrices, everything broadcast; ``options`` are the format's own.

    Exact where counts say all (:attr:`Format.counts_suffice`), and for ``block`` with ``stored_blocks`` (a profile
    knows them: all 1 x ``block`` runs less its ``empty_runs``); else zeros are taken as spread at random, and values
    of ``huffman`` as incompressible unless ``code_bits`` is given.

    Raises:
        InputError: an unknown format or option.
    """
    chosen = _chosen(name, n_of_m, block, options)
    if stored_blocks is None or not isinstance(chosen, Block):
        return np.asarray(chosen.closed(rows, columns, nonzeros, bits).total)
    counts = (np.asarray(v, dtype=np.float64) for v in (rows, columns, nonzeros))
    known = Known(*counts, {chosen.block: np.asarray(stored_blocks, dtype=np.float64)})
    return np.asarray(StoredBytes.of_bits(chosen.bits(known, np.asarray(bits, dtype=np.float64))).total)


def bits_per_weight(
    name: str, rows: ArrayLike, columns: ArrayLike, nonzeros: ArrayLike, bits: ArrayLike, **options: Any
) -> NDArray[np.float64]:
    """Stored bits per element of the matrix, metadata and padding included; options as in :func:`bytes_of`."""
    return 8.0 * bytes_of(name, rows, columns, nonzeros, bits, **options) / (np.asarray(rows) * np.asarray(columns))


def encoded_bytes(
    name: str,
    matrix: ArrayLike,
    bits: int,
    n_of_m: tuple[int, int] = (2, 4),
    block: int | tuple[int, int] = 4,
    **options: Any,
) -> float:
    """Bytes that encoding this very matrix (out x in) takes; a mask suffices but for ``huffman``.

    Raises:
        InputError: unknown format or option, or a mask that does not fit ``n_of_m``.
    """
    return float(_chosen(name, n_of_m, block, options).stored(matrix, bits).total)


def _chosen(name: str, n_of_m: tuple[int, int], block: int | tuple[int, int], options: dict[str, Any]) -> Format:
    if name == "n_of_m":
        options = {"n": n_of_m[0], "m": n_of_m[1], **options}
    elif name == "block":
        options = {"block": (1, block) if isinstance(block, int) else tuple(block), **options}
    return format_of(name, **options)
