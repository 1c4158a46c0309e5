"""Smallest cases of broken laws that a review found; each states the law, the mark goes when the model keeps it."""

import numpy as np
import pytest

from laws.energy import totals
from sim import analytic
from sim.designs import Designs
from sim.errors import InputError
from sim.memory.dram import STANDARDS, efficiency_table, parameters
from sim.memory.schedule import closed_form, uneven, walk
from sim.simulate import simulate
from sim.spec import build
from sim.trace import Op, Trace, gemm

ALL = ["weights", "inputs", "outputs"]


def level(keeps, capacity_kib=256.0, bandwidth_gb_per_s=1000.0, **more):
    fields = {"keeps": keeps, "capacity_kib": capacity_kib, "bandwidth_gb_per_s": bandwidth_gb_per_s, "banks": 64}
    return fields | more


def machine(memory=None, array=None, **parts):
    """A 16 x 16 weight-stationary array of 16-bit operands at 1 GHz behind one shared memory."""
    array = {"rows": 16, "cols": 16, "weight_bits": 16, "activation_bits": 16} | (array or {})
    memory = memory or {"shared": level(ALL)}
    vector = {"lanes": 64, "special_function_lanes": 8}
    return build({"name": "case", "clock_ghz": 1.0, "array": array, "memory": memory, "vector": vector} | parts)


def array_cycles(report):
    return report.table[["compute", "edge", "imbalance", "fill_drain"]].to_numpy().sum()


@pytest.mark.parametrize("split", ["any", "m"])
def test_an_op_smaller_than_the_number_of_arrays_still_runs(split):
    """A decode step (one row) on four arrays that split rows, and a single MAC."""
    for m, k, n in ((1, 1, 1), (1, 512, 512)) if split == "m" else ((1, 1, 1), (3, 3, 3)):
        simulate(machine(array={"count": 4, "split": split}), gemm(m=m, k=k, n=n))


@pytest.mark.parametrize("count", [2, 4, 16])
def test_a_lane_walks_its_nonzeros_whatever_the_number_of_arrays(count):
    """16 dense output features of 1000 inputs: no lane of any array is done before 1000 cycles."""
    many = machine(array={"kind": "lanes", "rows": 32, "cols": 4, "count": count, "split": "n"})
    assert array_cycles(simulate(many, gemm(m=4, k=1000, n=16))) >= 1000


def test_a_pop_feeds_at_most_one_group_of_vectors():
    found = simulate(machine(array={"kind": "lanes", "count": 4, "split": "m"}), gemm(m=64, k=64, n=64)).table
    assert found["front_end_ops"][0] * 16 >= found["macs"][0]


def test_room_for_partial_sums_in_a_slow_level_is_not_forced_on_an_op():
    def cycles(capacity_kib):
        memory = {
            "shared": level(ALL, 1024, 20),
            "middle": level(["outputs"]),
            "inner": level(["outputs"], capacity_kib, 4),
        }
        return simulate(machine(memory, dram={"bandwidth_gb_per_s": 200}), gemm(m=128, k=512, n=128)).cycles

    assert cycles(128) <= cycles(64)


def test_room_for_a_tile_in_a_level_of_coarse_accesses_is_not_forced_on_an_op():
    def cycles(capacity_kib):
        memory = {"shared": level(ALL, 1024), "buffer": level(["weights"], capacity_kib, 4, access_bytes=64)}
        return simulate(machine(memory, dram={"bandwidth_gb_per_s": 200}), gemm(m=16, k=1, n=4096)).cycles

    assert cycles(8) <= cycles(4)


BURST = {"tiles": 9.0, "compute": 0.5, "store": 0.1, "small": 0.05, "burst": 22.76}


