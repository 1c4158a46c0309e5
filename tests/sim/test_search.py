"""The mapping search: pruning is exact, and the bytes of the chosen mapping are those of the loop nest as written."""

import numpy as np
import pytest
from fast_machines import EDGE, SINGLE
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator
from sim import analytic
from sim.designs import OBJECTIVES, Designs
from sim.simulate import simulate
from sim.spec import build
from sim.trace import Sparsity, gemm

dims = st.tuples(st.integers(1, 300), st.integers(1, 900), st.integers(1, 900))


def three_levels(**memory):
    """L3, L2 and array buffers: three tiers."""
    raw = accelerator("dense_ws").model_dump(mode="json")
    levels = raw["memory"]
    middle = {**levels["shared"], "capacity_kib": 96, "bandwidth_gb_per_s": 204.8, "banks": 16}
    raw["memory"] = {"l3": levels.pop("shared"), "l2": middle, **levels}
    for name, fields in memory.items():
        raw["memory"][name].update(fields)
    return build(raw)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", EDGE)
@settings(max_examples=8, deadline=None)
@given(shape=dims, capacity=st.sampled_from([64.0, 256.0, 1024.0]), bandwidth=st.sampled_from([3.2, 25.6, 400.0]))
def test_pruned_is_exhaustive(name, objective, shape, capacity, bandwidth):
    m, k, n = shape
    fields = {"memory.shared.capacity_kib": capacity, "dram.bandwidth_gb_per_s": bandwidth}
    designs = Designs.from_machines([accelerator(name).override(fields)])
    trace = gemm(m=m, k=k, n=n, sparsity=Sparsity(density=0.4))
    pruned, full = (analytic.run(designs, trace, objective=objective, effort=e) for e in ("full", "exhaustive"))
    assert (pruned.columns == full.columns).all()


@pytest.mark.parametrize("machine", [*map(accelerator, SINGLE), three_levels()], ids=[*SINGLE, "three_levels"])
@settings(max_examples=10, deadline=None)
@given(shape=dims, objective=st.sampled_from(list(OBJECTIVES)))
def test_traffic_is_that_of_the_printed_nest(machine, shape, objective):
    """Elements that pass every level by the loop nest (counted by :mod:`sim.nest`) are the report's bytes."""
    m, k, n = shape
    report = simulate(machine, gemm(m=m, k=k, n=n), objective=objective)
    row = report.table.iloc[0]
    nest = report.nests[row["name"]]
    moves = nest.accesses()
    read = moves["dram", "inputs"].read_down + moves["dram", "weights"].read_down
    sums = moves["dram", "outputs"]
    stay = (bool(row["input_resident"]), bool(row["output_resident"]))
    assert stay == (False, False)
    spilled = sums.read_down
    assert row["dram_read_bytes"] == pytest.approx(read + 4 * spilled)
    assert row["dram_write_bytes"] == pytest.approx(m * n + 4 * spilled)
    for slot, level in enumerate(machine.memory):
        for operand in ("weights", "inputs"):
            held = [lv for lv in nest.levels if lv.name == level and operand in lv.keeps]
            if slot and held and len(machine.memory[level].keeps) == 1:
                assert row[f"{level}_write_bytes"] == pytest.approx(moves[level, operand].written_from_above)


def test_objectives_each_win_their_own():
    machine, trace = three_levels(), gemm(m=512, k=1536, n=576)
    found = {o: simulate(machine, trace, objective=o) for o in OBJECTIVES}
    assert found["latency"].table["cycles"].sum() == min(r.table["cycles"].sum() for r in found.values())
    assert found["energy"].energy_pj <= min(r.energy_pj for r in found.values()) * (1 + 1e-9)
    assert found["traffic"].dram_bytes == min(r.dram_bytes for r in found.values())
    edp = {o: r.table["cycles"].sum() * r.energy_pj for o, r in found.items()}
    assert edp["edp"] <= min(edp.values()) * 1.01


def test_groups_do_not_change_a_design():
    """Designs evaluated together, in any company, are what each gives alone."""
    machine, trace = accelerator("sparse_lanes"), gemm(m=70, k=300, n=500, sparsity=0.3)
    grid = {"array.rows": [8, 32, 8, 32], "clock_ghz": [0.5, 0.5, 0.8, 0.8], "dram.channels": [1, 2, 4, 1]}
    designs = Designs.from_grid(machine, grid)
    together = analytic.run(designs, trace)
    for i in range(4):
        alone = analytic.run(designs.take(np.array([i])), trace)
        assert (alone.columns[0] == together.columns[i]).all()
