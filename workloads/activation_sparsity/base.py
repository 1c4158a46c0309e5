"""The interface of methods that drop activations at run time, and their registry by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import numpy as np

from sim.errors import InputError, nearest
from workloads.activation_sparsity.facts import Facts

#: Called with (layer, tensor, x [tokens, features]); True where x stays: one mask for all matrices that read it, or a
#: mapping from every matrix type that reads it to its own.
Keep = Callable[[int, str, np.ndarray], np.ndarray | Mapping[str, np.ndarray]]


class ActivationMethod(ABC):
    """One way to say, token by token, which activations a matrix does without. A subclass is one short file; its life:

    1. ``activation_method(name)`` makes one; it holds no model, so one instance serves all.
    2. ``keep(facts, sparsity)`` fixes what is fixed before a run (thresholds, norms) and returns the function that
       chooses at run time. ``sparsity``: share of all products of activations and weights that it shall drop; 0 drops
       nothing.
    3. That function looks at each token alone, as decoding does: a token's mask does not depend on others beside it.
       It changes nothing it is given, and the same x gives the same mask.

    ``needs_calibration``: ``facts.samples`` is used. ``per_matrix``: matrices that read one tensor have masks of their
    own. ``exact``: every token drops the same share, not all of them on average. A worked example is ``topk.py``.
    """

    name: ClassVar[str]
    needs_calibration: ClassVar[bool] = False
    per_matrix: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def keep(self, facts: Facts, sparsity: float) -> Keep:
        """The choice at run time; :class:`InputError` unless ``sparsity`` lies in [0, 1)."""
        if not 0 <= sparsity < 1:
            raise InputError(f"sparsity of {self.name} must be at least 0 and below 1, got {sparsity!r}")
        return self._keep(facts, sparsity)

    @abstractmethod
    def _keep(self, facts: Facts, sparsity: float) -> Keep:
        """``keep`` for a sparsity in range."""


_METHODS: dict[str, type[ActivationMethod]] = {}
M = TypeVar("M", bound=type[ActivationMethod])


def register(cls: M) -> M:
    """Class decorator: make a method available by its name."""
    _METHODS[cls.name] = cls
    return cls


def activation_method(name: str) -> ActivationMethod:
    """A method by name; :class:`InputError` names the nearest one when there is none."""
    if name not in _METHODS:
        raise InputError(f"method of activation sparsity {name!r} is unknown: {nearest(name, _METHODS)}")
    return _METHODS[name]()


def activation_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(sorted(_METHODS))
