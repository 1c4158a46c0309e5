"""Laws that hold on every machine that can be described, not only on the bundled ones (``docs/laws.md`` lists them).

Random machines and work come from :mod:`laws.strategies`. A few examples run by default, thousands under ``-m slow``.
"""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from laws.channels_reference import finish
from laws.check import cycles, law, no_more, report
from laws.energy import at_prices, decided_energy_pj, prices_of, totals
from laws.strategies import chains, gemms, machines, with_ops

from sim import analytic, tiles, timeline
from sim.analytic import slow_of
from sim.counts import COLUMNS, INDEX
from sim.designs import OBJECTIVES, Designs, kernel_matrix
from sim.errors import InputError
from sim.mapping import ORDERS, T_ORDER, TIER_COLUMNS
from sim.memory import on_chip
from sim.memory.channels import walk_channels
from sim.memory.dram import parameters
from sim.memory.on_chip import X_HOME
from sim.memory.traffic import E_READ, E_WRITE
from sim.search import M_BUFFERS, M_BYPASS, M_NEST, M_SINGLE, M_SPLIT_M
from sim.spec import MAX_LEVELS, Accelerator
from sim.trace import Trace, gemm

work = st.one_of(gemms(), chains())
engines = st.sampled_from(["analytic", "timeline"])
objectives = st.sampled_from(list(OBJECTIVES))
which_level = st.integers(0, 5)


def level_of(machine: Accelerator, which: int) -> str:
    return list(machine.memory)[which % len(machine.memory)]


@law(machines(dma=True), work, engines, objectives)
def test_every_cycle_has_one_cause(machine, trace, engine, objective):
    found = report(machine, trace, engine, objective=objective)
    causes = found.table[list(found.stalls)].to_numpy()
    whole = found.table["cycles"].to_numpy()
    assert np.isfinite(causes).all()
    assert causes.sum(axis=1) == pytest.approx(whole, rel=1e-9)
    assert (causes >= -1e-9 * whole[:, None] - 1e-9).all()


@law(machines(dma=True), work, engines, objectives)
def test_nothing_beats_the_array_nor_the_bus(machine, trace, engine, objective):
    """Cycles of every op are at least MACs over peak; DRAM bytes of all ops at most peak bandwidth times cycles (with
    prefetch and streaming, bytes of one op may move while another runs)."""
    streamed = machine.dma.stream_vector
    machine = machine.override({"dma.stream_vector": False}) if streamed else machine
    found = report(machine, trace, engine, objective=objective)
    kernel = kernel_matrix(Designs.from_machines([machine]))[0]
    slow = np.array([slow_of(kernel, row) for row in trace.numeric()])
    assert (found.table["macs"] * slow / found.peak_macs_per_cycle <= found.table["cycles"] * (1 + 1e-9)).all()
    dram = parameters(machine.dram.standard, machine.dram.channels, machine.dram.bandwidth_gb_per_s)
    no_more(found.dram_bytes / dram["peak_gb_per_s"] * machine.clock_ghz, found.table["cycles"].sum())


@law(machines(), gemms(dense=True), objectives)
def test_compulsory_traffic(machine, trace, objective):
    """Every distinct datum once, and 2MNK/sqrt(S) - 2S words for S words on chip (Hong and Kung 1981; Smith et al.
    2019), where patches do not overlap."""
    found, op = report(machine, trace, objective=objective), trace.ops.iloc[0]
    bits, items = op["weight_bits"] / 8, op["batch"]
    inputs = op["input_elements"] or op["m"] * op["k"]
    assert found.dram_bytes >= bits * items * (inputs + op["k"] * op["n"] + op["m"] * op["n"]) * (1 - 1e-9)
    if not op["input_elements"]:
        sizes = {
            n: lv.capacity_kib * (1 if n in machine.tiers[0] else machine.array.count)
            for n, lv in machine.memory.items()
        }
        registers = 3 * machine.array.rows * machine.array.cols * machine.array.count
        words = sum(sizes.values()) * 1024 / bits + registers
        assert found.dram_bytes / bits >= items * (2 * op["m"] * op["n"] * op["k"] / math.sqrt(words) - 2 * words)


