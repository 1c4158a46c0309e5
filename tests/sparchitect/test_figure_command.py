"""``sparchitect figure``: every kind is a command that writes three files, and what is wrong is refused before work."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

import dse.figures.sparsity
from accel_models import accelerator
from sim.simulate import simulate
from sim.trace import Op, Sparsity, Trace
from sparchitect.figure_arguments import depth
from sparchitect.figure_command import figure_app
from validation.figures import KINDS

GEMM = ("--gemm", "32x64x96")


def test_every_kind_is_a_command_with_an_example(cli):
    assert {command.callback.__name__ for command in figure_app.registered_commands} == set(KINDS)
    text = cli("figure", "--help").out
    examples = text.split("Examples")[1].split("Options:")[0]
    assert all(f"\n    {kind} " in examples for kind in KINDS) and cli("figure").out == text


@pytest.mark.parametrize(
    "words",
    [
        ("roofline", "-a", "dense_ws", "-a", "sparse_lanes", *GEMM),
        ("latency", "-a", "dense_ws", *GEMM, "--by", "op", "--set", "array.rows=16", "--label", "mine"),
        ("sensitivity", "-a", "dense_ws", *GEMM, "--vary", "array.rows=8,16"),
        ("gantt", "-a", "dense_ws", *GEMM, "--tiles", "3"),
    ],
    ids=lambda words: words[0],
)
def test_three_files_beside_each_other(cli, tmp_path, words):
    done = cli("figure", *words, "--out", "fig/mine")
    assert (done.code, done.err) == (0, ""), done
    assert done.out.split() == ["fig/mine.pdf", "fig/mine.png", "fig/mine.csv"]
    assert sorted(p.name for p in (tmp_path / "fig").iterdir()) == ["mine.csv", "mine.pdf", "mine.png"]
    assert len(pd.read_csv(tmp_path / "fig" / "mine.csv"))


def test_gains_of_machines_over_another(cli, tmp_path, monkeypatch):
    """Options reach the figure: overridden machines, their labels, the baseline, which is overridden too."""

    def traces(method: str, phase: str) -> list[Trace]:
        assert (method, phase) == ("magnitude", "decode")
        shape = {"m": 8, "n": 32, "k": 64}
        return [
            Trace.from_ops([Op("up", sparsity=s, numbers=shape)], {"name": "x"}) for s in (None, Sparsity(density=0.5))
        ]

    monkeypatch.setattr(dse.figures.sparsity, "_traces", traces)
    words = ("-a", "sparse_lanes", "--label", "mine", "--baseline", "dense_ws", "--set", "clock_ghz=0.5")
    done = cli("figure", "sparsity", *words, "--method", "magnitude", "--phase", "decode", "--metric", "edp")
    assert (done.code, done.err, done.out.split()[-1]) == (0, "", "figures/sparsity.csv"), done
    found = pd.read_csv(tmp_path / "figures" / "sparsity.csv")
    assert list(found.columns) == ["machine", "trace", "method", "sparsity", "cycles", "seconds", "energy_pj", "gain"]
    base = simulate(accelerator("dense_ws").override({"clock_ghz": 0.5}), traces("magnitude", "decode")[0])
    costs = found["seconds"] * found["energy_pj"]
    assert found["gain"].to_numpy() == pytest.approx(base.seconds * base.energy_pj / costs.to_numpy())
    assert set(found["machine"]) == {"mine"} and found["sparsity"].iloc[1] == pytest.approx(0.5, abs=0.05)


def test_json_says_where_and_the_page_is_twice_as_wide(one_object, tmp_path):
    from matplotlib.image import imread

    found = one_object("figure", "area", "-a", "dense_ws", "-a", "nm_24", "--width", "7.16")
    assert found["kind"] == "area" and found["files"] == ["figures/area.pdf", "figures/area.png"]
    assert found["rows"] == len(pd.read_csv(tmp_path / found["numbers"]))
    assert imread(tmp_path / found["files"][1]).shape[1] == 2148


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("rofline",), "roofline"),
        (("latency", "-a", "dense_ws"), "give --trace NAME|FILE, or --gemm MxNxK"),
        (("latency", "-a", "dense_ws", *GEMM, "--trace", "x"), "give --trace"),
        (("latency", "-a", "dense_w", *GEMM), "dense_ws"),
        (("latency", "-a", "dense_ws", "-a", "dense_ws", *GEMM), "labels"),
        (("latency", "-a", "dense_ws", *GEMM, "--by", "layer"), "by must be cause or op"),
        (("latency", "-a", "dense_ws", *GEMM, "--width", "5"), "width must be 3.5"),
        (("latency", "-a", "dense_ws", *GEMM, "--out", "a/b/"), "file name"),
        (("latency", "-a", "dense_ws", *GEMM, "--set", "array.row=3"), "array.rows"),
        (("sparsity", "-a", "dense_ws", "--method", "wander"), "did you mean 'wanda'"),
        (("sparsity", "-a", "dense_ws", "--phase", "training"), "phase 'training' is unknown"),
        (("sparsity", "-a", "dense_ws", "--baseline", "tpu_lik"), "tpu_like"),
        (("heatmap", "-a", "dense_ws", *GEMM, "--vary", "array.rows=8,16"), "two fields"),
        (("gantt", "-a", "dense_ws", *GEMM, "--op", "x"), "no GEMM of this report"),
        (("mask", "--trace", "smollm2_135m_dense"), "has no masks"),
        (("imbalance", "--trace", "smollm2_135m_dense"), "no profiles"),
        (("pareto", "nowhere"), "no such file"),
        (("importance", "nowhere", "--metric", "speed"), "unknown"),
        (("speedup", "--method", "wander"), "did you mean 'wanda'"),
        (("validation", "--against", "rlt"), "did you mean 'rtl'"),
    ],
)
def test_refusals(refused, tmp_path, words, why):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert why in refused("figure", *words)


def test_help_imports_nothing_heavy():
    heavy = "import sys; from sparchitect import cli; cli.app(['figure', 'latency', '--help'], standalone_mode=False)"
    check = "; print([m for m in ('numpy', 'pandas', 'matplotlib', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_a_depth_is_a_number_or_a_word():
    assert [depth(text) for text in ("32", "full", "²", "9" * 5000)] == [32, "full", "²", "9" * 5000]
