"""The loop itself, with an evaluation of three lines: what is kept, in which order, and what a resumed study sees."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from dse.study import BATCH, INFEASIBLE, OBJECTIVES, frame, in_memory, open_study, optimise
from sim.errors import InputError

SPACE = {"a": IntDistribution(0, 9), "b": IntDistribution(0, 9), "kind": CategoricalDistribution(range(3))}


def evaluate(params):
    """a pulls latency down and area up; b = 9 cannot be built; kind 2 breaks a limit."""
    rows = []
    for p in params:
        bad = p["b"] == 9
        values = [1.0 + 9 - p["a"], 1.0 + p["b"], 1.0 + p["a"], 2.0 + p["kind"]]
        row = dict(zip(OBJECTIVES, [math.nan] * 4 if bad else values, strict=True))
        over = math.nan if bad else p["kind"] - 1.5
        rows.append({**row, "violation_kind": over, "feasible": not bad, "reason": "b is 9" if bad else ""})
    return pd.DataFrame(rows)


def test_counts_batches_and_progress():
    seen, sizes = [], []

    def counted(params):
        sizes.append(len(params))
        return evaluate(params)

    table = optimise(in_memory(0), SPACE, counted, 2 * BATCH + 7, progress=seen.append)
    assert sizes == [BATCH, BATCH, 7] and seen == [0, BATCH, 2 * BATCH, 2 * BATCH + 7]
    assert list(table["trial"]) == list(range(2 * BATCH + 7))
    assert {"param_a", "param_b", "param_kind", *OBJECTIVES, "feasible", "reason"} <= set(table)


def test_same_seed_same_trials():
    first, again, other = (optimise(in_memory(seed), SPACE, evaluate, 120) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_sampling_learns():
    table = optimise(in_memory(0), SPACE, evaluate, 400)
    late = table.tail(100)
    assert (late["param_b"] <= 2).mean() > 0.6 > (table.head(50)["param_b"] <= 2).mean()
    assert (late["param_kind"] == 0).mean() > 0.5
    assert (late["param_kind"] == 2).mean() < 0.2


def test_first_trials_come_first_once():
    first = [{"a": 1, "b": 2, "kind": 0}, {"a": 3}]
    study = in_memory(0)
    table = optimise(study, SPACE, evaluate, 10, first)
    assert table.loc[0, ["param_a", "param_b", "param_kind"]].tolist() == [1, 2, 0] and table.loc[1, "param_a"] == 3
    assert len(optimise(study, SPACE, evaluate, 20, first)) == 20


def test_infeasible_trials_are_rows_with_the_worst_values():
    study = in_memory(0)
    table = optimise(study, SPACE, evaluate, 100)
    bad = table[~table["feasible"]]
    assert len(bad) and (bad["reason"] == "b is 9").all() and bad[list(OBJECTIVES)].isna().all().all()
    for trial in study.finished:
        infeasible = trial.params["b"] == 9
        assert trial.values == [INFEASIBLE] * 4 if infeasible else max(trial.values) < 2


def test_resumed_study_holds_what_was_kept(tmp_path):
    study = open_study(tmp_path / "s", "n", 0, False, "f")
    before = optimise(study, SPACE, evaluate, 70)
    study.close()
    study = open_study(tmp_path / "s", "n", 0, True, "f")
    pd.testing.assert_frame_equal(frame(study), before)
    after = optimise(study, SPACE, evaluate, 130, [{"a": 1}])
    study.close()
    pd.testing.assert_frame_equal(after.head(70), before)
    assert list(after["trial"]) == list(range(130))
    assert (
        not after.tail(60)[["param_a", "param_b"]]
        .reset_index(drop=True)
        .equals(before.head(60)[["param_a", "param_b"]])
    )


def test_resuming_is_deterministic(tmp_path):
    tables = []
    for name in ("x", "y"):
        for resume, trials in ((False, 60), (True, 120)):
            study = open_study(tmp_path / name, "n", 5, resume, "f")
            table = optimise(study, SPACE, evaluate, trials)
            study.close()
        tables.append(table)
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("seed", [-1, 1 << 31])
def test_seed_out_of_range(seed):
    with pytest.raises(InputError, match="seed must be between"):
        in_memory(seed)


def test_folders_that_hold_something_else(tmp_path):
    study = open_study(tmp_path, "n", 0, False, "f")
    with pytest.raises(InputError, match="in use by another run"):
        open_study(tmp_path, "n", 0, True, "f")
    study.close()
    with pytest.raises(InputError, match="already holds a study"):
        open_study(tmp_path, "n", 0, False, "f")
    for name, fingerprint in (("n", "g"), ("m", "f"), ("m", "g")):
        with pytest.raises(InputError, match="another space, seed or version"):
            open_study(tmp_path, name, 0, True, fingerprint)
    open_study(tmp_path, "n", 0, True, "f").close()
    with pytest.raises(InputError, match="no study to resume"):
        open_study(tmp_path / "new", "n", 0, True, "f")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("tail", ['{"op_code":4,"study', "\x00\x00", '{"op_code":4}'])
def test_half_a_line_at_the_end_is_dropped(tmp_path, tail):
    study = open_study(tmp_path, "n", 0, False, "f")
    before = optimise(study, SPACE, evaluate, 20)
    study.close()
    with open(tmp_path / "journal.log", "a") as stream:
        stream.write(tail)
    for trials in (30, 40):  # the second time reads what the first wrote behind the mended end
        study = open_study(tmp_path, "n", 0, True, "f")
        table = optimise(study, SPACE, evaluate, trials)
        study.close()
        pd.testing.assert_frame_equal(table.head(20), before)
        assert len(table) == trials


@pytest.mark.parametrize("content", ["junk\n", "{}\n", '{"op_code":99}\n', "[]\n", "\n", "\xff\n", "notes"])
def test_journal_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "journal.log"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="not a journal"):
        open_study(tmp_path, "n", 0, True, "f")
    assert path.read_text(encoding="latin-1") == content


@pytest.mark.parametrize("content", ["", '{"op_', '{"op_code":0,"worker'])
def test_an_empty_journal_is_a_study_killed_at_once(tmp_path, content):
    (tmp_path / "journal.log").write_text(content)
    study = open_study(tmp_path, "n", 0, True, "f")
    assert len(optimise(study, SPACE, evaluate, 10)) == 10
    study.close()
