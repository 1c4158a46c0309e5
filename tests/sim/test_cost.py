"""Area and energy of designs: a hand-summed example, additivity, and that no knob is free."""

from __future__ import annotations

import numpy as np
import pytest

from accel_models import accelerator, names
from sim.cost.area import area, feasible, pe_um2
from sim.cost.energy import components, energy, leakage_mw, pe_cycle_pj, prices
from sim.cost.labels import labels
from sim.counts import ACTIONS
from sim.designs import Designs
from sim.errors import InputError

DENSE, NM, LANES = (accelerator(name) for name in ("dense_ws", "nm_24", "sparse_lanes"))
INPUT_LANES = LANES.override({"sparsity.orientation": "input"})
COMPOSABLE, SERIAL_WEIGHTS, SERIAL = (
    DENSE.override({"array.arithmetic": name}) for name in ("composable", "bit_serial_weights", "bit_serial")
)
FOUR = DENSE.override({"array.count": 4})
BOUND = DENSE.override({"dma.in_flight_kib": 1})
NO_FIFO = LANES.override({"sparsity.fifo_depth": 0})


def one(machine):
    return Designs.from_machines([machine])


def total_area(machine):
    return float(sum(area(one(machine)).values())[0])


def test_area_of_the_dense_machine_by_hand():
    found = {name: float(mm2[0]) * 1e6 for name, mm2 in area(one(DENSE)).items()}
    placed, register = 1 / 0.7, 10.73088 / 32
    assert found["array"] == pytest.approx(32 * 32 * 72.18558 * placed)  # pe_ws W=8;A=32;DB=1
    assert found["vector"] == pytest.approx((32 + 4 * 4) * (163.32516 + 32 * register) * placed)  # fpmac and register
    # 512 KiB, 8 banks of 128 bits: half way (in logarithms) between the rows of 4 and 16 banks
    control = 8 * (2 * 128 + 64) + 64
    rotator = 8 * 4 * 128 / 8 * 3.07638 / 3  # four stages of 2:1 multiplexers: bytes of a 16-byte word, in each bank
    assert found["shared"] == pytest.approx(np.sqrt(155190 * 132890) + (control * register + rotator) * placed)
    assert found["dram_phy"] == pytest.approx(4 * 0.8e6)
    assert found["front_end"] == found["scatter"] == found["fifo"] == found["network"] == 0


def test_the_structured_pe_is_the_synthesised_one():
    ratio = float(area(one(NM))["array"][0] / area(one(DENSE))["array"][0])
    assert ratio == pytest.approx(86.95512 / 72.18558)


def test_prices_by_hand():
    price = {action: float(pj[0]) for action, pj in prices(one(DENSE)).items()}
    assert price["mac_cycles"] == pytest.approx(0.086009 + 0.022791 + 0.0312563 * 40 / 32)  # sum and input registers
    assert price["idle_pe_cycles"] == pytest.approx(0.1 * price["mac_cycles"])
    assert price["level0_read_bytes"] == pytest.approx(np.sqrt(14.14 * 13.365) / 16)
    assert price["dram_read_bytes"] == 64
    assert price["front_end_ops"] == price["scatter_ops"] == 0


def test_every_action_has_a_price_and_every_level_that_is_missing_has_none():
    small = accelerator(
        {
            "name": "bare",
            "clock_ghz": 1,
            "array": {"rows": 8, "cols": 8},
            "memory": {"l": {"keeps": ["weights", "inputs", "outputs"], "capacity_kib": 64, "bandwidth_gb_per_s": 64}},
            "vector": {"lanes": 8, "special_function_lanes": 1},
        }
    )
    designs = Designs.from_machines([DENSE, NM, LANES, INPUT_LANES, small])
    price = prices(designs)
    assert set(price) == set(ACTIONS)
    for pj in (*price.values(), *area(designs).values()):
        assert pj.shape == (5,)
        assert (pj >= 0).all()
        assert np.isfinite(pj).all()
    buffer = designs.levels.index("weight_buffer")
    assert price[f"level{buffer}_read_bytes"][4] == area(designs)["weight_buffer"][4] == 0
    assert (price["mac_cycles"] > 0).all()


