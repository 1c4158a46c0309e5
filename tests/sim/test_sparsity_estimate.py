"""Estimates: margins are met, seeds repeat, and structure in rows and columns is what they capture."""

import numpy as np
import pytest

from sim.errors import InputError
from sim.sparsity import estimate, lanes
from sim.sparsity.profile import profile

CONFIGS = [
    (16, depth, orientation, assignment, fifo)
    for depth, fifo in ((64, 0), ("full", 0), (64, 2))
    for orientation in lanes.ORIENTATIONS
    for assignment in lanes.ASSIGNMENTS
]


def logistic_mask(rows, columns, seed):
    """Rows and columns of very different density, as magnitude pruning leaves them."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, rows, 320)[:, None] + rng.normal(0, columns, 256)
    return rng.random(logit.shape) < 1 / (1 + np.exp(-logit))


def balanced_mask(seed):
    """Rows exactly half full, columns badly unbalanced, as Wanda leaves them."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(320, 256)) + rng.normal(0, 1.5, 256)
    mask = np.zeros(score.shape, bool)
    np.put_along_axis(mask, np.argsort(score, axis=1)[:, :128], True, axis=1)
    return mask


@pytest.mark.parametrize("rows, columns", [(0.3, 1.0), (1.0, 2.0), (2.0, 3.0), (0.0, 0.0)])
def test_expected_counts_are_the_real_ones(rows, columns):
    mask = logistic_mask(rows, columns, 1)
    mask[3], mask[5], mask[:, 7], mask[:, 9] = False, True, False, True
    p = estimate.maximum_entropy(profile(mask).counts)
    assert np.abs(p.sum(axis=1) - mask.sum(axis=1)).max() < 1.1e-3
    assert np.abs(p.sum(axis=0) - mask.sum(axis=0)).max() < 1.1e-3
    assert (p >= 0).all() and (p <= 1).all()


def test_structured_masks_come_back_exactly():
    for mask in (np.ones((8, 9), bool), np.zeros((8, 9), bool), np.arange(9) < np.arange(8)[:, None]):
        np.testing.assert_array_equal(estimate.draw(profile(mask).counts, seed=4), mask)


@pytest.mark.parametrize(
    "mask", [logistic_mask(0.4, 1.0, 2), balanced_mask(3), balanced_mask(4).T], ids=["both", "rows", "columns"]
)
def test_maximum_entropy_beats_bernoulli(mask):
    counts = profile(mask).counts
    coin = estimate.bernoulli_mask(*mask.shape, mask.mean(), seed=5)
    errors, coin_errors = [], []
    for config in CONFIGS:
        real = lanes.walk(mask, *config)
        errors.append(abs(estimate.from_counts(counts, *config, seed=5) / real - 1))
        coin_errors.append(abs(lanes.walk(coin, *config) / real - 1))
    assert max(errors) < 0.08 and np.mean(errors) < 0.025
    assert max(coin_errors) > 0.10 and np.mean(errors) < np.mean(coin_errors)


def test_exactly_balanced_counts_are_held():
    mask = balanced_mask(6)
    assert (estimate.draw(profile(mask).counts).sum(axis=1) == 128).all()
    assert (estimate.draw(profile(mask.T).counts).sum(axis=0) == 128).all()
    columns = estimate.draw(profile(mask).counts).sum(axis=0)
    assert np.abs(columns - mask.sum(axis=0)).max() < 5 * np.sqrt(320) / 2
    full = (16, "full", "output")
    assert estimate.from_counts(profile(mask).counts, *full) == lanes.walk(mask, *full)


def test_a_seed_repeats():
    counts = profile(logistic_mask(1, 1, 0)).counts
    np.testing.assert_array_equal(estimate.draw(counts, 1), estimate.draw(counts, 1))
    assert (estimate.draw(counts, 1) != estimate.draw(counts, 2)).any()
    assert (estimate.bernoulli_mask(9, 9, 0.5, 1) == estimate.bernoulli_mask(9, 9, 0.5, 1)).all()


def test_density_alone_is_a_lower_bound():
    mask = logistic_mask(0.5, 1.0, 8)
    assert estimate.from_density(256, 32, 16, 1) == 256 / 16 + 2
    assert estimate.from_density(np.array([256, 40]), 4, 16, 2).tolist() == [66.0, 12.0]
    for config in CONFIGS:
        owners = mask.shape[0] if config[2] == "output" else mask.shape[1]
        low = estimate.from_density(mask.sum(), owners, 16, 1)
        assert low <= lanes.walk(mask, *config)


def test_counts_of_no_mask_are_refused():
    counts = profile(np.ones((3, 4), bool)).counts
    with pytest.raises(InputError, match="must belong to one mask"):
        estimate.maximum_entropy(type(counts)(counts.rows, counts.columns - 1))
