"""Measured activation zeros: the bundled table beside an independent measurement, and what any union obeys."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.activations import NEIGHBOURS, SPARSITIES, TEXTS, by_tensor, measured, union_density
from workloads.checkpoint import INPUTS

REFERENCE = pd.read_csv(Path(__file__).parent / "data" / "activation_stats.csv")


def test_every_tensor_is_there():
    table = measured()
    assert len(table) == 30 * len(INPUTS) * len(SPARSITIES)
    assert not table.duplicated(["layer", "tensor", "sparsity"]).any()
    assert table["density"].between(0, 1).all() and table["energy_lost"].between(0, 1).all()


@pytest.mark.parametrize(("sparsity", "quantile"), [(0.5, "p50"), (0.9, "p90")])
def test_thresholds_agree_with_the_reference(sparsity, quantile):
    """Quantiles of |x| on other tokens of the same texts."""
    ours = measured().query("sparsity == @sparsity").merge(REFERENCE, on=["layer", "tensor"])
    assert len(ours) == 30 * len(INPUTS)
    ratio = ours["threshold"] / ours[quantile]
    assert ratio.median() == pytest.approx(1, abs=0.05)
    assert ratio.between(0.75, 1.35).mean() > 0.95


@pytest.mark.parametrize("share", [50, 70, 90])
def test_one_threshold_loses_no_more_than_as_many_values_of_each_token(share):
    """The reference drops the smallest values token by token, so quiet tokens lose as much as loud ones."""
    ours = measured().query("sparsity == @share / 100").merge(REFERENCE, on=["layer", "tensor"])
    ratio = ours["energy_lost"] / ours[f"energy_lost_drop{share}"]
    assert ratio.max() < 1.05 and 0.8 < ratio.median() < 1


def test_a_union_is_denser_with_every_token_and_no_denser_than_the_sum():
    table = measured()
    for names in ([f"tokens_{v}" for v in NEIGHBOURS], [f"texts_{v}" for v in TEXTS]):
        steps = table[["density", *names]].to_numpy()
        assert (np.diff(steps, axis=1) >= -0.02).all()  # the last, short group is left out
        bound = steps[:, :1] * np.array([1, *(int(n.split("_")[1]) for n in names)])
        assert (steps <= bound * 1.02 + 1e-9).all()
    mean = by_tensor(table)
    dense = mean["tokens_8"].xs(0.5, level="sparsity")
    assert (dense > 0.8).all() and (dense.drop("attn_o_in") > 0.95).all()  # eight tokens need nearly every column


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_the_union_of_groups(texts, length, features, density, seed):
    kept = np.random.default_rng(seed).random((texts, length, features)) < density
    assert union_density(kept, 1) == pytest.approx(kept.mean())
    assert union_density(kept, length) == pytest.approx(kept.any(axis=1).mean())
    assert union_density(kept, texts, across=True) == pytest.approx(kept.any(axis=0).mean())
