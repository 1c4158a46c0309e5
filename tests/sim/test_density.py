"""Density models: one conformance suite for all, and for each what it alone promises."""

from itertools import pairwise
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity.density import Actual, Banded, Bernoulli, FixedStructured, Hypergeometric, MaximumEntropy
from sim.sparsity.density.coins import sums, sums_held
from sim.sparsity.profile import Counts

MASKS = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"


def counts_of(mask):
    return Counts(mask.sum(axis=1), mask.sum(axis=0))


def uneven_mask(rows=48, columns=60, seed=3):
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1, rows)[:, None] + rng.normal(-1, 1, columns)
    return rng.random(logit.shape) < 1 / (1 + np.exp(-logit))


def balanced_mask(rows=48, columns=60, kept=15, seed=4):
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows, columns), bool)
    score = rng.normal(size=mask.shape) + rng.normal(0, 1, columns)
    np.put_along_axis(mask, np.argsort(score, axis=1)[:, :kept], True, axis=1)
    return mask


MODELS = {
    "fixed_structured": FixedStructured((48, 60), 0.3),
    "hypergeometric": Hypergeometric((48, 60), 0.3),
    "sparse hypergeometric": Hypergeometric((48, 60), 0.004),
    "bernoulli": Bernoulli((48, 60), 0.3),
    "banded": Banded((48, 60), 5),
    "tall band": Banded((96, 60), 0),
    "actual": Actual(uneven_mask()),
    "maximum_entropy": MaximumEntropy(counts_of(uneven_mask())),
    "held rows": MaximumEntropy(counts_of(balanced_mask())),
    "held columns": MaximumEntropy(counts_of(balanced_mask(60, 48).T)),
    "empty": Hypergeometric((48, 60), 0.0),
    "full": FixedStructured((48, 60), 1.0),
}
every = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
tiles = pytest.mark.parametrize("tile", [(1, 1), (1, 4), (4, 1), (4, 6), (7, 9), (48, 1), (48, 60), (100, 100)])


@every
@tiles
def test_a_distribution(model, tile):
    counts, chances = model.occupancy(*tile)
    assert len(np.unique(counts)) == len(counts) == len(chances)
    assert counts.min() >= 0 and counts.max() <= tile[0] * tile[1]
    assert chances.min() > 0 and chances.sum() == pytest.approx(1, abs=1e-9)
    assert model.empty(*tile) == pytest.approx(chances[counts == 0].sum(), abs=1e-9)


@every
@tiles
def test_mean_is_density_times_size(model, tile):
    counts, chances = model.occupancy(*tile)
    assert counts @ chances == pytest.approx(model.expected(*tile), rel=1e-4, abs=1e-9)
    rows, columns = (min(t, s) for t, s in zip(tile, model.shape, strict=True))
    if model.shape[0] % rows == model.shape[1] % columns == 0:
        assert model.expected(*tile) == pytest.approx(model.density * rows * columns)


@every
def test_a_larger_tile_is_empty_less_often_and_holds_more(model):
    nested = [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 12), (8, 12), (16, 12), (16, 60), (48, 60)]
    for small, large in pairwise(nested):
        assert model.empty(*large) <= model.empty(*small) + 1e-9
        assert model.expected(*large) >= model.expected(*small)


@every
def test_drawn_masks_agree(model):
    """Shares of empty tiles and mean squares of counts of 100 draws, within 4 standard errors (tiles of one row: what
    :class:`FixedStructured` promises)."""
    for tile in (1, 3), (1, 12), (1, 60):
        counts, chances = model.occupancy(*tile)
        seen = [Actual(model.draw(seed)).nonzeros(*tile) for seed in range(100)]
        for of in (lambda n: n == 0), (lambda n: n**2.0):
            per_draw = np.array([of(n).mean() for n in seen])
            error = 4 * per_draw.std() / np.sqrt(len(seen)) + 0.01 * (of(counts) @ chances) + 1e-9
            assert abs(per_draw.mean() - of(counts) @ chances) <= error, (tile, per_draw.mean(), of(counts) @ chances)


@every
def test_a_seed_repeats_and_seeds_differ(model):
    assert np.array_equal(model.draw(7), model.draw(7))
    fixed = isinstance(model, Actual | Banded) or model.density in (0.0, 1.0)
    assert np.array_equal(model.draw(7), model.draw(8)) == fixed


@pytest.mark.parametrize("tile", [(4, 6), (16, 12), (48, 1)])
@pytest.mark.parametrize("name", ["hypergeometric", "bernoulli", "maximum_entropy", "held rows", "held columns"])
def test_blocks_of_drawn_masks_agree(name, tile):
    model = MODELS[name]
    counts, chances = model.occupancy(*tile)
    seen = np.array([(Actual(model.draw(seed)).nonzeros(*tile) ** 2.0).mean() for seed in range(100)])
    want = counts**2.0 @ chances
    assert abs(seen.mean() - want) <= 4 * seen.std() / np.sqrt(len(seen)) + 0.01 * want


@pytest.mark.parametrize("elements", [1, 2, 5, 12, 13, 16])
def test_hypergeometric_by_hand(elements):
    model = Hypergeometric((4, 4), 0.25)
    counts, chances = model.occupancy_of(elements)
    want = {k: comb(4, k) * comb(12, elements - k) / comb(16, elements) for k in range(5) if 0 <= elements - k <= 12}
    assert dict(zip(counts.tolist(), chances.tolist(), strict=True)) == pytest.approx(want)
    assert model.empty_of(elements) == pytest.approx(comb(12, elements) / comb(16, elements))


