"""What reordering gains: the three tables on a tiny decoder, and what their columns promise."""

import numpy as np
import pytest

from sim.sparsity import lanes
from sim.trace import Sparsity
from validation import reordering
from validation.reordering import DEPTHS, LANES, MACHINES, TILES, gathered, imbalance, main, shuffled, speed, variants
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm
from workloads.recipe import METHODS

CONFIG = ModelConfig("tiny", 2, 64, 96, 4, 2, 16, 64, 1e4, 1e-5, True)


def skewed(shape, seed):
    """Busy lines and idle ones."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.random((shape[0], 1)) * rng.random((1, shape[1])) * 2


def mask(variant, matrix_type, layer=0):
    return skewed(CONFIG.matrix_shape(matrix_type), [layer, MATRIX_TYPES.index(matrix_type), len(variant)])


def trace(variant, phase="prefill", layers=None):
    size = {"tokens": 16} if phase == "prefill" else {"context": 16}
    return llm(CONFIG, phase=phase, sparsity=lambda layer, t: Sparsity(mask=mask(variant, t, layer)), **size)


def test_every_method_is_measured():
    assert len(variants()) == 2 * len(METHODS) == len(set(variants()))


def test_imbalance_falls_the_freer_the_orders():
    rows = list(imbalance(trace, ["a", "bb"]))
    assert len(rows) == 2 * len(lanes.ORIENTATIONS) * len(DEPTHS)
    for row in rows:
        assert 1 <= row["own"] <= row["before"] and row["shared"] <= row["before"]
        if row["barrier"] == "full":
            assert row["own"] <= row["shared"] + 1e-12, "each side by itself has the best order there is"
    first = next(r for r in rows if (r["masks"], r["lanes own"], r["barrier"]) == ("a", "outputs", "full"))
    masks = trace("a").masks
    walked = sum(m.sum(axis=1).reshape(-1, LANES).max(axis=1).sum() + len(m) // LANES for m in masks)
    assert first["before"] == pytest.approx(walked * LANES / sum(m.sum() for m in masks))


def test_tiles_empty_and_violations_fall():
    rows = list(gathered(mask, ["a"]))
    assert [row["what"] for row in rows] == [*(f"empty {a}x{b}" for a, b in TILES), "violate 2:4"]
    for row in rows:
        numbers = [row[name] for name in ("before", "after", "shuffled before", "shuffled after")]
        assert all(0 <= number <= 100 for number in numbers)
        rises = row["what"].startswith("empty")
        assert (row["after"] >= row["before"]) == rises or row["after"] == row["before"]
        if rises:
            assert row["after"] >= row["shuffled after"], "skewed lines gather; as many zeros anywhere do not"


def test_shuffling_keeps_nonzeros_only():
    before = skewed((40, 24), 1)
    after = shuffled(before, 0)
    assert after.sum() == before.sum() and after.shape == before.shape and (after != before).any()
    assert (shuffled(before, 0) == after).all()


def test_orders_that_are_paid_for_by_the_vector_unit_gain_least():
    """The same order: free for the array, dearer in index tables, dearest in vector ops."""
    rows = list(speed(trace, [("a", "prefill"), ("a", "decode")]))
    assert len(rows) == 2 * len(lanes.ORIENTATIONS) * len(MACHINES)
    for row in rows:
        assert 0 <= row["waiting"] < 1 and row["shared"] > 0
        assert row["own, vector"] <= row["own, indexed"] + 1e-12
    assert any(row["shared"] > 1 for row in rows)


def test_the_command_prints_the_tables_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(reordering, "TABLES", {"lanes": lambda: imbalance(trace, ["a"]), "tiles": None})
    main(["lanes"])
    out = capsys.readouterr().out
    assert out.startswith("lanes\n") and "shared" in out and out.count("\n") == 3 + 4
