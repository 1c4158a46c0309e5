"""What the benchmarks count and write; no test here looks at a clock."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import sparchitect as sp
from sim.mapping import CUTS, GRAIN, inner_tile

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import page  # noqa: E402
from candidate_count import count_candidates  # noqa: E402
from measures import GEOMETRY, STEPS  # noqa: E402


def one_tier():
    return sp.accelerator(BENCHMARKS / "peers" / "tpu_like.yaml")


def test_one_tier_has_no_inner_nests():
    counted = count_candidates(one_tier(), sp.gemm(m=128, n=576, k=576))
    assert counted["rows"].iloc[0] > 1
    assert (counted["rows"] == counted["nests"]).all()


def test_inner_nests_of_an_uncut_op():
    """64 x 64 x 64 has one outermost tiling but for M: the cuts of each, listed one by one."""
    counted = count_candidates(sp.accelerator("dense_ws"), sp.gemm(m=16, n=64, k=64))
    fitting = 0
    for cut in CUTS:
        tiles = [inner_tile(size, factor, True, GRAIN) for size, factor in zip((16, 64, 64), cut[:3], strict=True)]
        fitting += all(tile > 0.0 for tile in tiles)
    assert counted["rows"].tolist() == [1]
    assert counted["nests"].tolist() == [fitting]


def test_smaller_memory_never_has_more_candidates():
    machine, trace = sp.accelerator("dense_ws"), sp.gemm(m=128, n=1536, k=576)
    sizes = (64, 256, 4096)
    counts = [count_candidates(machine.override({"memory.shared.capacity_kib": s}), trace) for s in sizes]
    assert np.all(np.diff([c["nests"].iloc[0] for c in counts]) >= 0)
    assert counts[0]["nests"].iloc[0] < counts[-1]["nests"].iloc[0]


def test_ends_of_the_grid_can_be_built():
    machine = sp.accelerator("dense_ws")
    ends = {name: [steps[0], steps[-1]] for name, steps in STEPS.items()}
    assert sp.sweep(machine, sp.gemm(m=1, n=64, k=64), ends)["feasible"].all()
    assert math.prod(len(steps) for steps in STEPS.values()) >= 100_000
    assert set(GEOMETRY) < set(STEPS)


def test_page_has_the_marks_and_only_they_are_replaced(tmp_path, monkeypatch):
    copy = tmp_path / "page.md"
    copy.write_text(page.PAGE.read_text())
    monkeypatch.setattr(page, "PAGE", copy)
    before = copy.read_text()
    for name in ("speed", "peers"):
        page.write(name, "new text")
    after = copy.read_text()
    for text in (before, after):
        assert text.count("<!-- end of speed -->") == text.count("<!-- end of peers -->") == 1
    outside = [text.split("<!-- speed -->")[0] for text in (before, after)]
    assert outside[0] == outside[1]
    assert after.count("new text") == 2
    with pytest.raises(ValueError, match="no marks"):
        page.write("nothing", "x")


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.234, "61.2 s"), (1234.0, "1,230 s"), (0.0123, "12.3 ms"), (4.5e-5, "45 µs")]
)
def test_durations(seconds, text):
    assert page.duration(seconds) == text


def test_table_lines_are_equally_wide():
    lines = page.table(["a", "bb"], [["ccc", "d"], ["e", "ffff"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert list(itertools.chain(*(line.split("|")[1:-1] for line in lines[:1]))) == [" a   ", " bb   "]