@law(machines(), work, objectives)
def test_pruned_is_exhaustive(machine, trace, objective):
    pruned, full = (totals(machine, trace, objective, effort) for effort in ("full", "exhaustive"))
    assert pruned.failed[0] == full.failed[0]
    assert np.array_equal(pruned.columns, full.columns, equal_nan=True)


@law(machines(), work, objectives)
def test_fewer_mappings_are_never_better(machine, trace, objective):
    """Quick mappings are some of the full ones."""
    found = {effort: totals(machine, trace, objective, effort) for effort in ("quick", "full")}
    assert found["full"].failed[0] < 0 or found["quick"].failed[0] >= 0
    if found["quick"].failed[0] < 0 and objective == "latency":
        no_more(found["full"]["cycles"][0], found["quick"]["cycles"][0])
    if found["quick"].failed[0] < 0 and objective == "traffic":
        bytes_of = {e: t["dram_read_bytes"][0] + t["dram_write_bytes"][0] for e, t in found.items()}
        no_more(bytes_of["full"], bytes_of["quick"])


RELAXED = {
    "capacity a bit": lambda level: ("capacity_kib", level.capacity_kib * 1.25),
    "capacity": lambda level: ("capacity_kib", level.capacity_kib * 2),
    "capacity much": lambda level: ("capacity_kib", level.capacity_kib * 50),
    "bandwidth": lambda level: ("bandwidth_gb_per_s", level.bandwidth_gb_per_s * 1.7),
    "ports": lambda level: ("ports", 2),
    "buffers": lambda level: ("double_buffered", True),
    "access": lambda level: ("access_bytes", 1),
    "conflicts": lambda level: ("bank_conflicts", "none"),
}


@law(machines(), work, which_level, st.sampled_from(list(RELAXED)), quick=20, many=400)
def test_a_better_level_is_never_slower(machine, trace, which, knob):
    name = level_of(machine, which)
    field, value = RELAXED[knob](machine.memory[name])
    if knob == "buffers":
        machine = machine.override({f"memory.{name}.double_buffered": False})
    no_more(cycles(machine.override({f"memory.{name}.{field}": value}), trace), cycles(machine, trace))


BETTER = {
    "dram bandwidth": {"dram.bandwidth_gb_per_s": 300.0},
    "network": {"network.bandwidth_gb_per_s": None},
    "multicast": {"network.multicast": True},
    "bytes in flight": {"dma.in_flight_kib": None},
    "free split": {"array.split": "any"},
    "vector unit": {"vector.lanes": 64, "vector.special_function_lanes": 8},
}


@law(machines(), work, st.sampled_from(list(BETTER)), quick=12, many=300)
def test_a_better_machine_is_never_slower(machine, trace, knob):
    no_more(cycles(machine.override(BETTER[knob]), trace), cycles(machine, trace))


@law(machines(), gemms(), which_level, st.sampled_from([1.25, 2.0, 50.0]), st.sampled_from(["energy", "traffic"]))
def test_capacity_helps_every_objective_at_fixed_prices(machine, trace, which, factor, objective):
    """Prices of the smaller machine for both, or a larger SRAM's dearer accesses would blur it."""
    name, prices = level_of(machine, which), prices_of(machine)
    larger = machine.override({f"memory.{name}.capacity_kib": machine.memory[name].capacity_kib * factor})
    before, after = (at_prices(prices, m, trace, objective) for m in (machine, larger))
    assume(before.failed[0] < 0)
    if objective == "energy":
        no_more(decided_energy_pj(prices, after.columns[0]), decided_energy_pj(prices, before.columns[0]))
    else:
        bytes_moved = [sum(t[f"dram_{way}_bytes"][0] for way in ("read", "write")) for t in (after, before)]
        no_more(*bytes_moved)


@law(machines(kinds=("lanes",)), gemms(dense=True, bits=(8,)), st.floats(0, 1), st.integers(0, 9))
def test_fewer_nonzeros_are_never_slower(machine, trace, kept, seed):
    op, rng = trace.ops.iloc[0], np.random.default_rng(seed)
    more = rng.random((int(op["n"]), int(op["k"]))) < 0.6
    fewer = more & (rng.random(more.shape) < kept)
    shape = {name: int(op[name]) for name in ("batch", "m", "k", "n")}
    no_more(*(cycles(machine, gemm(**shape, sparsity=mask)) for mask in (fewer, more)))


