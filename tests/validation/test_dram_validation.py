"""The DRAM models against every saturated row of the cycle-accurate simulator: errors pinned as upper bounds."""

from __future__ import annotations

import pytest

from validation.dram import (
    ADDRESS_MAPS,
    DEVICES,
    counted,
    errors,
    leave_family_out,
    loaded_latency,
    saturated,
    summary,
    unloaded_latency,
)

ALL = {"median": 0.0105, "mean": 0.02, "p90": 0.047, "max": 0.32}
COUNTED = {"median": 0.006, "mean": 0.013, "p90": 0.032, "max": 0.25}
FAMILIES = {"DDR4": 0.027, "GDDR6": 0.03, "HBM": 0.018, "LPDDR3": 0.017, "LPDDR4": 0.014}
UNRELATED_RUNS = {"hbm2": 0.017, "lpddr4_3200": 0.01, "ddr4_3200": 0.045}


def within(error, bounds):
    size = error.abs()
    found = {"median": size.median(), "mean": size.mean(), "p90": size.quantile(0.9), "max": size.max()}
    assert {name: value for name, value in found.items() if value > bounds[name]} == {}


@pytest.fixture(scope="module")
def rows():
    return saturated()


@pytest.fixture(scope="module")
def error(rows):
    return errors(rows)


def test_all_rows_are_used(rows):
    assert len(rows) == 823
    assert set(rows["device"]) == set(DEVICES)
    assert set(rows["mapping"]) == set(ADDRESS_MAPS)
    assert set(rows["write_fraction"]) == {0, 1 / 3, 1 / 2, 1}
    assert ((1 - rows["read_fraction"] - rows["write_fraction"]).abs() < 0.01).all()


def test_closed_form_over_all_rows(error):
    within(error, ALL)


def test_closed_form_is_better_than_a_constant(rows, error):
    best = (1 / rows["efficiency"]).median() ** -1
    assert error.abs().mean() < 0.1 * (best / rows["efficiency"] - 1).abs().mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_form_by_family(rows, error, family):
    assert error[rows["family"] == family].abs().mean() < FAMILIES[family]


@pytest.mark.parametrize("standard", UNRELATED_RUNS)
def test_closed_form_of_unrelated_runs_of_the_standards(rows, error, standard):
    chosen = (rows["device"].map(DEVICES) == standard) & (rows["pattern"] == "rand")
    assert chosen.sum() > 10
    assert error[chosen].abs().mean() < UNRELATED_RUNS[standard]


def test_scheduler_on_a_few_rows(rows):
    some = rows[(rows["channels"] == 1) & (rows["pattern"] == "rand")].iloc[::12].reset_index(drop=True)
    assert len(some) > 10
    within(errors(some, counted), {"median": 0.012, "mean": 0.018, "p90": 0.05, "max": 0.06})


@pytest.mark.slow
def test_scheduler_over_all_rows(rows):
    within(errors(rows, counted), COUNTED)


@pytest.mark.slow
def test_sizes_chosen_without_a_family_hold_on_it():
    found = leave_family_out().set_index("left out")
    assert (found["mean % chosen"] < 5).all()
    assert (found["mean % known"] <= found["mean % chosen"] + 0.1).all()


def test_unloaded_latency():
    within(unloaded_latency()["error"], {"median": 0.026, "mean": 0.041, "p90": 0.09, "max": 0.27})


def test_loaded_latency():
    within(loaded_latency()["error"], {"median": 0.06, "mean": 0.12, "p90": 0.33, "max": 0.82})


def test_summary_counts_every_row_once(rows, error):
    table = summary(rows, error, ["pattern", "mapping", "family"])
    assert table["rows"].iloc[:-1].sum() == table["rows"].iloc[-1] == len(rows)
    assert table["max %"].iloc[-1] == round(100 * error.abs().max(), 1)
