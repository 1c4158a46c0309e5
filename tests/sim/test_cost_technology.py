"""Tables: every row sourced, grid rows reproduced, interpolation as good as stated, nothing falls as memory grows."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from sim.cost import units
from sim.cost.technology import (
    DATA,
    SRAM_FIELDS,
    cells_um2,
    component,
    leakage_mw_per_mm2,
    loglog,
    non_decreasing,
    sram,
)

ROWS = list(csv.DictReader((DATA / "sram_grid.csv").open(encoding="utf-8")))
SEVEN = [row for row in ROWS if row["tech_nm"] == "7"]


def column(name, rows=SEVEN):
    return np.array([float(row[name]) for row in rows])


def at_rows(field):
    return sram(7).at(column("capacity_KiB"), column("width_bits"), column("n_banks"), field)[0]


@pytest.mark.parametrize("table", sorted(file.name for file in DATA.glob("*.csv")))
def test_every_row_has_a_source(table):
    rows = list(csv.DictReader((DATA / table).open(encoding="utf-8")))
    assert rows
    assert all(len(row["source"]) > 5 and None not in row for row in rows)


@pytest.mark.parametrize("field", ["read_pJ", "write_pJ"])
def test_energies_pass_through_every_grid_row(field):
    assert at_rows(field) == pytest.approx(column(field), rel=1e-9)


@pytest.mark.parametrize(("field", "mean", "worst"), [("area_um2", 0.013, 0.11), ("leak_mW", 0.007, 0.043)])
def test_smoothing_moves_grid_rows_little(field, mean, worst):
    off = np.abs(at_rows(field) / column(field) - 1)
    assert off.mean() < mean
    assert off.max() < worst
    assert np.median(off) < 1e-3


@pytest.mark.parametrize(
    ("field", "median"), [("read_pJ", 0.055), ("write_pJ", 0.045), ("area_um2", 0.055), ("leak_mW", 0.035)]
)
def test_a_row_left_out_is_predicted(field, median):
    off = []
    for width in np.unique(column("width_bits", ROWS)):
        for banks in np.unique(column("n_banks", ROWS)):
            for node in ("45", "32", "22"):
                wanted = (node, f"{width:g}", f"{banks:g}")
                series = [r for r in ROWS if (r["tech_nm"], r["width_bits"], r["n_banks"]) == wanted]
                capacity, value = column("capacity_KiB", series), column(field, series)
                for i in range(1, len(series) - 1):
                    keep = np.arange(len(series)) != i
                    off.append(abs(loglog(capacity[i], capacity[keep], value[keep]) / value[i] - 1))
    assert np.median(off) < median


@pytest.mark.parametrize("field", SRAM_FIELDS)
def test_more_capacity_never_costs_less(field):
    capacity = np.geomspace(0.5, 65536, 400)
    for width in (64, 100, 512):
        for banks in (1, 3, 16, 64):
            assert (np.diff(sram(7).at(capacity, width, banks, field)[0]) >= 0).all(), (width, banks)


@pytest.mark.parametrize("field", SRAM_FIELDS)
def test_a_wider_word_never_costs_less(field):
    width = np.geomspace(64, 512, 200)
    for capacity in (4, 8, 100, 512, 8192, 20000):
        for banks in (1, 3, 16):
            found = sram(7).at(capacity, width, banks, field)[0]
            assert (np.diff(found) >= -1e-10 * found[1:]).all(), (capacity, banks)


def test_non_decreasing_keeps_what_is_and_meets_in_the_middle():
    grid = np.array([1.0, 3.0, 2.0, 4.0])
    assert non_decreasing(grid, (0,)).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert non_decreasing(np.sort(grid), (0,)).tolist() == np.sort(grid).tolist()


def test_loglog_goes_on_with_the_end_slope():
    assert loglog([1, 2, 4, 8, 16], [2, 4, 8], [4, 16, 64]) == pytest.approx([1, 4, 16, 64, 256])
    assert loglog(3.0, [2, 4, 8], [4, 16, 64]) == pytest.approx(9)


@pytest.mark.parametrize(
    ("params", "area"),
    [("W=4;A=24", units.mac(4, 4, 24)), ("W=8;A=32", units.mac(8, 8, 32)), ("W=8;A=24", units.mac(8, 8, 24)),
     ("W=16;A=48", units.mac(16, 16, 48))],
)  # fmt: skip
def test_macs_reproduce_synthesis(params, area):
    assert area == pytest.approx(cells_um2("mac", params))


EIGHT, FOUR = units.mac(8, 8, 32), units.mac(4, 4, 24)


@pytest.mark.parametrize(
    ("unit", "params", "area"),
    [
        ("pe_ws", "W=8;A=32;DB=1", units.stationary_pe(EIGHT, 8, 8, 32, True)),
        ("pe_ws", "W=8;A=32;DB=0", units.stationary_pe(EIGHT, 8, 8, 32, False)),
        ("pe_ws", "W=4;A=24;DB=1", units.stationary_pe(FOUR, 4, 4, 24, True)),
        ("pe_os", "W=8;A=32;SH=1", units.output_pe(EIGHT, 8, 8, 32, True)),
        ("pe_os", "W=8;A=32;SH=0", units.output_pe(EIGHT, 8, 8, 32, False)),
        ("pe_os", "W=4;A=24;SH=1", units.output_pe(FOUR, 4, 4, 24, True)),
        ("macreg", "W=8;A=32", units.lane_pe(EIGHT, 32)),
        ("macreg", "W=4;A=24", units.lane_pe(FOUR, 24)),
        ("pe_ws24", "W=8;A=32", units.stationary_pe(EIGHT, 8, 8, 32, True) + units.structured_extra(False, 4, 8)),
        ("pe_os24", "W=8;A=32", units.output_pe(EIGHT, 8, 8, 32, True) + units.structured_extra(True, 4, 8)),
        ("prienc", "T=64", units.encoder(64)),
        ("xbar", "N=16;W=8", units.crossbar(16, 8)),
        ("mux4", "W=8", units.multiplexer(4, 8)),
        ("add", "W=24", units.adder(24)),
        ("regs", "W=32", units.registers(32)),
    ],
)
def test_units_reproduce_synthesis(unit, params, area):
    assert float(area) == pytest.approx(cells_um2(unit, params))


def test_structured_support_costs_what_was_synthesised():
    for pe, output in (
        (units.stationary_pe(EIGHT, 8, 8, 32, True), False),
        (units.output_pe(EIGHT, 8, 8, 32, True), True),
    ):
        assert 0.11 < float(units.structured_extra(output, 4, 8) / pe) < 0.25


def test_leakage_density_by_hand():
    assert leakage_mw_per_mm2(7) == pytest.approx(1e3 * 0.803113 / 58.2469)
    assert component("int8 mul", "energy_pJ", 7) == 0.086009
