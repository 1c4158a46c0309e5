"""The interface of a pruning method, and the registry of methods by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim.errors import InputError, nearest
from workloads.pruning.pattern import Pattern


@dataclass(frozen=True)
class Pruned:
    """A pruned matrix: ``mask`` bool out x in (True = kept) and ``weight`` float32 out x in, zero where not kept."""

    mask: np.ndarray
    weight: np.ndarray

    @property
    def sparsity(self) -> float:
        return 1 - self.mask.mean()


class PruningMethod(ABC):
    """One way to choose which weights go. A subclass is one short file; its life is:

    1. ``method(name)`` makes one instance by name; it holds no model, so one instance serves every matrix.
    2. For each matrix, ``prune(weight, hessian, tokens, pattern)`` returns a ``Pruned``. ``weight`` is the dense matrix
       (float32 out x in), ``hessian`` is XᵀX [in, in] over ``tokens`` calibration tokens of the *dense* model, or None
       when ``needs_calibration`` is False. Nothing passed in is changed.
    3. The same arguments give the same bytes: ties are broken by ``select.tie_order``, nothing is random.

    Unstructured patterns remove ``select.removed_count`` weights over the method's own scope (matrix, row or block);
    n:m patterns keep exactly n of every m consecutive inputs of every output. A worked example is ``magnitude.py``.
    """

    name: ClassVar[str]
    needs_calibration: ClassVar[bool] = True

    @abstractmethod
    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        """Prune one matrix."""


_METHODS: dict[str, type[PruningMethod]] = {}


def register(cls: type[PruningMethod]) -> type[PruningMethod]:
    """Class decorator: make a method available by its name."""
    _METHODS[cls.name] = cls
    return cls


def method(name: str) -> PruningMethod:
    """A pruning method by name; InputError names the nearest one when there is none."""
    if name not in _METHODS:
        raise InputError(f"pruning method {name!r} is unknown: {nearest(name, _METHODS)}")
    return _METHODS[name]()


def methods() -> tuple[str, ...]:
    """Names of all matrix-wise methods, sorted."""
    return tuple(sorted(_METHODS))
