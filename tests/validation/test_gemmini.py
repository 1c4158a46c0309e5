"""The Gemmini model against its RTL: what it must reach on shapes that were left out, and its parts one by one."""

import sys

import numpy as np
import pytest

from sim.errors import InputError
from validation import gemmini

SIZE = {"N": 1, "K": 128, "C": 64, "P": 128, "Q": 1, "R": 1, "S": 1}
MAPPING = "L3[WIO] K8 - L2[WI] N1 K16X - L1[O] C4 P8 C16X - L0[W] P16"


@pytest.fixture(scope="module")
def runs():
    return gemmini.load_runs()


@pytest.fixture(scope="module")
def left_out(runs):
    return gemmini.leave_one_shape_out(runs)


def nest(loops, stride=1, **tile):
    """A nest with these DRAM loops, outermost first, over a tile of the given extents (1 where not given)."""
    full = {d: tile.get(d, 1) for d in gemmini.DIMENSIONS}
    size = dict(full)
    for dimension, count in loops:
        size[dimension] *= count
    return gemmini.Nest(size, full, tuple(loops), stride)


def test_errors_on_shapes_left_out_of_the_fit(runs, left_out):
    found = gemmini.errors(left_out[0], runs["rtl"].to_numpy())
    assert len(runs) == 123 and len(left_out[1]) == 38
    assert found["median"] < 4.8
    assert found["mean"] < 8.2
    assert found["p90"] < 22
    assert found["max"] < 44
    assert found["rank"] > 0.996


def test_closer_than_timeloop_by_every_measure(runs, left_out):
    ours = gemmini.errors(left_out[0], runs["rtl"].to_numpy())
    theirs = gemmini.errors(runs["timeloop"].to_numpy(), runs["rtl"].to_numpy())
    assert ours["rank"] > theirs["rank"]
    assert all(ours[measure] < 0.6 * theirs[measure] for measure in ("median", "mean", "p90", "max"))


def test_the_latencies_hardly_depend_on_the_shapes_they_were_fitted_to(left_out):
    for name in ("load_latency", "store_latency", "miss_latency"):
        values = [getattr(memory, name) for memory in left_out[1]]
        assert max(values) < 1.25 * min(values)


def test_the_array_alone_explains_the_runs_it_bounds(runs):
    """Nothing is fitted here: on these the RTL is within half a per cent of the array's cycles."""
    ratio = (runs["tiles"] * runs["array"] / runs["rtl"]).to_numpy()
    assert (np.abs(ratio - 1) < 0.005).sum() >= 10
    assert ratio.max() < 1.035


def test_the_rtl_itself_scatters_between_buffer_sizes(runs):
    floor = gemmini.repeats(runs)
    assert floor["rows"] == 25
    assert 5 < floor["mean"] < 10 and floor["max"] > 25


def test_slower_memory_never_predicts_fewer_cycles_and_free_memory_leaves_the_array(runs):
    base = gemmini.predict(runs, gemmini.Memory())
    for slower in (gemmini.Memory(load_latency=90), gemmini.Memory(store_latency=90), gemmini.Memory(miss_latency=500)):
        assert (gemmini.predict(runs, slower) >= base).all()
    assert (base > runs["tiles"] * runs["array"]).all()


def test_a_mapping_is_read_as_written():
    read = gemmini.parse(MAPPING, SIZE, 1)
    assert read.loops == (("K", 8),) and read.tiles == 8
    assert read.tile == {"N": 1, "K": 16, "C": 64, "P": 128, "Q": 1, "R": 1, "S": 1}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (MAPPING.replace("K8", "K4"), "loops over K must multiply to 128, got 64"),
        (MAPPING.replace("C4 ", "C4 Z2 "), "level must read like"),
        (MAPPING.replace("L3", "L4"), "must name level L3"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(mapping, said):
    with pytest.raises(InputError, match=said):
        gemmini.parse(mapping, SIZE, 1)


def test_partial_sums_leave_the_chip_only_when_outputs_change_inside_a_reduction():
    assert nest([("C", 4)], K=16).spills == 1
    assert nest([("K", 8), ("C", 4)], K=16).spills == 1
    assert nest([("C", 4), ("K", 8)], K=16).spills == 4
    assert nest([("C", 2), ("P", 3), ("R", 3), ("K", 8), ("S", 3)], K=16).spills == 6


def test_a_tile_is_held_by_the_innermost_loops_that_do_not_index_it():
    loops = nest([("K", 4), ("P", 2), ("K", 3), ("K", 2)], K=16)
    assert (loops.held("inputs"), loops.held("weights"), loops.held("outputs")) == (6, 1, 1)
    assert nest([("K", 4), ("P", 2), ("Q", 5)]).held("weights") == 10
    assert nest([("K", 4)]).held("inputs") == 4


def test_array_cycles_by_hand():
    # 4 folds of 8 full blocks; the next weights hide behind a full block
    assert gemmini.array_cycles(nest([], K=16, C=64, P=128)) == 4 * 128
    # rows of 16 + 4 pixels: the last block of a fold is stretched to the 16 rows of the next weights
    assert gemmini.array_cycles(nest([], K=16, C=16, P=20, Q=8)) == 8 * 20 + 12
    # a block of one pixel costs four cycles, and the window admits 16 instructions in 63 cycles
    assert gemmini.array_cycles(nest([], K=16, C=16, P=17, Q=1)) == 16 + 16
    assert gemmini.array_cycles(nest([], K=16, C=16, P=2, Q=40)) == 40 * 2 * 63 / 16
    # edge channels cost full folds, every kernel position is a fold of its own
    assert gemmini.array_cycles(nest([], K=17, C=3, P=16, Q=2, R=3, S=3)) == 2 * 9 * 32


def test_a_strided_patch_is_brought_whole_and_narrow_channels_share_lines():
    assert gemmini.pixels(nest([], stride=2, P=7, Q=7), nest([], P=7, Q=7).tile) == 13 * 13
    lines = gemmini.cache_lines(nest([("K", 4)], K=16, C=32, P=8, Q=2), nest([], K=16, C=32, P=8, Q=2).tile)
    assert lines == {"weights": 32, "inputs": 8, "outputs": 16}
    assert gemmini.cache_lines(nest([], K=2, C=64, P=8), nest([], K=2, C=64, P=8).tile)["outputs"] == 8 * 2 / 64


def test_an_operand_misses_less_when_the_loop_around_the_tile_does_not_index_it():
    inner = gemmini.misses(nest([("P", 64), ("K", 8)], K=64, C=1024, P=64))
    outer = gemmini.misses(nest([("K", 8), ("P", 64)], K=64, C=1024, P=64))
    assert inner["inputs"] < 0.5 * outer["inputs"]
    assert outer["weights"] < 0.5 * inner["weights"]


def test_a_layer_that_the_cache_holds_hardly_misses_and_a_huge_one_misses_all_that_is_new():
    small = nest([("K", 2)], K=64, C=64, P=8, Q=8)
    assert sum(gemmini.misses(small).values()) < 0.01 * sum(gemmini.cache_lines(small, small.tile).values())
    huge = nest([("P", 100), ("Q", 100)], K=64, C=64, P=16, Q=16)
    assert gemmini.misses(huge)["outputs"] == pytest.approx(256, rel=0.01)


def test_what_is_printed(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gemmini", "--rows"])
    gemmini.main()
    printed = capsys.readouterr().out
    assert "Timeloop" in printed and "shape left out" in printed and "miss latency" in printed
    assert printed.count("L3[WIO]") == len(runs)
