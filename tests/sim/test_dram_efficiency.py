"""Closed form of DRAM efficiency: numbers by hand, laws over devices, maps and patterns, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from sim.memory.dram_address import MAPS, places
from sim.memory.dram_efficiency import efficiency, imbalance
from sim.memory.dram_timing import TIMINGS, timing

RUNS = 2 ** np.arange(5, 17)


def test_random_bursts_of_hbm2_by_hand():
    # four activates in 30 clocks: 7.5 clocks a burst instead of 2; refresh takes 260 + 34 + 14 of 3900 clocks
    assert float(efficiency(TIMINGS["hbm2"], 64)) == pytest.approx(2 / 7.5 * (1 - 308 / 3900))


def test_streams_of_lpddr4_by_hand():
    # two row commands in each 64 bursts of 8 clocks; refresh takes 288 + 68 + 29 of 6246 clocks
    assert float(efficiency(TIMINGS["lpddr4_3200"], 1024, locality="sequential")) == pytest.approx(
        8 / (8 + 2 / 64 / 8) * (1 - 385 / 6246)
    )


def test_bank_groups_halve_a_stream_that_stays_in_one():
    kept, spread = (float(efficiency(TIMINGS["ddr4_3200"], 64, 0, m, locality="sequential")) for m in ("page", MAPS[0]))
    assert 0.6 < kept / spread < 0.75  # DRAMsim3: 0.663 / 0.963


@pytest.mark.parametrize("device", TIMINGS)
@pytest.mark.parametrize("address_map", MAPS)
@pytest.mark.parametrize("locality", ["random", "sequential", "mix", "copy", 8192, 22016])
def test_laws(device, address_map, locality):
    runs = RUNS if isinstance(locality, str) else RUNS[: int(np.log2(locality)) - 4 : 3]
    writes = np.array([0, 0.1, 1 / 3])
    found = efficiency(TIMINGS[device], runs[:, None], writes, address_map, 4, locality)
    assert found.shape == (len(runs), 3)
    assert (found > 0).all()
    assert (found <= 1).all()
    if TIMINGS[device].ranks == 1:  # nothing is served while the only rank refreshes
        assert (found <= 1 - TIMINGS[device].refresh_clocks / TIMINGS[device].refresh_interval_clocks).all()
    if isinstance(locality, str):
        assert (np.diff(found, axis=1) <= 0).all()


@pytest.mark.parametrize("device", ["hbm2", "ddr4_3200", "lpddr4_3200"])
def test_channels_add_bandwidth_to_random_runs_of_a_page_map(device):
    channels = 2 ** np.arange(6)  # 32 KiB runs on 6 channels, 4 at a time from 3 places, are 2 % slower than on 4
    found = channels * efficiency(TIMINGS[device], RUNS[:, None], 0, "page", channels)
    assert (np.diff(found, axis=1) > -1e-9).all()


def test_broadcasting_is_the_same_as_one_by_one():
    found = efficiency(TIMINGS["hbm2"], RUNS[::4, None], [0.0, 0.5], "page", 8)
    for i, run in enumerate(RUNS[::4]):
        for j, writes in enumerate((0.0, 0.5)):
            assert found[i, j] == efficiency(TIMINGS["hbm2"], run, writes, "page", 8)


def test_imbalance():
    assert imbalance(1, 1, 64, 104) == 1.0
    assert imbalance(8, 8, 4, 104) == pytest.approx(1.0, abs=0.03)  # every run on every server
    one = [imbalance(8, 1, bursts, 104) for bursts in (1, 4, 16, 64, 512)]
    assert one == sorted(one)
    assert one[-1] == pytest.approx(8 * 512 / (512 + 104 * 7 / 8), rel=0.15)  # one by one, but for what a queue holds
    assert imbalance(8, 1, 16, 1000) < imbalance(8, 1, 16, 104) < imbalance(8, 1, 16, 10)


@pytest.mark.parametrize("device", ["hbm2", "ddr4_3200", "lpddr4_3200", "lpddr4_2400_x64"])
@pytest.mark.parametrize("address_map", MAPS)
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_maps_put_every_burst_at_its_own_place_and_share_evenly(device, address_map, channels):
    row = TIMINGS[device]
    bursts = channels * row.banks * row.bursts_per_page * 2
    at = places(row, address_map, channels, np.arange(bursts) * row.request_bytes)
    assert set(at.channel) == set(range(channels))
    assert set(at.bank) == set(range(row.banks))
    per_page = np.unique(np.stack([at.channel, at.bank, at.row]), axis=1, return_counts=True)[1]
    assert (per_page == row.bursts_per_page).all()


def test_bank_group_map_alternates_groups_and_page_map_stays():
    row = TIMINGS["ddr4_3200"]
    address = np.arange(8) * 64
    for address_map, groups in (("bank_group", [0, 1, 2, 3, 0, 1, 2, 3]), ("page", [0] * 8)):
        assert (places(row, address_map, 1, address).bank // row.banks_per_group).tolist() == groups


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"run_bytes": 0}, "run_bytes must be >= 1, got 0"),
        ({"run_bytes": 64, "write_fraction": 1.5}, "write_fraction must be in [0, 1], got 1.5"),
        ({"run_bytes": 64, "channels": 0}, "channels must be >= 1, got 0"),
        ({"run_bytes": 64, "address_map": "pages"}, "did you mean 'page'?"),
        ({"run_bytes": 64, "locality": "sequental"}, "did you mean 'sequential'?"),
        ({"run_bytes": 64, "locality": 0}, "stride must be >= 1 byte, got 0"),
    ],
)
def test_bad_input_is_one_line(arguments, text):
    with pytest.raises(InputError) as error:
        efficiency(TIMINGS["hbm2"], **arguments)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_device():
    with pytest.raises(InputError, match="did you mean 'hbm2'"):
        timing("hbm22")
