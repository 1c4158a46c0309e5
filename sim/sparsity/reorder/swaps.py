"""Greedy best pair swaps of units between places of a given cost: the inner step of TETRIS (Ji et al. 2018)."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_MOST_SWAPS_PER_UNIT = 20


def best_swaps(cost: NDArray[np.float32], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Swap units, the pair of greatest gain first, until no swap gains.

    Args:
        cost: [units, kinds] of a unit in a slot of that kind, whatever lies elsewhere.
        places: [units] kind of every slot; slot s holds unit s at first.

    Returns:
        (order [slots] unit of every slot, number of swaps).
    """
    if cost.shape[1] < 2:
        return np.arange(len(places)), 0
    slots = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[slots], np.arange(cost.shape[1] + 1))
    held = slots.copy()
    scale = float(np.abs(cost).max(initial=0.0))
    done = _swap(np.ascontiguousarray(cost, dtype=np.float32), starts, held, 1e-6 * scale)
    order = np.empty_like(held)
    order[slots] = held
    return order, int(done)


@numba.njit(cache=True)
def _best_of_kind(cost, starts, held, kind, best, argument):
    """Refresh ``best[kind, :]``: what the best unit of ``kind`` gains by going to each other kind."""
    best[kind, :] = -np.inf
    for at in range(starts[kind], starts[kind + 1]):
        unit = held[at]
        here = cost[unit, kind]
        for other in range(cost.shape[1]):
            gain = here - cost[unit, other]
            if gain > best[kind, other]:
                best[kind, other] = gain
                argument[kind, other] = at


@numba.njit(cache=True)
def _partner(best, kind, gains, partners):
    """Refresh the best other kind to swap with."""
    gains[kind] = -np.inf
    for other in range(best.shape[0]):
        if other != kind and best[kind, other] + best[other, kind] > gains[kind]:
            gains[kind] = best[kind, other] + best[other, kind]
            partners[kind] = other


@numba.njit(cache=True)
def _swap(cost, starts, held, least):
    """Swap in place; ``held`` [units] in order of kinds, kind k from ``starts[k]``. Returns the number of swaps."""
    kinds = cost.shape[1]
    best = np.empty((kinds, kinds), np.float32)
    argument = np.zeros((kinds, kinds), np.int64)
    gains = np.empty(kinds, np.float32)
    partners = np.zeros(kinds, np.int64)
    for kind in range(kinds):
        _best_of_kind(cost, starts, held, kind, best, argument)
    for kind in range(kinds):
        _partner(best, kind, gains, partners)
    done = 0
    while done < _MOST_SWAPS_PER_UNIT * held.size:
        one = int(np.argmax(gains))
        if not gains[one] > least:
            break
        two = partners[one]
        at, to = argument[one, two], argument[two, one]
        held[at], held[to] = held[to], held[at]
        done += 1
        for kind in (one, two):
            _best_of_kind(cost, starts, held, kind, best, argument)
        for kind in range(kinds):
            if kind in (one, two) or partners[kind] in (one, two):
                _partner(best, kind, gains, partners)
                continue
            for other in (one, two):
                if best[kind, other] + best[other, kind] > gains[kind]:
                    gains[kind] = best[kind, other] + best[other, kind]
                    partners[kind] = other
    return done
