"""Zero-skipping lanes: every RTL row, the laws, and how a mask becomes lane groups."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity import lanes

DATA = resources.files("validation") / "data" / "rtl"


def test_every_rtl_row():
    with (DATA / "zero_skip_cycles.csv").open() as file:
        rows = pd.read_csv(file)
    assert len(rows) == 1416
    with (DATA / "zero_skip_masks.npz").open("rb") as file:
        masks = dict(np.load(file))
    for (key, lane_count, depth), group in rows.groupby(["mask_key", "P", "T"]):
        both = np.unpackbits(masks[f"{key}_w"], axis=1) & np.unpackbits(masks[f"{key}_a"])
        nnz = lanes.tile_counts(both, depth)
        assert nnz.shape == (lane_count, group.tiles.iloc[0])
        assert (nnz.sum() == group.nnz_total).all() and (nnz.sum(axis=1).max() == group.max_pe_work).all()
        for row in group.itertuples():
            assert lanes.cycles(nnz, row.fifo_depth) == row.cycles, row
            assert lanes.walk(both, lane_count, depth, fifo_depth=row.fifo_depth) == row.cycles, row


def plain(nnz, depth, empty):
    """The recurrence term by term, as the module's docstring states it."""
    work = np.maximum(nnz, empty)
    count, tiles = work.shape
    if depth == 0:
        return 1 + work.max(axis=0).sum()
    enter, taken, ends = np.zeros(tiles, int), np.zeros((count, tiles), int), np.zeros((count, tiles), int)
    for t in range(tiles):
        if t > 0:
            enter[t] = enter[t - 1] + 1
        if t >= depth:
            enter[t] = max(enter[t], taken[:, t - depth].max() + 1)
        for p in range(count):
            taken[p, t] = max(enter[t] + 1, ends[p, t - 1] if t > 0 else 0)
            ends[p, t] = taken[p, t] + work[p, t]
    return ends.max() + 1


works = st.integers(1, 6).flatmap(
    lambda p: st.integers(1, 9).flatmap(
        lambda t: st.lists(st.integers(0, 12), min_size=p * t, max_size=p * t).map(
            lambda v: np.array(v, int).reshape(p, t)
        )
    )
)


@settings(max_examples=150, deadline=None)
@given(works, st.integers(0, 5), st.integers(0, 1))
def test_equals_the_recurrence_term_by_term(nnz, depth, empty):
    empty = max(empty, depth > 0)
    assert lanes.cycles(nnz, depth, empty) == plain(nnz, depth, empty)


@settings(max_examples=150, deadline=None)
@given(works, st.data())
def test_laws(nnz, data):
    by_depth = [int(lanes.cycles(nnz, depth)) for depth in range(6)]
    lane, tile = data.draw(st.integers(0, nnz.shape[0] - 1)), data.draw(st.integers(0, nnz.shape[1] - 1))
    fewer = nnz.copy()
    fewer[lane, tile] = max(fewer[lane, tile] - data.draw(st.integers(1, 12)), 0)
    for depth, now in enumerate(by_depth):
        assert lanes.cycles(fewer, depth) <= now, "fewer nonzeros are never slower"
        assert now >= 1 + np.maximum(nnz, 1).sum(axis=1).max(), "never faster than the busiest lane"
        assert now * nnz.shape[0] >= nnz.sum()
    assert (np.diff(by_depth[1:]) <= 0).all(), "a deeper FIFO is never slower"
    assert by_depth[2] <= by_depth[0] + 1, "from two tiles on a FIFO costs at most its entry"
    assert lanes.cycles(fewer, 0, 0) <= lanes.cycles(nnz, 0, 0) <= by_depth[0]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 200), st.integers(1, 20), st.sampled_from([0, 1, 2, 8])
)
def test_deeper_barriers_are_never_slower(seed, outputs, inputs, lane_count, fifo):
    mask = np.random.default_rng(seed).random((outputs, inputs)) < 0.3
    for orientation in lanes.ORIENTATIONS:
        got = [lanes.walk(mask, lane_count, d, orientation, fifo_depth=fifo) for d in (4, 8, 16, 64, "full")]
        assert (np.diff(got) <= 0).all()


