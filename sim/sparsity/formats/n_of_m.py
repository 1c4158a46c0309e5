"""n:m structured: n values of every m inputs, each with its place in the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.sparsity.formats.base import Bits, Format, Number, require
from sim.sparsity.formats.hardware import Decoder, Part
from sim.sparsity.formats.stream import Stream, metadata, values
from sim.sparsity.formats.zeros import Actual, Zeros

LARGEST_GROUP = 256


@dataclass(frozen=True)
class NofM(Format):
    """``rows x n x ceil(columns / m)`` slots of ``bits + ceil(log2 m)``; groups with fewer nonzeros store zeros."""

    n: int = 2
    m: int = 4
    name: ClassVar[str] = "n_of_m"

    def __post_init__(self) -> None:
        rule = f"n:m with 1 <= n < m <= {LARGEST_GROUP}"
        require(1 <= self.n < self.m <= LARGEST_GROUP, "n_of_m", rule, f"{self.n}:{self.m}")

    def slots(self, zeros: Zeros) -> Number:
        """Values stored."""
        return zeros.rows * self.n * np.ceil(zeros.columns / self.m)

    @property
    def place_bits(self) -> int:
        """Bits of a place in a group."""
        return (self.m - 1).bit_length()

    def bits(self, zeros: Zeros, bits: Number) -> Bits:
        slots = self.slots(zeros)
        held = np.minimum(zeros.nonzeros, slots) * bits
        return held, slots * self.place_bits, slots * bits - held

    def check(self, mask: NDArray[np.bool_]) -> None:
        if Actual(mask).beyond(self.m, self.n):
            raise InputError(
                f"the mask has more than {self.n} nonzeros in some group of {self.m}: it does not fit {self.n}:{self.m}"
            )

    def decoder(self, bits: int) -> Decoder:
        """n values a cycle: each of m outputs takes one of them or none, by comparing places."""
        return Decoder(
            float(self.n),
            "values",
            (
                Part("comparator", self.n * self.m, bits=self.place_bits),
                Part("multiplexer", self.m, size=self.n + 1, bits=bits),
            ),
        )

    def _write(self, codes: NDArray[np.int64], bits: int) -> dict[str, Stream]:
        groups = np.pad(codes, ((0, 0), (0, -codes.shape[1] % self.m))).reshape(codes.shape[0], -1, self.m)
        places = np.sort(np.argsort(groups == 0, axis=2, kind="stable")[:, :, : self.n], axis=2)
        return {
            "places": metadata(places, self.place_bits),
            "values": values(np.take_along_axis(groups, places, axis=2), bits),
        }

    def _read(self, streams: dict[str, Stream], shape: tuple[int, int], bits: int) -> NDArray[np.int64]:
        groups = np.zeros((shape[0], -(-shape[1] // self.m), self.m), dtype=np.int64)
        slots = (*groups.shape[:2], self.n)
        places, found = (streams[name].numbers.reshape(slots) for name in ("places", "values"))
        np.put_along_axis(groups, places, found, axis=2)
        return groups.reshape(shape[0], -1)[:, : shape[1]]
