"""The table of docs/gating.md, cut down: one layer, one sequence and four."""

import pytest

from validation import activation_skipping


@pytest.fixture(scope="module")
def found():
    return activation_skipping.table(layers=1).set_index(["batch", "machine"])


def test_bytes_moved_and_skipped_are_all_that_there_were(found):
    for batch in (1, 4):
        rows = found.loc[batch]
        total = rows["DRAM MB"] + rows["DRAM MB skipped"]
        assert total.to_numpy() == pytest.approx([total.iloc[0]] * len(total), rel=0.01)


def test_both_sides_must_skip_and_a_batch_undoes_it(found):
    times = found["ms"]
    alone = min(times[1, "DRAM skips, by vector"], times[1, "array skips positions"])
    assert times[1, "DRAM and array skip"] < 0.9 * alone
    assert found["speed-up"][4, "DRAM and array skip"] < 1.1 < 1.3 < found["speed-up"][1, "DRAM and array skip"]


def test_gating_saves_energy_and_no_time(found):
    for name in ("PEs gated by inputs", "weight buffer gated"):
        assert found["mJ"][1, name] < found["mJ"][1, "nothing"]
        assert found["ms"][1, name] == pytest.approx(found["ms"][1, "nothing"], rel=0.002)
