"""RTL rows through the public path: a machine, a mask, a report; and hand-checked reports."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from fast_machines import array_cycles, unstalled

import sparchitect as sp
from sim.memory.dram import efficiency_table
from sim.sparsity import lanes

RTL = resources.files("validation").joinpath("data", "rtl")


def test_zero_skip_rows_through_a_machine():
    """A mask of P lanes, one lane group: the look-up table's walk is the RTL's cycle count (dense shared operand)."""
    rows = pd.read_csv(RTL.joinpath("zero_skip_cycles.csv"))
    masks = np.load(RTL.joinpath("zero_skip_masks.npz"))
    rows = rows[(rows["dens_a"] == 1.0) & rows["fifo_depth"].isin([0, 2, 8])]
    for row in rows.groupby(["P", "T", "fifo_depth"]).first().reset_index().itertuples():
        bits = np.unpackbits(masks[f"{row.mask_key}_w"]).reshape(row.P, -1)[:, : row.T * row.tiles].astype(bool)
        fields = {"array.rows": row.P, "array.cols": 1, "sparsity.barrier_depth": row.T}
        machine = unstalled("sparse_lanes", **fields, **{"sparsity.fifo_depth": row.fifo_depth})
        report = sp.simulate(machine, sp.gemm(m=1, k=bits.shape[1], n=row.P, sparsity=bits))
        assert array_cycles(report) == pytest.approx(row.cycles)
        assert lanes.walk(bits, row.P, row.T, fifo_depth=row.fifo_depth) == row.cycles


def test_decode_step_by_hand():
    """A decode step of SmolLM2-135M on dense_ws: weights and KV bytes over achieved bandwidth bound its time."""
    machine = sp.accelerator("dense_ws")
    report = sp.simulate(machine, sp.llm("smollm2_135m", phase="decode", context=512))
    matrices = 30 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536) + 49152 * 576
    cache = 2 * 30 * 3 * 64 * 512
    assert report.dram_bytes >= matrices + cache
    assert report.dram_bytes == pytest.approx(matrices + cache, rel=0.01)
    achieved = 4 * 6.4e9 * efficiency_table("lpddr4_3200", 4)[-1, 0]  # long reads
    assert report.dram_bytes / achieved <= report.seconds <= 1.10 * report.dram_bytes / achieved
    assert report.energy["dram"] == pytest.approx(report.dram_bytes * 8 * 8.0, rel=1e-6)


def test_report_round_trips_and_prints():
    report = sp.simulate(sp.accelerator("nm_24"), sp.gemm(m=64, k=256, n=256, sparsity="2:4"))
    found = report.to_dict()
    assert found["cycles"] == report.cycles and sum(found["stall_cycles"].values()) == pytest.approx(
        report.cycles, abs=1
    )
    text = repr(report)
    assert "mm2" in text and "cycles" in text and max(map(len, text.splitlines())) < 240


def test_traces_survive_the_disk(tmp_path):
    trace = sp.gemm(m=8, k=100, n=60, sparsity=0.4)
    path = trace.save(tmp_path / "one")
    again = sp.load_trace(path)
    pd.testing.assert_frame_equal(again.ops, trace.ops)
    assert (again.masks[0] == trace.masks[0]).all() and (again.counts[0].rows == trace.counts[0].rows).all()
    a, b = (sp.simulate(sp.accelerator("sparse_lanes"), t) for t in (trace, again))
    assert a.to_dict()["ops"] == b.to_dict()["ops"]


def test_sweep_is_simulate_for_every_design():
    trace = sp.gemm(m=64, k=300, n=200, sparsity=0.5)
    machine = sp.accelerator("sparse_lanes")
    grid = {"array.rows": [8, 16], "sparsity.barrier_depth": [16, 48, "full"], "dram.channels": [1, 4]}
    table = sp.sweep(machine, trace, grid)
    assert len(table) == 12
    for row in table.to_dict("records"):
        one = sp.simulate(machine.override({k: row[k] for k in grid}), trace)
        assert one.cycles == row["cycles"]
        assert one.energy_pj == pytest.approx(row["energy_pj"]) and one.area_mm2 == pytest.approx(row["area_mm2"])
