"""Reports: fit a screen, say what is true, compute what is asked for, and notice when a trace has changed."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from accel_models import accelerator, names
from sim import advice
from sim.designs import Designs
from sim.explain import tiles_of
from sim.mapping import ORDERS
from sim.operations import elementwise, gemv, sequence
from sim.search import M_BUFFERS, M_BYPASS, M_SINGLE
from sim.simulate import simulate
from sim.trace import gemm
from workloads.traces import load_trace

CORNER = np.kron(np.eye(2, dtype=bool), np.ones((64, 64), dtype=bool))  # two of four blocks of weights are empty
BLOCKS, POSITIONS = "sparsity.block_skipping", "sparsity.position_skipping"
FAST = {"dram.bandwidth_gb_per_s": 400.0, "memory.shared.bandwidth_gb_per_s": 400.0}


def bound_by_dram(**fields):
    machine = accelerator("dense_ws").override({"dram.bandwidth_gb_per_s": 2.0, **fields})
    return machine, gemm(m=256, k=512, n=512)


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("name", names())
def test_fits_a_screen(name, engine):
    long = sequence(*(gemm(m=8 + i, k=64, n=96) for i in range(12)), elementwise("silu", 4096), name="many_" * 30)
    for trace in (gemm(m=64, k=256, n=256, sparsity="2:4"), long):
        lines = repr(simulate(accelerator(name), trace, engine)).splitlines()
        assert len(lines) <= 30 and max(map(len, lines)) <= 110, "\n".join(lines)


def test_a_whole_model_fits_and_groups_its_layers():
    report = simulate(accelerator("sparse_lanes"), load_trace("smollm2_135m_wanda_50"))
    lines = repr(report).splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 110
    slow = lines[lines.index("  slowest:") + 1 : lines.index("  slowest:") + 6]
    assert any(" x30 " in line for line in slow)
    found = [float(re.search(r"([\d.]+) %", line).group(1)) for line in slow]
    assert found == sorted(found, reverse=True)
    table = report.table.assign(kind=report.table["name"].str.replace(r"^layer\d+\.", "", regex=True))
    sums = table.groupby("kind")["cycles"].sum().sort_values(ascending=False)
    assert found[0] == pytest.approx(100 * sums.iloc[0] / sums.sum(), abs=0.06) and sums.index[0] in slow[0]


def test_roofline_by_hand():
    machine, trace = bound_by_dram()
    report = simulate(machine, trace)
    text = " ".join(repr(report).split())
    peak, done = 2 * 32 * 32 * machine.clock_ghz * 1e9, 2 * 256 * 512 * 512
    intensity, balance = done / report.dram_bytes, peak / 2e9
    assert f"{done / report.seconds * 1e-12:.4g} of {peak * 1e-12:.4g} TOPS peak" in text
    assert f"{intensity:.4g} op/B from DRAM, the machine balances at {balance:.4g}: memory bound" in text
    assert f"{100 * report.dram_bytes / 2e9 / report.seconds:.0f} % of 2 GB/s peak" in text
    fast = repr(simulate(machine.override({"dram.bandwidth_gb_per_s": 400.0}), trace))
    assert "compute bound" in " ".join(fast.split())


def test_without_limit_is_the_same_mapping_on_faster_dram():
    machine, trace = bound_by_dram()
    report = simulate(machine, trace)
    cause = max(report.stalls, key=report.stalls.get)
    assert cause == "dram_bandwidth"
    what, left = advice.limit(report, cause)
    row = report.detail.mappings[0]
    tiers = [
        dict(zip("mnk", tile, strict=True)) | {"order": ORDERS[order]}
        for tile, order in tiles_of(row, len(machine.tiers))
    ]
    same = {
        "tiers": tiers,
        "buffers": int(row[M_BUFFERS]),
        "sums": "bypass" if row[M_BYPASS] else "held",
        "single": bool(row[M_SINGLE]),
    }
    assert simulate(machine, trace, mapping=same).cycles == report.cycles
    fast = simulate(machine.override({"dram.bandwidth_gb_per_s": 1e6}), trace, mapping=same)
    assert left == pytest.approx(fast.cycles / report.cycles, rel=2e-3) and left < 0.9
    assert f"with {what} the same mapping would take {left:.2f} of the time" in " ".join(repr(report).split())


@pytest.mark.parametrize(
    ("name", "fields", "trace", "cause"),
    [
        ("dense_ws", {"dram.bandwidth_gb_per_s": 4.0}, gemm(m=256, k=512, n=512), "dram_bandwidth"),
        ("dense_ws", {}, gemm(m=512, k=1024, n=1024), "compute"),
        ("dense_ws", {"vector.lanes": 1}, elementwise("silu", 1 << 16), "vector"),
        ("dense_ws", {"memory.shared.bandwidth_gb_per_s": 4.0}, gemm(m=256, k=512, n=512), "shared_bandwidth"),
        ("dense_ws", {"array.rows": 48}, gemm(m=256, k=32, n=512), "edge"),
        ("sparse_lanes", {"sparsity.fifo_depth": 0, **FAST}, gemm(m=512, k=256, n=256, sparsity=0.2), "imbalance"),
    ],
)
def test_changes_are_what_simulating_them_gives(name, fields, trace, cause):
    machine = accelerator(name).override(fields)
    report = simulate(machine, trace)
    found = advice.changes(report, cause)
    assert found and [c.time for c in found] == sorted(c.time for c in found)
    for change in found:
        one = simulate(machine.override(change.after), trace)
        assert one.columns[:, 0].sum() / report.columns[:, 0].sum() == pytest.approx(change.time, rel=1e-9)
        assert change.time < 1 and set(change.before) == set(change.after) and change.before != change.after
    limit = advice.limit(report, cause)
    assert limit is None or 0 < limit[1] <= 1


def test_two_limits_at_once_are_told_together():
    """A vector times a matrix on a wide array: loading weights into the array takes as long as fetching them."""
    fields = {"array.rows": 64, "array.cols": 64, "clock_ghz": 1.0, "dram.standard": "hbm2", "dram.channels": 2}
    fast = {f"memory.{name}.{field}": value for name in ("shared", "weight_buffer")
            for field, value in (("bandwidth_gb_per_s", 800), ("banks", 16))}  # fmt: skip
    machine, trace = accelerator("dense_ws").override(fields | fast), gemv(k=1024, n=1024)
    report = simulate(machine, trace)
    cause = max(report.stalls, key=report.stalls.get)
    assert cause == "fill_drain" and advice.changes(report, cause) == []
    best = advice.pairs(report, cause, "dram_bandwidth")[0]
    assert best.after == {"array.cols": 128, "dram.bandwidth_gb_per_s": 128} and best.time < 0.55
    one = simulate(machine.override(best.after), trace)
    assert one.columns[:, 0].sum() / report.columns[:, 0].sum() == pytest.approx(best.time, rel=1e-9)
    text = " ".join(repr(report).split())
    next_one = "no single change tried for it helps; DRAM comes next, in use 89 % of the time"
    assert f"{next_one}; mapped anew: {best} of the time" in text


@pytest.mark.parametrize(
    ("name", "fields", "plain", "used", "note"),
    [
        ("nm_24", {}, {"sparsity": 0.5}, {"sparsity": "2:4"}, "2:4 unused: no op's weights fit it"),
        ("sparse_lanes", {}, {}, {"sparsity": 0.5}, "skipping unused: no op's weights have zeros"),
        ("dual_sided", {}, {}, {"input_density": 0.5}, "skipping unused: no op's weights or inputs have zeros"),
        ("dense_ws", {BLOCKS: True}, {"sparsity": 0.5}, {"sparsity": CORNER}, f"{BLOCKS} unused"),
        ("dense_ws", {POSITIONS: True}, {}, {"m": 1, "input_density": 0.5}, f"{POSITIONS} unused"),
    ],
)  # fmt: skip
def test_support_that_finds_no_work_is_noted(name, fields, plain, used, note):
    machine = accelerator(name).override(fields)
    size = {"m": 64, "k": 128, "n": 128}
    for asked, noted in ((plain, True), (used, False)):
        found = repr(simulate(machine, gemm(**size | asked)))
        assert (note in " ".join(found.split())) == noted
    assert "unused" not in repr(simulate(accelerator("dense_ws"), gemm(**size)))


def test_ops_without_cycles_are_not_among_the_slowest():
    trace = sequence(gemm(m=8, k=64, n=64), gemm(m=16, k=96, n=64), chained=False)
    assert "fence" in list(trace.ops["name"])
    lines = repr(simulate(accelerator("dense_ws"), trace)).splitlines()
    at = lines.index("  slowest:")
    assert "gemm" in lines[at + 1] and "gemm" in lines[at + 2] and not lines[at + 3].startswith("    ")


def test_what_is_not_read_is_not_computed(monkeypatch):
    machine, trace = bound_by_dram()
    first = simulate(machine, trace)
    monkeypatch.setattr(Designs, "from_machines", lambda *_: pytest.fail("a known machine was converted again"))
    report = simulate(machine.model_copy(update={"summary": "other prose"}), trace)
    assert report.cycles == first.cycles and not {"table", "energy", "area", "notes"} & set(vars(report))
    assert list(report.table.columns) == list(first.table.columns) and "table" in vars(report)
    monkeypatch.undo()
    again = pickle.loads(pickle.dumps(report))
    assert again.to_dict() == first.to_dict() == report.to_dict()


@pytest.mark.parametrize("change", ["column", "cell", "frame", "mask"])
def test_a_changed_trace_is_another_trace(change):
    machine = accelerator("sparse_lanes")
    trace = gemm(m=64, k=256, n=256, sparsity=0.5)
    before = simulate(machine, trace)
    if change == "column":
        trace.ops["m"] = 32.0
    elif change == "cell":
        trace.ops.loc[0, "m"] = 32
    elif change == "frame":
        trace.ops = trace.ops.assign(m=32)
    else:
        other = gemm(m=64, k=256, n=256, sparsity=0.9)
        trace.profiles, trace.masks, trace.counts = other.profiles, other.masks, other.counts
        trace.ops = other.ops
    after = simulate(machine, trace)
    fresh = gemm(m=32, k=256, n=256, sparsity=0.5) if change != "mask" else other
    assert after.cycles == simulate(machine, fresh).cycles != before.cycles
    assert before.table["m"].iloc[0] == 64 and before.to_dict()["cycles"] == before.cycles


def test_sums_of_parts():
    report = simulate(accelerator("dense_ws"), sequence(gemm(m=64, k=256, n=256), elementwise("silu", 4096)))
    assert sum(report.stalls.values()) == pytest.approx(report.table["cycles"].sum())
    for cause, cycles in report.stalls.items():
        assert cycles == pytest.approx(report.table[cause].sum())
    assert report.dram_bytes == pytest.approx(report.table[["dram_read_bytes", "dram_write_bytes"]].to_numpy().sum())
