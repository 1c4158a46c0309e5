"""The measurement of lane estimates: what its numbers obey, on masks small enough for every run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sim.sparsity import lanes
from sim.sparsity.estimate_errors import COLUMNS, errors, label, waiting
from sim.sparsity.lane_order import ALL
from validation import estimate_errors
from validation.estimate_errors import DESIGNS, counts_of, large_masks, measure, measure_large, settings_of, write

REAL = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"
WAYS = ("barrier", "fifo", "stealing")


def cut(names=("magnitude_50/15/attn_k", "wanda_50/15/attn_k"), rows=96, columns=320):
    with np.load(REAL) as packed:
        return [np.unpackbits(packed[name], axis=1).astype(bool)[:rows, :columns].copy() for name in names]


@pytest.fixture(scope="module")
def table():
    return measure(cut())


def test_every_kind_of_design_has_its_row(table):
    assert list(table.columns) == list(COLUMNS)
    keys = set(table[list(COLUMNS[:4])].itertuples(index=False, name=None))
    wanted = {(e, o, a, w) for e in ("counts", "density") for o in lanes.ORIENTATIONS for a in ALL for w in WAYS}
    assert keys == wanted and len(table) == len(wanted)
    assert (table["walks"] == 2 * len(DESIGNS)).all()
    assert {waiting(s) for s in settings_of("output", "sorted")} == set(WAYS)


def test_errors_are_ordered_and_are_those_of_a_walk_by_hand(table):
    assert (table["median_percent"] <= table["p90_percent"]).all()
    assert (table["p90_percent"] <= table["worst_percent"]).all()
    assert (table["mean_percent"].abs() <= table["worst_percent"]).all()
    row = table.set_index(list(COLUMNS[:4])).loc["density", "output", "contiguous", "barrier"]
    found = []
    for mask in cut():
        for count, depth in DESIGNS:
            groups = [mask[i : i + count] for i in range(0, len(mask), count)]
            tiles = [g[:, j : j + depth].sum(axis=1).max() for g in groups for j in range(0, mask.shape[1], depth)]
            walked = sum(max(int(t), 1) for t in tiles) + len(groups)
            even = mask.sum() / count + len(groups)
            found.append(100 * (even / walked - 1))
    assert row["worst_percent"] == pytest.approx(max(map(abs, found)), abs=0.011)
    assert row["mean_percent"] == pytest.approx(np.mean(found), abs=0.011)


def test_counts_know_more_than_a_density(table):
    """Lanes assumed even are too fast everywhere; row and column counts are closer in the median of every kind."""
    medians = table.set_index(list(COLUMNS[:4]))["median_percent"]
    assert (medians["counts"] <= medians["density"] + 0.05).all()
    assert (table.loc[table["estimate"] == "density", "mean_percent"] <= 0).all()


def test_a_full_mask_is_estimated_exactly():
    found = measure([np.ones((48, 256), bool)])
    assert found.loc[found["estimate"] == "counts", "worst_percent"].max() == 0


def test_what_is_written_is_what_labels_read(table, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate_errors, "TABLE", tmp_path / "errors.csv")
    write(table)
    assert pd.read_csv(tmp_path / "errors.csv").equals(table.reset_index(drop=True))


def test_the_stored_table_labels_every_design():
    assert set(errors()) == {
        (e, o, a, w) for e in ("counts", "density") for o in lanes.ORIENTATIONS for a in ALL for w in WAYS
    }
    for orientation in lanes.ORIENTATIONS:
        for assignment in ALL:
            for design in settings_of(orientation, assignment):
                assert "90th percentile" in label("counts", design) and "\n" not in label("density", design)


def test_large_masks_keep_half_as_they_say():
    rows, whole = (mask for _, mask in large_masks((24, 64)))
    assert (rows.sum(axis=1) == 32).all()
    assert whole.sum() == whole.size // 2 and len(set(whole.sum(axis=1))) > 1
    assert all((a[1] == b[1]).all() for a, b in zip(large_masks((24, 64)), large_masks((24, 64)), strict=True))


def test_the_large_table_times_two_ways():
    found = measure_large((128, 256))
    assert len(found) == 12 and (found[["counts s", "drawn mask s"]] >= 0).all(axis=None)
    assert found[["counts error %", "drawn mask error %"]].abs().max(axis=None) < 15
    assert len(counts_of(np.ones((3, 5), bool)).columns) == 5