def test_hypergeometric_rounds_its_nonzeros_up_and_is_a_coin_in_large_matrices():
    assert Hypergeometric((5, 5), 0.1).nonzeros == 3
    assert Hypergeometric((1, 30), 0.1).nonzeros == 3
    large = Hypergeometric((4096, 4096), 0.1)
    assert large.empty(4, 8) == pytest.approx(0.9**32, rel=1e-4)
    assert large.empty(4096, 2048) == 0.0
    assert large.occupancy(4096, 2048).probabilities.sum() == pytest.approx(1)


@given(st.integers(1, 40), st.floats(0, 1))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_fixed_structured_is_floor_or_ceil(elements, density):
    counts, chances = FixedStructured((1, 40), density).occupancy_of(elements)
    assert counts.max() - counts.min() <= 1
    assert counts @ chances == pytest.approx(elements * density)


def test_fixed_structured_rows_are_n_of_m():
    mask = FixedStructured((32, 64), 0.5).draw(1)
    assert set(Actual(mask).nonzeros(1, 4).ravel()) == {2}
    counts, chances = FixedStructured((32, 64), 0.3).occupancy(1, 4)
    assert counts.tolist() == [1, 2] and chances == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("tile", [(1, 1), (3, 5), (7, 9)])
def test_a_band_is_its_mask(tile):
    model = Banded((20, 31), 3)
    drawn = Actual(model.draw())
    assert model.density == pytest.approx(drawn.density)
    assert model.occupancy(*tile).counts.tolist() == drawn.occupancy(*tile).counts.tolist()
    assert model.occupancy(*tile).probabilities == pytest.approx(drawn.occupancy(*tile).probabilities)


def test_diagonal_tiles_by_hand():
    assert Banded((8, 8), 0).empty(2, 2) == pytest.approx(12 / 16)
    assert Banded((8, 8), 1).density == pytest.approx((8 + 14) / 64)


def test_short_last_tiles_count_at_their_size():
    mask = np.zeros((5, 5), bool)
    mask[4, 4] = True
    assert Actual(mask).empty(2, 2) == pytest.approx(8 / 9)
    assert Bernoulli((1, 5), 0.5).empty(1, 4) == pytest.approx((0.5**4 + 0.5) / 2)


def test_sums_of_coins_by_hand():
    assert sums(np.array([[0.5, 0.25, 0.0]]))[0] == pytest.approx([0.375, 0.5, 0.125, 0.0])
    line = np.random.default_rng(0).random((1, 9))
    want = np.array([1.0])
    for p in line[0]:
        want = np.convolve(want, [1 - p, p])
    assert sums(line)[0] == pytest.approx(want)


@pytest.mark.parametrize("total, width, near", [(240, 8, 1e-4), (48, 8, 1e-3), (240, 240, 1e-3), (480, 1, 1e-9)])
def test_coins_of_a_held_line_are_nearly_hypergeometric(total, width, near):
    share = np.full((1, width), total / 480)
    chances = sums_held(share, 480 * share[0, 0] * (1 - share[0, 0]), 480, total)[0]
    counts, want = Hypergeometric((1, 480), total / 480).occupancy_of(width)
    assert np.abs(chances[counts] - want).max() < near


def test_held_rows_are_held():
    counts, chances = MODELS["held rows"].occupancy(1, 60)
    assert counts.tolist() == [15] and chances == pytest.approx([1.0])
    assert MODELS["held columns"].occupancy(60, 1).counts.tolist() == [15]
    loose = MODELS["bernoulli"].occupancy(1, 60)
    assert len(loose.counts) > 10


def test_real_counts_predict_real_empty_tiles():
    """Rows and columns of a mask whose density varies: density alone is far off, the counts are near."""
    mask = uneven_mask(128, 120, seed=9)
    real = Actual(mask)
    for tile in (1, 8), (8, 1), (2, 4):
        known = MaximumEntropy(counts_of(mask)).empty(*tile)
        alone = Hypergeometric(mask.shape, real.density).empty(*tile)
        assert known == pytest.approx(real.empty(*tile), rel=0.12)
        assert abs(known - real.empty(*tile)) < 0.25 * abs(alone - real.empty(*tile))


@pytest.mark.parametrize(
    "key, real, near",
    [
        ("magnitude_50/15/attn_k", 0.0410, 0.02),
        ("sparsegpt_50/15/attn_k", 0.0318, 0.05),
        ("wanda_50/3/attn_v", 0.0037, 0.1),
    ],
)
def test_real_masks_have_more_empty_tiles_than_their_density_says(key, real, near):
    """Tiles of 1 x 8 (docs/sparseloop.md): counts of rows and columns know, a density knows nothing of the method."""
    with np.load(MASKS) as masks:
        mask = np.unpackbits(masks[key], axis=1).astype(bool)
    assert Actual(mask).empty(1, 8) == pytest.approx(real, rel=0.02)
    assert MaximumEntropy(counts_of(mask)).empty(1, 8) == pytest.approx(real, rel=near)
    assert Hypergeometric(mask.shape, mask.mean()).empty(1, 8) == pytest.approx(0.5**8, rel=0.01)


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: Bernoulli((4, 4), 1.5), "density must be in 0..1, got 1.5"),
        (lambda: FixedStructured((0, 4), 0.5), "rows of the matrix must be a whole number >= 1, got 0"),
        (lambda: Hypergeometric(16, 0.5), "shape must be"),
        (lambda: Banded((4, 4), -1), "band_width must be a whole number >= 0"),
        (lambda: Actual(np.zeros(4)), "mask must be a matrix"),
        (lambda: Bernoulli((4, 4), 0.5).empty(0, 1), "rows of a tile must be a whole number >= 1"),
        (lambda: Actual(np.ones((2, 2))).occupancy(1, 1.5), "columns of a tile"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(InputError, match=named.replace("(", "\\(")):
        make()
