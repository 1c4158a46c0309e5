"""Pareto fronts and their hypervolume, all objectives minimised."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True)
def non_dominated(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[n, objectives] -> [n]: no other point is as good everywhere and better somewhere; of equals the first stays."""
    n, objectives = points.shape
    keep = np.ones(n, dtype=np.bool_)
    for i in range(n):
        for j in range(n):
            if i == j or not keep[j]:
                continue
            no_worse, better = True, False
            for c in range(objectives):
                if points[j, c] > points[i, c]:
                    no_worse = False
                    break
                better = better or points[j, c] < points[i, c]
            if no_worse and (better or j < i):
                keep[i] = False
                break
    return keep


def hypervolume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume dominated by ``points`` [n, objectives] below ``reference``, exact (slicing objectives one at a time,
    While et al., IEEE TEC 2006: "hypervolume by slicing objectives")."""
    points, reference = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    inside = points[(points < reference).all(axis=1)]
    return _slice(np.ascontiguousarray(inside), reference)


def _slice(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    if not len(points):
        return 0.0
    points = points[non_dominated(points)]
    if points.shape[1] == 2:
        ordered = points[points[:, 0].argsort()]
        heights = np.append(reference[1], ordered[:-1, 1]) - ordered[:, 1]
        return float(((reference[0] - ordered[:, 0]) * heights).sum())
    ordered = points[points[:, -1].argsort()]
    edges = np.append(ordered[:, -1], reference[-1])
    total = 0.0
    for i in range(len(ordered)):
        depth = edges[i + 1] - edges[i]
        if depth > 0:
            total += depth * _slice(np.ascontiguousarray(ordered[: i + 1, :-1]), reference[:-1])
    return total


def representatives(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Up to ``count`` positions that span a front [n, objectives]: the best in each objective, the point nearest to the
    ideal corner (each objective scaled to 0..1), then greedily the point farthest from all chosen."""
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    chosen = list(dict.fromkeys([*scaled.argmin(axis=0).tolist(), int((scaled**2).sum(axis=1).argmin())]))[:count]
    while len(chosen) < min(count, len(points)):
        distance = np.min([((scaled - scaled[c]) ** 2).sum(axis=1) for c in chosen], axis=0)
        if distance.max() <= 0:
            break
        chosen.append(int(distance.argmax()))
    return np.array(chosen, dtype=np.int64)