def burst_cycles(buffers):
    """(closed form, walk) of nine tiles the first of which also loads what all of them reuse."""
    tiles, c, s = BURST["tiles"], BURST["compute"], BURST["store"]
    load = np.full(int(tiles), BURST["small"])
    load[0] += BURST["burst"]
    walked, _ = walk(load, np.full(int(tiles), c), np.full(int(tiles), s), 1.0, buffers)
    calm_bus = load.mean() + s - BURST["burst"] / tiles
    return uneven(tiles, load.mean(), c, s, 1.0, buffers, load[0] + s, 1.0, calm_bus + BURST["burst"]), walked


@pytest.mark.parametrize("case", ["finer cuts waste less of an access", "one read feeds all arrays"])
def test_leaving_mappings_out_is_exact(case):
    buffers = {"shared": level(ALL, 32, 4, double_buffered=False)}
    if case == "one read feeds all arrays":
        array = {"kind": "lanes", "rows": 32, "cols": 1, "count": 3}
        found, work = machine(buffers, array, clock_ghz=0.5), gemm(m=49, n=49, k=49, bits=16)
    else:
        buffers["near"] = level(ALL, 8, 4, double_buffered=False, access_bytes=8)
        array = {"rows": 4, "cols": 1, "dataflow": "os", "overlap": "none"}
        found, work = machine(buffers, array, clock_ghz=0.2), gemm(m=1, n=49, k=1, bits=16)
    pruned, full = (totals(found, work, "latency", effort) for effort in ("full", "exhaustive"))
    assert np.array_equal(pruned.columns, full.columns, equal_nan=True)


def test_the_closed_form_of_one_burst_is_near_its_walk():
    closed, walked = burst_cycles(2)
    assert closed <= 1.1 * walked


def test_a_second_buffer_does_not_hurt_a_burst():
    assert burst_cycles(2)[0] <= burst_cycles(1)[0]


def test_equal_tiles_are_exact_all_the_same():
    assert uneven(6.0, 3.0, 4.0, 2.0, 1.0, 2, 5.0, 6.0, 5.0) == closed_form(6.0, 3.0, 4.0, 2.0, 1.0, 2)


def gemm_then_vector(m=512, k=64, n=2048):
    shape = {"m": m, "k": k, "n": n, "live_in_bytes": m * k, "live_out_bytes": m * n}
    size = m * n
    streams = {"alu_ops": size, "read_bytes": size, "write_bytes": size, "live_in_bytes": size, "live_out_bytes": size}
    return Trace.from_ops([Op("matmul", numbers=shape), Op("norm", kind="vector", numbers=streams)])


def test_streaming_does_not_widen_the_bus():
    bound = machine(dram={"bandwidth_gb_per_s": 1.0}, dma={"stream_vector": True})
    found = simulate(bound, gemm_then_vector(), "timeline")
    assert found.cycles >= found.dram_bytes  # 1 byte a cycle at most


def test_every_pe_cycle_is_a_mac_or_idle_in_the_timeline_too():
    found = simulate(machine(dram={"bandwidth_gb_per_s": 8.0}), gemm(m=500, k=700, n=900), "timeline").table
    assert found["macs"][0] + found["idle_pe_cycles"][0] == pytest.approx(256 * found["cycles"][0], rel=1e-9)


def test_a_fixed_mapping_has_the_buffers_of_the_machine():
    single = machine({"shared": level(ALL, double_buffered=False)}, dram={"bandwidth_gb_per_s": 8.0})
    two = {"tiers": [{"m": 64, "n": 64, "k": 512}], "buffers": 2}
    with pytest.raises(InputError):
        simulate(single, gemm(m=512, k=512, n=512), mapping=two)


def test_a_fixed_mapping_has_the_split_of_the_machine():
    along_m = machine(array={"count": 4, "split": "m"})
    along_n = {"tiers": [{"m": 64, "n": 64, "k": 64}], "split": {"n": 4}}
    with pytest.raises(InputError):
        simulate(along_m, gemm(m=64, k=64, n=64), mapping=along_n)


