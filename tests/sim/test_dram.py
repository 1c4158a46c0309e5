"""DRAM standards: sources, scaling with channels and bandwidth, latency against the simulator's low-load rows."""

from __future__ import annotations

import pytest

from sim.errors import InputError
from sim.memory.dram import STANDARDS, latency_ns, parameters

NUMBERS = [(name, field) for name, row in STANDARDS.items() for field in row if not field.endswith("_source")]


@pytest.mark.parametrize(("standard", "field"), NUMBERS)
def test_every_number_says_where_it_is_from(standard, field):
    assert len(STANDARDS[standard][f"{field}_source"]) > 10


def test_all_standards_have_the_same_fields():
    assert len({frozenset(row) for row in STANDARDS.values()}) == 1


def test_what_nobody_measured_is_called_assumed():
    for row in STANDARDS.values():
        assert row["background_mw_source"].startswith("assumed: ")
        assert row["phy_area_mm2_source"].startswith("assumed: ")
    assert STANDARDS["ddr4_3200"]["energy_pj_per_bit_source"].startswith("assumed: ")
    assert STANDARDS["hbm3"]["efficiency_source"].startswith("assumed: ")


@pytest.mark.parametrize("standard", STANDARDS)
def test_channels_add_bandwidth_area_and_power_but_no_latency(standard):
    one, four = parameters(standard, 1), parameters(standard, 4)
    for key in ("peak_gb_per_s", "background_mw", "phy_area_mm2"):
        assert four[key] == pytest.approx(4 * one[key])
    for key in ("efficiency", "energy_pj_per_bit", "latency_ns"):
        assert four[key] == one[key]


@pytest.mark.parametrize("standard", STANDARDS)
def test_an_overridden_bandwidth_is_paid_for(standard):
    own = parameters(standard, 2)
    more = parameters(standard, 2, 1.5 * own["peak_gb_per_s"])
    assert more["peak_gb_per_s"] == pytest.approx(1.5 * own["peak_gb_per_s"])
    assert more["background_mw"] == pytest.approx(1.5 * own["background_mw"])
    assert more["phy_area_mm2"] == pytest.approx(1.5 * own["phy_area_mm2"])
    assert parameters(standard, 2, own["peak_gb_per_s"]) == pytest.approx(own)


@pytest.mark.parametrize(
    ("standard", "random_read_ns"),
    [("ddr4_3200", 53.40), ("hbm2", 59.20)],  # dram_efficiency.csv: rand, bgih, 5 % load, row hit rate 0
)
def test_latency_follows_the_simulator(standard, random_read_ns):
    assert latency_ns(standard) == pytest.approx(random_read_ns, rel=0.09)  # p90 of the closed form's error


def test_latency_by_hand():
    # LPDDR4-3200: 28 + 8 + 1 + (29 + 29) + (288 + 29)^2 / (2 * 6246) clocks of 0.625 ns
    assert latency_ns("lpddr4_3200") == pytest.approx(0.625 * (95 + 317**2 / 12492))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("lpddr4_320", 1), "did you mean 'lpddr4_3200'?"),
        (("hbm2", 0), "dram.channels must be >= 1, got 0"),
        (("hbm2", 1, -3.0), "dram.bandwidth_gb_per_s must be > 0, got -3.0"),
    ],
)
def test_bad_input_is_one_line(arguments, text):
    with pytest.raises(InputError) as error:
        parameters(*arguments)
    assert text in str(error.value)
    assert "\n" not in str(error.value)
