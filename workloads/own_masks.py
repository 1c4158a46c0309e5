"""What a caller's own function says of a model's matrices, checked at the door of ``llm``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.sparsity.profile import Profile
from sim.trace import Sparsity
from workloads.factored import Factored, FactoredOf, Zeros

_WANTED = "sp.Sparsity(mask=...), a Profile, a Factored or None"


def checked(given: Any) -> FactoredOf:
    """``given`` with every mask as bool; :class:`InputError` unless it is a function that answers what ``llm`` takes,
    with masks of True and False or of 0 and 1 alone."""
    if not callable(given):
        example = "; give lambda layer, t: masks.get((layer, t))" if isinstance(given, dict) else ""
        raise InputError(f"sparsity must be a function (layer, matrix type) -> {_WANTED}, got {_kind(given)}{example}")

    def answer(layer: int, matrix_type: str) -> Zeros | Factored:
        found, where = given(layer, matrix_type), f"layer {layer}.{matrix_type}"
        if isinstance(found, Factored):
            return replace(found, left=_zeros(found.left, where), remainder=_zeros(found.remainder, where))
        return _zeros(found, where)

    return answer


def _zeros(found: Any, where: str) -> Zeros:
    if found is None or isinstance(found, Profile):
        return found
    if not isinstance(found, Sparsity):
        hint = "; wrap it: sp.Sparsity(mask=array)" if isinstance(found, np.ndarray | list) else ""
        raise InputError(f"{where}: sparsity must be {_WANTED}, got {_kind(found)}{hint}")
    return found if found.mask is None else replace(found, mask=_bools(found.mask, where))


def _bools(mask: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(mask)
    except ValueError:  # rows of different lengths
        raise InputError(f"{where}: mask must be an array out x in, got rows of different lengths") from None
    if array.ndim != 2:
        raise InputError(f"{where}: mask must have 2 axes, out x in, got shape {array.shape}")
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where}: mask must hold True and False, or 0 and 1, got {array.dtype}")
    wrong = array[(array != 0) & (array != 1)]  # NaN is neither
    if wrong.size:
        raise InputError(f"{where}: mask must hold 0 and 1 alone (1: kept), got {wrong[0]:g}")
    return array == 1


def _kind(given: Any) -> str:
    return "an array" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
