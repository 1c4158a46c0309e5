"""Laws of memory hierarchies: conservation, compulsory traffic, and that relaxing a machine never hurts."""

import math

import numpy as np
import pytest
from fast_machines import EDGE, SINGLE
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator
from sim.designs import Designs
from sim.simulate import evaluate, simulate
from sim.sparsity import lanes
from sim.trace import Sparsity, gemm

MACHINES = SINGLE
dims = st.tuples(st.integers(1, 200), st.integers(1, 700), st.integers(1, 700))


def work(shape, density=None, seed=0):
    m, k, n = shape
    return gemm(m=m, k=k, n=n, sparsity=None if density is None else Sparsity(density=density, seed=seed))


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=10, deadline=None)
@given(shape=dims, density=st.sampled_from([None, 0.1, 0.5, 0.9]))
def test_every_cycle_has_one_cause(name, engine, shape, density):
    report = simulate(accelerator(name), work(shape, density), engine)
    table, causes = report.table, list(report.stalls)
    assert table["cycles"].to_numpy() == pytest.approx(table[causes].sum(axis=1).to_numpy(), rel=1e-9)
    assert (table[causes].to_numpy() >= -1e-6).all()


@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=10, deadline=None)
@given(shape=dims)
def test_never_faster_than_the_peak_nor_below_compulsory_traffic(name, shape):
    machine = accelerator(name)
    report = simulate(machine, work(shape))
    m, k, n = shape
    assert report.cycles >= m * k * n / machine.array.peak_macs_per_cycle
    assert report.dram_bytes >= m * k + k * n + m * n
    on_chip_words = (
        sum(level.capacity_kib for level in machine.memory.values()) * 1024
        + machine.array.rows * machine.array.cols * 6
    ) * machine.array.count
    assert report.dram_bytes >= 2 * m * n * k / math.sqrt(on_chip_words) - 2 * on_chip_words


def cycles_of(machine, trace, path, values):
    return evaluate(Designs.from_grid(machine, {path: values}), trace).table


@pytest.mark.parametrize(
    "path",
    [
        "memory.shared.capacity_kib",
        "memory.weight_buffer.capacity_kib",
        "memory.input_buffer.capacity_kib",
        "memory.accumulator.capacity_kib",
        "memory.shared.bandwidth_gb_per_s",
        "memory.weight_buffer.bandwidth_gb_per_s",
        "memory.input_buffer.bandwidth_gb_per_s",
        "memory.accumulator.bandwidth_gb_per_s",
        "dram.bandwidth_gb_per_s",
    ],
)
@pytest.mark.parametrize("name", EDGE)
@settings(max_examples=5, deadline=None)
@given(shape=dims, density=st.sampled_from([None, 0.3]))
def test_more_memory_or_bandwidth_is_never_slower(name, path, shape, density):
    values = [16.0, 20.0, 32.0, 48.0, 64.0, 100.0, 128.0, 500.0]
    table = cycles_of(accelerator(name), work(shape, density), path, values)
    cycles = table["cycles"].fillna(np.inf).to_numpy()
    assert (np.diff(cycles[np.isfinite(cycles)]) <= 1e-9 * cycles[np.isfinite(cycles)].max()).all()
    assert (np.diff(table["feasible"].to_numpy(dtype=int)) >= 0).all() or "word" in " ".join(table["reason"])


@settings(max_examples=15, deadline=None)
@given(
    shape=dims,
    seed=st.integers(0, 100),
    kept=st.floats(0, 1),
    orientation=st.sampled_from(["output", "input"]),
    fifo=st.sampled_from([0, 2]),
    depth=st.sampled_from([16, 64, "full"]),
)
def test_fewer_nonzeros_are_never_slower_on_lanes(shape, seed, kept, orientation, fifo, depth):
    m, k, n = shape
    rng = np.random.default_rng(seed)
    more = rng.random((n, k)) < 0.6
    fewer = more & (rng.random((n, k)) < kept)
    machine = accelerator("sparse_lanes").override(
        {"sparsity.orientation": orientation, "sparsity.fifo_depth": fifo, "sparsity.barrier_depth": depth}
    )
    a, b = (simulate(machine, gemm(m=m, k=k, n=n, sparsity=mask)) for mask in (more, fewer))
    assert b.cycles <= a.cycles


@pytest.mark.parametrize("name", EDGE)
def test_repeats_scale_totals(name):
    one = work((64, 300, 200), 0.5)
    five = work((64, 300, 200), 0.5)
    five.ops["repeats"] = 5.0
    a, b = simulate(accelerator(name), one), simulate(accelerator(name), five)
    assert b.table["cycles"].sum() == pytest.approx(5 * a.table["cycles"].sum())
    assert b.energy_pj == pytest.approx(5 * a.energy_pj)
    assert b.area_mm2 == a.area_mm2


