"""Which experts a batch of tokens hits, and with how many tokens each.

Popularity follows Zipf's law: weight of the e-th expert (e + 1)^-skew; 0 is uniform. A token takes ``top_k`` different
experts; the chance that it takes expert e is 1 - exp(-c w_e), c such that they add up to ``top_k`` (successive sampling
as a race of exponential clocks, stopped at a fixed time: Rosen 1997); uniform weights give top_k / experts exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from workloads.architecture import Experts
from workloads.steps import share, whole

_BLOCK = 4096  # tokens drawn at a time


@dataclass(frozen=True)
class Routing:
    """How tokens fall to experts, and where experts are.

    Args:
        skew: exponent of Zipf's law, 0 for equally popular experts.
        seed: draw every token's experts (a layer draws its own); None: expected loads.
        classes: experts are run in so many groups of like load (each load rounded within its group, the sum exact).
        offloaded: share of the experts' weights that is not in DRAM but somewhere slower.
        slowdown: time of a byte from there relative to DRAM, >= 1. A trace knows one DRAM, so that these weights are
            DRAM reads of ``slowdown`` times their bytes, before they are read as weights: time is right where the
            slow link is the bottleneck, energy is DRAM's.
    """

    skew: float = 0.0
    seed: int | None = None
    classes: int = 4
    offloaded: float = 0.0
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        share("routing.skew", self.skew, most=10.0)
        share("routing.offloaded", self.offloaded)
        share("routing.slowdown", self.slowdown, least=1.0, most=float("inf"))
        whole("routing.classes", self.classes)
        if self.seed is not None:
            whole("routing.seed", self.seed, least=0)

    @classmethod
    def of(cls, given: Routing | Mapping[str, Any] | None) -> Routing:
        """From its fields by name; None for the defaults."""
        if given is None or isinstance(given, Routing):
            return given or cls()
        known = tuple(cls.__dataclass_fields__)
        for key in given:
            if key not in known:
                raise InputError(f"routing.{key} is unknown, {nearest(str(key), known)}")
        return cls(**given)


def chances(moe: Experts, skew: float) -> NDArray[np.float64]:
    """[experts] chance that a token takes each; they add up to ``top_k``."""
    if moe.top_k >= moe.experts or skew == 0:
        return np.full(moe.experts, min(1.0, moe.top_k / moe.experts))
    weights = np.arange(1, moe.experts + 1, dtype=np.float64) ** -skew
    low, high = 0.0, 1.0
    while (1 - np.exp(-high * weights)).sum() < moe.top_k:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-middle * weights)).sum() < moe.top_k else (low, middle)
    return 1 - np.exp(-high * weights)


def expected_hit(moe: Experts, tokens: int, skew: float = 0.0) -> float:
    """Experts that at least one of ``tokens`` independent tokens takes, expected: sum of 1 - (1 - chance)^tokens."""
    return float((1 - (1 - chances(moe, skew)) ** tokens).sum())


def loads(moe: Experts, tokens: int, routing: Routing, layer: int = 0) -> NDArray[np.int64]:
    """[experts hit] tokens of each, most first; they add up to ``tokens * top_k``."""
    drawn = _drawn(moe, tokens, routing, layer) if routing.seed is not None else _expected(moe, tokens, routing.skew)
    return np.sort(drawn[drawn > 0])[::-1]


def grouped(found: NDArray[np.int64], classes: int) -> list[tuple[int, int]]:
    """(experts, tokens of each) in at most ``2 * classes`` groups: loads within equal ratios, averaged, sum exact."""
    span = np.log(found[0] / found[-1]) or 1.0
    place = np.minimum(classes - 1, (np.log(found[0] / found) / span * classes).astype(np.int64))
    groups: dict[int, int] = {}
    for i in range(classes):
        inside = found[place == i]
        if len(inside) == 0:
            continue
        each, more = divmod(int(inside.sum()), len(inside))
        for load, experts in ((each + 1, more), (each, len(inside) - more)):
            if experts:
                groups[load] = groups.get(load, 0) + experts
    return [(experts, load) for load, experts in sorted(groups.items(), reverse=True)]


def _expected(moe: Experts, tokens: int, skew: float) -> NDArray[np.int64]:
    """As many experts as are expected to be hit, the most popular ones, with their expected tokens when hit."""
    chance, total = chances(moe, skew), tokens * moe.top_k
    hit = 1 - (1 - chance) ** tokens
    count = min(total, max(moe.top_k, round(float(hit.sum()))))
    wanted = (tokens * chance / hit)[:count]
    found = np.ones(count, dtype=np.int64)
    while (left := total - int(found.sum())) > 0:  # a full expert passes its surplus on
        open_ = found < tokens
        part = np.where(open_, wanted, 0.0)
        exact = part / part.sum() * left
        extra = np.minimum(np.floor(exact).astype(np.int64), tokens - found)
        found += extra
        left -= int(extra.sum())
        if extra.sum() == 0:
            order = np.argsort(-np.where(found < tokens, exact, -1.0), kind="stable")[:left]
            found[order] += (found < tokens)[order]
    return found


def _drawn(moe: Experts, tokens: int, routing: Routing, layer: int) -> NDArray[np.int64]:
    """Every token draws ``top_k`` different experts (Gumbel top-k)."""
    rng = np.random.default_rng((routing.seed, layer))
    logs = -routing.skew * np.log(np.arange(1, moe.experts + 1))
    found = np.zeros(moe.experts, dtype=np.int64)
    for first in range(0, tokens, _BLOCK):
        keys = logs + rng.gumbel(size=(min(_BLOCK, tokens - first), moe.experts))
        chosen = np.argpartition(-keys, moe.top_k - 1, axis=1)[:, : moe.top_k]
        found += np.bincount(chosen.ravel(), minlength=moe.experts)
    return found
