"""What the commands print: one strict JSON object with ``--json``, examples and tables for people without."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

import sparchitect as sp
from sim.memory.dram import STANDARDS
from sparchitect import arguments

HEAVY = ("numba", "optuna", "pandas", "matplotlib", "pyarrow", "scipy", "gguf")


def test_simulate_json(one_object):
    found = one_object("simulate", "-a", "dense_ws", "--gemm", "32x48x64", "--set", "array.rows=16")
    report = sp.simulate(sp.accelerator("dense_ws").override({"array.rows": 16}), sp.gemm(m=32, n=48, k=64))
    assert found["cycles"] == report.cycles and found["energy_pj"] == pytest.approx(report.energy_pj)
    assert found["machine"] == "dense_ws" and len(found["ops"]) == 1


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("machine", ["dense_ws", "nm_24", "sparse_lanes"])
def test_reports_are_strict_json(machine, engine):
    report = sp.simulate(sp.accelerator(machine), sp.gemm(m=16, n=64, k=128, sparsity="2:4"), engine=engine)
    found = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found == json.loads(arguments.one_json(report.to_dict()))


def test_report_of_a_trace_json(one_object):
    found = one_object("simulate", "-a", "sparse_lanes", "--trace", "smollm2_135m_wanda_50_decode")
    assert found["trace"] == "smollm2_135m_wanda_50_decode" and len(found["ops"]) > 500


def test_sweep_json_and_infeasible_designs(one_object):
    found = one_object(
        "sweep", "-a", "dense_ws", "--gemm", "128x64x512", "--vary", "array.rows=8,16", "--vary", "clock_ghz=0.8,5"
    )
    designs = found["designs"]
    assert [(d["array.rows"], d["clock_ghz"], d["feasible"]) for d in designs] == [
        (8, 0.8, True),
        (8, 5, False),
        (16, 0.8, True),
        (16, 5, False),
    ]
    assert designs[1]["cycles"] is None and "critical_path_ns" in designs[1]["reason"]
    assert designs[0]["cycles"] > designs[2]["cycles"] > 0


@pytest.mark.parametrize("name", ["table.csv", "new/table.parquet"])
def test_sweep_writes_a_table(cli, tmp_path, name):
    words = ("sweep", "-a", "dense_ws", "--gemm", "8x64x64", "--vary", "array.rows=8,16", "--out", name)
    done = cli(*words)
    assert done.code == 0 and "array.rows" in done.out
    path = tmp_path / name
    table = pd.read_csv(path) if name.endswith("csv") else pd.read_parquet(path)
    assert list(table["array.rows"]) == [8, 16]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_list_json(one_object, cli):
    found = one_object("list")
    assert set(found) == {"machines", "traces", "DRAM standards", "models", "spaces", "pruning methods"}
    assert found["DRAM standards"]["hbm2"] == "32 GB/s a channel, 6.25 pJ/bit"
    assert sorted(found["DRAM standards"]) == sorted(STANDARDS)
    assert {"dense_ws", "nm_24", "sparse_lanes"} <= set(found["machines"])
    assert {"magnitude", "wanda", "sparsegpt", "ffn_channels", "alps"} <= set(found["pruning methods"])
    assert all(isinstance(text, str) and text for entries in found.values() for text in entries.values())
    shown = cli("list").out
    for kind, entries in found.items():
        assert f"{kind}:" in shown
        for name in entries:
            assert name.removesuffix("_decode") in shown


def test_numbers_that_json_lacks_become_null():
    import numpy as np

    value = {"a": float("nan"), "b": [np.float64("inf"), np.int64(3), np.bool_(True)], "c": np.array([1.5, np.nan])}
    assert json.loads(arguments.one_json(value)) == {"a": None, "b": [None, 3, True], "c": [1.5, None]}


@pytest.mark.parametrize("command", ["simulate", "sweep", "explore", "prune"])
def test_help_keeps_examples_on_their_lines(cli, command):
    done = cli(command, "--help")
    assert done.code == 0 and not done.err
    lines = [line.strip() for line in done.out.splitlines()]
    assert any(line.startswith("Example") for line in lines)
    assert any(line.startswith(f"sparchitect {command} ") for line in lines)
    assert "\b" not in done.out


def test_no_words_show_the_help(cli):
    done = cli()
    assert done.code == 0 and not done.err
    for command in ("simulate", "sweep", "explore", "prune", "trace", "list"):
        assert f"\n  {command} " in done.out
    assert "..." not in done.out.partition("Commands:")[2]  # no summary is cut short


def test_version(cli):
    assert cli("--version").out == f"sparchitect {sp.__version__}\n"


def test_examples_of_the_help_run(cli):
    for words in (
        "simulate -a dense_ws --gemm 128x1536x576 --set array.rows=32",
        "simulate -a sparse_lanes --trace smollm2_135m_wanda_50",
        "sweep -a dense_ws --gemm 128x1536x576 --vary array.rows=8,16,32 --vary memory.shared.capacity_kib=128,512",
    ):
        done = cli(*words.split())
        assert done.code == 0 and done.out and not done.err, words


def test_values_as_yaml_reads_them_but_n_of_m():
    found = arguments.assignments(["a=4", "b=0.5", "c=full", "d=2:4", "e=true", "f= 8 "])
    assert found == {"a": 4, "b": 0.5, "c": "full", "d": "2:4", "e": True, "f": 8}


@pytest.mark.parametrize(
    "code",
    [
        "import sparchitect",
        "import sparchitect.cli",
        "from sparchitect.cli import _guard, app; _guard(lambda: app(['--help'], standalone_mode=False))",
        "from sparchitect.cli import _guard, app; _guard(lambda: app(['explore', '--help'], standalone_mode=False))",
        "from sparchitect.cli import _guard, app; _guard(lambda: app(['bogus'], standalone_mode=False))",
    ],
)
def test_heavy_packages_stay_out(code, tmp_path):
    """What keeps ``import sparchitect`` and ``--help`` quick."""
    code = f"{code}\nimport sys; print(*(m for m in {HEAVY} if m in sys.modules), file=open('found', 'w'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "found").read_text().split() == []


def test_every_public_name_is_there():
    for name in sp.__all__:
        assert getattr(sp, name) is not None
    assert set(sp.__all__) <= set(dir(sp))
    with pytest.raises(AttributeError, match="explode"):
        _ = sp.explode
