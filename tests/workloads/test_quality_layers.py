"""Plans that differ from layer to layer: their spelling, how damage spreads over layers, and agreement with recipes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.calibration import BUNDLE, calibrate
from workloads.checkpoint import MATRIX_TYPES
from workloads.quality import Plan, QualityModel, bundled_model
from workloads.quality.compounding import Compounding, terms
from workloads.quality.layers import bundled_shares, sensitivity, shares
from workloads.quality.measure_layers import PLANS, LayerProbe, plans, relative_output_error, sparsity
from workloads.recipe import DENSE, MATRIX_VARIANTS, VARIANTS, Recipe
from workloads.transformer import token_nll
from workloads.variants import VariantStore

LAYERS = 30
variants = st.sampled_from([DENSE, *MATRIX_VARIANTS])


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return bundled_model()


def test_plans_are_the_same_every_time_and_spell_themselves():
    made = plans()
    assert made == plans() and len({plan.key for plan in made}) == PLANS == 40
    for plan in made:
        assert len(plan.recipes) == LAYERS and Plan.parse(plan.key) == plan


@pytest.mark.parametrize("key", ["wanda_50", "1-29:wanda_50", "0-3:wanda_50;5-29:dense", "0-:wanda_50", "3-1:dense"])
def test_broken_bands_are_refused(key):
    with pytest.raises(InputError, match="plan:"):
        Plan.parse(key)


def test_shares_of_the_bundle():
    found = bundled_shares()
    assert found.shape == (len(VARIANTS), LAYERS, len(MATRIX_TYPES)) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_probe_shares_out_what_was_measured():
    """Without noise to shrink, the probe's own shares are its measured ΔNLL; output errors rescale other variants."""
    error = np.ones((len(VARIANTS), 4, 7))
    error[2] = np.arange(1, 5)[:, None]
    alone = np.tile([[0.1], [0.2], [0.3], [0.4]], (1, 7))
    found = shares(error, sensitivity(error[1], alone))
    np.testing.assert_allclose(found[1, :, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-3)
    np.testing.assert_allclose(found[2, :, 0], np.array([0.1, 0.4, 0.9, 1.6]) / 3, rtol=1e-3)


def test_scatter_within_the_noise_is_not_believed():
    error = np.ones((len(VARIANTS), 4, 7))
    alone = np.full((4, 7), 0.01) + 0.001 * np.array([[1], [-1], [1], [-1]])
    np.testing.assert_allclose(shares(error, sensitivity(error[1], alone))[1], 0.25)


@given(st.lists(st.tuples(*[variants] * 7), min_size=1, max_size=3))
def test_the_same_recipe_in_every_layer_is_the_recipe(chosen):
    model = bundled_model()
    recipes = [Recipe(v) for v in chosen]
    as_plans = np.array([Plan.of([r] * LAYERS).codes() for r in recipes])
    flat = model.nll(np.array([r.codes() for r in recipes]))
    np.testing.assert_allclose(model.plan_nll(as_plans, bundled_shares()), flat, atol=1e-9)


def test_single_layers_rank_as_measured_elsewhere(model):
    """Rows of one pruned layer, measured by other code on other windows: the outer layers cost most."""
    rows = pd.read_csv(BUNDLE / "reference_prune_ppl.csv")
    dense = rows.loc[rows["method"] == "dense", "nll"].iloc[0]
    rows = rows[rows["layers"] != "all"]
    codes = []
    for method, layer in zip(rows["method"], rows["layers"].astype(int), strict=True):
        recipes = [Recipe.uniform(DENSE)] * LAYERS
        recipes[layer] = Recipe.uniform(f"{method}_50")
        codes.append(Plan.of(recipes).codes())
    predicted = model.plan_nll(np.array(codes), bundled_shares()) - model.dense_nll
    assert len(rows) == 14
    assert pd.Series(predicted).corr(pd.Series((rows["nll"] - dense).to_numpy()), method="spearman") > 0.9


@pytest.fixture
def store(tiny) -> VariantStore:
    return VariantStore(tiny, calibrate(tiny, np.random.default_rng(1).integers(0, tiny.config.vocab, (4, 32))))


def test_single_layers_are_measured_as_the_whole_model_is(store):
    """What runs once before the pruned layer changes nothing: ΔNLL is that of a full pass."""
    tiny = store.checkpoint
    windows = np.random.default_rng(2).integers(0, tiny.config.vocab, (3, 12))
    probe = LayerProbe(tiny, windows)
    assert probe.dense_nll == pytest.approx(token_nll(tiny, windows).mean())
    for layer in range(tiny.config.layers):
        for matrix_type in ("attn_q", "ffn_down"):
            weight = store.weight("magnitude_50", layer, matrix_type)

            def pruned(i: int, t: str, at=(layer, matrix_type), weight=weight) -> np.ndarray:
                return weight if (i, t) == at else tiny.matrix(i, t)

            whole = token_nll(tiny, windows, pruned).mean() - probe.dense_nll
            assert probe.delta_nll(layer, matrix_type, weight) == pytest.approx(whole, abs=1e-6)


def test_output_errors_of_variants(store):
    """Nothing pruned costs nothing, more costs more, and SparseGPT's update costs less than magnitude's hole."""
    found = relative_output_error(store)
    assert found.shape == (len(VARIANTS), store.checkpoint.config.layers, 7) and (found[0] == 0).all()
    error = {v: found[VARIANTS.index(v)] for v in VARIANTS}
    assert (error["magnitude_70"] > error["magnitude_30"]).all() and (error["magnitude_70"] < 1.5).all()
    assert error["sparsegpt_50"].mean() < error["wanda_50"].mean() < error["magnitude_50"].mean()
    assert (error["ffn_channels_30"][:, :6] == 0).all() and (error["ffn_channels_30"][:, 6] > 0).all()


def test_sparsity_of_a_plan(store):
    layers = store.checkpoint.config.layers
    half = Recipe.uniform("wanda_50")
    assert sparsity(Plan.of([half] * layers), store) == pytest.approx(store.sparsity(half))
    mixed = Plan.of([half] + [Recipe.uniform(DENSE)] * (layers - 1))
    assert sparsity(mixed, store) == pytest.approx(store.sparsity(half) / layers)


def test_wrong_plans_are_refused(model):
    with pytest.raises(InputError, match="30 layers"):
        model.plan_nll(np.zeros((1, 4, 7), int), bundled_shares())
    with pytest.raises(InputError, match="knows no layers"):
        QualityModel.from_bundle("sum").plan_nll(np.zeros((1, LAYERS, 7), int), bundled_shares())


def test_the_law_by_hand():
    """Two calibrated parts of 1 nat, one by magnitude of 0.5, no ceiling: 2.5 + same · 1 + cross · (0.5 + 0.5)."""
    parts = np.zeros((1, 2, 7))
    parts[0, 1, [0, 3]], parts[0, 0, 5] = 1, 0.5
    assert Compounding(0.3, 0.6, 1e9)(parts) == pytest.approx(2.5 + 0.3 + 0.6)
    assert Compounding(0, 0, 5.0)(parts[:, :, :1]) == pytest.approx(1), "a lone part costs what it was measured to cost"


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 99))
def test_the_fit_finds_the_law_that_made_the_data(same, cross, seed):
    parts = np.random.default_rng(seed).uniform(0, 0.15, (20, 2, 7))
    law = Compounding(same, cross, 8.0)
    found = Compounding.fit(parts, law(parts), 8.0)
    assert (found.same, found.cross) == pytest.approx((same, cross), abs=1e-6)


def test_a_type_split_between_classes_is_no_pair_with_itself():
    parts = np.zeros((1, 2, 7))
    parts[0, :, 2] = 0.4
    assert terms(parts, 1e9)[1].tolist() == [[0, 0]]
