"""The surrogate against measurements that it had not seen, recomputed from the bundle without the weights."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sim.errors import InputError
from validation import surrogate
from workloads.calibration import bundled_windows, windows_sha256
from workloads.fetch import SMOLLM2
from workloads.perplexity import Meter
from workloads.quality import Plan, bundled_model, bundled_surrogate, compare_forms, read_measured
from workloads.quality.__main__ import main
from workloads.quality.evaluate import (
    SURROGATE_ERRORS,
    by_range,
    calibrated,
    covered,
    errors,
    held_out_mixes,
    held_out_plans,
)
from workloads.quality.interval import Interval
from workloads.quality.layers import bundled_shares
from workloads.quality.measure_layers import SEED, plans, sparsity
from workloads.quality.table import LAYERED
from workloads.recipe import Recipe
from workloads.variants import default_store


@pytest.fixture(scope="module")
def mixes() -> pd.DataFrame:
    return held_out_mixes()


@pytest.fixture(scope="module")
def layered() -> pd.DataFrame:
    return held_out_plans()


def test_the_measured_plans():
    """One model, one set of windows, the plans of the seed in their order, and numbers that agree with each other."""
    table = read_measured(LAYERED)
    windows = bundled_windows()
    assert list(table["key"]) == [plan.key for plan in plans()][: len(table)]
    assert set(table["kind"]) == {"layered"} and set(table["seed"].astype(int)) == {SEED}
    assert set(table["model_sha256"]) == {SMOLLM2.sha256}
    assert set(table["windows_sha256"]) == {windows_sha256(windows["evaluation"])}
    assert set(table["calibration_sha256"]) == {windows_sha256(windows["calibration"])}
    for per_window, nll in zip(table["window_nll"], table["nll"].astype(float), strict=True):
        assert np.mean(json.loads(per_window)) == pytest.approx(nll, abs=1e-4)


def test_at_least_forty_held_out_configurations_of_each_kind(mixes, layered):
    for held_out in (mixes, layered):
        assert len(held_out) >= 40 and held_out["key"].is_unique


def test_recipes_in_the_useful_range(mixes):
    """Up to five times the dense perplexity; beyond it, the order is what can be asked for."""
    useful = errors(mixes[mixes["measured"] < np.log(5)])
    assert useful["mean_abs_error"] < 0.03 and useful["worst_abs_error"] < 0.15
    assert errors(mixes)["spearman"] > 0.98


def test_plans_in_the_useful_range(layered):
    useful = errors(layered[layered["measured"] < np.log(5)])
    assert useful["mean_abs_error"] < 0.09 and useful["p90_abs_error"] < 0.2
    assert errors(layered)["spearman"] > 0.9


def test_knowing_the_layers_beats_spreading_damage_evenly(layered):
    """The same law with every layer taken alike: what the measurements of single layers are worth."""
    model = bundled_model()
    codes = np.array([Plan.parse(key).codes() for key in layered["key"]])
    even = model.plan_nll(codes, np.full_like(bundled_shares(), 1 / 30)) - model.dense_nll
    assert errors(layered)["mean_abs_error"] < 0.8 * errors(layered.assign(predicted=even))["mean_abs_error"]


def test_what_was_learned_beats_what_was_not():
    table = compare_forms(nll_below=5.0).set_index("form")["mean_abs_error"]
    assert table["learned"] < 0.85 * table.drop("learned").min()


def test_no_mix_predicts_itself(mixes):
    """A mix measured wrongly by a nat moves everyone's prediction but its own."""
    table = read_measured()
    wrong = table["key"] == mixes["key"].iloc[10]
    shifted = held_out_mixes(table.assign(nll=table["nll"].astype(float) + wrong))
    same = np.isclose(shifted["predicted"], mixes["predicted"], rtol=0, atol=1e-12)
    assert same[10] and same.sum() == 1


@pytest.mark.parametrize("level", [0.7, 0.8, 0.9])
def test_intervals_hold_what_they_say(mixes, layered, level):
    """Coverage of held-out points by intervals from the others, within two standard errors of a binomial share."""
    for held_out in (mixes, layered):
        slack = 2 * np.sqrt(level * (1 - level) / len(held_out))
        assert covered(held_out, level).mean() == pytest.approx(level, abs=slack)


def test_coverage_holds_in_every_range(mixes):
    """No range of damage pays for another: errors are scaled by what is expected there."""
    assert (by_range(mixes)["coverage"] > 0.7).all()