@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_energy_is_the_sum_of_its_parts(shape):
    designs = Designs.from_machines([DENSE, NM, LANES, INPUT_LANES])
    random = np.random.default_rng(0)
    counts = {action: random.integers(0, 1000, shape).astype(float) for action in ACTIONS}
    cycles = random.integers(1, 1000, shape).astype(float)
    found = energy(designs, counts, cycles)
    assert tuple(found) == components(designs.levels)
    flat = [c.reshape(4, -1) for c in (*counts.values(), cycles)]
    wanted = sum(c * prices(designs)[a][:, None] for a, c in zip(counts, flat[:-1], strict=True))
    power_mw = leakage_mw(designs) + designs["dram.background_mw"]
    wanted = wanted + flat[-1] * (power_mw / designs["clock_ghz"])[:, None]
    assert sum(found.values()).reshape(4, -1) == pytest.approx(wanted)
    assert found["leakage"].shape == shape
    assert (found["leakage"] > 0).all()


def test_leakage_counts_the_die_once():
    parts = area(one(DENSE))
    die = sum(mm2 for name, mm2 in parts.items() if name != "dram_phy")
    assert leakage_mw(one(DENSE)) == pytest.approx(die * 1e3 * 0.803113 / 58.2469)


KNOBS = [
    (DENSE, "array.rows", [8, 16, 32, 33, 64]),
    (DENSE, "array.cols", [8, 16, 32, 33, 64]),
    (DENSE, "array.weight_bits", [1, 2, 3, 4, 8, 16]),
    (DENSE, "array.activation_bits", [1, 2, 3, 4, 8, 16]),
    (COMPOSABLE, "array.weight_bits", [2, 4, 8, 16]),
    (COMPOSABLE, "array.activation_bits", [2, 4, 8, 16]),
    (SERIAL_WEIGHTS, "array.activation_bits", [1, 2, 4, 8, 16]),
    (SERIAL_WEIGHTS, "array.weight_bits", [1, 2, 4, 8, 16]),
    (SERIAL, "array.weight_bits", [1, 2, 4, 8, 16]),
    (DENSE, "array.arithmetic", ["bit_serial", "bit_serial_weights", "parallel", "composable"]),
    (DENSE, "array.count", [1, 2, 4, 64]),
    (DENSE, "memory.shared.ports", [1, 2]),
    (DENSE, "memory.accumulator.ports", [1, 2]),
    (DENSE, "memory.shared.access_bytes", [16, 8, 4, 2, 1]),
    (FOUR, "network.bandwidth_gb_per_s", [1.0, 10.0, 100.0, 204.8, None]),
    (FOUR, "network.hop_mm", [0.0, 0.5, 1.0, 4.0]),
    (FOUR, "network.hops", [1, 2, 3.5, 10]),
    (FOUR, "network.multicast", [False, True]),
    (DENSE, "dma.channels", [1, 2, 3]),
    (BOUND, "dma.channels", [1, 2, 3]),
    (DENSE, "dma.in_flight_kib", [0.25, 0.5, 1, 2, 4, 64]),
    (DENSE, "dma.prefetch_weights", [False, True]),
    (DENSE, "dma.stream_vector", [False, True]),
    (DENSE, "array.accumulator_bits", [16, 24, 32, 40, 48]),
    (DENSE, "array.overlap", ["none", "single_buffer", "double_buffer"]),
    (DENSE.override({"array.dataflow": "os"}), "array.overlap", ["none", "single_buffer", "double_buffer"]),
    (DENSE, "vector.lanes", [1, 32, 64]),
    (DENSE, "vector.special_function_lanes", [1, 4, 8]),
    (DENSE, "dram.channels", [1, 2, 4, 8]),
    (DENSE, "dram.bandwidth_gb_per_s", [12.8, 25.6, 30.0, 51.2]),
    (LANES, "array.rows", [8, 16, 32, 64, 128]),
    (LANES, "array.cols", [8, 16, 32, 64]),
    (LANES, "sparsity.fifo_depth", [0, 1, 2, 8]),
    (LANES, "sparsity.barrier_depth", [8, 16, 64, 128, 256, 1024, "full"]),
    (INPUT_LANES, "array.rows", [8, 16, 32, 64, 128]),
    (INPUT_LANES, "sparsity.fifo_depth", [0, 1, 2, 8]),
    (INPUT_LANES, "sparsity.barrier_depth", [8, 16, 64, 128, 256, 1024, "full"]),
    (NO_FIFO, "sparsity.empty_tile_cycles", [1, 0]),
    (LANES, "sparsity.assignment", ["contiguous", "interleaved"]),
]
KNOBS += [
    (machine, f"memory.{level}.{knob}", values)
    for machine in (DENSE, LANES)
    for level in machine.memory
    for knob, values in (
        ("capacity_kib", [4, 32, 64, 100, 512, 4096, 16384]),
        ("bandwidth_gb_per_s", [6.4, 25.6, 51.2, 102.4, 150.0, 204.8]),
        ("double_buffered", [False, True]),
    )
]


