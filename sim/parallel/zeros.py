"""The zeros of a part of a matrix: from the real mask where a trace has it, else scaled from the whole and labelled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim.sparsity.profile import Counts, Profile, profile
from sim.trace import Trace

ESTIMATE = "estimate: zeros of each chip scaled from the whole matrix (the trace has no masks to cut)"
OUTPUTS, INPUTS = 0, 1


@dataclass
class Parts:
    """Cuts masks or profiles of ``trace`` along outputs (axis 0) or inputs (axis 1), each part once."""

    trace: Trace
    estimated: bool = False
    _known: dict[tuple[int, int, int, int], Profile] = field(default_factory=dict)

    def mask(self, row: int, axis: int, start: int, stop: int) -> np.ndarray | None:
        """Features ``start``..``stop`` - 1 of mask ``row``, out x in; None if the trace has no masks."""
        if self.trace.masks is None:
            return None
        whole = self.trace.masks[row]
        return whole[start:stop] if axis == OUTPUTS else whole[:, start:stop]

    def profile(self, row: int, axis: int, start: int, stop: int) -> Profile:
        """Profile of that part: exact from the mask, else cycles in proportion to its nonzeros."""
        key = (row, axis, start, stop)
        if key not in self._known:
            mask = self.mask(*key)
            self.estimated |= mask is None
            self._known[key] = self._scaled(*key) if mask is None else profile(mask)
        return self._known[key]

    def _scaled(self, row: int, axis: int, start: int, stop: int) -> Profile:
        """Nonzeros are exact when the trace has counts, else in proportion to the size; n:m fit is the whole's."""
        assert self.trace.profiles is not None
        whole = self.trace.profiles[row]
        share = (stop - start) / whole.shape[axis]
        nonzeros, counts = round(whole.nonzeros * share), None
        if self.trace.counts is not None:
            nonzeros, counts = _cut(self.trace.counts[row], axis, start, stop)
        ratio = nonzeros / max(whole.nonzeros, 1)
        shape = (stop - start, whole.shape[1]) if axis == OUTPUTS else (whole.shape[0], stop - start)
        cycles = np.maximum(np.ceil(whole.cycles_grid * ratio).astype(np.int64), 1)
        empty = np.minimum((whole.empty_barriers * share).astype(np.int64), cycles[..., 0] - 1)
        blocks, runs = ({g: int(c * share) for g, c in d.items()} for d in (whole.empty_blocks, whole.empty_runs))
        return Profile(shape, nonzeros, cycles, empty, whole.group_max, blocks, runs, counts)


def _cut(whole: Counts, axis: int, start: int, stop: int) -> tuple[int, Counts | None]:
    """(nonzeros, counts) of a part: exact along the cut axis, the other axis scaled to the same total; no counts where
    that would need more nonzeros than there are places."""
    along, across = (whole.rows, whole.columns) if axis == OUTPUTS else (whole.columns, whole.rows)
    mine = along[start:stop]
    total = int(mine.sum())
    scaled = np.diff(np.cumsum(across) * total // max(int(across.sum()), 1), prepend=0)
    if scaled.max(initial=0) > len(mine):
        return total, None
    return total, Counts(mine, scaled) if axis == OUTPUTS else Counts(scaled, mine)
