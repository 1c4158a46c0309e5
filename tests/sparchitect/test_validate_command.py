"""``validate``: what is exact is equal, the rest has an error, a broken claim fails the run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import validation.references
from validation.runner import Measure, Reference, run

QUICK = ("scalesim", "models", "own_rtl")


def pairs(reference, ours):
    return pd.DataFrame({"reference": reference, "ours": ours})


def test_errors_are_those_of_the_pairs():
    found = Measure("x", pairs([10.0, 20.0, 40.0, 0.0], [11.0, 20.0, 30.0, 0.0]))
    assert found.equal == 2 and found.holds
    assert found.errors() == pytest.approx({"mean": 8.75, "median": 5.0, "p90": 20.5, "worst": 25.0})
    in_nats = Measure("x", pairs([1.0, 2.0], [1.5, 2.0]), unit="nats")
    assert in_nats.errors()["worst"] == pytest.approx(0.5)
    assert np.isinf(Measure("x", pairs([0, 1], [1, 1])).errors()["worst"])
    texts = Measure("x", pairs(["a", "b"], ["a", "c"]))
    assert (texts.equal, texts.errors()) == (1, {})


def test_an_exact_claim_is_about_every_row():
    assert Measure("x", pairs([1, 2], [1, 2]), exact=True).holds
    assert not Measure("x", pairs([1, 2], [1, 3]), exact=True).holds
    assert not Measure("x", pairs([], []), exact=True).holds, "nothing compared is nothing shown"
    assert Measure("x", pairs([1.0], [1.0 + 2e-15]), exact=True).holds, "the order of a sum"
    assert not Measure("x", pairs([1.0], [1.0 + 1e-10]), exact=True).holds


def test_json(one_object):
    found = one_object("validate", *QUICK)
    assert found["holds"] and set(found["seconds"]) == set(QUICK)
    rows = {(m["name"], m["what"]): m for m in found["measures"]}
    assert rows["scalesim", "compute cycles, its convention"]["rows"] == 120
    assert rows["own_rtl", "systolic arrays, cycles"]["rows"] == 5400
    assert all(m["equal"] == m["rows"] and m["exact"] for m in found["measures"])


def test_text_and_files(cli, tmp_path):
    done = cli("validate", "scalesim", "surrogate", "--out", "found")
    assert done.code == 0 and not done.err and "\x1b" not in done.out
    assert "1 claims of exactness hold" in done.out and "nats" in done.out
    names = {p.name for p in (tmp_path / "found").iterdir()}
    assert names == {"validation.json", "validation.md", "scalesim_1.csv", "surrogate_1.csv", "surrogate_2.csv"}
    assert len(pd.read_csv(tmp_path / "found" / "scalesim_1.csv")) == 120
    assert json.loads((tmp_path / "found" / "validation.json").read_text())["holds"]
    assert "| scalesim | compute cycles, its convention | 120 | all |" in (tmp_path / "found/validation.md").read_text()


def test_a_broken_claim_fails_the_run(cli, monkeypatch):
    broken = Reference("broken", "b", "nobody", lambda: [Measure("cycles", pairs([1, 2], [1, 3]), exact=True)])
    monkeypatch.setattr(validation.references, "REFERENCES", (*validation.references.REFERENCES, broken))
    done = cli("validate", "scalesim", "broken")
    assert done.code == 1 and not done.err
    assert "1 of 2 claims of exactness FAIL" in done.out and "FAILS, all were claimed" in done.out.replace("\n", " ")
    done = cli("validate", "broken", "--json")
    assert done.code == 1 and json.loads(done.out)["holds"] is False


def test_a_wrong_equation_is_seen(monkeypatch):
    """The runner computes our side now; it does not read it from a file."""
    from sim.compute import systolic

    real = systolic.scalesim_cycles
    monkeypatch.setattr(systolic, "scalesim_cycles", lambda *args: real(*args) + 1)
    assert not run(["scalesim"]).holds


def test_list(cli, one_object):
    shown = cli("validate", "--list").out
    by_default, _, by_name = shown.partition("only by name:")
    assert "  gemmini" in by_default and "  dram_scheduler" in by_name and "Verilator" in by_name
    found = one_object("validate", "--list")
    assert found["profiles"]["only_by_name"].startswith("needs the real weights")
    assert set(found) == {r.name for r in validation.references.REFERENCES}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("gemini",), ("'gemini'", "did you mean 'gemmini'?")),
        (("--list", "gemmini"), ("--list runs nothing",)),
        (("scalesim", "--out", "file/x"), ("file/x", "cannot be written")),
    ],
)
def test_refusals(refused, tmp_path, words, parts):
    (tmp_path / "file").write_text("")
    message = refused("validate", *words)
    for part in parts:
        assert part in message


@pytest.mark.slow
def test_all_of_the_default_run():
    assert run().holds
