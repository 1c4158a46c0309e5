"""Huffman-coded values over a bitmap, or over every element."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.sparsity.formats import canonical
from sim.sparsity.formats.base import Bits, Format, Number, StoredBytes, require
from sim.sparsity.formats.bitmap import WINDOW
from sim.sparsity.formats.codes import to_codes
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata
from sim.sparsity.formats.zeros import Zeros

LENGTH_BITS = 6  # of a code length in the table
HARDWARE_LENGTH = 16  # longest code a decoder unit takes at once; longer ones are assumed to be avoided


@dataclass(frozen=True)
class Huffman(Format):
    """One canonical code a matrix, its table (symbol and length of every symbol that occurs) counted as metadata.

    ``over``: "bitmap", nonzeros alone behind a bitmap (Deep Compression, Han et al., ICLR 2016, has run lengths there),
    or "dense", every element, zero the commonest (EntroLLM). Bytes depend on the values, so :meth:`stored` wants codes,
    not a mask. Where only a mask, a model or counts are known, ``code_bits`` says how many bits a coded value takes on
    average; without it they take their full width, an upper bound.
    """

    over: Literal["bitmap", "dense"] = "bitmap"
    code_bits: float | None = None
    name: ClassVar[str] = "huffman"
    counts_suffice: ClassVar[bool] = False
    codes_values: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.over in ("bitmap", "dense"), "over", "bitmap or dense", self.over)
        require(self.code_bits is None or 1 <= self.code_bits <= 32, "code_bits", "between 1 and 32", self.code_bits)

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        size = zeros.rows * zeros.columns
        coded = bits if self.code_bits is None else self.code_bits
        held = zeros.nonzeros * coded
        bitmap = size if self.over == "bitmap" else 0.0
        table = np.minimum(zeros.nonzeros if self.over == "bitmap" else size, 2.0**bits) * (bits + LENGTH_BITS)
        return held, bitmap + table, 0.0 if self.over == "bitmap" else (size - zeros.nonzeros) * coded

    def worst(self, rows: ArrayLike, columns: ArrayLike, bits: ArrayLike) -> NDArray[np.float64]:
        """Values at their full width."""
        return super(Huffman, replace(self, code_bits=None)).worst(rows, columns, bits)

    def stored(self, matrix: ArrayLike, bits: int) -> StoredBytes:
        """Bytes for these very values.

        Raises:
            InputError: as :meth:`encode`, and for a mask.
        """
        if np.asarray(matrix).dtype == np.bool_:
            raise InputError("huffman codes values: matrix must hold integers or floats, got a mask")
        codes = to_codes(matrix, bits).numbers
        kept = codes[codes != 0] if self.over == "bitmap" else codes.reshape(-1)
        symbols, counts = _histogram(kept, bits)
        sizes = counts * canonical.code_lengths(counts.tolist())
        table = len(symbols) * (bits + LENGTH_BITS) + (codes.size if self.over == "bitmap" else 0)
        return StoredBytes.of_bits((int(sizes[symbols != 0].sum()), table, int(sizes[symbols == 0].sum())))

    def decoder(self, bits: int) -> Decoder:
        """A symbol a cycle: the next bits against the first code of every length, and a table of symbols."""
        parts = (
            Part("register", bits=2 * HARDWARE_LENGTH),
            Part("multiplexer", HARDWARE_LENGTH.bit_length() - 1, size=2, bits=2 * HARDWARE_LENGTH),
            Part("comparator", HARDWARE_LENGTH, bits=HARDWARE_LENGTH),
            Part("register", HARDWARE_LENGTH, bits=HARDWARE_LENGTH),
            Part("adder", bits=HARDWARE_LENGTH),
            Part("table", size=1 << min(bits, 8), bits=bits),
        )
        scan = (Part("encoder", size=WINDOW), Part("register", bits=WINDOW))
        return Decoder(1.0, "values", parts + scan if self.over == "bitmap" else parts)

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        found = {"bitmap": metadata(codes != 0, 1)} if self.over == "bitmap" else {}
        kept = codes[codes != 0] if self.over == "bitmap" else codes.reshape(-1)
        symbols, index, counts = np.unique(kept, return_inverse=True, return_counts=True)
        lengths = canonical.code_lengths(counts.tolist())
        zero_bits = int((counts * lengths)[symbols == 0].sum())
        return found | {
            "symbols": metadata(symbols, bits),
            "lengths": metadata(lengths, LENGTH_BITS),
            "values": Stream(canonical.encode(index.reshape(-1), lengths), 1, False, zero_bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        held = streams["bitmap"].numbers > 0 if self.over == "bitmap" else np.ones(shape[0] * shape[1], dtype=bool)
        index = canonical.decode(streams["values"].numbers, streams["lengths"].numbers, int(held.sum()))
        codes = np.zeros(shape[0] * shape[1], dtype=np.int64)
        codes[held] = streams["symbols"].numbers[index]
        return codes.reshape(shape)


def _histogram(codes: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(codes that occur, how often each): counted in bins where they are few, sorted where not."""
    if bits > 16:
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes, minlength=1)
    symbols = np.flatnonzero(counts)
    return symbols, counts[symbols]
