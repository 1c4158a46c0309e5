"""``report``: what it says is what the files hold, in four shapes; files that are none are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

import sparchitect as sp
from dse.explore import explore
from sparchitect import results_study
from sparchitect.page import Page
from sparchitect.results import read

SPACE = {
    "name": "small",
    "workload": {"prefill_tokens": 8, "decode_context": 16, "decode_tokens": 4},
    "constraints": {"area_mm2": 3.5, "perplexity_over_dense": 1.6},
    "machines": {"dense_ws": {}, "sparse_lanes": {"sparsity.orientation": ["output", "input"]}},
    "hardware": {"array.rows": [8, 32], "memory.shared.capacity_kib": [2, 64], "clock_ghz": [0.4, 0.8, 5.0]},
    "pruning": {"methods": ["wanda"], "patterns": ["dense", "50"], "ffn_channels": [0, 10]},
}
SWEEP = (
    "sweep",
    "-a",
    "dense_ws",
    "--gemm",
    "64x96x128",
    "--vary",
    "array.rows=8,16,32",
    "--vary",
    "clock_ghz=0.4,0.8,5",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return explore(SPACE, trials=20, seed=1, out=tmp_path_factory.mktemp("study") / "s").folder


def test_exploration(study, cli, one_object, tmp_path):
    found = one_object("report", study)
    run, front = json.loads((study / "run.json").read_text()), pd.read_csv(study / "pareto.csv")
    assert found["kind"] == "exploration" and found["run"] == run
    assert found["growth"][-1] == {"trials": 20, "hypervolume_log10": pytest.approx(run["hypervolume_log10"])}
    assert all(np.diff([g["hypervolume_log10"] for g in found["growth"]]) >= 0)
    for column, row in found["best"].items():
        assert row[column] == front[column].min()
    shown = cli("report", study).out
    for part in ("Pareto front:", "seed 1", run["space_hash"], "how the front grew", "cannot run", "dense_ws"):
        assert part in shown
    assert len(found["pareto"]) == front["reported"].sum()
    done = cli("report", study, "--out", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert done.code == 0 and page.count("<table>") == page.count("</table>") >= 3
    assert "data:image/png;base64,iVBOR" in page and "http" not in page.replace("http-equiv", "")


def test_the_choices_of_the_front_are_shares(study):
    found = read(study).facts["choices"]
    trials, front = pd.read_parquet(study / "trials.parquet"), pd.read_csv(study / "pareto.csv")
    rows = next(c for c in found if c["knob"] == "array.rows")
    place = SPACE["hardware"]["array.rows"].index(rows["value"])
    assert rows["on_front"] == pytest.approx((front["param_array.rows"] == place).mean())
    assert rows["of_trials"] == pytest.approx((trials["param_array.rows"] == place).mean())


@pytest.mark.parametrize("name", ["s.csv", "s.parquet", "s.json"])
def test_sweep(cli, one_object, tmp_path, name):
    if name.endswith("json"):
        (tmp_path / name).write_text(cli(*SWEEP, "--json").out)
    else:
        assert cli(*SWEEP, "--out", name).code == 0
    found = one_object("report", name)
    assert (found["designs"], found["feasible"], found["fields"]) == (9, 6, ["array.rows", "clock_ghz"])
    grid = {"array.rows": [8, 16, 32], "clock_ghz": [0.4, 0.8]}
    table = sp.sweep(sp.accelerator("dense_ws"), sp.gemm(m=64, n=96, k=128), grid)
    assert found["best"]["latency"]["seconds"] == pytest.approx(table["seconds"].min())
    assert found["best"]["energy x delay"]["edp"] == pytest.approx((table["seconds"] * table["energy_pj"]).min())
    values = table[["seconds", "energy_pj", "area_mm2"]].to_numpy()
    beaten = [((values <= v).all(axis=1) & (values < v).any(axis=1)).any() for v in values]
    assert found["pareto_points"] == len(table) - sum(beaten)
    assert sum(found["cannot_run"].values()) == 3 and "critical_path_ns" in next(iter(found["cannot_run"]))
    clock = next(e for e in found["effects"] if (e["field"], e["value"]) == ("clock_ghz", 0.8))
    by = table.pivot(index="array.rows", columns="clock_ghz", values="seconds")
    assert clock["seconds"] == pytest.approx((by[0.8] / by[0.4]).median())
    assert found["limits"]["fastest"] and sum(found["limits"]["largest_in"].values()) == 6
    assert (found["provenance"].get("objective") == "latency") == name.endswith("parquet")


def test_simulation(cli, one_object, tmp_path):
    (tmp_path / "run.json").write_text(
        cli("simulate", "-a", "dense_ws", "--trace", "smollm2_135m_dense_decode", "--json").out
    )
    stated = json.loads((tmp_path / "run.json").read_text())
    found = one_object("report", "run.json")
    assert found["cycles"] == stated["cycles"] and "ops" not in found
    assert found["limit"]["cause"] == max(stated["stall_cycles"], key=stated["stall_cycles"].get)
    assert found["slowest"][0]["cycles"] == max(e["cycles"] for e in found["slowest"])
    ffn = next(e for e in found["slowest"] if e["ops"] == "ffn_down")
    assert ffn["count"] == 30 and ffn["cycles"] == pytest.approx(
        sum(op["cycles"] for op in stated["ops"] if op["name"].endswith(".ffn_down"))
    )
    shown = cli("report", "run.json", "--out", "run.md")
    assert stated["provenance"]["config_hash"] in shown.out and "\x1b" not in shown.out
    text = (tmp_path / "run.md").read_text()
    assert text.startswith("# smollm2_135m_dense_decode on dense_ws") and "| ffn_down | 30 |" in text


def test_validation_json(cli, tmp_path):
    (tmp_path / "v.json").write_text(cli("validate", "scalesim", "--json").out)
    shown = cli("report", "v.json")
    assert shown.code == 0 and "all exact claims hold" in shown.out and "120" in shown.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("nothing",), ("nothing", "no such file or folder")),
        (("empty",), ("empty", "holds no exploration", "run.json")),
        (("half",), ("not finished", "--resume --out half")),
        (("bad.json",), ("bad.json", "not JSON")),
        (("other.json",), ("other.json", "no output of")),
        (("almost.json",), ("almost.json", "no output of simulate")),
        (("other.csv",), ("other.csv", "no sweep of ours", "seconds")),
        (("bad.parquet",), ("bad.parquet", "cannot be read")),
        (("text.txt",), ("text.txt", "must be")),
        (("other.json", "--out", "x.pdf"), ("x.pdf", ".md, .html, .txt")),
        (("text",), ("text",)),
    ],
)
def test_refusals(refused, tmp_path, words, parts):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "journal.log").write_text("")
    for name, text in {
        "bad.json": "{",
        "other.json": "[1]",
        "almost.json": '{"cycles": 1, "stall_cycles": {}, "ops": [], "provenance": {}}',
        "other.csv": "a,b\n1,2\n",
        "bad.parquet": "PAR1",
        "text.txt": "",
    }.items():
        (tmp_path / name).write_text(text)
    message = refused("report", *words)
    for part in parts:
        assert part in message


ROW = {"array.rows": 8, "seconds": 1, "energy_pj": 2, "area_mm2": 3, "cycles": 4, "dram_bytes": 5, "feasible": True,
       "reason": "", "stall_dram": 0}  # fmt: skip


def designs(**changes):
    return json.dumps({"designs": [ROW, {**ROW, "array.rows": 16, **changes}]})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"folder": "bad.json", "run": {}, "pareto": []}', "'bad.json' is no folder"),
        ("[" * 100_000, "nested too deep"),
        ('{"designs": 5}', "designs must be a list of objects"),
        ('{"designs": [5]}', "designs must be a list of objects"),
        ('{"measures": 5, "holds": true}', "no output of validate"),
        ('{"measures": [{}], "holds": true, "version": "x"}', "no output of validate"),
        (designs(seconds="soon"), "column 'seconds' must hold numbers, got 'soon'"),
        (designs(area_mm2=None), "column 'area_mm2' must hold numbers, got 'nan'"),
        (designs(cycles=[1]), "column 'cycles' must hold numbers"),
        (designs(stall_dram="x"), "column 'stall_dram' must hold numbers, got 'x'"),
        (designs(**{"array.rows": [8]}), "field 'array.rows'"),
    ],
    ids=range(11),
)
def test_misshapen_json_is_refused(refused, tmp_path, text, part):
    (tmp_path / "bad.json").write_text(text)
    message = refused("report", "bad.json")
    assert "bad.json" in message and part in message


def test_text_in_a_csv_is_refused(refused, cli, tmp_path):
    table = pd.DataFrame([ROW, ROW | {"stall_dram": "x"}])
    table.to_csv(tmp_path / "s.csv", index=False)
    assert "column 'stall_dram' must hold numbers, got 'x'" in refused("report", "s.csv")
    table.assign(stall_dram=[None, 2.0], other=["b", 3]).to_csv(tmp_path / "s.csv", index=False)
    assert cli("report", "s.csv").code == 0  # an empty cause is none


def test_fields_of_numbers_words_and_gaps(one_object, tmp_path):
    (tmp_path / "s.json").write_text(
        json.dumps({"designs": [ROW | {"size": size} for size in (None, "none", 4, 2, False)]})
    )
    assert one_object("report", "s.json")["feasible"] == 5


def test_growth_follows_the_order_of_trials(study):
    result = results_study._read(study)
    pages = Page("in order"), Page("last first")
    for page, trials in zip(pages, (result.trials, result.trials.iloc[::-1]), strict=True):
        results_study._growth(page, dataclasses.replace(result, trials=trials))
    assert pages[0].facts == pages[1].facts and len(pages[0].facts["growth"]) == 5


def test_a_damaged_exploration_is_refused(study, refused, tmp_path):
    shutil.copytree(study, tmp_path / "copy")
    (tmp_path / "copy" / "run.json").write_text("{}")
    assert "copy" in refused("report", "copy")
    (tmp_path / "copy" / "trials.parquet").write_text("PAR1")
    assert "copy" in refused("report", "copy")
