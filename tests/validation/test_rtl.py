"""The project's own RTL against the cycle equations: the stored rows always, the simulation itself when slow."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest

from sim.compute import systolic
from sim.errors import InputError
from sim.sparsity import lanes
from validation.rtl import __main__ as command
from validation.rtl import arrays, build, zero_skip

DATA = resources.files("validation") / "data" / "rtl"
MASK_TEXT = {"bits": str, "mask_key": str}


def stored(name):
    with (DATA / f"own_{name}.csv").open() as file:
        return pd.read_csv(
            file, dtype={"verilator": str, **MASK_TEXT} if name == "zero_skip_masks" else {"verilator": str}
        )


@pytest.fixture(scope="module")
def systolic_rows():
    return stored("arrays_cycles")


@pytest.fixture(scope="module")
def lane_rows():
    return stored("zero_skip_cycles")


@pytest.fixture(scope="module")
def lane_masks():
    return zero_skip.restored(stored("zero_skip_masks"))


def check_arrays(rows):
    assert rows.numeric_ok.all()
    assert rows.groupby(["dataflow", "overlap", "R", "C"]).size().eq(len(arrays.GEMMS)).all()
    earlier = arrays.earlier_block_ends_last(rows)
    np.testing.assert_array_equal(rows.cycles[~earlier], arrays.predicted(rows)[~earlier])
    latest = np.maximum(arrays.predicted(rows), arrays.predicted(rows, full_columns=True))
    np.testing.assert_array_equal(rows.cycles, latest)


def check_lanes(rows, masks):
    assert rows.numeric_ok.all()
    np.testing.assert_array_equal(rows.cycles, zero_skip.predicted(rows, masks))
    np.testing.assert_array_equal(rows.cycles_reduced - rows.cycles, zero_skip.drain_cycles(rows))


def test_every_stored_array_row(systolic_rows):
    assert len(systolic_rows) == 5 * 3 * len(arrays.SIZES) * len(arrays.GEMMS)
    check_arrays(systolic_rows)
    for flow in systolic.DATAFLOWS:
        assert (arrays.earlier_block_ends_last(systolic_rows) & (systolic_rows.dataflow == flow)).sum() > 0


def test_the_interval_found_by_trying_is_the_equations(systolic_rows):
    rows = systolic_rows.copy()
    one, two = ({"R": rows.R, "C": blocks * rows.C} for blocks in (1, 2))
    across, down = np.where(rows.dataflow == "is", "M", "N"), np.where(rows.dataflow.str.startswith("os"), "M", "K")

    def full(size):
        made = rows.copy()
        for name in "MNK":
            made[name] = np.where(across == name, size["C"], made[name])
            deep = np.where(rows.dataflow.str.endswith("24") & (name == "K"), 2 * rows.R, rows.R)
            made[name] = np.where((down == name) & (across != name), deep, made[name])
        return arrays.predicted(made)

    np.testing.assert_array_equal(rows.fold_interval, full(two) - full(one))
    stationary = ~rows.dataflow.str.startswith("os")
    np.testing.assert_array_equal(rows.lead, np.where(stationary, rows.R, 0))


def test_padded_columns_end_where_a_full_array_would(systolic_rows):
    rows = systolic_rows.copy()
    for name, here in (("M", rows.dataflow == "is"), ("N", rows.dataflow != "is")):
        rows[name] = np.where(here, rows.C * -(-rows[name] // rows.C), rows[name])
    np.testing.assert_array_equal(systolic_rows.cycles_padded, arrays.predicted(rows))


def test_every_stored_lane_row(lane_rows, lane_masks):
    assert set(lane_rows.array) == {"output", "input", "shared"} and set(lane_rows.fifo_depth) == {0, 1, 2, 4, 8}
    check_lanes(lane_rows, lane_masks)
    private = lane_rows[lane_rows.array == "input"]
    assert (private.cycles_reduced > private.cycles).all(), "private accumulators are not free"


def test_walking_the_matrix_gives_the_same(lane_rows, lane_masks):
    for row in lane_rows[lane_rows.dens_a == 1].itertuples():
        mask = lane_masks[row.mask_key][0]
        orientation = "output" if row.array == "output" else "input"
        matrix = mask if orientation == "output" else mask.T
        assert lanes.walk(matrix, row.P, row.T, orientation, fifo_depth=row.fifo_depth) == row.cycles, row


def test_shared_accumulators_make_lanes_wait(lane_masks):
    rows = stored("scatter_conflicts")
    assert rows.numeric_ok.all() and zero_skip.lanes_may_wait(rows).all()
    np.testing.assert_array_equal(rows.without_conflicts, zero_skip.predicted(rows, lane_masks))
    slower = rows.cycles / rows.without_conflicts
    assert (slower >= 1).all() and (slower[rows.nnz_total == 0] == 1).all()
    assert slower[(rows.ports == 1) & (rows.nnz_total > 0)].median() > 1.05, (
        "conflict-free is an assumption with a price"
    )
    by_ports = rows.pivot_table(index=["mask_key", "turn"], columns="ports", values="cycles").to_numpy()
    assert (np.diff(by_ports, axis=1) <= 0).all(), "more adders never make lanes wait longer"


def test_masks_survive_their_table():
    random = np.random.default_rng(0)
    masks = {
        "a": (random.random((3, 13)) < 0.5, random.random(13) < 0.5),
        "b": (np.ones((1, 8), bool), np.ones(8, bool)),
    }
    back = zero_skip.restored(zero_skip.stored(masks))
    assert list(back) == ["a", "b"]
    for key, pair in masks.items():
        for before, after in zip(pair, back[key], strict=True):
            np.testing.assert_array_equal(before, after)


def test_without_verilator(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs verilator and make and a C\\+\\+ compiler"):
        build.verilator_version()
    monkeypatch.setattr("sys.argv", ["validation.rtl", "--out", str(tmp_path / "out")])
    assert command.main() == 1
    assert "apt-get install verilator" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.csv"))


simulated = pytest.mark.skipif(bool(build.missing_tools()), reason=f"RTL simulation {build.missing_tools()}")


@pytest.mark.slow
@simulated
def test_simulate_every_array(tmp_path, systolic_rows):
    rows = arrays.measure(tmp_path)
    check_arrays(rows)
    pd.testing.assert_frame_equal(
        rows.drop(columns="verilator").reset_index(drop=True), systolic_rows.drop(columns="verilator")
    )


@pytest.mark.slow
@simulated
def test_simulate_every_lane(tmp_path, lane_rows):
    rows, masks = zero_skip.measure(tmp_path), zero_skip.masks()
    waits = zero_skip.lanes_may_wait(rows)
    check_lanes(rows[~waits], masks)
    for found, kept in ((rows[~waits], lane_rows), (rows[waits], stored("scatter_conflicts"))):
        kept = kept.drop(columns=["verilator", "without_conflicts"], errors="ignore")
        pd.testing.assert_frame_equal(found.drop(columns="verilator").reset_index(drop=True), kept)


def tampered(monkeypatch, folder, module, before, after):
    """The sources with one change in one module."""
    for source in build.SOURCES.glob("*.*"):
        text = source.read_text() if source.is_file() else ""
        if source.name == f"{module}.sv":
            assert text.count(before) == 1
            text = text.replace(before, after)
        (folder / source.name).write_text(text)
    monkeypatch.setattr(build, "SOURCES", folder)


def small(module):
    """The 4 x 4 dense build of a module with one operand register, and its row for one GEMM of many folds."""
    one = next(
        b for b in arrays.builds() if b.top == module and b.parameters == {"R": 4, "C": 4, "DOUBLE": 0, "GROUP": 1}
    )
    return one, f"{'os' if module == 'os_array' else 'ws'} single_buffer 9 9 9 1\n"


@pytest.mark.slow
@simulated
def test_a_worse_array_measures_worse(monkeypatch, tmp_path):
    """Rows that all load at once cannot follow the old content down: the bench must find a longer interval."""
    sources, folder = tmp_path / "sources", tmp_path / "build"
    sources.mkdir()
    job = small("stationary_array")
    tampered(monkeypatch, sources, "stationary_array", "in_load && int'(step) >= r", "in_load && step < 8")
    [[row]] = build.run_all([job], folder)
    measured = dict(zip(arrays.COLUMNS, row, strict=True))
    assert measured["numeric_ok"] == "1"
    assert int(measured["fold_interval"]) == 9 + 2 * 4 - 2, "until the lowest row has used its content"
    assert int(measured["cycles"]) > systolic.cycles("ws", 4, 4, 9, 9, 9, "single_buffer")


@pytest.mark.slow
@simulated
@pytest.mark.parametrize(
    ("module", "before", "after"),
    [
        ("os_array", "32'(picked) * 32'(weight)", "32'(picked) * 32'(weight[6:0])"),
        ("stationary_array", "32'(picked) * 32'(kept)", "32'(picked) * 32'(kept[6:0])"),
    ],
)
def test_a_wrong_product_is_seen(monkeypatch, tmp_path, module, before, after):
    sources, folder = tmp_path / "sources", tmp_path / "build"
    sources.mkdir()
    job = small(module)
    tampered(monkeypatch, sources, module, before, after)
    [[row]] = build.run_all([job], folder)
    assert row[-1] == "0"
