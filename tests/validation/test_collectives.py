"""The all-reduce comparison: it finds parameters that are there, leaves out what it says, and errs as stated."""

import numpy as np
import pytest

from validation import collectives
from validation.collectives import Fit, fit, fit_all, predict, rows, table


@pytest.fixture(scope="module")
def errors():
    return table().set_index(collectives.GROUP)


def test_every_row_has_a_group_a_link_and_a_source():
    data = rows()
    assert len(data) == 183 and data.groupby(collectives.GROUP).ngroups == 11
    assert data.groupby("link").size().to_dict() == {"network": 35, "nvlink": 88, "pcie": 60}
    assert (data["repo"] == "microsoft/vidur").all() and data["path"].str.endswith("all_reduce.csv").all()


def test_parameters_that_made_the_times_are_found_again():
    truth = {"nvlink": Fit(0.7, 9e3), "pcie": Fit(0.8, 4e4), "network": Fit(11.0, 6e4)}
    made = rows().assign(time_ms_median=predict(rows(), truth))
    found = fit_all(made)
    for link, values in truth.items():
        assert found[link].efficiency == pytest.approx(values.efficiency, rel=1e-3)
        assert found[link].latency_ns == pytest.approx(values.latency_ns, rel=1e-3)


def test_a_group_does_not_see_its_own_times(monkeypatch, errors):
    """Ten times slower H100 pairs change their own error, not the parameters that predict them."""
    data = rows()
    mine = (data["system"] == "h100_pairwise_nvlink") & (data["num_workers"] == 2)
    slower = data.assign(time_ms_median=data["time_ms_median"] * np.where(mine, 10, 1))
    monkeypatch.setattr(collectives, "rows", lambda: slower)
    key = ("h100_pairwise_nvlink", 2, 2)
    again = table().set_index(collectives.GROUP)
    for column in ("efficiency", "latency_us"):
        assert again.loc[key, column] == errors.loc[key, column]
    assert again.loc[key, "bias %"] < -70


def test_bandwidth_transfers_between_systems(errors):
    """Messages of 4 MB and more, each group from the others: PCIe from generation 4 to 5 and back, NVLink among all."""
    large = errors.groupby("link")["large %"]
    assert large.max()["pcie"] < 10 and large.median()["nvlink"] < 25 and large.max()["nvlink"] < 45


def test_efficiencies_are_physical(errors):
    inside = errors[errors["link"] != "network"]
    assert inside["efficiency"].between(0.4, 1.0).all() and errors["latency_us"].between(1, 100).all()


def test_one_link_alone_can_be_fitted():
    assert 0.5 < fit(rows(), "pcie").efficiency < 1
