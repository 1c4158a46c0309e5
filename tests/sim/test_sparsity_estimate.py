"""Estimates: margins are met, seeds repeat, and structure in rows and columns is what they capture."""

import numpy as np
import pytest

from sim.errors import InputError
from sim.sparsity import estimate, lanes
from sim.sparsity.estimate_errors import ESTIMATES, EXACT, label
from sim.sparsity.lane_order import ALL
from sim.sparsity.profile import Counts, profile
from sim.sparsity.tile_draw import CLASSES, classes, draw_tiles
from workloads.bundled import counts as bundled_counts
from workloads.bundled import profile_tables

CONFIGS = [
    (16, depth, orientation, assignment, fifo)
    for depth, fifo in ((64, 0), ("full", 0), (64, 2))
    for orientation in lanes.ORIENTATIONS
    for assignment in ALL
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
    errors, drawn_errors, coin_errors = [], [], []
    for config in CONFIGS:
        real = lanes.walk(mask, *config)
        errors.append(abs(estimate.from_counts(counts, *config, seed=5) / real - 1))
        drawn_errors.append(abs(estimate.from_drawn_mask(counts, *config, seed=5) / real - 1))
        coin_errors.append(abs(lanes.walk(coin, *config) / real - 1))
    assert max(drawn_errors) < 0.08 and np.mean(drawn_errors) < 0.025
    assert max(e for e, c in zip(errors, CONFIGS, strict=True) if c[3] != "balanced") < 0.03
    assert max(errors) < 0.08 and np.mean(errors) < 0.012
    assert max(coin_errors) > 0.10 and np.mean(errors) < np.mean(coin_errors)


def test_exactly_balanced_counts_are_held():
    mask = balanced_mask(6)
    assert (estimate.draw(profile(mask).counts).sum(axis=1) == 128).all()
    assert (estimate.draw(profile(mask.T).counts).sum(axis=0) == 128).all()
    columns = estimate.draw(profile(mask).counts).sum(axis=0)
    assert np.abs(columns - mask.sum(axis=0)).max() < 5 * np.sqrt(320) / 2
    full = (16, "full", "output")
    assert estimate.from_drawn_mask(profile(mask).counts, *full) == lanes.walk(mask, *full)


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


@pytest.mark.parametrize("assignment", ALL)
@pytest.mark.parametrize("orientation", lanes.ORIENTATIONS)
def test_counts_are_exact_where_a_walk_has_one_tile(orientation, assignment):
    mask = logistic_mask(0.6, 1.2, 11)
    for lane_count, fifo in ((8, 0), (24, 0), (24, 2)):
        design = (lane_count, "full", orientation, assignment, fifo)
        assert estimate.from_counts(profile(mask).counts, *design) == lanes.walk(mask, *design)


def test_drawn_tiles_keep_every_lane_and_fit_their_tiles():
    mask = logistic_mask(1.0, 2.0, 12)
    mask[3], mask[5], mask[:, 7:40], mask[:, 90:130] = False, True, False, True
    counts = profile(mask).counts
    tiles = np.arange(0, mask.shape[1], 37)
    found = draw_tiles(counts.rows, counts.columns, tiles)
    widths = np.diff(np.append(tiles, mask.shape[1]))
    assert (found >= 0).all() and (found <= widths[:, None]).all()
    np.testing.assert_array_equal(found.sum(axis=0), counts.rows)
    real = np.add.reduceat(mask, tiles, axis=1, dtype=np.int64).T
    assert np.abs(found.mean(axis=1) - real.mean(axis=1)).max() < 0.6
    assert found.std(axis=1).mean() == pytest.approx(real.std(axis=1).mean(), rel=0.1)
    np.testing.assert_array_equal(found, draw_tiles(counts.rows, counts.columns, tiles))
    assert (found != draw_tiles(counts.rows, counts.columns, tiles, seed=1)).any()


def test_classes_part_empty_and_full_lines():
    counts = np.concatenate([np.zeros(2), np.arange(1, 999), np.full(3, 999)]).astype(np.int64)
    of, means, sizes = classes(counts, 999)
    assert sizes[0] == 2 and means[0] == 0 and sizes[-1] == 3 and means[-1] == 999
    assert CLASSES // 2 < len(sizes) <= CLASSES + 2 and sizes.sum() == len(counts)
    np.testing.assert_allclose(np.bincount(of, weights=counts), means * sizes)
    assert (np.diff(of) >= 0).all() and sizes[1:-1].max() < 2 * len(counts) / CLASSES


def test_n_of_m_leaves_nothing_to_chance_along_the_inputs():
    mask = np.zeros((96, 320), bool)
    groups = mask.reshape(96, 80, 4)
    kept = np.argsort(np.random.default_rng(0).random(groups.shape), axis=2)[..., :2]
    np.put_along_axis(groups, kept, True, axis=2)
    counts = profile(mask).counts
    for design in ((16, 64), (16, 20, "output", "sorted"), (24, 16, "output", "contiguous", 2)):
        assert estimate.from_counts(counts, *design, n_of_m=(2, 4)) == lanes.walk(mask, *design)
        assert estimate.from_counts(counts, *design) >= lanes.walk(mask, *design)


@pytest.mark.parametrize("variant", ["wanda_50", "magnitude_70", "sparsegpt_30"])
def test_real_masks_are_estimated_well_from_their_counts(variant):
    """Against the bundled profiles, which are exact: no other real numbers are at hand for all 210 masks."""
    some = range(0, 210, 15)
    table, counts = profile_tables("smollm2_135m").index(variant), bundled_counts("smollm2_135m", variant)
    for design in ((16, 16, "output"), (16, 64, "input"), (64, 256, "output"), (32, 64, "input", "interleaved", 2)):
        real = table.cycles(*design)
        errors = np.array([abs(estimate.from_counts(counts[i], *design) / real[i] - 1) for i in some])
        assert np.median(errors) < 0.015 and errors.max() < 0.15, (design, errors)


def test_labels_say_the_measured_error():
    design = {"barrier_depth": 64, "orientation": "input", "assignment": "sorted", "fifo_depth": 0, "stealing": "none"}
    text = label("counts", design)
    assert text.startswith(ESTIMATES["counts"]) and "% in the median" in text and "90th percentile" in text
    assert label("counts", design | {"barrier_depth": "full"}) == EXACT
    seen = {
        label(name, design | {"orientation": o, "assignment": a} | waits)
        for name in ESTIMATES
        for o in lanes.ORIENTATIONS
        for a in ALL
        for waits in ({}, {"fifo_depth": 2}, {"stealing": "group"})
    }
    assert all(text.startswith("estimate") for text in seen) and len(seen) > 10


@pytest.mark.slow
def test_large_matrices_need_no_mask():
    """11008 x 4096, as Llama-2-7B has: within 1 % of a walk."""
    rng = np.random.default_rng(3)
    score = np.abs(rng.standard_normal((11008, 4096), dtype=np.float32))
    score *= np.exp(rng.normal(0, 0.5, 4096)).astype(np.float32)
    mask = score >= np.partition(score, 2048, axis=1)[:, 2048, None]
    counts = Counts(mask.sum(axis=1), mask.sum(axis=0))
    for design in ((16, 64), (64, 256, "input"), (16, 64, "output", "balanced"), (16, 64, "output", "contiguous", 2)):
        assert estimate.from_counts(counts, *design) == pytest.approx(lanes.walk(mask, *design), rel=0.01)
