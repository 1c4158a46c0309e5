"""Remembering what was computed from an object, no longer than it is true.

Two holders: columns that never change (:func:`once`, for :class:`sim.designs.Designs`), and a DataFrame that its owner
may change in place (:class:`FrameMemo`, for :class:`sim.trace.Trace`), where a change is noticed and all is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import pandas as pd

_Value = TypeVar("_Value")
_MOST = 1024  # values of one frame; a table of sparse support of a whole LLM takes about 50 kB
_COPY_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3


def once(function: Callable[[Any], _Value]) -> Callable[[Any], _Value]:
    """``function(designs)`` computed once for each object that has a ``memo``; its result is shared: read it only."""
    key = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def remembered(designs: Any) -> _Value:
        memo = designs.memo
        if key not in memo:
            memo[key] = function(designs)
        return memo[key]

    return remembered


class FrameMemo:
    """Values computed from a DataFrame and from objects beside it, forgotten once any of them is another.

    A shallow copy is held, so that pandas writes to a copy of the data when the owner changes the frame in place
    (copy on write, pandas 3): the frame's arrays are then other objects. Where pandas does not do so, nothing is kept.
    """

    def __init__(self) -> None:
        self._held: tuple[Any, ...] = ()
        self._beside: tuple[Any, ...] = ()
        self._values: dict[Hashable, Any] = {}

    def get(self, frame: pd.DataFrame, beside: tuple[Any, ...], key: Hashable, make: Callable[[], _Value]) -> _Value:
        """The value of ``key``, from ``make()`` if it is not there or no longer true."""
        blocks = getattr(getattr(frame, "_mgr", None), "blocks", None)
        if blocks is None or not _COPY_ON_WRITE:
            return make()
        if not self._holds(frame, blocks, beside):
            self._held = (frame.copy(deep=False), frame.columns, *(block.values for block in blocks))
            self._beside, self._values = beside, {}
        if key not in self._values:
            if len(self._values) >= _MOST:
                self._values.clear()
            self._values[key] = make()
        return self._values[key]

    def _holds(self, frame: pd.DataFrame, blocks: Any, beside: tuple[Any, ...]) -> bool:
        held = self._held
        return (
            len(held) == len(blocks) + 2
            and frame.columns is held[1]
            and all(block.values is kept for block, kept in zip(blocks, held[2:], strict=True))
            and len(beside) == len(self._beside)
            and all(a is b for a, b in zip(beside, self._beside, strict=True))
        )