def test_bytes_in_flight_bound_a_bus_that_keeps_up_with_them():
    """A DMA that asks for an eighth of the peak gets it: DRAM's efficiency is what it reaches when it is saturated."""
    dram = parameters("lpddr4_3200", 1)
    asked = dram["peak_gb_per_s"] / 8
    slow = machine(dma={"in_flight_kib": asked * dram["latency_ns"] / 1024}, dram={"standard": "lpddr4_3200"})
    found = simulate(slow, gemm(m=1, k=1024, n=1024))
    assert found.cycles == pytest.approx(found.dram_bytes / asked, rel=0.02)


def test_company_does_not_break_a_machine_of_separate_partitions():
    apart = machine({f"only_{o}": level([o]) for o in ALL})
    trace = Trace.from_ops([Op("norm", kind="vector", numbers={"alu_ops": 8.0, "read_bytes": 8.0})])
    together = analytic.run(Designs.from_machines([apart, machine()]), trace)
    assert together["cycles"][0] == analytic.run(Designs.from_machines([apart]), trace)["cycles"][0]


def test_vector_bytes_pass_levels_that_keep_activations():
    apart = machine({f"only_{o}": level([o]) for o in ALL})
    table = simulate(apart, gemm_then_vector()).table
    assert table["only_weights_read_bytes"][1] == 0 == table["only_weights_write_bytes"][1]


def test_edp_is_of_all_the_energy():
    from accel_models import accelerator

    dense = accelerator("dense_ws").override({"memory.shared.capacity_kib": 128, "dram.bandwidth_gb_per_s": 12.8})
    trace = gemm(m=128, k=576, n=1536, sparsity=0.5)
    found = {o: simulate(dense, trace, objective=o) for o in ("latency", "energy", "edp", "traffic")}
    edp = {o: r.table["cycles"].sum() * r.energy_pj for o, r in found.items()}
    assert edp["edp"] <= min(edp.values()) * (1 + 1e-9)


@pytest.mark.parametrize("standard", STANDARDS)
def test_twice_the_channels_give_every_run_length_more_bandwidth(standard):
    for channels in (1, 2, 4, 8, 16, 32, 3, 5, 6, 7, 12, 24):
        more, fewer = (c * efficiency_table(standard, c) for c in (2 * channels, channels))
        assert (more >= fewer).all()


@pytest.mark.xfail(strict=True, reason="counts of channels that are no power of two interleave worse")
@pytest.mark.parametrize(("standard", "channels"), [("hbm3", 24), ("hbm2", 24), ("lpddr4_3200", 62)])
def test_one_more_channel_gives_every_run_length_more_bandwidth(standard, channels):
    more, fewer = (c * efficiency_table(standard, c) for c in (channels + 1, channels))
    assert (more >= fewer - 1e-9).all()


def test_a_split_tile_costs_both_engines_the_same_folds():
    """17 rows in tiles of 16 over six arrays: 3 rows each, then 1; twice the folds of one tile of 3."""
    arrays = {"rows": 4, "cols": 16, "count": 6, "split": "m", "overlap": "none"}
    fixed = {"tiers": [{"m": 16, "n": 64, "k": 64}], "split": {"m": 6}}
    many, trace = machine(array=arrays, dram={"bandwidth_gb_per_s": 200}), gemm(m=17, k=64, n=64)
    closed, walked = (simulate(many, trace, engine, mapping=fixed) for engine in ("analytic", "timeline"))
    assert array_cycles(closed) == array_cycles(walked)


def test_a_short_tile_uses_the_levels_that_its_mapping_uses():
    """80 rows in tiles of 64: the sums of 64 pass a slow accumulator that is too small for them, so do those of 16."""
    memory = {"shared": level(ALL, 512, 100), "accumulator": level(["outputs"], 8, 1)}
    slow, trace = machine(memory, dram={"bandwidth_gb_per_s": 200}), gemm(m=80, k=512, n=64)
    fixed = {"tiers": [{"m": 64, "n": 64, "k": 512}] * 2}
    closed, walked = (simulate(slow, trace, e, mapping=fixed).table for e in ("analytic", "timeline"))
    assert (closed["accumulator_write_bytes"][0] == 0) == (walked["accumulator_bandwidth"][0] == 0)
