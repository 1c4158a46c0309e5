"""How a law runs: a few examples by default, many under the ``slow`` mark, the same ones every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from laws.energy import totals
from sim import analytic
from sim.designs import Designs
from sim.errors import InputError
from sim.report import Report
from sim.simulate import simulate
from sim.spec import Accelerator
from sim.trace import Trace


def law(*drawn: Any, quick: int = 6, many: int = 150) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of the decorated function over the strategies ``drawn``: ``quick`` examples, and ``many`` if slow."""

    def wrap(check: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("examples", [quick, pytest.param(many, marks=pytest.mark.slow)])
        def run(examples: int) -> None:
            how = settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )
            how(given(*drawn)(check))()

        run.__name__ = run.__qualname__ = check.__name__
        run.__doc__, run.__module__ = check.__doc__, check.__module__
        return run

    return wrap


def search_is_exact(machine: Accelerator, trace: Trace, objective: str) -> None:
    """The pruned search finds what evaluating every candidate finds, to the last digit of every count."""
    designs = Designs.from_machines([machine])
    pruned, full = (analytic.run(designs, trace, objective=objective, effort=e) for e in ("full", "exhaustive"))
    assert np.array_equal(pruned.columns, full.columns, equal_nan=True)


def report(machine: Accelerator, trace: Trace, engine: str = "analytic", **more: Any) -> Report:
    """Report; the example is passed over where nothing fits."""
    try:
        return simulate(machine, trace, engine, **more)
    except InputError:
        assume(False)
        raise


def cycles(machine: Accelerator, trace: Trace, objective: str = "latency") -> float:
    """Cycles of engine 1, inf where nothing fits."""
    found = totals(machine, trace, objective)
    return math.inf if found.failed[0] >= 0 else float(found["cycles"][0])


def no_more(after: float, before: float) -> None:
    """``after`` is at most ``before``, rounding apart."""
    assert after <= before * (1 + 1e-9) + 1e-9, f"{after} after, {before} before"