@pytest.mark.parametrize(("machine", "path", "values"), KNOBS, ids=[f"{m.name}-{p}" for m, p, _ in KNOBS])
def test_no_knob_is_free(machine, path, values):
    designs = Designs.from_grid(machine, {path: values})
    up = np.diff(sum(area(designs).values())) > 0
    up |= np.diff(leakage_mw(designs) + designs["dram.background_mw"]) > 0
    assert up.all()


def test_bits_in_flight_that_nothing_bounds_are_what_dram_needs():
    """25.6 GB/s for its latency; a bound below that is cheaper, one above it dearer."""
    needed_kib = float(one(DENSE)["dram.peak_gb_per_s"][0] * one(DENSE)["dram.latency_ns"][0]) / 1024
    bounds = [0.9 * needed_kib, needed_kib, 1.1 * needed_kib, None]
    mm2 = area(Designs.from_grid(DENSE, {"dma.in_flight_kib": bounds}))["dma"]
    assert mm2[0] < mm2[1] < mm2[2]
    assert mm2[3] == pytest.approx(mm2[1])


def test_a_network_bound_that_never_binds_is_no_cheaper_than_none():
    found = area(Designs.from_grid(FOUR, {"network.bandwidth_gb_per_s": [4 * 102.4, None]}))["network"]
    assert found[0] == pytest.approx(found[1])
    assert area(one(DENSE))["network"] == 0  # one array next to its buffer
    assert prices(one(DENSE))["network_bytes"] == 0


def test_network_energy_by_hand():
    """Three hops of 2 mm: the wire, and the two registers of each router."""
    machine = FOUR.override({"network.hops": 3, "network.hop_mm": 2, "network.energy_pj_per_bit_mm": 0.1})
    assert prices(one(machine))["network_bytes"] == pytest.approx(8 * 3 * (2 * 0.1 + 2 * 0.0312563 / 32))


def test_arithmetic_by_hand():
    """PE areas (um2) around the synthesised adders and multiply-accumulate, and a PE's energy a cycle (pJ)."""
    mac, extra, per_bit, register = (
        44.58564,
        72.18558 - 44.58564,
        (72.18558 - 44.58564 - 32.04684 + 15.79014) / 20,
        0.33534,
    )
    assert pe_um2(one(COMPOSABLE)) == pytest.approx(1.41 * mac + extra + per_bit * (3 * 32 + 32 - 56), rel=1e-4)
    adder_9 = 6.96924 * (9 / 16) ** (np.log(10.76004 / 6.96924) / np.log(1.5))
    serial = adder_9 + 8 * 3.07638 / 24 + 14.7987 / 16 + max(extra + per_bit * (26 - 56), 26 * register)
    assert pe_um2(one(SERIAL_WEIGHTS)) == pytest.approx(serial, rel=1e-4)
    bit = 0.086009 / 64
    assert pe_cycle_pj(one(SERIAL_WEIGHTS)) == pytest.approx(8 * bit + 0.022791 * (2 + 9) / 32 + 0.0312563 * 2 / 32)
    assert pe_cycle_pj(one(SERIAL)) == pytest.approx(bit + 0.022791 * (2 + 2) / 32 + 0.0312563 * (2 + 1) / 32)


