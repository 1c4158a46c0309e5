"""Systolic cycles: every RTL row, every peer row, and the laws between them."""

from importlib import resources

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.compute import systolic
from sim.errors import InputError

DATA = resources.files("validation") / "data"


def table(path):
    with (DATA / path).open() as file:
        return pd.read_csv(file)


def compressed(rows):
    """Two of four: the array sees half of K, whole groups."""
    return np.where(rows.dataflow.str.endswith("24"), 2 * -(-rows.K // 4), rows.K)


def test_every_rtl_row():
    rows = table("rtl/arrays_cycles.csv")
    assert len(rows) == 1938 and rows.numeric_ok.all()
    got = systolic.cycles(
        rows.dataflow.str[:2].to_numpy(),
        *(rows[name].to_numpy() for name in "RCMN"),
        compressed(rows),
        rows.overlap.replace("single_chase", "single_buffer").to_numpy(),
    )
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, rows.cycles)


def test_every_row_of_two_public_arrays():
    rows = table("rtl/external_rtl_cycles.csv")
    stream = rows["stream_len(K for OS; M for WS)"]
    axis = rows[rows.design == "axis_sa_OS"]
    np.testing.assert_array_equal(
        systolic.cycles("os", axis.R, axis.C, axis.R * axis.folds, axis.C, stream[axis.index], convention="axis"),
        axis.cycles,
    )
    ws = rows[rows.design == "cameronshinn_WS"]
    assert len(axis) + len(ws) == len(rows) == 94
    np.testing.assert_array_equal(
        systolic.cycles("ws", ws.R, ws.C, stream[ws.index], ws.C, ws.R * ws.folds, "none"), ws.cycles
    )


def test_every_scalesim_row():
    rows = table("peers/scalesim_3_0_0_calc.csv")
    assert len(rows) == 120
    for overlap in systolic.OVERLAPS:  # ignored by this convention
        got = systolic.cycles(
            rows.dataflow.to_numpy(), *(rows[name] for name in ("rows", "cols", "M", "N", "K")), overlap, "scalesim"
        )
        np.testing.assert_array_equal(got, rows.total_cycles)


def test_one_equation_under_numba():
    """The scalar kernel is the same source, compiled: equal on every RTL row."""
    kernel = numba.njit(systolic.rtl_cycles)
    rows = table("rtl/arrays_cycles.csv")[::7]
    flow = [systolic.DATAFLOWS.index(name[:2]) for name in rows.dataflow]
    over = [systolic.OVERLAPS.index(name.replace("single_chase", "single_buffer")) for name in rows.overlap]
    got = [kernel(*row) for row in zip(flow, rows.R, rows.C, rows.M, rows.N, compressed(rows), over, strict=True)]
    assert got == list(rows.cycles)


def test_broadcasting_names_and_codes():
    flows = np.array(systolic.DATAFLOWS)[:, None]
    by_name = systolic.cycles(flows, 8, 8, 20, 30, np.arange(1, 6), np.array(systolic.OVERLAPS)[:, None, None])
    by_code = systolic.cycles(np.arange(3)[:, None], 8, 8, 20, 30, np.arange(1, 6), np.arange(3)[:, None, None])
    assert by_name.shape == (3, 3, 5)
    np.testing.assert_array_equal(by_name, by_code)
    assert by_name[2, 1, 3] == systolic.cycles("ws", 8, 8, 20, 30, 4)
    assert isinstance(systolic.cycles("os", 8, 8, 1, 1, 1), np.int64)


sizes = st.integers(1, 300)
arrays = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(arrays, arrays, sizes, sizes, sizes)
def test_laws(rows, cols, m, n, k):
    got = systolic.cycles(np.array(systolic.DATAFLOWS), rows, cols, m, n, k, np.arange(3)[:, None])
    assert (got * rows * cols >= m * n * k).all(), "never faster than the peak"
    assert (np.diff(got, axis=0) <= 0).all(), "more overlap is never slower"
    if rows >= cols:  # then no earlier fold finishes after the last one
        for bigger in ((m + 1, n, k), (m, n + 1, k), (m, n, k + 1)):
            more = systolic.cycles(np.array(systolic.DATAFLOWS), rows, cols, *bigger, np.arange(3)[:, None])
            assert (more >= got).all(), "a larger GEMM is never faster"
    transposed = systolic.cycles("is", rows, cols, n, m, k, np.arange(3))
    np.testing.assert_array_equal(transposed, got[:, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("oz", 8, 8, 1, 1, 1), "dataflow must be one of os, ws, is, got 'oz': did you mean 'os'?"),
        (("os", 0, 8, 1, 1, 1), "rows must be a whole number >= 1, got 0"),
        (("os", 8, 8, 1, -3, 1), "n must be a whole number >= 1, got -3"),
        (("os", 8, 8, 1, 2.5, 1), "n must be a whole number >= 1, got 2.5"),
        (("os", 8, 8, 1, float("nan"), 1), "n must be a whole number >= 1, got nan"),
        (("os", 8, 8, 1, "7", 1), "n must be a whole number >= 1, got '7'"),
        ((3, 8, 8, 1, 1, 1), "dataflow (as a code) must be a whole number in 0..2, got 3"),
        (("os", 8, 8, 1, 1, 1, "doublebuffer"), "did you mean 'double_buffer'?"),
        (("ws", 8, 8, 1, 1, 1, "none", "axis"), "convention 'axis' must go with dataflow 'os'"),
        (("os", [8, 9], 8, [1, 2, 3], 1, 1), "arguments must broadcast"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError) as error:
        systolic.cycles(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
