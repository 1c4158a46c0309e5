"""The door of every model function: names become integer codes, dimensions become whole numbers, or an InputError."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.errors import InputError, nearest


def whole(name: str, value: Any, low: int = 1, high: int | None = None) -> np.ndarray:
    """``value`` (scalar or array) as int64, every element within ``low..high``.

    Raises:
        InputError: not numbers, not whole, or out of range; the message names the first wrong element.
    """
    allowed = f"a whole number >= {low}" if high is None else f"a whole number in {low}..{high}"
    given = np.asarray(value)
    if given.dtype.kind not in "iuf":
        raise InputError(f"{name} must be {allowed}, got {value!r}")
    wrong = ~((given >= low) & (given % 1 == 0) & (given <= (np.iinfo(np.int64).max if high is None else high)))
    if wrong.any():
        raise InputError(f"{name} must be {allowed}, got {given[wrong].flat[0]}")
    return given.astype(np.int64)


def code(name: str, value: Any, names: tuple[str, ...]) -> np.ndarray:
    """Position of each of ``value`` in ``names`` as int64; integer codes pass through after a range check.

    Raises:
        InputError: an unknown name (with the nearest right one) or a code out of range.
    """
    given = np.asarray(value)
    if given.dtype.kind in "iu":
        return whole(f"{name} (as a code)", given, 0, len(names) - 1)
    codes = np.full(given.shape, -1, np.int64)
    for position, known in enumerate(names):
        codes[given == known] = position
    if (codes < 0).any():
        wrong = given[codes < 0].tolist()[0]
        raise InputError(f"{name} must be one of {', '.join(names)}, got {wrong!r}: {nearest(wrong, names)}")
    return codes
