"""DRAM standards: sources, scaling with channels and bandwidth, table of run lengths, latency with and without load."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from sim.memory.dram import (
    RUN_BYTES,
    STANDARDS,
    address_map,
    efficiency_table,
    latency_ns,
    loaded_latency_ns,
    parameters,
)
from sim.memory.dram_timing import TIMINGS

NUMBERS = [(name, field) for name, row in STANDARDS.items() for field in row if not field.endswith("_source")]
CHANNELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


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
    assert STANDARDS["lpddr4_3200"]["clock_ns_source"].startswith("assumed: ")


@pytest.mark.parametrize("standard", STANDARDS)
def test_peak_is_the_bus_of_the_timing(standard):
    assert TIMINGS[standard].peak_gb_per_s == pytest.approx(STANDARDS[standard]["peak_gb_per_s"], rel=1e-4)


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


@pytest.mark.parametrize("standard", STANDARDS)
def test_table_of_run_lengths(standard):
    refresh = 1 - TIMINGS[standard].refresh_clocks / TIMINGS[standard].refresh_interval_clocks / TIMINGS[standard].ranks
    achieved = np.zeros((len(RUN_BYTES), 2))
    for channels in CHANNELS:
        table = efficiency_table(standard, channels)
        assert table.shape == (12, 2)
        assert table.dtype == np.float64
        assert (table > 0).all()
        assert (table < refresh).all()  # even a single stream waits for the refresh of its rank
        assert (np.diff(table, axis=0) >= 0).all()
        assert (table[:, 0] >= table[:, 1]).all()
        assert (channels * table >= achieved).all()  # a channel more never takes bandwidth away
        achieved = channels * table


def test_table_is_kept_and_not_to_be_written():
    table = efficiency_table("hbm2", 4)
    assert efficiency_table("hbm2", 4) is table
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1.0


def test_maps_follow_the_column_timing():
    # tCCD_L = 2 tCCD_S of DDR4 halves a stream that stays in a bank group; HBM2 has no such penalty, but a tFAW
    assert address_map("ddr4_3200", 1) == "bank_group"
    assert address_map("hbm2", 8) == "page"


def test_short_runs_waste_what_the_burst_brings_besides():
    for standard, wasted in (("hbm2", 2), ("lpddr4_3200", 1)):  # bursts of 64 B and of 32 B
        raw = efficiency_table(standard, 1)[:2, 0]
        assert raw[0] <= raw[1] / wasted + 1e-12


@pytest.mark.parametrize("standard", STANDARDS)
def test_latency_grows_with_load(standard):
    load = np.linspace(0, 1, 21)
    loaded = loaded_latency_ns(standard, load)
    assert loaded[0] == latency_ns(standard)
    assert (np.diff(loaded) > 0).all()
    assert float(loaded_latency_ns(standard, 0.5)) == pytest.approx(
        1.29 * latency_ns(standard)
    )  # middle of the bin .4 to .6


@pytest.mark.parametrize("load", [-0.1, 1.2, float("nan")])
def test_load_is_a_fraction(load):
    with pytest.raises(InputError, match=r"load_fraction must be in \[0, 1\]"):
        loaded_latency_ns("hbm2", [0.5, load])


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
