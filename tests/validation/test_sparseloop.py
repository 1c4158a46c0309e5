"""Sparseloop's exercises count by count, and the bounds of our errors where it was validated."""

import subprocess
import sys

import pandas as pd
import pytest

from sim.sparsity.density import FixedStructured
from sim.sparsity.features import Rank
from sim.sparsity.features.ranks import KINDS, rank_units
from validation.sparseloop import dstc, eyeriss, eyeriss_v2, table
from validation.sparseloop.__main__ import differences, main, mean_error
from validation.sparseloop.cases import CASES
from validation.sparseloop.data import FOLDER
from validation.sparseloop.exercises import REST, STATUS, agreement, compare_cases, compare_rest


@pytest.fixture(scope="module")
def cases():
    return compare_cases()


@pytest.mark.parametrize("design", CASES)
def test_every_count_of_the_exercises(cases, design):
    rows = cases[cases.design == design]
    assert len(rows) >= 14
    assert rows.sparseloop.tolist() == rows.ours.tolist(), rows[rows.sparseloop != rows.ours].to_string()


def test_no_case_and_no_stated_number_is_left_out(cases):
    designs = set(table("exercises_summary").design)
    assert set(STATUS) == designs == set(agreement().design)
    assert {x for x in designs if x.startswith(("sparseloop/01", "sparseloop/02", "sparseloop/03"))} == set(CASES)
    rows = table("exercises_accesses")
    rows = rows[rows.design.isin(CASES)]
    numbers = rows.filter(regex="_(reads|fills|updates)$").notna().sum().sum()
    stated = rows.rank_metadata_payload_occupancy_then_accesses.notna().sum()
    assert cases.what.str.contains("_(?:reads|fills|updates)$").sum() == numbers == 381
    assert (cases.what == "metadata").sum() == stated == 11


def test_three_known_differences_and_what_they_are():
    assert len(compare_rest()) == 301
    found = differences().set_index(["design", "what"])
    one, *runs = found.itertuples()
    assert one.Index == ("sparseloop/04.2.1-eyeriss-like-gating", "cycles") and one.sparseloop - one.ours == 1
    assert [row.Index[1] for row in runs] == ["runs accessed"] * 2 and {row.Index[0] for row in runs} < set(REST)
    for row in runs:
        assert row.sparseloop[0] / row.ours[0] == pytest.approx(39 / 15, rel=1e-5)


def test_eyeriss_layer_3_by_hand():
    rows = compare_rest().set_index(["design", "where", "what"]).ours
    design = "sparseloop/04.2.1-eyeriss-like-gating"
    assert rows[design, "", "actual_computes"] == 164_472_423
    assert rows[design, "DRAM Inputs", "actual_reads"] == 380_160
    assert rows[design, "DRAM Inputs", "runs accessed"] == [380_161]
    assert rows[design, "weights_spad Weights", "gated_reads"] == 2_779_545
    stored = rank_units((Rank("uop", "m", 64), Rank("rle", "k", 3600)), "m", FixedStructured((64, 3600), 0.275))
    assert stored[0] == (0, 65) and stored[1].metadata == pytest.approx(63_360)


def test_every_rank_of_the_formula_table_is_there():
    formulas = pd.read_csv(FOLDER.parent / "peers" / "sparseloop_format_formulas.csv", comment="#")
    named = {name.split()[0].lower() for name in formulas.format}
    assert named == set(KINDS)


def test_eyeriss_dram_compression():
    found = eyeriss.compare()
    assert len(found) == 5
    assert (found.ours / found.sparseloop - 1).abs().max() < 0.012
    assert found.ours_error_percent.abs().max() < 4 and mean_error(found, "ours") < 2.6
    # what Sparseloop leaves out costs: runs longer than 31, and the 64th bit
    assert (found.ours < found.sparseloop).all()


def test_runs_are_longer_than_their_bits_in_sparse_layers():
    bits = eyeriss.bits_per_element(pd.Series([0.01, 0.1, 0.5]))
    assert (bits / pd.Series([0.01, 0.1, 0.5])).tolist() == pytest.approx(
        [64 / 3 / (1 - 0.99**32), 64 / 3 / (1 - 0.9**32), 64 / 3], rel=1e-6
    )


def test_eyeriss_v2_element():
    found = eyeriss_v2.compare()
    assert found.layer.tolist() == ["L07", "L13", "L21", "L25"]
    assert (found.ours / found.sparseloop - 1).abs().max() < 5e-4
    # products of densities: too few wherever dense channels meet dense channels
    assert found.ours_error_percent.between(-6.5, -2.2).all() and mean_error(found, "ours") < 3.85


def test_dual_side_sparse_tensor_core():
    found = dstc.compare()
    points = found[(found.A_density < 1) | (found.B_density < 1)]
    assert len(points) == 6 and found.ours[0] == 1
    assert mean_error(points, "ours") < 6.2 < dstc.SPARSELOOP_MEAN_ERROR_PERCENT
    assert points.ours_error_percent.abs().max() < 11.5
    assert mean_error(points, "product") > 20


def test_printed(capsys):
    main()
    out = capsys.readouterr().out
    assert "sparseloop/03.2.3-conv1d+oc-spatial    reproduced     71        71" in out
    for part in ("1284941", "mean |error|: Sparseloop 3.84 %", "sparse points: ours 6.08 %"):
        assert part in out


@pytest.mark.slow
def test_runs_as_a_module(tmp_path):
    done = subprocess.run([sys.executable, "-m", "validation.sparseloop"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "dual-side" in done.stdout and not done.stderr
