"""One choice out of several for every item, at the least loss for a given total saving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BINS = 400


def cheapest(losses: Sequence[np.ndarray], savings: Sequence[np.ndarray], target: float) -> list[int] | None:
    """The option of each item with the least total loss among those that save ``target`` in total; None: none does.

    ``losses[i]``, ``savings[i]`` [options], savings >= 0. Dynamic programming over savings rounded down to 1/400 of the
    target: what it returns always meets the target, and is best among choices that meet it after rounding.
    """
    if sum(s.max() for s in savings) < target:
        return None
    bins = [np.minimum(np.floor(s / target * _BINS + 1e-9), _BINS).astype(int) for s in savings]
    best = np.full(_BINS + 1, np.inf)
    best[0] = 0.0
    chosen = []
    for loss, saved in zip(losses, bins, strict=True):
        totals = np.full((len(loss), _BINS + 1), np.inf)
        origins = np.zeros((len(loss), _BINS + 1), int)
        for option, (price, step) in enumerate(zip(loss, saved, strict=True)):
            totals[option, step:] = best[: _BINS + 1 - step] + price
            origins[option, step:] = np.arange(_BINS + 1 - step)
            # What saves more than the target counts as the target.
            origins[option, _BINS] = _BINS - step + np.argmin(best[_BINS - step :])
            totals[option, _BINS] = best[origins[option, _BINS]] + price
        option = totals.argmin(axis=0)
        best = totals[option, np.arange(_BINS + 1)]
        chosen.append((option, origins[option, np.arange(_BINS + 1)]))
    if not np.isfinite(best[_BINS]):
        return [int(np.argmax(s)) for s in savings]
    place, found = _BINS, []
    for option, origin in reversed(chosen):
        found.append(int(option[place]))
        place = int(origin[place])
    return found[::-1]