@law(machines(dma=True), work, engines, st.sampled_from([2, 5]))
def test_totals_scale_with_repeats(machine, trace, engine, times):
    """With prefetching off, which reaches over single repetitions only."""
    machine = machine.override({"dma.prefetch_weights": False})
    one, many = (report(machine, with_ops(trace, repeats=trace.ops["repeats"] * k), engine) for k in (1, times))
    assert many.table["cycles"].sum() == pytest.approx(times * one.table["cycles"].sum(), rel=1e-9)
    assert many.energy_pj == pytest.approx(times * one.energy_pj, rel=1e-9)
    assert many.area_mm2 == one.area_mm2


@law(machines(), gemms(), st.sampled_from([2, 3, 8]))
def test_a_batch_costs_no_more_than_its_items(machine, trace, items):
    columns = {c: trace.ops[c] * items for c in ("batch", "live_in_bytes", "live_out_bytes")}
    no_more(cycles(machine, with_ops(trace, **columns)), items * cycles(machine, trace))


@law(machines(), gemms(), objectives)
def test_energy_is_what_the_search_minimised(machine, trace, objective):
    """From counted actions and the price table: exactly the chosen mapping's, DRAM latency apart."""
    report(machine, trace, objective=objective)
    detail = analytic.run_detailed(Designs.from_machines([machine]), trace, objective)
    columns = detail.columns[0].copy()
    columns[INDEX["cycles"]] -= columns[INDEX["dram_latency"]]
    assert decided_energy_pj(prices_of(machine), columns) == pytest.approx(detail.mappings[0, 2], rel=1e-9)


@law(machines(dma=True), work, engines, objectives)
def test_energy_is_a_sum_of_non_negative_parts(machine, trace, engine, objective):
    found = report(machine, trace, engine, objective=objective)
    assert all(part >= 0 for part in found.energy.values())
    assert found.energy_pj == pytest.approx(sum(found.energy.values()))


def as_fixed(mapping: np.ndarray, tiers: int) -> dict:
    """A found mapping as a mapping file spells it."""
    starts = [M_NEST + tier * TIER_COLUMNS for tier in range(tiers)]
    sizes = [dict(zip("mnk", map(int, mapping[at : at + 3]), strict=True)) for at in starts]
    return {
        "tiers": [s | {"order": ORDERS[int(mapping[at + T_ORDER])]} for s, at in zip(sizes, starts, strict=True)],
        "buffers": int(mapping[M_BUFFERS]),
        "single": bool(mapping[M_SINGLE]),
        "sums": [tier + 2 for tier in range(tiers - 1) if int(mapping[M_BYPASS]) >> tier & 1],
        "split": dict(zip("mnk", map(int, mapping[M_SPLIT_M : M_SPLIT_M + 3]), strict=True)),
    }


@law(machines(), gemms(), objectives, engines)
def test_the_winner_given_back_as_a_fixed_mapping_is_itself(machine, trace, objective, engine):
    found = report(machine, trace, engine, objective=objective)
    detail = analytic.run_detailed(Designs.from_machines([machine]), trace, objective)
    fixed = as_fixed(detail.mappings[0], len(machine.tiers))
    again = report(machine, trace, engine, objective=objective, mapping=fixed)
    assert again.table["cycles"][0] == found.table["cycles"][0]
    assert again.energy == found.energy


@law(st.lists(machines(), min_size=2, max_size=4), work, objectives)
def test_company_does_not_change_a_design(several, trace, objective):
    try:
        together = analytic.run(Designs.from_machines(several), trace, objective=objective)
    except InputError:  # levels of the same name in another order
        assume(False)
    plain = [i for i, name in enumerate(COLUMNS) if not name.startswith("level")]
    for i, machine in enumerate(several):
        alone = totals(machine, trace, objective)
        assert np.array_equal(alone.columns[0, plain], together.columns[i, plain], equal_nan=True)


