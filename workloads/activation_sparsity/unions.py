"""What a group of tokens needs together: the union of their masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Tokens next to each other in a text, and texts, whose unions are measured.
NEIGHBOURS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
TEXTS = (2, 4, 8)


def union_density(kept: NDArray[np.bool_], tokens: int, across: bool = False) -> float:
    """Share of features that any of ``tokens`` tokens keeps, in the mean over groups. ``kept`` [texts, length,
    features]: groups are neighbours in a text, or (``across``) the same place of several texts; a short last group is
    left out, and a text or set of texts shorter than one group gives nan."""
    rows = kept.swapaxes(0, 1) if across else kept
    whole = rows.shape[1] // tokens * tokens
    groups = rows[:, :whole].reshape(rows.shape[0], -1, tokens, rows.shape[2])
    return float(groups.any(axis=2).mean()) if whole else float("nan")