@pytest.mark.parametrize("name", EDGE)
def test_energy_is_a_sum_of_non_negative_parts(name):
    report = simulate(accelerator(name), work((64, 300, 200), 0.5))
    assert all(v >= 0 for v in report.energy.values())
    assert report.energy_pj == pytest.approx(sum(report.energy.values()))
    assert 0 < report.energy_without_leakage_pj < report.energy_pj


def test_partial_sums_that_leave_are_written_and_read_back():
    """Whole passes of each operand for every loop order of one tier, and how far apart two visits to a sum are."""
    from sim.mapping import ORDERS, refetch, sum_distance

    trips = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 5.0]])
    for order in range(len(ORDERS)):
        orders = np.array([0, order])
        f_in, f_weight, f_out = (refetch(trips, orders, 1, operand) for operand in range(3))
        assert f_in in (1.0, 3.0) and f_weight in (1.0, 2.0) and f_out in (1.0, 5.0)
        assert (f_out > 1.0) == (ORDERS[order][2] != "k") == (sum_distance(trips, orders) > 0)
    assert sum_distance(trips, np.array([0, ORDERS.index("kmn")])) == 6.0
    assert sum_distance(trips, np.array([0, ORDERS.index("mkn")])) == 3.0


def test_infeasible_is_data_with_a_reason():
    table = cycles_of(accelerator("dense_ws"), work((64, 300, 200)), "clock_ghz", [0.5, 3.0])
    assert table["feasible"].tolist() == [True, False]
    assert "clock_ghz" in table["reason"][1] and np.isnan(table["cycles"][1])
    tiny = cycles_of(accelerator("dense_ws"), work((64, 300, 200)), "memory.shared.capacity_kib", [1.0, 512.0])
    assert tiny["feasible"].tolist() == [False, True] and "overflows by at least" in tiny["reason"][0]


@pytest.mark.parametrize("level", ["shared", "weight_buffer", "input_buffer", "accumulator"])
@pytest.mark.parametrize("name", EDGE)
@settings(max_examples=8, deadline=None)
@given(shape=dims, capacity=st.sampled_from([16.0, 96.0, 512.0]), bandwidth=st.sampled_from([12.8, 51.2]))
def test_a_second_buffer_is_never_slower(name, level, shape, capacity, bandwidth):
    machine = accelerator(name).override(
        {f"memory.{level}.capacity_kib": capacity, f"memory.{level}.bandwidth_gb_per_s": bandwidth}
    )
    single, double = cycles_of(machine, work(shape), f"memory.{level}.double_buffered", [False, True])["cycles"]
    assert np.isnan(single) or double <= single * (1 + 1e-9)


def test_input_lanes_pay_for_their_sums_once_a_lane_group():
    """576 inputs on 32 input lanes are 18 groups, each adding into all of the 32 x 1536 outputs (4 bytes a sum)."""
    buffer = {"capacity_kib": 4096, "bandwidth_gb_per_s": 409.6, "banks": 8}
    fields = {"sparsity.orientation": "input"} | {f"memory.accumulator.{k}": v for k, v in buffer.items()}
    machine = accelerator("sparse_lanes").override(fields)
    table = simulate(machine, gemm(m=32, k=576, n=1536, sparsity=0.5)).table
    assert table["accumulator_write_bytes"][0] == pytest.approx(18 * 32 * 1536 * 4)
    assert table["scatter_ops"][0] == table["macs"][0]


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 64), st.integers(64, 700), st.integers(64, 700)),
    rows=st.sampled_from([8, 32, 128]),
    depth=st.sampled_from([16, 64, 256, "full"]),
    capacity=st.sampled_from([64.0, 256.0, 4096.0]),
)
def test_cut_lanes_never_beat_walking_the_tiles(shape, rows, depth, capacity):
    """Tiles of lanes are whole lane groups and whole barriers: the array's cycles are what walking every tile gives."""
    m, k, n = shape
    mask = np.random.default_rng(7).random((n, k)) < 0.5
    machine = accelerator("sparse_lanes").override(
        {"array.rows": rows, "sparsity.barrier_depth": depth, "sparsity.fifo_depth": 0}
        | {"memory.shared.capacity_kib": capacity}
    )
    table = evaluate(Designs.from_machines([machine]), gemm(m=m, k=k, n=n, sparsity=mask)).table
    if not table["feasible"][0]:
        return
    row = simulate(machine, gemm(m=m, k=k, n=n, sparsity=mask)).table.iloc[0]
    tile_m, tile_n, tile_k = (int(x) for x in row["mapping"].split("[")[1].split(",")[0].split(" | ")[-1].split("x"))
    walked = 0
    for n0 in range(0, n, tile_n):
        for k0 in range(0, k, tile_k):
            walked += lanes.walk(mask[n0 : n0 + tile_n, k0 : k0 + tile_k], rows, depth)
    vectors = sum(-(-min(tile_m, m - m0) // machine.array.cols) for m0 in range(0, m, tile_m))
    array = row["compute"] + row["edge"] + row["imbalance"] + row["fill_drain"]
    exact = depth != "full" or tile_k >= k
    assert array == pytest.approx(vectors * walked) if exact else array >= vectors * walked - 1e-6
