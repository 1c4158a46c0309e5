"""Sweeps: the grid as index arithmetic, pieces on disk, a run that is killed and resumed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import dse.sweep
import sparchitect as sp
from sim.designs import Choices, Designs
from sim.simulate import evaluate

GRID = {
    "array.rows": [8, 16, 32],
    "dram.standard": ["lpddr4_3200", "hbm2"],
    "clock_ghz": [0.4, 5.0],
    "dram.channels": [1, 2],
    "dram.bandwidth_gb_per_s": [None, 20.0],
}


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(dse.sweep, "PIECE", 7)


def work():
    return sp.accelerator("dense_ws"), sp.gemm(m=16, k=64, n=96)


def test_the_grid_is_the_product_in_order():
    machine, _ = work()
    points = dse.sweep.Grid.of(GRID)
    combos = list(itertools.product(*GRID.values()))
    assert len(points) == len(combos) == 48
    index = points.index(5, 44)
    found = [
        tuple(GRID[path][i] for path, i in zip(GRID, row, strict=True)) for row in zip(*index.values(), strict=True)
    ]
    assert found == combos[5:44]
    by_index = Choices(machine, GRID).designs(index, 39)
    by_value = Designs.from_grid(machine, {p: [c[i] for c in combos[5:44]] for i, p in enumerate(GRID)})
    one_by_one = Designs.from_machines([machine.override(dict(zip(GRID, c, strict=True))) for c in combos[5:44]])
    for name in by_value.columns:
        assert (by_index[name] == by_value[name]).all() and (by_index[name] == one_by_one[name]).all(), name


def test_pieces_change_nothing(tmp_path, small_pieces, monkeypatch):
    machine, trace = work()
    ticks = []
    path = sp.sweep(machine, trace, GRID, out=tmp_path / "new" / "x.parquet", progress=lambda *t: ticks.append(t))
    assert path == tmp_path / "new" / "x.parquet" and [p.name for p in path.parent.iterdir()] == ["x.parquet"]
    assert ticks[0] == ("designs", 0, 48) and ticks[-1] == ("designs", 48, 48) and len(ticks) == 8
    monkeypatch.setattr(dse.sweep, "PIECE", 1000)
    whole = sp.sweep(machine, trace, GRID)
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole)
    assert list(whole["feasible"]) == [c != 5.0 for c in whole["clock_ghz"]]
    columns = {p: [c[i] for c in itertools.product(*GRID.values())] for i, p in enumerate(GRID)}
    pd.testing.assert_frame_equal(whole[whole.columns[5:]], evaluate(Designs.from_grid(machine, columns), trace).table)


def test_the_objective_reaches_the_mappings():
    machine = sp.accelerator("dense_ws")
    trace = sp.gemm(m=512, k=2048, n=2048)
    grid = {"memory.shared.capacity_kib": [64.0], "dram.bandwidth_gb_per_s": [100.0]}
    time, traffic = (sp.sweep(machine, trace, grid, objective=o).iloc[0] for o in ("latency", "traffic"))
    assert time["cycles"] < traffic["cycles"] and time["dram_bytes"] > traffic["dram_bytes"]
    with pytest.raises(sp.InputError, match="did you mean 'latency'"):
        sp.sweep(machine, trace, grid, objective="latencies")


def test_the_effort_reaches_the_search():
    machine, trace = sp.accelerator("dense_ws"), sp.gemm(m=300, k=3000, n=2000)
    grid = {"memory.shared.capacity_kib": [96.0, 300.0], "dram.bandwidth_gb_per_s": [2.0, 10.0, 100.0]}
    full, quick, all_of_them = (sp.sweep(machine, trace, grid, effort=e) for e in ("full", "quick", "exhaustive"))
    assert (quick["cycles"] >= full["cycles"]).all() and (quick["cycles"] > full["cycles"]).any()
    pd.testing.assert_frame_equal(full, all_of_them)
    with pytest.raises(sp.InputError, match="did you mean 'quick'"):
        sp.sweep(machine, trace, grid, effort="quik")


def test_columns_of_mixed_values_become_text_on_disk(tmp_path, small_pieces):
    machine, trace = sp.accelerator("sparse_lanes"), sp.gemm(m=16, k=64, n=96, sparsity=0.5)
    grid = {"sparsity.barrier_depth": [16, "full"], "array.rows": [8, 16, 32, 64]}
    table = pd.read_parquet(sp.sweep(machine, trace, grid, out=tmp_path / "x.parquet"))
    assert list(table["sparsity.barrier_depth"]) == ["16"] * 4 + ["full"] * 4
    assert (table["cycles"] == sp.sweep(machine, trace, grid)["cycles"]).all()


def test_interrupted_and_resumed(tmp_path, small_pieces, monkeypatch):
    machine, trace = work()
    out = tmp_path / "x.parquet"

    def stop(what, done, total):
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sp.sweep(machine, trace, GRID, out=out, progress=stop)
    assert not out.exists() and len(list((tmp_path / "x.parquet.parts").glob("*.parquet"))) == 2
    with pytest.raises(sp.InputError, match="unfinished sweep is there"):
        sp.sweep(machine, trace, GRID, out=out)
    for other, what in (
        ((machine.override({"array.cols": 8}), trace, GRID), "machine"),
        ((machine, sp.gemm(m=17, k=64, n=96), GRID), "trace"),
        ((machine, trace, GRID | {"clock_ghz": [0.4, 0.5]}), "grid"),
        ((machine, trace, GRID, "energy"), "objective"),
    ):
        with pytest.raises(sp.InputError, match=rf"another sweep \({what} differ"):
            sp.sweep(*other, out=out, resume=True)
    evaluated = []
    real = dse.sweep.evaluate
    monkeypatch.setattr(dse.sweep, "evaluate", lambda d, *a, **k: evaluated.append(len(d)) or real(d, *a, **k))
    sp.sweep(machine, trace, GRID, out=out, resume=True)
    assert sum(evaluated) == 48 - 14
    pd.testing.assert_frame_equal(pd.read_parquet(out), sp.sweep(machine, trace, GRID))
    before = out.read_bytes()
    assert sp.sweep(machine, trace, GRID, out=out, resume=True) == out and out.read_bytes() == before
    with pytest.raises(sp.InputError, match="already there"):
        sp.sweep(machine, trace, GRID, out=out)


KILLED = """
import os, signal
import dse.sweep, sparchitect as sp
dse.sweep.PIECE = 7
def die(what, done, total):
    if done >= 21:
        os.kill(os.getpid(), signal.SIGKILL)
