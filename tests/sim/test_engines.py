"""Engines: an unstalled op is the RTL formula in both; equal on uniform work; how far apart elsewhere."""

import numpy as np
import pytest
from fast_machines import EDGE, array_cycles, unstalled
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator, names
from sim.compute import systolic
from sim.simulate import simulate
from sim.sparsity import lanes
from sim.trace import gemm


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300)),
    flow=st.sampled_from(systolic.DATAFLOWS),
    overlap=st.sampled_from(systolic.OVERLAPS),
    size=st.sampled_from([(4, 4), (8, 16), (32, 8)]),
)
def test_an_unstalled_gemm_is_never_slower_than_one_tile_of_the_rtl_formula(engine, shape, flow, overlap, size):
    """The search may cut tiles where the formula pays for it, but whole-op tiles are candidates and infinitely fast
    memory makes them free, so the array's own time is the formula's or less (cutting can only save the tail)."""
    m, n, k = shape
    machine = unstalled(
        "dense_ws", **{"array.rows": size[0], "array.cols": size[1], "array.dataflow": flow, "array.overlap": overlap}
    )
    report = simulate(machine, gemm(m=m, k=k, n=n), engine)
    expected = int(systolic.cycles(flow, *size, m, n, k, overlap))
    one_tile = "one tile" in report.table["mapping"].iloc[0]
    total = array_cycles(report)
    assert total <= expected + 1e-6
    if one_tile:
        assert total == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_unstalled_lanes_are_the_walk(engine):
    mask = np.random.default_rng(1).random((200, 130)) < 0.4
    machine = unstalled("sparse_lanes", **{"array.rows": 16, "array.cols": 8})
    report = simulate(machine, gemm(m=20, k=130, n=200, sparsity=mask), engine)
    s = machine.sparsity
    walk = lanes.walk(mask, 16, s.barrier_depth, s.orientation, s.assignment, s.fifo_depth, s.empty_tile_cycles)
    assert array_cycles(report) == pytest.approx(-(-20 // 8) * walk)


@pytest.mark.parametrize("name", EDGE)
@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 12),
    m=st.integers(1, 16),
    k=st.integers(1, 64),
    n=st.integers(1, 64),
    bandwidth=st.floats(0.5, 200),
    double_buffered=st.booleans(),
)
def test_engines_agree_exactly_on_uniform_work(name, batch, m, k, n, bandwidth, double_buffered):
    """Batch items too small to cut are tiles that all load, compute and store the same: uniform by construction."""
    fields = {"dram.bandwidth_gb_per_s": bandwidth, "memory.shared.double_buffered": double_buffered}
    machine, trace = accelerator(name).override(fields), gemm(m=m, k=k, n=n, batch=batch)
    a, b = simulate(machine, trace, "analytic"), simulate(machine, trace, "timeline")
    assert "one tile" in a.table["mapping"].iloc[0]
    assert a.table["cycles"].sum() == pytest.approx(b.table["cycles"].sum(), rel=1e-12)


@pytest.mark.parametrize("name", names())
def test_engines_stay_close_on_real_shapes(name):
    """Prefill and decode shapes of a small LLM: the closed form is within 15 % of the walk, op by op."""
    machine = accelerator(name)
    apart = []
    for m in (1, 128):
        for k, n in ((576, 576), (576, 192), (576, 1536), (1536, 576)):
            a, b = (simulate(machine, gemm(m=m, k=k, n=n), e).table["cycles"].sum() for e in ("analytic", "timeline"))
            apart.append(abs(a / b - 1))
    assert max(apart) < 0.15 and np.median(apart) < 0.03
