"""``explore`` from the outside: the same seed gives the same files, a stopped study goes on, every file is whole."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dse.explore import explore
from dse.study import OBJECTIVES

FILES = {"pareto.csv", "trials.parquet", "pareto.pdf", "pareto.png", "run.json", "journal.log"}
# 2 KiB of shared memory fit no mapping, 5 GHz no critical path, 3.5 mm2 not every array
SPACE = """\
name: small
workload: {prefill_tokens: 8, decode_context: 16, decode_tokens: 4}
constraints: {area_mm2: 3.5, perplexity_over_dense: 1.6}
machines:
  dense_ws: {}
  sparse_lanes: {"sparsity.orientation": [output, input]}
hardware:
  array.rows: [8, 32]
  memory.shared.capacity_kib: [2, 64, 512]
  clock_ghz: [0.4, 0.8, 5.0]
pruning: {methods: [wanda], patterns: [dense, "30", "50"], ffn_channels: [0, 10]}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory, space) -> Path:
    """60 trials of seed 1; read only."""
    return explore(space, trials=60, seed=1, out=tmp_path_factory.mktemp("study") / "s").folder


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials.parquet")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_files(study):
    assert names(study) == FILES
    assert (study / "pareto.pdf").read_bytes().startswith(b"%PDF")
    assert (study / "pareto.png").read_bytes().startswith(b"\x89PNG")
    run = json.loads((study / "run.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (run["seed"], run["trials"], run["space"]["name"]) == (1, 60, "small")
    assert run["pareto_points"] == len(pd.read_csv(study / "pareto.csv")) > 0
    assert len(run["reference_point"]) == len(OBJECTIVES) and run["hypervolume_log10"] > 0
    assert "sparchitect" in run["versions"] and run["space_hash"]


def test_same_seed_same_files(study, space, tmp_path):
    again = explore(space, trials=60, seed=1, out=tmp_path / "again").folder
    for name in FILES - {"journal.log"}:
        assert (again / name).read_bytes() == (study / name).read_bytes(), name


def test_another_seed_another_study(study, space, tmp_path):
    other = explore(space, trials=60, seed=2, out=tmp_path / "other").folder
    assert not table(other).equals(table(study))


def test_front_is_non_dominated_and_within_constraints(study):
    front, trials = pd.read_csv(study / "pareto.csv"), table(study)
    assert front["feasible"].all() and not front["reason"].notna().any()
    assert (front["area_mm2"] <= 3.5).all()
    good = trials[trials["feasible"] & (trials[["violation_area", "violation_perplexity"]] <= 0).all(axis=1)]
    values = good[list(OBJECTIVES)].to_numpy()
    for point in front[list(OBJECTIVES)].to_numpy():
        assert not ((values <= point * (1 - 1e-9)) & (values < point)).all(axis=1).any()
        dominating = (values <= point * (1 + 1e-12)).all(axis=1) & (values < point * (1 - 1e-9)).any(axis=1)
        assert not dominating.any()
    assert set(front["trial"]) <= set(good["trial"])
    assert front["reported"].any()


def test_infeasible_designs_are_kept_with_a_reason(study):
    trials = table(study)
    assert list(trials["trial"]) == list(range(60))
    bad = trials[~trials["feasible"]]
    assert len(bad) and (bad["reason"].str.len() > 0).all() and bad["latency_s"].isna().all()
    assert bad["reason"].str.contains("critical_path_ns").any()
    assert bad["reason"].str.contains("overflows by at least").any()
    assert (trials[trials["feasible"]]["reason"] == "").all()
    assert (trials["violation_area"] > 0).any()  # outside the budget: kept as well


def test_going_on(study, space, tmp_path, cli):
    folder = tmp_path / "longer"
    shutil.copytree(study, folder)
    done = cli("explore", space, "--trials", "120", "--seed", "1", "--out", folder, "--resume")
    assert done.code == 0 and not done.err and "120 trials" in done.out and str(folder) in done.out
    assert names(folder) == FILES
    longer, before = table(folder), table(study)
    assert list(longer["trial"]) == list(range(120))
    pd.testing.assert_frame_equal(longer.head(60)[before.columns], before, check_dtype=False)
    assert json.loads((folder / "run.json").read_text())["trials"] == 120
    # a folder that is complete already: nothing to do, nothing lost
    result = explore(space, trials=60, seed=1, out=folder, resume=True)
    assert len(result.trials) == 120


def test_folder_of_another_study(study, space, tmp_path, refused):
    folder = tmp_path / "theirs"
    shutil.copytree(study, folder)
    assert "already holds a study" in refused("explore", space, "--seed", "1", "--out", folder)
    assert "another space, seed or version" in refused("explore", space, "--seed", "2", "--out", folder, "--resume")
    assert "another space, seed or version" in refused("explore", "--seed", "1", "--out", folder, "--resume")
    (folder / "journal.log").write_text("not a journal\n")
    assert "not a journal" in refused("explore", space, "--seed", "1", "--out", folder, "--resume")


def test_json_and_default_folder(space, one_object, tmp_path):
    found = one_object("explore", space, "--trials", "12")
    assert found["folder"] == "results/small_001" and found["run"]["trials"] == 12
    assert len(found["pareto"]) == found["run"]["pareto_points"] > 0
    assert all(p["perplexity"] > 0 and p["feasible"] for p in found["pareto"])
    assert one_object("explore", space, "--trials", "2")["folder"] == "results/small_002"
    assert names(tmp_path / "results" / "small_001") == FILES


def test_no_design_within_constraints(tmp_path, cli):
    path = tmp_path / "fast.yaml"
    path.write_text("name: fast\nmachines: {dense_ws: {}}\nhardware: {clock_ghz: [5.0, 6.0]}\n")
    done = cli("explore", path, "--trials", "3", "--out", "study")
    assert done.code == 0 and not done.err
    assert "0 within constraints" in done.out and "critical_path_ns" in done.out
    assert names(tmp_path / "study") == FILES - {"pareto.pdf", "pareto.png"}
    assert len(table(tmp_path / "study")) == 3 and pd.read_csv(tmp_path / "study" / "pareto.csv").empty


def test_python_and_command_line_agree(study, space):
    frame = pd.read_csv(study / "pareto.csv")
    again = table(study).set_index("trial").loc[frame["trial"]]
    assert np.allclose(again[list(OBJECTIVES)], frame[list(OBJECTIVES)])


def started(space: Path, folder: Path) -> subprocess.Popen:
    """A run that would last for hours, once it has kept some trials."""
    words = ["explore", str(space), "--trials", "1000000", "--out", str(folder)]
    program = subprocess.Popen(
        [sys.executable, "-m", "sparchitect", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell hands down "ignore"
    )
    for _ in range(1200):
        if kept(folder) >= 50 or program.poll() is not None:
            break
        time.sleep(0.05)
    assert program.poll() is None, program.communicate()
    return program


def kept(folder: Path) -> int:
    path = folder / "journal.log"
    return path.read_bytes().count(b'"op_code":4') if path.is_file() else 0


def test_killed_then_resumed(space, tmp_path):
    folder = tmp_path / "killed"
    program = started(space, folder)
    program.kill()
    program.communicate()
    assert names(folder) == {"journal.log"}
    with open(folder / "journal.log", "a") as stream:
        stream.write('{"op_code":4,"half a li')  # as if killed while writing
    before = kept(folder) - 1
    result = explore(space, trials=before + 30, out=folder, resume=True)
    assert list(result.trials["trial"]) == list(range(before + 30))
    assert names(folder) == FILES


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_then_resumed(space, tmp_path, refused):
    folder = tmp_path / "interrupted"
    program = started(space, folder)
    assert "in use by another run" in refused_while_running(space, folder)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert err == f"interrupted: finished trials are kept, go on with --resume --out {folder}\n"
    count = kept(folder)
    result = explore(space, trials=count + 10, out=folder, resume=True)
    assert len(result.trials) == count + 10 and names(folder) == FILES


def refused_while_running(space: Path, folder: Path) -> str:
    from sim.errors import InputError

    with pytest.raises(InputError) as error:
        explore(space, trials=10, out=folder, resume=True)
    return str(error.value)