def test_composable_pays_at_native_width_and_serial_pes_are_small():
    """More area a native MAC for a PE that splits; a serial PE is small, eight (64) of them are not."""
    parallel, composable, weights, both = (
        float(pe_um2(one(m))[0]) for m in (DENSE, COMPOSABLE, SERIAL_WEIGHTS, SERIAL)
    )
    assert parallel < composable < 16 * parallel
    assert weights < parallel < 8 * weights
    assert both < weights < parallel < 64 * both
    assert prices(one(COMPOSABLE))["mac_cycles"] > prices(one(DENSE))["mac_cycles"]


@pytest.mark.parametrize("machine", [DENSE, LANES], ids=lambda m: m.name)
def test_the_most_banks_are_never_the_cheapest(machine):
    """Banks buy no speed; narrower words in more banks can be smaller, up to a point."""
    for level in machine.memory:
        designs = Designs.from_grid(machine, {f"memory.{level}.banks": [4, 8, 16, 32, 64, 256, 1024]})
        assert np.argmin(sum(area(designs).values())) < 4
        assert (np.diff(sum(area(designs).values())[3:]) > 0).all()


def test_both_orientations_are_paid_for():
    output, scattered = area(one(LANES)), area(one(INPUT_LANES))
    assert output["front_end"] > scattered["front_end"] > 0
    assert scattered["scatter"] > output["scatter"] == 0
    assert prices(one(INPUT_LANES))["scatter_ops"] > 0
    assert prices(one(LANES))["macs"] > prices(one(INPUT_LANES))["macs"]


def test_the_clock_is_feasible_up_to_the_critical_path():
    designs = Designs.from_grid(DENSE, {"clock_ghz": [0.4, 1 / 0.7, 1 / 0.7 + 1e-6]})
    ok, reasons = feasible(designs)
    assert ok.tolist() == [True, True, False]
    assert reasons[:2] == ["", ""]
    assert "critical_path_ns" in reasons[2]


def test_a_bank_is_feasible_up_to_the_widest_word():
    edge = 8 * 64 * 0.8  # 8 banks of 64 bytes at 0.8 GHz
    ok, reasons = feasible(Designs.from_grid(DENSE, {"memory.shared.bandwidth_gb_per_s": [1.0, edge, 1.01 * edge]}))
    assert ok.tolist() == [True, True, False]
    assert "memory.shared needs 517-bit words a bank, 512 is the widest" in reasons[2]


def test_all_reasons_are_given():
    worst = DENSE.override({"clock_ghz": 2.0, "memory.shared.banks": 1, "memory.shared.bandwidth_gb_per_s": 1024})
    ok, reasons = feasible(one(worst))
    assert not ok[0]
    assert len(reasons[0].split("; ")) == 2


def test_assembled_arithmetic_and_networks_say_so():
    assert any("composable" in note and "assumed" in note for note in labels(COMPOSABLE))
    assert any("bit-serial" in note and "not synthesised" in note for note in labels(SERIAL))
    assert any("network" in note and "estimated" in note for note in labels(FOUR))


@pytest.mark.parametrize("name", names())
def test_bundled_machines_are_feasible_and_say_what_is_assumed(name):
    machine = accelerator(name)
    assert feasible(one(machine))[0].all()
    notes = labels(machine)
    assert any("scaled from 22 nm" in note for note in notes)
    assert any("leakage" in note and "assumed" in note for note in notes)
    assert any("PHY area" in note for note in notes)
    assert any("front end" in note for note in notes) == (name == "sparse_lanes")
    assert labels(one(machine)) == notes[:-1]


def test_nodes_do_not_mix():
    designs = Designs.from_machines([DENSE, NM])
    designs.columns["technology.node_nm"] = np.array([7.0, 22.0])
    with pytest.raises(InputError, match="must be the same in all designs"):
        area(designs)


def test_a_hundred_thousand_designs_in_one_call():
    designs = Designs.from_grid(DENSE, {"memory.shared.capacity_kib": [64.0, 512.0]})
    many = designs.take(np.arange(100_000) % 2)
    assert sum(area(many).values())[:2] == pytest.approx(sum(area(designs).values()))
    assert prices(many)["level0_read_bytes"][:2] == pytest.approx(prices(designs)["level0_read_bytes"])