@law(machines(), st.integers(1, 12), st.integers(1, 16), st.integers(1, 60), st.integers(1, 60), objectives)
def test_engines_agree_on_uniform_work(machine, batch, m, k, n, objective):
    trace = gemm(m=m, k=k, n=n, batch=batch)
    closed, walked = (report(machine, trace, engine, objective=objective) for engine in ("analytic", "timeline"))
    assume("one tile" in closed.table["mapping"][0].split("|")[0])
    assert closed.table["cycles"][0] == pytest.approx(walked.table["cycles"][0], rel=1e-9)


@law(machines(dma=True), chains())
def test_prefetching_and_streaming_never_hurt(machine, trace):
    off = {"dma.prefetch_weights": False, "dma.stream_vector": False}
    plain = report(machine.override(off), trace, "timeline").table["cycles"].sum()
    for knob in off:
        no_more(report(machine.override(off | {knob: True}), trace, "timeline").table["cycles"].sum(), plain)


def walked_bytes(machine: Accelerator, trace: Trace, detail: analytic.Detail) -> np.ndarray:
    """[levels, (read, write)] bytes of all tiles of a one-op trace, as engine 2 asks each tile for them."""
    seen = np.zeros((MAX_LEVELS, 2))

    def spy(d, e, x, steps):
        seen[:, 0] += e[E_READ : E_READ + MAX_LEVELS] + x[X_HOME : X_HOME + 2 * MAX_LEVELS : 2]
        seen[:, 1] += e[E_WRITE : E_WRITE + MAX_LEVELS] + x[X_HOME + 1 : X_HOME + 2 * MAX_LEVELS : 2]
        return on_chip.busy_cycles(d, e, x, steps)

    with (
        mock.patch.object(tiles, "busy_cycles", spy),
        mock.patch.object(timeline, "tile_times", tiles.tile_times.py_func),
    ):
        timeline.run_detailed(Designs.from_machines([machine]), trace, detail, machine.dma)
    return seen


@law(machines(), gemms(st.sampled_from((16, 64, 96, 128, 192, 256, 384)), dense=True), objectives, quick=3, many=100)
def test_bytes_of_the_tiles_are_the_bytes_of_the_op(machine, trace, objective):
    """What every tile reads and writes, given what it finds and leaves, sums to the closed form's count, level by level
    (where tiles and parts divide evenly, so that all tiles are full)."""
    report(machine, trace, objective=objective)
    detail = analytic.run_detailed(Designs.from_machines([machine]), trace, objective)
    mapping, sizes = detail.mappings[0], trace.ops[["m", "n", "k"]].to_numpy()[0]
    tile_sizes, split = mapping[M_NEST : M_NEST + 3], mapping[M_SPLIT_M : M_SPLIT_M + 3]
    assume(not (sizes % tile_sizes).any() and not (tile_sizes % split).any() and (sizes / tile_sizes).prod() <= 300)
    counted = [
        [detail.columns[0, INDEX[f"level{i}_{way}_bytes"]] for way in ("read", "write")] for i in range(MAX_LEVELS)
    ]
    assert walked_bytes(machine, trace, detail) == pytest.approx(np.array(counted), rel=1e-9, abs=1e-6)


tile = st.tuples(*[st.integers(0, 20)] * 2, st.integers(1, 20), st.integers(0, 20))


@law(
    st.lists(tile, min_size=1, max_size=8),
    st.integers(-1, 6),
    st.integers(1, 2),
    st.integers(2, 3),
    quick=50,
    many=3000,
)
def test_channels_are_the_slow_reference(tiles, drain, buffers, channels):
    end, times = walk_channels(np.array(tiles, dtype=float), float(drain), buffers, channels)
    assert end == pytest.approx(float(finish([list(map(float, t)) for t in tiles], drain, buffers, channels)))
    assert times.max() <= end + 1e-9
    bus, array = sum(t[0] + t[1] + t[3] for t in tiles), sum(t[2] for t in tiles)
    assert end >= max(bus, array) - 1e-6


@law(machines(counts=(1,), most_tiers=1), gemms(), st.sampled_from([2, 3, 4]))
def test_more_arrays_behind_one_memory_are_never_slower(machine, trace: Trace, count):
    assume(all(trace.ops[axis][0] >= count for axis in "mnk"))
    machine = machine.override({"network.multicast": True, "network.bandwidth_gb_per_s": None, "array.split": "any"})
    no_more(cycles(machine.override({"array.count": count}), trace), cycles(machine, trace))
