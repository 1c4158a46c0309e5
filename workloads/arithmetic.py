"""Which operands of a forward pass are rounded, and to how many bits: ``w8a8kv8``, ``wxa8kv4``, ``float``.

Grammar: ``w<bits>a<bits>kv<bits>`` with bits from 2 to 16, ``x`` for weights that are multiplied as given (already
quantised, or float), ``f`` for activations or a cache that stay float32. ``float`` is short for ``wxafkvf``. A model
takes one arithmetic, or one a layer, written ``w8a8kv8*10,wxa8kv4*20``; one entry more is the head's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sim.errors import InputError, nearest

LEAST_BITS, MOST_BITS = 2, 16
MOST_REPEATS = 99_999
_FORM = re.compile(r"w(x|\d{1,9})a(f|\d{1,9})kv(f|\d{1,9})")
_SHORT = {"float": "wxafkvf"}
#: What a misspelt name is compared with.
_USUAL = ("float", "w8a8kv8", "w8a8kv4", "w8a4kv4", "w4a8kv8", "w4a8kv4", "w4a4kv4", "wxa8kv8", "wxa8kv4", "wxa4kv4")


@dataclass(frozen=True)
class Arithmetic:
    """Bits of one layer's operands, symmetric integers whose scale is a row's largest magnitude; None: not rounded.

    ``weight_bits``: per output channel. ``activation_bits``: per token, of what enters the matrices, and per token and
    head of queries and attention probabilities. ``kv_bits``: per token and head, keys after the rotary embedding.
    """

    weight_bits: int | None = None
    activation_bits: int | None = None
    kv_bits: int | None = None

    def __post_init__(self) -> None:
        for name, bits in vars(self).items():
            if bits is not None and (type(bits) is not int or not LEAST_BITS <= bits <= MOST_BITS):
                raise InputError(f"{name} must be None or a whole number in {LEAST_BITS}..{MOST_BITS}, got {bits!r}")

    @classmethod
    def parse(cls, text: str) -> Arithmetic:
        """From its text; :class:`InputError` states the grammar and the nearest usual name."""
        found = _FORM.fullmatch(_SHORT.get(text, text))
        if not found:
            raise InputError(
                f"arithmetic {text!r} is not 'float' or like 'w8a8kv8' (w: {LEAST_BITS}..{MOST_BITS} or x, a and kv: "
                f"{LEAST_BITS}..{MOST_BITS} or f): {nearest(text, _USUAL)}"
            )
        return cls(*(None if bits in ("x", "f") else int(bits) for bits in found.groups()))

    def __str__(self) -> str:
        weight = "x" if self.weight_bits is None else self.weight_bits
        activation, kv = ("f" if bits is None else bits for bits in (self.activation_bits, self.kv_bits))
        text = f"w{weight}a{activation}kv{kv}"
        return next((short for short, long in _SHORT.items() if long == text), text)

    @property
    def head_bits(self) -> int | None:
        """Bits of the head's weights: those of the matrices; 8 where only the matrices came quantised (``wxa8kv8``),
        for no quantiser of the matrices covers the head; None where its input stays float."""
        return 8 if self.weight_bits is None and self.activation_bits is not None else self.weight_bits


FLOAT = Arithmetic()
W8A8KV8 = Arithmetic(8, 8, 8)
#: One for the whole model, or one a layer, or those and the head's.
Arithmetics = str | Arithmetic | Sequence[str | Arithmetic]


def per_layer(given: Arithmetics, layers: int) -> tuple[Arithmetic, ...]:
    """One a layer and, last, the head's (where it is not given: the last layer's).

    :class:`InputError` for a name that is none and for any other number than 1, ``layers`` or ``layers`` + 1.
    """
    entries = _entries(given) if isinstance(given, str) else [given] if isinstance(given, Arithmetic) else list(given)
    found = [Arithmetic.parse(entry) if isinstance(entry, str) else entry for entry in entries]
    if len(found) == 1:
        found *= layers
    if len(found) not in (layers, layers + 1):
        raise InputError(f"arithmetic must be one, or one a layer ({layers}, and one for the head), got {len(found)}")
    return (*found, found[-1])[: layers + 1]


def label(arithmetics: Iterable[Arithmetic]) -> str:
    """Text of :func:`per_layer`'s result: one name where all are alike, else runs, as in ``w8a8kv8*30,w8a4kv4``."""
    runs = [(str(one), len(list(same))) for one, same in groupby(arithmetics)]
    if len(runs) == 1:
        return runs[0][0]
    return ",".join(name if count == 1 else f"{name}*{count}" for name, count in runs)


def _entries(text: str) -> list[str]:
    """``a*2,b`` as a, a, b."""
    found: list[str] = []
    for part in text.split(","):
        name, star, count = part.partition("*")
        if star and not (count.isdecimal() and len(count) < 10 and 0 < int(count) <= MOST_REPEATS):
            raise InputError(
                f"arithmetic {text[:80]!r}: '{part[:40]}' must repeat a whole number of times, at most {MOST_REPEATS}, "
                "as in 'w8a8kv8*10'"
            )
        found += [name] * int(count or 1)
    return found
