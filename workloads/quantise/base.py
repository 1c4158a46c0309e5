"""The interface of a quantiser, what it stores to the bit, and the registry of quantisers by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from sim.errors import InputError, nearest
from sim.sparsity.formats.stream import Stream

Streams = dict[str, Stream]
Parts = dict[str, int]


@dataclass(frozen=True)
class StoredBits:
    """Bits a matrix takes: ``values`` (a code a kept weight) and what stands beside them."""

    values: int = 0
    scales: int = 0
    zero_points: int = 0
    outliers: int = 0
    selectors: int = 0

    @classmethod
    def of(cls, streams: Streams) -> StoredBits:
        """Counted from streams; ``scales.x`` counts as scales, ``folded.x`` is stored by another op and not here."""
        bits: Parts = {}
        for name, stream in streams.items():
            part = name.partition(".")[0]
            if part != "folded":
                bits[part] = bits.get(part, 0) + stream.bits
        return cls(**bits)

    @property
    def side(self) -> int:
        """All but the values."""
        return self.scales + self.zero_points + self.outliers + self.selectors

    @property
    def total(self) -> int:
        return self.values + self.side


@dataclass(frozen=True)
class Quantised:
    """A matrix as a quantiser stores it: ``streams`` of numbers of fixed width, ``mask`` bool out x in (True = kept).

    ``streams["values"]`` holds a code a kept weight, row by row; where they stand is for a storage format
    (:mod:`sim.sparsity.formats`) to say, so a mask's own bits are not counted here.
    """

    method: Quantiser
    mask: np.ndarray
    streams: Streams

    @cached_property
    def codes(self) -> np.ndarray:
        """Codes, int64 out x in, 0 where pruned."""
        codes = np.zeros(self.mask.shape, np.int64)
        codes[self.mask] = self.method._unpack(self.streams["values"], int(self.mask.sum()))
        return codes

    @cached_property
    def values(self) -> np.ndarray:
        """The matrix that the streams stand for, float32 out x in, zero where pruned."""
        return np.where(self.mask, self.method._decode(self.codes, self.streams), np.float32(0))

    @property
    def stored(self) -> StoredBits:
        return StoredBits.of(self.streams)

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over all weights of the matrix, pruned ones included."""
        return self.stored.total / self.mask.size