def test_the_interval_by_hand():
    """Ten scores 1 … 10: at 80 % rank ⌈11 · 0.8⌉ = 9; expected error 0.015 + 0.03 · 1² at one nat."""
    interval = Interval(np.arange(1.0, 11.0), highest=2.0)
    assert interval.half_width(np.array([0.0, 1.0]), 0.8) == pytest.approx([9 * 0.015, 9 * 0.045])
    assert np.isnan(interval.half_width(np.array([2.1]), 0.8)).all()
    for level in (0.95, 0.0, 1.0, np.nan):
        with pytest.raises(InputError, match="10 held-out mixes"):
            interval.factor(level)


def test_the_bundled_errors_are_those_of_the_bundle():
    stored = pd.read_csv(SURROGATE_ERRORS)
    fresh = pd.concat([compare_forms(), compare_forms(nll_below=5.0)], ignore_index=True)
    pd.testing.assert_frame_equal(stored, fresh, check_exact=False, atol=1e-4)


def test_a_measured_recipe_is_looked_up():
    found = bundled_surrogate().predict("wanda_50")
    table = read_measured().set_index(["key", "arithmetic"])
    assert found.nll == table.loc[("wanda_50", "w8a8kv8"), "nll"] == found.interval[0] == found.interval[1]
    assert found.label == "measured, w8a8kv8"


def test_a_prediction_has_an_interval_that_widens_with_the_level():
    recipe = Recipe.of(attn_q="wanda_50", ffn_up="magnitude_30", ffn_down="sparsegpt_2_4")
    low, high = (bundled_surrogate().predict(recipe, level).interval for level in (0.5, 0.9))
    assert high[0] < low[0] < low[1] < high[1]
    found = bundled_surrogate().predict(recipe)
    assert found.label == "predicted, w8a8kv8" and found.ppl_interval[0] < found.ppl < found.ppl_interval[1]


def test_beyond_the_mixes_it_says_so():
    ruin = Recipe.of(attn_q="magnitude_70", attn_v="magnitude_70", ffn="magnitude_70")
    for what in (ruin, Plan.of([ruin] * 30)):
        found = bundled_surrogate().predict(what)
        assert np.isnan(found.nll) and np.isnan(found.interval).all() and found.label.startswith("unknown: beyond")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("wanda_80", "10 to 70 %.*nothing is guessed"),
        ("ria_50", "nothing is guessed"),
        ("attn_qk=wanda_50", "attn_qk.*nothing is guessed"),
        ("0-29:wanda_80", "nothing is guessed"),
        ("ffn_channels_40", "nothing is guessed"),
    ],
)
def test_what_was_not_measured_is_refused(what, message):
    with pytest.raises(InputError, match=message):
        bundled_surrogate().predict(what)


def test_other_models_are_refused():
    with pytest.raises(InputError, match=r"llama2_7b.*not measured.*workloads.published"):
        bundled_surrogate("llama2_7b")


def test_the_command(capsys, tmp_path):
    main(["attn_q=wanda_50,ffn=ffn_channels_10"])
    assert "predicted, w8a8kv8" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["wanda_80"])
    assert "nothing is guessed" in capsys.readouterr().err
    main(["--csv", str(tmp_path / "points.csv")])
    assert "one variant a matrix type" in capsys.readouterr().out
    points = pd.read_csv(tmp_path / "points.csv")
    assert points["kind"].value_counts().to_dict() == {"mix": 45, "plan": 40}


@pytest.mark.slow
def test_a_bundled_plan_measured_again():
    """One window of the first plan on the real weights: masks, arithmetic and text are still those of the row."""
    stored = read_measured(LAYERED).iloc[0]
    store, plan = default_store(), Plan.parse(stored["key"])
    meter = Meter(store.checkpoint, bundled_windows()["evaluation"][:1])
    again = meter.measure(plan.key, lambda layer, t: store.weight(plan.recipes[layer][t], layer, t), 0.0)
    assert again.nll == pytest.approx(json.loads(stored["window_nll"])[0], abs=0.01)
    assert sparsity(plan, store) == pytest.approx(float(stored["realised_sparsity"]), abs=1e-5)


def test_the_figure_is_vector_and_repeatable(tmp_path):
    first, again = (surrogate.save(tmp_path / name) for name in ("one", "two"))
    assert [path.suffix for path in first] == [".pdf", ".png"] and first[0].read_bytes().startswith(b"%PDF")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_calibration_ends_where_the_data_end(mixes):
    model = bundled_model()
    assert calibrated(mixes).highest == mixes["measured"].max()
    assert model.highest_nll == pytest.approx(model.dense_nll + mixes["measured"].max())
    assert model.beyond(np.array([model.dense_nll, model.highest_nll, model.highest_nll + 0.01])).tolist() == [0, 0, 1]