def test_groups():
    contiguous = lanes.lane_groups(10, 4, "contiguous")
    assert contiguous.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
    assert lanes.lane_groups(10, 4, "interleaved").tolist() == [[0, 3, 6, 9], [1, 4, 7, -1], [2, 5, 8, -1]]


@pytest.mark.parametrize("fifo", [0, 1, 2])
@pytest.mark.parametrize("assignment", lanes.ASSIGNMENTS)
def test_walk_restarts_every_group_and_transposes(assignment, fifo):
    mask = np.random.default_rng(3).random((21, 50)) < 0.4
    want = sum(
        lanes.cycles(lanes.tile_counts(mask[group[group >= 0]], 8), fifo)
        for group in lanes.lane_groups(21, 8, assignment)
    )
    assert lanes.walk(mask, 8, 8, "output", assignment, fifo) == want
    assert lanes.walk(mask.T, 8, 8, "input", assignment, fifo) == want


def test_idle_lanes_cost_nothing():
    mask = np.zeros((9, 32), bool)
    mask[8] = True
    assert lanes.walk(mask, 8, 16) == (1 + 2) + (1 + 32)
    assert lanes.walk(mask, 8, 16, empty_tile_cycles=0) == 1 + (1 + 32)
    for fifo in (1, 2, 8):
        assert lanes.walk(mask[8:], 8, 16, fifo_depth=fifo) == lanes.walk(mask[8:], 1, 16, fifo_depth=fifo)
    assert lanes.lane_groups(3, 8, "interleaved").tolist() == [[0, 1, 2]]


def test_any_nonzero_weight_counts_once():
    weights = np.random.default_rng(1).normal(size=(20, 40)) * (np.random.default_rng(2).random((20, 40)) < 0.5)
    assert lanes.walk(weights, 8, 16) == lanes.walk(weights != 0, 8, 16)


def test_leading_axes_and_full_depth():
    nnz = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 5))
    got = lanes.cycles(nnz, 2)
    assert got.shape == (2, 3) and got.dtype == np.int64
    assert got[1, 2] == lanes.cycles(nnz[1, 2], 2)
    mask = np.ones((4, 10), bool)
    assert lanes.tile_counts(mask, 4).tolist() == [[4, 4, 2]] * 4
    assert lanes.tile_counts(mask, "full").tolist() == lanes.tile_counts(mask, None).tolist() == [[10]] * 4
    assert lanes.tile_counts(mask, 11).tolist() == [[10]] * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: lanes.walk(m, 0, 4), "lanes must be a whole number >= 1, got 0"),
        (lambda m: lanes.walk(m, 4, 0), "barrier_depth must be a whole number >= 1 or 'full', got 0"),
        (lambda m: lanes.walk(m, 4, "ful"), "barrier_depth must be a whole number >= 1 or 'full', got 'ful'"),
        (lambda m: lanes.walk(m, 4, 4, "outputs"), "did you mean 'output'?"),
        (lambda m: lanes.walk(m, 4, 4, "output", "interleave"), "did you mean 'interleaved'?"),
        (lambda m: lanes.walk(m, 4, 4, fifo_depth=-1), "fifo_depth must be a whole number >= 0, got -1"),
        (lambda m: lanes.walk(m, 4, 4, empty_tile_cycles=-1), "empty_tile_cycles must be 0 or 1, got -1"),
        (lambda m: lanes.walk(m, 4, 4, fifo_depth=2, empty_tile_cycles=0), "empty_tile_cycles 0 needs fifo_depth 0"),
        (lambda m: lanes.walk(m[:0], 4, 4), "mask must be out x in with at least one element, got shape (0, 8)"),
        (lambda m: lanes.walk(m[0], 4, 4), "mask must be out x in with at least one element, got shape (8,)"),
        (lambda m: lanes.cycles(-m.astype(int), 0), "nnz must be whole numbers >= 0"),
        (lambda m: lanes.cycles(m.astype(float), 0), "nnz must be whole numbers >= 0"),
        (lambda m: lanes.cycles(m[0].astype(int), 0), "of shape [..., lanes, tiles]"),
        (lambda m: lanes.cycles(m * 2**30, 0), "nnz must add up to less than 2^31"),
        (lambda m: lanes.cycles(m.astype(int), -1), "fifo_depth must be a whole number >= 0, got -1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as error:
        call(np.ones((4, 8), bool))
    assert message in str(error.value)
