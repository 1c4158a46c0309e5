"""The DRAM scheduler: single commands by hand, laws, and the closed form beside it where no row was simulated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim.errors import InputError
from sim.memory.dram import RUN_BYTES, STANDARDS, WRITE_FRACTIONS, address_map
from sim.memory.dram_controller import achieved, stream
from sim.memory.dram_efficiency import Controller, efficiency
from sim.memory.dram_timing import TIMINGS

HBM2, LPDDR4 = TIMINGS["hbm2"], TIMINGS["lpddr4_3200"]
NO_REFRESH = {"refresh_clocks": 1, "refresh_interval_clocks": 10**7}


def test_a_stream_fills_the_bus_but_for_refresh():
    without = achieved(dataclasses.replace(LPDDR4, **NO_REFRESH), 2048, locality="sequential")
    assert without.efficiency == pytest.approx(1.0, abs=0.005)
    assert without.activates_per_request == pytest.approx(1 / LPDDR4.bursts_per_page, rel=0.02)
    # some 12 refreshes are seen, so one more or less is 8 % of what they take
    assert achieved(LPDDR4, 2048, locality="sequential").efficiency == pytest.approx(
        1 - LPDDR4.refresh_share, abs=0.012
    )


def test_four_activates_bound_random_bursts():
    row = dataclasses.replace(HBM2, **NO_REFRESH)
    assert achieved(row, 64).efficiency == pytest.approx(2 / (30 / 4), rel=0.01)
    slower = dataclasses.replace(row, four_activates_clocks=60)
    assert achieved(slower, 64).efficiency == pytest.approx(2 / (60 / 4), rel=0.01)


def test_one_bank_pays_the_whole_row_cycle():
    # every access opens another row of one bank: tRAS + tRP, 48 clocks for 2 on the bus
    row = dataclasses.replace(HBM2, **NO_REFRESH)
    stride = row.page_bytes * row.banks
    assert achieved(row, 64, address_map="page_plain", locality=stride).efficiency == pytest.approx(2 / 48, rel=0.01)


def test_an_idle_device_answers_after_activate_and_column():
    row = dataclasses.replace(HBM2, **NO_REFRESH)
    found = achieved(row, 64, load=0.005, requests=500)
    least = row.cas_clocks + row.data_clocks + row.row_to_column_clocks
    assert least <= found.read_latency_ns / row.clock_ns <= least + row.precharge_clocks + 2
    assert found.efficiency == pytest.approx(0.005, rel=0.02)


@pytest.mark.parametrize("device", ["hbm2", "ddr4_3200", "lpddr4_3200"])
def test_latency_grows_with_load(device):
    found = [achieved(TIMINGS[device], 1024, load=load, requests=4000).read_latency_ns for load in (0.05, 0.4, 0.8)]
    assert found == sorted(found)


def test_deeper_queues_help_channels():
    shallow = achieved(HBM2, 2048, channels=8, controller=Controller(fifo=16), requests=3000)
    deep = achieved(HBM2, 2048, channels=8, controller=Controller(fifo=256), requests=3000)
    assert shallow.efficiency < deep.efficiency


def test_stream_of_a_pattern():
    address, written = stream(HBM2, 256, 1 / 3, "mix", 24, 0)
    runs = address.reshape(6, 4)
    assert (np.diff(runs, axis=1) == 64).all()
    assert (runs[3:] - runs[:3] == 256).all()  # each stream goes on where it was
    assert written.reshape(6, 4)[:, 0].tolist() == [False, False, True] * 2
    address, written = stream(HBM2, 128, 0.0, 22016, 6, 0)
    assert address.tolist() == [0, 64, 22016, 22080, 44032, 44096]
    assert not written.any()


@pytest.mark.parametrize("standard", ["lpddr4_3200", "hbm2", "ddr4_3200"])
def test_closed_form_beside_the_scheduler(standard):
    error = beside(standard, (1, 2), RUN_BYTES[1::4])
    assert np.abs(error[..., 0]).max() < 0.08
    assert np.abs(error).mean() < 0.06


@pytest.mark.slow
def test_closed_form_beside_the_scheduler_everywhere():
    error = np.abs([beside(standard, (1, 2, 4, 8, 16), RUN_BYTES) for standard in STANDARDS])
    assert np.median(error) < 0.02
    assert error.mean() < 0.03
    assert np.quantile(error, 0.9) < 0.075
    assert error.max() < 0.19


def beside(standard, channels, runs):
    """Relative error of the closed form, [channels, runs, write fractions]."""
    row = TIMINGS[standard]
    found = []
    for count in channels:
        name = address_map(standard, count)
        truth = [[achieved(row, b, w, name, count, requests=6000).efficiency for w in WRITE_FRACTIONS] for b in runs]
        found.append(efficiency(row, runs[:, None], np.array(WRITE_FRACTIONS), name, count) / np.array(truth) - 1)
    return np.array(found)


def test_load_is_a_share():
    with pytest.raises(InputError, match=r"load must be in \(0, 1\], got 1.5"):
        achieved(HBM2, 64, load=1.5)
