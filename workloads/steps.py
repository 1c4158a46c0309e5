"""What one forward pass of a model processes, and in which number formats."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import ceil
from typing import Any

from sim.errors import InputError, nearest

PHASES = ("prefill", "decode")
#: What becomes of new keys and values: written to the cache and read back from DRAM with the cached ones (prefill);
#: written, but still on chip when they are used (decode, verification); on chip only (encoders, denoising).
RELOAD, APPEND, KEEP = "reload", "append", "keep"


@dataclass(frozen=True)
class Numerics:
    """Bits of weights, GEMM inputs, KV cache, everything the vector unit reads (residual, scores), and accumulators."""

    weight_bits: int = 8
    activation_bits: int = 8
    kv_bits: int = 8
    vector_bits: int = 16
    accumulator_bits: int = 32

    def __post_init__(self) -> None:
        allowed = {"vector_bits": (16, 32), "accumulator_bits": (16, 24, 32, 40, 48)}
        for name, value in vars(self).items():
            choices = allowed.get(name, (4, 8, 16))
            if value not in choices:
                raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")

    @property
    def label(self) -> str:
        """Short name, as in ``w8a8kv8``."""
        return f"w{self.weight_bits}a{self.activation_bits}kv{self.kv_bits}"


@dataclass(frozen=True)
class Span:
    """Queries that see the same keys: ``blocks`` times ``queries`` x ``keys`` scores, ``cached`` of the keys cached."""

    blocks: int
    queries: int
    keys: int
    cached: int


@dataclass(frozen=True)
class Sequences:
    """``count`` sequences alike: ``tokens`` new positions each, after ``context`` cached ones.

    ``cache``: :data:`RELOAD`, :data:`APPEND` or :data:`KEEP`. ``masked``: the causal mask is applied. ``kept``: share
    of the cached positions that is still there to attend to (rounded up).
    """

    count: int
    tokens: int
    context: int
    cache: str = RELOAD
    masked: bool = True
    kept: float = 1.0

    @property
    def rows(self) -> int:
        """Rows of the activation matrix."""
        return self.count * self.tokens

    def spans(self, window: int | None = None) -> list[Span]:
        """Blocks of the score matrix; with a sliding ``window`` of W positions, W queries a block, each block with the
        W - 1 positions before it and itself (what a banded kernel computes; the band's corners are masked)."""
        width = self.tokens if window is None else min(window, self.tokens)
        seen = self.context if window is None else min(self.context, window - 1)
        cached = ceil(self.kept * seen)
        found = [Span(1, width, cached + width, cached)]
        whole_blocks, rest = divmod(self.tokens - width, width)
        if window is not None:
            if whole_blocks:
                found.append(Span(whole_blocks, width, 2 * width - 1, 0))
            if rest:
                found.append(Span(1, rest, width - 1 + rest, 0))
        return found


@dataclass(frozen=True)
class Step:
    """One forward pass: ``tokens`` new positions a sequence after ``context`` cached ones, or a ``mix`` of such.

    ``scored``: tokens of each sequence that reach the head (the last ones).
    """

    phase: str
    batch: int
    tokens: int
    context: int
    mix: tuple[Sequences, ...] = ()
    scored: int = 1

    @classmethod
    def of(cls, phase: str, batch: int = 1, tokens: int | None = None, context: int | None = None) -> Step:
        """Checked: prefill needs ``tokens`` (``context`` 0 unless a prompt continues), decode needs ``context``."""
        if phase not in PHASES:
            raise InputError(f"phase '{phase}' is unknown, {nearest(phase, PHASES)}")
        if phase == "prefill":
            if tokens is None:
                raise InputError("prefill needs tokens: the prompt length of each sequence, >= 1")
            return cls(
                phase,
                whole("batch", batch),
                whole("tokens", tokens),
                whole("context", 0 if context is None else context, least=0),
            )
        if context is None:
            raise InputError("decode needs context: the cached positions of each sequence, >= 0")
        if tokens not in (None, 1):
            raise InputError(f"decode makes one token a sequence: leave tokens out, got {tokens}")
        return cls(phase, whole("batch", batch), 1, whole("context", context, least=0))

    @property
    def sequences(self) -> tuple[Sequences, ...]:
        """The sequences of this pass, alike ones together."""
        if self.mix:
            return self.mix
        decode = self.phase == "decode"
        return (Sequences(self.batch, self.tokens, self.context, APPEND if decode else RELOAD, not decode),)

    @property
    def rows(self) -> int:
        """Rows of the activation matrix: new tokens of all sequences."""
        return sum(s.rows for s in self.sequences)

    @property
    def scored_rows(self) -> int:
        """Rows that reach the head."""
        return sum(s.count * min(self.scored, s.tokens) for s in self.sequences)


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value`` as an int; :class:`InputError` unless it is an integer in ``least``..``most``."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be an integer {limits}, got {value!r}")
    return number


def share(name: str, value: Any, least: float = 0.0, most: float = 1.0) -> float:
    """``value`` as a float; :class:`InputError` unless it is a number in ``least``..``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        limits = f"from {least:g} to {most:g}" if most < float("inf") else f">= {least:g}"
        raise InputError(f"{name} must be a number {limits}, got {value!r}")
    return float(value)
