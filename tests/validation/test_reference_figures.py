"""Scatters hold what their validation modules compute; nothing is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from validation.figures import KINDS, figure
from validation.scatter import AGAINST, Scatter
from validation.sparseloop import dstc, eyeriss


def test_kinds_are_the_lower_floors_and_two_more():
    from dse.figures.kinds import KINDS as OWN

    assert set(KINDS) - set(OWN) == {"speedup", "validation"} and set(OWN) < set(KINDS)


def test_rtl_is_hit_exactly():
    found = Scatter(against="rtl").numbers
    assert (found["predicted"] == found["reference"]).all() and set(found["largest_error_percent"]) == {0.0}
    assert found["series"].value_counts().to_dict() == {
        "systolic arrays": 3240,
        "2:4 arrays": 2160,
        "zero-skipping lanes": 515,
    }


def test_errors_are_those_of_the_tables():
    chip = eyeriss.compare()
    found = figure("validation", against="eyeriss").numbers.set_index("series")
    assert found.loc["ours", "median_error_percent"].iloc[0] == pytest.approx(chip["ours_error_percent"].abs().median())
    assert found.loc["Sparseloop", "predicted"].to_numpy() == pytest.approx(chip["sparseloop"].to_numpy())
    core = dstc.compare()
    points = core[(core["A_density"] < 1) | (core["B_density"] < 1)]
    found = figure("validation", against="dstc").numbers
    worst = found[found["series"] == "ours"]["largest_error_percent"].iloc[0]
    assert worst == pytest.approx(points["ours_error_percent"].abs().max())


def test_intervals_come_with_the_surrogate():
    found = Scatter(against="surrogate").numbers
    known = found["half_width"].dropna()  # no interval beyond the data
    assert (known > 0).all() and len(known) >= len(found) - 2
    assert found["series"].value_counts().to_dict() == {"recipes": 45, "plans, by layer": 40}


@pytest.mark.slow
@pytest.mark.parametrize("against", AGAINST)
def test_every_reference_draws(against, tmp_path):
    found = figure("validation", against=against, out=tmp_path / against)
    table = pd.read_csv(tmp_path / f"{against}.csv")
    assert np.isfinite(found.numbers[["reference", "predicted"]].to_numpy()).all() and len(table) == len(found.numbers)
