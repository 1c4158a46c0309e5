"""Profiles: every grid point equals a walk, every other fact a count by hand, and tables survive the disk."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity import lanes
from sim.sparsity.packing import pack
from sim.sparsity.profile import (
    BLOCKS,
    DEPTHS,
    FIFOS,
    GROUPS,
    LANES,
    RUNS,
    Counts,
    ProfileTable,
    on_grid,
    profile,
    profiles,
)

GRID = list(itertools.product(LANES, DEPTHS, lanes.ORIENTATIONS, lanes.ASSIGNMENTS, FIFOS))


def masks():
    rng = np.random.default_rng(7)
    yield "odd", rng.random((100, 75)) < 0.5
    yield "wide", rng.random((37, 530)) < 0.3
    skewed = rng.random((200, 130)) < rng.random(200)[:, None] * rng.random(130)
    skewed[32:96] = False  # whole groups without work
    skewed[:, 16:50] = False
    yield "skewed", skewed
    yield "empty", np.zeros((20, 40), bool)
    yield "one", np.ones((1, 1), bool)
    yield "dense", np.ones((130, 257), bool)


MASKS = dict(masks())


@pytest.mark.parametrize("name", MASKS)
def test_every_grid_point_is_a_walk(name):
    mask = MASKS[name]
    found = profile(mask)
    table = ProfileTable.from_profiles([found])
    for point in GRID:
        for empty in (1, 0) if point[-1] == 0 else (1,):
            want = lanes.walk(mask, *point, empty)
            assert found.cycles(*point, empty) == want, (point, empty)
            assert table.cycles(*point, empty).tolist() == [want]


def blocks_of(mask, rows, columns):
    for i in range(0, mask.shape[0], rows):
        for j in range(0, mask.shape[1], columns):
            yield mask[i : i + rows, j : j + columns].sum()


@pytest.mark.parametrize("name", MASKS)
def test_counts_groups_and_blocks(name):
    mask = MASKS[name]
    found = profile(mask)
    assert found.shape == mask.shape and found.nonzeros == mask.sum() and found.density == mask.mean()
    np.testing.assert_array_equal(found.counts.rows, mask.sum(axis=1))
    np.testing.assert_array_equal(found.counts.columns, mask.sum(axis=0))
    assert found.group_max == {g: max(blocks_of(mask, 1, g)) for g in GROUPS}
    assert found.empty_blocks == {b: sum(n == 0 for n in blocks_of(mask, b, b)) for b in BLOCKS}
    assert found.empty_runs == {g: sum(n == 0 for n in blocks_of(mask, 1, g)) for g in RUNS}


def test_off_the_grid_is_none():
    found = profile(MASKS["odd"])
    for wrong in ((12, 16), (8, 32), (8, 16, "input", "contiguous", 4), (8, 16, "output", "contiguous", 2, 0)):
        assert found.cycles(*wrong) is None and not on_grid(*wrong)
        assert ProfileTable.from_profiles([found]).cycles(*wrong) is None
    for wrong in ({"assignment": "sorted"}, {"assignment": "balanced"}, {"stealing": "group"}):
        assert found.cycles(8, 16, **wrong) is None and not on_grid(8, 16, **wrong)
    assert found.cycles(8, None) == found.cycles(8, "full") and on_grid(8, "full")
    with pytest.raises(InputError, match="did you mean 'output'"):
        found.cycles(8, 16, "outputs")


def test_bits_and_threads_change_nothing():
    one_by_one = ProfileTable.from_profiles([profile(mask) for mask in MASKS.values()])
    for given_ in (list(MASKS.values()), [pack(mask) for mask in MASKS.values()]):
        together = ProfileTable.from_profiles(profiles(given_, threads=2))
        for field in ProfileTable.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(together, field), getattr(one_by_one, field))


@pytest.mark.parametrize("n, m", [(2, 4), (4, 8), (1, 4), (4, 4)])
def test_n_of_m_is_told_from_the_profile(n, m):
    mask = np.zeros((6, 8 * m), bool)
    groups = mask.reshape(6, 8, m)
    groups[np.arange(6)[:, None], np.arange(8), :n] = True
    one_less = mask.copy()
    one_less[0, 0] = False
    table = ProfileTable.from_profiles([profile(mask), profile(one_less), profile(mask[:, :-1])])
    assert [table.n_of_m(i) for i in range(3)] == [(n, m) if n < m else None, None, None]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 140), st.floats(0.05, 0.95))
def test_fewer_nonzeros_are_never_slower_anywhere(seed, outputs, inputs, density):
    rng = np.random.default_rng(seed)
    mask = rng.random((outputs, inputs)) < density
    fewer = mask & (rng.random(mask.shape) < 0.9)
    more, less = profile(mask), profile(fewer)
    assert (less.cycles_grid <= more.cycles_grid).all()
    free = more.cycles_grid[..., 0] - more.empty_barriers
    assert (less.cycles_grid[..., 0] - less.empty_barriers <= free).all()
    assert (np.diff(more.cycles_grid, axis=1) <= 0).all(), "deeper barriers are never slower"
    assert (more.cycles_grid[..., 2] <= more.cycles_grid[..., 1]).all(), "deeper FIFOs are never slower"
    assert (more.cycles_grid * np.array(LANES)[:, None, None, None, None] >= more.nonzeros).all()


def test_table_on_disk(tmp_path):
    table = ProfileTable.from_profiles([profile(m) for m in MASKS.values()])
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    table.save(first)
    loaded = ProfileTable.load(first)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"], "no temporary file is left"
    assert len(loaded) == len(MASKS)
    for i, mask in enumerate(MASKS.values()):
        one, want = loaded[i], profile(mask)
        assert one.shape == want.shape and one.nonzeros == want.nonzeros and one.group_max == want.group_max
        assert one.empty_blocks == want.empty_blocks and one.empty_runs == want.empty_runs
        np.testing.assert_array_equal(one.cycles_grid, want.cycles_grid)
    both = ProfileTable.concatenate([loaded.take([2, 0]), loaded.take([1])])
    np.testing.assert_array_equal(both.nonzeros, loaded.nonzeros[[2, 0, 1]])


def test_a_bundle_is_small(tmp_path):
    rng = np.random.default_rng(0)
    some = [profile(rng.random((192, 96)) < rng.random(96) * rng.random()) for _ in range(20)]
    ProfileTable.from_profiles([some[i % 20] for i in range(210)]).save(tmp_path / "all.npz")
    ProfileTable.from_profiles(some).save(tmp_path / "some.npz")
    assert (tmp_path / "some.npz").stat().st_size / 20 * 210 < 1_000_000


def test_counts_on_disk(tmp_path):
    counts = [profile(m).counts for m in MASKS.values()] + [Counts(np.array([70_000]), np.ones(70_000, np.int64))]
    Counts.save_many(counts, tmp_path / "counts.npz")
    for found, want in zip(Counts.load_many(tmp_path / "counts.npz"), counts, strict=True):
        np.testing.assert_array_equal(found.rows, want.rows)
        np.testing.assert_array_equal(found.columns, want.columns)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_bad_masks(shape):
    with pytest.raises(InputError, match="mask must be out x in"):
        profile(np.ones(shape, bool))
