"""The schedule's closed form is the recurrence's solution for equal tiles, and relaxing anything never costs."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.memory.schedule import closed_form, walk


def walked(tiles, load, compute, store, drain, buffers):
    return walk(
        np.full(tiles, float(load)), np.full(tiles, float(compute)), np.full(tiles, float(store)), float(drain), buffers
    )[0]


def test_closed_form_is_the_recurrence_on_equal_tiles():
    for case in itertools.product(
        (1, 2, 3, 4, 7), (0, 1, 2, 5, 9), (1, 2, 3, 6, 10), (0, 1, 4, 7), (-1, 0, 3, 8), (1, 2)
    ):
        assert closed_form(*case) == walked(*case), case


def test_hand_case():
    """Three tiles, load 2, compute 5, store 1, drain 3, two buffers: 2 + 3*5 + 3 + 1."""
    assert closed_form(3, 2, 5, 1, 3, 2) == 21
    assert closed_form(3, 2, 5, 1, 3, 1) == 3 * (2 + 5 + 1 + 3)


times = st.floats(0, 100, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(times, times, times), min_size=1, max_size=12),
    st.integers(0, 11),
    st.integers(0, 2),
    st.floats(0, 50),
)
def test_longer_tiles_never_finish_earlier(tiles, which, part, extra):
    before = np.array(tiles, dtype=float)
    after = before.copy()
    after[which % len(tiles), part] += extra
    for buffers in (1, 2):
        assert walk(*after.T.copy(), 1.0, buffers)[0] >= walk(*before.T.copy(), 1.0, buffers)[0] - 1e-9


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(times, times, times), min_size=1, max_size=12))
def test_bounds_and_no_overlap_on_the_bus(tiles):
    load, compute, store = np.array(tiles, dtype=float).T.copy()
    for buffers in (1, 2):
        end, at = walk(load, compute, store, 0.0, buffers)
        assert end >= max(compute.sum(), (load + store).sum()) - 1e-9
        assert end <= load.sum() + compute.sum() + store.sum() + 1e-9
        busy = sorted([*zip(at[:, 0], at[:, 1], strict=True), *zip(at[:, 4], at[:, 5], strict=True)])
        assert all(first[1] <= second[0] + 1e-9 for first, second in itertools.pairwise(busy))
        assert (at[:, 2] >= at[:, 1] - 1e-9).all() and (at[:, 4] >= at[:, 3] - 1e-9).all()
