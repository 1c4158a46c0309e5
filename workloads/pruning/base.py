"""The interfaces of pruning methods, matrix by matrix and whole models, and the registry of methods by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from sim.errors import InputError, nearest
from workloads.checkpoint import ModelConfig
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Blocks, NofM, Pattern, Unstructured, examples
from workloads.quantise import Quantised


@dataclass(frozen=True)
class Factors:
    """Two multiplications in place of one: weight = ``left`` @ ``right`` (+ ``remainder``), all float32.

    ``left`` is out x rank, ``right`` rank x in, ``remainder`` out x in or None. ``shared``: ``right`` is one dictionary
    for all matrices of its type, so it need not be loaded again.
    """

    left: np.ndarray
    right: np.ndarray
    remainder: np.ndarray | None = None
    shared: bool = False


@dataclass(frozen=True)
class Pruned:
    """A pruned matrix: ``mask`` bool out x in (True = kept) and ``weight`` float32 out x in, zero where not kept.

    - ``weight`` has fewer rows or columns than ``mask`` where FFN channels were cut.
    - ``quantised``: how the kept weights are stored in few bits; ``weight`` holds the values that this stands for.
    - ``row_order`` [out], ``column_order`` [in]: ``mask[row_order][:, column_order]`` is the tiled mask; the machine
      stores the matrix in that order and pays for gathers where the neighbours do not take the order over.
    - ``factors``: the matrix became two multiplications. ``weight`` is then their dense product (plus remainder), and
      ``mask`` tells the zeros of the sparse part: of ``factors.remainder``, or of ``factors.left`` when there is none.
    """

    mask: np.ndarray
    weight: np.ndarray
    quantised: Quantised | None = field(default=None, repr=False)
    row_order: np.ndarray | None = field(default=None, repr=False)
    column_order: np.ndarray | None = field(default=None, repr=False)
    factors: Factors | None = field(default=None, repr=False)

    @property
    def sparsity(self) -> float:
        return 1 - self.mask.mean()


#: What a method asks of the calibration, from least to most: no text at all, layers' block influence, the diagonal of
#: every Hessian XᵀX, or all of it.
NEEDS = ("nothing", "influence", "diagonal", "hessian")

#: Where a matrix-wise method counts the share that goes: over the whole matrix, in every output (strip of blocks), or
#: in every ``sparsegpt.BLOCK`` inputs.
COMPARES = ("matrix", "row", "columns")


class Method(ABC):
    """What every pruning method states about itself; see ``PruningMethod`` and ``ModelMethod`` for the two kinds.

    ``takes``: kinds of pattern. ``sequential``: each layer is calibrated on the outputs of layers already pruned.
    ``needs``: one of ``NEEDS``; with "diagonal" a Hessian may come as a ``calibration.Diagonal``, which takes
    ``np.diagonal`` and nothing else.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "hessian"
    sequential: ClassVar[bool] = False
    takes: ClassVar[tuple[type, ...]] = (Unstructured, NofM, Blocks)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        """Matrix types that only go together under this pattern; none by default."""
        return ()

    def read(self, pattern: Pattern) -> Pattern:
        """The pattern as this method uses it; InputError when it does not fit."""
        if isinstance(pattern, self.takes):
            return pattern
        others = ", ".join(n for n in methods() if isinstance(pattern, _METHODS[n].takes))
        raise InputError(
            f"{self.name} takes patterns like {examples(self.takes)}, not '{pattern}', which is for: {others}"
        )

    def fits(  # noqa: B027 - most methods have nothing to refuse
        self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> None:
        """:class:`InputError` when the pattern would do nothing to these matrices, or cannot be made."""


class PruningMethod(Method):
    """One way to choose which weights of a matrix go. A subclass is one short file; its life is:

    1. ``method(name)`` makes one instance by name; it holds no model, so one instance serves every matrix.
    2. For each matrix, ``prune(weight, hessian, tokens, pattern)`` returns a ``Pruned``. ``weight`` is the dense matrix
       (float32 out x in), ``hessian`` is XᵀX [in, in] over ``tokens`` calibration tokens, or None when
       ``needs`` says "nothing"; ``pattern`` has been through ``read``. Nothing passed in is changed.
    3. The same arguments give the same bytes: ties are broken by ``select.tie_order``, nothing is random.

    Unstructured and block patterns remove ``select.removed_count`` weights or blocks over the method's own scope
    (``compares``); n:m patterns keep exactly n of every m consecutive inputs of every output. A worked example is
    ``magnitude.py``.

    ``compares``: one of ``COMPARES``, where a share is counted. ``refits``: kept weights are not the dense ones.
    """

    compares: ClassVar[str] = "matrix"
    refits: ClassVar[bool] = False

    @abstractmethod
    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        """Prune one matrix."""


class ModelMethod(Method):
    """One way to prune across matrices or layers: whole heads, channels, layers, or a pattern for each matrix.

    ``prune(model, pattern, types, layers)`` returns a ``Pruned`` for every matrix it touches; the promises of
    ``PruningMethod`` hold. A worked example is ``heads.py``.

    ``stage``: so many consecutive layers are chosen by themselves, so ``prune`` may be called for one stage after
    another; None: the layers compete, and what is pruned of all of them is in memory at once.
    """

    stage: ClassVar[int | None] = None

    @abstractmethod
    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        """Prune the matrices of ``types`` in ``layers``."""


_METHODS: dict[str, type[Method]] = {}
M = TypeVar("M", bound=type[Method])


def register(cls: M) -> M:
    """Class decorator: make a method available by its name; InputError for a ``needs`` or ``compares`` unknown."""
    for what, known in (("needs", NEEDS), ("compares", COMPARES)):
        if (stated := getattr(cls, what, known[0])) not in known:
            raise InputError(f"{cls.__name__}.{what} {stated!r} is unknown: {nearest(str(stated), known)}")
    _METHODS[cls.name] = cls
    return cls


def method(name: str) -> Any:
    """A pruning method by name; InputError names the nearest one when there is none."""
    if name not in _METHODS:
        raise InputError(f"pruning method {name!r} is unknown: {nearest(name, _METHODS)}")
    return _METHODS[name]()


def methods(kind: type[Method] = Method) -> tuple[str, ...]:
    """Names of all methods, or of those of one kind (``PruningMethod``: matrix-wise), sorted."""
    return tuple(sorted(name for name, cls in _METHODS.items() if issubclass(cls, kind)))