class Quantiser(ABC):
    """One way to store weights in few bits. A subclass is one short file, a frozen dataclass of its options. Its life:

    1. ``quantiser("rtn:bits=4,group=128")`` makes one; it holds no model, so one instance serves every matrix.
    2. ``quantise(weight, hessian, tokens, mask)`` gives a ``Quantised``. ``weight`` float32 out x in, ``hessian`` XᵀX
       [in, in] over ``tokens`` calibration tokens (None unless ``needs_calibration``), ``mask`` bool, True = kept.
       Pruned weights become exactly zero, and no scale looks at them; what they were before counts only for methods
       that ``compensates`` (already zero: nothing to make up for). Nothing passed in is changed.
    3. ``_encode`` writes codes and side streams; values are always what ``_decode`` reads back from them.
    4. ``storage(out, in, kept)`` says the same bits without weights, for models too large to load, and
       ``vector_ops`` the work beside the multiplies. The conformance suite holds 4 against 3.

    The same arguments give the same bytes. A worked example is ``rtn.py``.
    """

    name: ClassVar[str]
    needs_calibration: ClassVar[bool] = False
    #: Choices are made over all matrices that read one input, stacked along out.
    joint_input: ClassVar[bool] = False
    #: Kept weights make up for pruned ones: ``_encode`` sees what those were.
    compensates: ClassVar[bool] = False

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of one weight's code, as it is computed with and held on chip."""

    @abstractmethod
    def block(self, inputs: int) -> int:
        """Consecutive inputs of an output that share a scale."""

    @abstractmethod
    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        """Codes (integers >= 0, out x in) and the streams beside them; ``weight`` is zero where not ``kept`` unless the
        method ``compensates``."""

    @abstractmethod
    def _decode(self, codes: np.ndarray, streams: Streams) -> np.ndarray:
        """float32 out x in from codes and streams; whatever it says of pruned weights is ignored."""

    @abstractmethod
    def _side_bits(self, outputs: int, inputs: int, kept: int) -> Parts:
        """Bits of the side streams by part, from the shape and the number of kept weights."""

    def quantise(
        self, weight: np.ndarray, hessian: np.ndarray | None = None, tokens: int = 0, mask: np.ndarray | None = None
    ) -> Quantised:
        """Quantise one matrix; :class:`InputError` for wrong shapes, values that are not finite, no calibration."""
        weight = np.asarray(weight, dtype=np.float32)
        if weight.ndim != 2 or not weight.size or not np.isfinite(weight).all():
            raise InputError(f"{self.name}: weight must be a finite matrix out x in, got shape {weight.shape}")
        kept = np.ones(weight.shape, bool) if mask is None else np.array(mask, dtype=bool)
        if kept.shape != weight.shape:
            raise InputError(f"{self.name}: mask must be out x in = {weight.shape}, got {kept.shape}")
        if self.needs_calibration:
            size = weight.shape[1]
            if hessian is None or np.shape(hessian) != (size, size) or tokens < 1:
                raise InputError(f"{self.name} needs calibration: hessian [{size}, {size}] over tokens >= 1")
        seen = weight if self.compensates else np.where(kept, weight, np.float32(0))
        codes, side = self._encode(seen, kept, hessian, tokens)
        return Quantised(self, kept, {"values": self._pack(np.asarray(codes, dtype=np.int64)[kept]), **side})

    def storage(self, outputs: int, inputs: int, kept: int | None = None) -> StoredBits:
        """Bits of a matrix of that shape with ``kept`` weights (default: all)."""
        kept = outputs * inputs if kept is None else kept
        return StoredBits(values=self.value_bits(kept), **self._side_bits(outputs, inputs, kept))

    def value_bits(self, kept: int) -> int:
        """Bits that the codes of ``kept`` weights take in memory."""
        return kept * self.code_bits

    def _pack(self, codes: np.ndarray) -> Stream:
        """Codes [kept] as they lie in memory; ``_unpack`` reads so many back."""
        return Stream(codes, self.code_bits, metadata=False)

    def _unpack(self, stream: Stream, count: int) -> np.ndarray:
        return stream.numbers

    def vector_ops(self, tokens: int, outputs: int, inputs: int, kept: int) -> float:
        """ALU operations beside the matrix product of ``tokens`` rows: applying scales, whichever way takes fewer.

        Either every kept weight is scaled once on its way to the array, or every partial sum of a block is. One scale
        an output is free: it joins the scale of the activations, which no trace charges.
        """
        blocks = -(-inputs // self.block(inputs))
        return float(min(kept, tokens * outputs * blocks)) if blocks > 1 else 0.0

    def unfolded(self) -> Quantiser:
        """This quantiser where nothing can be folded into what makes the input; itself unless it folds."""
        return self

    @property
    def label(self) -> str:
        """Name and options, as ``quantiser`` reads them."""
        options = ",".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))  # type: ignore[arg-type]
        return f"{self.name}:{options}" if options else self.name


_QUANTISERS: dict[str, type[Quantiser]] = {}


def register(cls: type[Quantiser]) -> type[Quantiser]:
    """Class decorator: make a quantiser available by its name."""
    _QUANTISERS[cls.name] = cls
    return cls


def quantiser(text: str, **options: Any) -> Quantiser:
    """A quantiser from its name or label, as ``rtn``, ``rtn:bits=4,group=32``; ``options`` go over those written.

    :class:`InputError` names the nearest method or option when there is none, or the range of a wrong value.
    """
    name, _, written = text.partition(":")
    if name not in _QUANTISERS:
        raise InputError(f"quantiser {name!r} is unknown: {nearest(name, _QUANTISERS)}")
    cls = _QUANTISERS[name]
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    pairs = (part.partition("=") for part in written.split(",") if part.strip())
    given = {key.strip(): _value(value.strip()) for key, _, value in pairs} | options
    for key in given:
        if key not in known:
            raise InputError(f"{name} has no option {key!r}: {nearest(key, known)}")
    return cls(**given)


def quantisers() -> tuple[str, ...]:
    """Names of all quantisers, sorted."""
    return tuple(sorted(_QUANTISERS))


def require_whole(field: str, value: Any, least: int, most: int | None = None) -> None:
    """:class:`InputError` unless ``value`` is an integer in ``least``..``most``."""
    if type(value) is not int or value < least or (most is not None and value > most):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{field} must be an integer {limits}, got {value!r}")


def _value(text: str) -> Any:
    plain = {"None": None, "True": True, "False": False}
    if text in plain:
        return plain[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
