"""The bundled measurements: complete columns, one model, one set of windows, numbers that agree with each other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workloads import measure_bundle
from workloads.calibration import bundled_windows, windows_sha256
from workloads.fetch import SMOLLM2
from workloads.measure_bundle import COLUMNS, Parts, Task, tasks
from workloads.quality import read_measured
from workloads.recipe import Recipe


def test_windows():
    windows = bundled_windows()
    assert windows["evaluation"].shape == (8, 512) and windows["calibration"].shape == (16, 512)
    assert windows_sha256(windows["evaluation"]) != windows_sha256(windows["evaluation"].reshape(16, 256))


def test_tasks_are_the_same_every_time_and_all_different():
    todo = tasks()
    assert [task.identity for task in todo] == [task.identity for task in tasks()]
    assert len({task.identity for task in todo}) == len(todo)
    kinds = [task.kind for task in todo]
    assert kinds.count("single") == 189 and kinds.count("mix") == 45 and kinds.count("uniform") == 36
    joint = [task.recipe for task in todo if task.kind == "mix" and "ffn_channels" in task.recipe.key]
    assert 5 <= len(joint) <= 20


def test_measured_rows_agree():
    table = read_measured()
    assert list(table.columns) == list(COLUMNS)
    assert not table.duplicated(["key", "arithmetic"]).any()
    assert set(table["model_sha256"]) == {SMOLLM2.sha256}
    windows = bundled_windows()
    assert set(table["windows_sha256"]) == {windows_sha256(windows["evaluation"])}
    assert set(table["calibration_sha256"]) <= {"", windows_sha256(windows["calibration"])}
    assert set(table["tokens"]) == {8 * 511}
    np.testing.assert_allclose(np.exp(table["nll"]), table["ppl"], rtol=1e-4)
    columns = (table[name] for name in ("key", "recipe", "window_nll", "nll"))
    for key, recipe, per_window, nll in zip(*columns, strict=True):
        assert Recipe.parse(key) == Recipe.of(json.loads(recipe))
        assert np.mean(json.loads(per_window)) == pytest.approx(nll, abs=1e-4)


def test_dense_rows():
    table = read_measured().set_index(["key", "arithmetic"])
    assert table.loc[("dense", "float"), "ppl"] == pytest.approx(11.75, rel=0.01)
    assert 1.0 < table.loc[("dense", "w8a8kv8"), "ppl"] / table.loc[("dense", "float"), "ppl"] < 1.1


def test_parts_survive_a_kill(tmp_path):
    """A line cut short is passed over; the next rows are read; the row asked for again replaces nothing else."""
    shared = Parts(tmp_path)
    values = dict.fromkeys(COLUMNS, "1") | {"windows_sha256": "a" * 64, "calibration_sha256": "b" * 64}
    shared.append(values | {"key": "wanda_50", "arithmetic": "float"})
    shared.append(values | {"key": "wanda_30", "arithmetic": "float"})
    with open(shared.own, "a", encoding="utf-8") as stream:
        stream.write("wanda_10,uniform,wan")
    assert set(shared.rows()) == {("wanda_50", "float"), ("wanda_30", "float")}


def test_a_claim_is_exclusive(tmp_path):
    shared = Parts(tmp_path)
    with shared.claim("one") as mine, shared.claim("one") as again, shared.claim("two") as other:
        assert mine and not again and other
    with shared.claim("one") as mine:
        assert mine


def test_merge_keeps_task_order(tmp_path, monkeypatch):
    todo = [Task("dense", Recipe.uniform("dense")), Task("uniform", Recipe.uniform("wanda_50"))]
    shared = Parts(tmp_path)
    values = dict.fromkeys(COLUMNS, "1") | {"arithmetic": "w8a8kv8", "calibration_sha256": ""}
    for key in ("wanda_50", "dense", "unasked"):
        shared.append(values | {"key": key})
    monkeypatch.setattr(measure_bundle, "tasks", lambda: [*todo, Task("uniform", Recipe.uniform("wanda_60"))])
    monkeypatch.setattr(measure_bundle, "parts", lambda: shared)
    assert measure_bundle.merge(tmp_path / "measured.csv") == (2, 3)
    assert list(read_measured(tmp_path / "measured.csv")["key"]) == ["dense", "wanda_50"]