grid = {"array.rows": [8, 16, 32], "clock_ghz": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}
sp.sweep(sp.accelerator("dense_ws"), sp.gemm(m=16, k=64, n=96), grid, out="x.parquet", progress=die)
"""


def test_a_killed_run_is_resumed(tmp_path, small_pieces):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    grid = {"array.rows": [8, 16, 32], "clock_ghz": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}
    seen = []
    path = sp.sweep(*work(), grid, out=tmp_path / "x.parquet", resume=True, progress=lambda *t: seen.append(t[1]))
    assert seen == [21, 24] and [p.name for p in tmp_path.iterdir()] == ["x.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(path), sp.sweep(*work(), grid))


def test_one_writer_at_a_time(tmp_path, small_pieces):
    machine, trace = work()

    def again(what, done, total):
        if done == 14:
            with pytest.raises(sp.InputError, match="another run is writing"):
                sp.sweep(machine, trace, GRID, out=tmp_path / "x.parquet", resume=True)

    sp.sweep(machine, trace, GRID, out=tmp_path / "x.parquet", progress=again)


@pytest.mark.parametrize(
    ("grid", "options", "part"),
    [
        ({"array.rows": 8}, {}, "list of at least one value"),
        ({"array.rows": []}, {}, "list of at least one value"),
        ({"array.rows": "8"}, {}, "list of at least one value"),
        ({"array.rows": [8, -1]}, {"out": "x.parquet"}, "greater than 0, got -1"),
        ({"array.rows": [[8]]}, {"out": "x.parquet"}, "array.rows"),
        ({"array.row": [8]}, {"out": "x.parquet"}, "did you mean 'array.rows'"),
        ({"array.rows": [8]}, {"out": "x.csv"}, "ends in .parquet"),
        ({"array.rows": [8]}, {"out": "."}, "ends in .parquet"),
        ({"array.rows": [8]}, {"resume": True}, "resume needs out"),
        ({"array.rows": [8]}, {"out": "x.parquet", "resume": True}, "no sweep to resume"),
        ({"clock_ghz": np.linspace(0.1, 1, 2000), "array.rows": range(1, 1001)}, {}, "need out"),
    ],
)
def test_refusals_leave_nothing(tmp_path, monkeypatch, grid, options, part):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sp.InputError) as refused:
        sp.sweep(*work(), grid, **options)
    assert part in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(sp.InputError, match="is no sweep of ours"):
        sp.sweep(*work(), GRID, out=tmp_path / "x.parquet", resume=True)
