"""Fronts and hypervolume against hand cases and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.pareto import hypervolume, non_dominated, representatives

points = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(st.integers(0, 6).map(float), min_size=d, max_size=d), min_size=1, max_size=12)
)


@settings(max_examples=200, deadline=None)
@given(points)
def test_non_dominated_is_what_the_definition_says(rows):
    p = np.array(rows)
    keep = non_dominated(p)
    for i, row in enumerate(p):
        beaten = ((p <= row).all(axis=1) & (p < row).any(axis=1)).any()
        repeated = (p[:i] == row).all(axis=1).any()
        assert keep[i] == (not beaten and not repeated)


@settings(max_examples=100, deadline=None)
@given(points.filter(lambda rows: len(rows[0]) >= 2))
def test_hypervolume_counts_unit_cells(rows):
    """With whole coordinates the volume is the number of unit cells that some point dominates."""
    p = np.array(rows)
    reference = np.full(p.shape[1], 6.0)
    cells = np.stack(np.meshgrid(*[np.arange(6)] * p.shape[1], indexing="ij"), axis=-1).reshape(-1, p.shape[1])
    covered = (p[None, :, :] <= cells[:, None, :]).all(axis=2).any(axis=1).sum()
    assert hypervolume(p, reference) == pytest.approx(covered)


def test_hypervolume_hand_case():
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0])) == pytest.approx(3.0)
    assert hypervolume(np.array([[4.0, 4.0]]), np.array([3.0, 3.0])) == 0.0


def test_representatives_hold_the_extremes():
    p = np.array([[0.0, 9.0], [1.0, 5.0], [2.0, 4.0], [9.0, 0.0], [8.0, 1.0]])
    chosen = set(representatives(p, 4).tolist())
    assert {0, 3} <= chosen and len(chosen) == 4
    assert len(representatives(p, 99)) == 5
