"""Loop nests: closed counts against a run of the loops, hand-worked cases, text, plain form, refusals."""

from __future__ import annotations

import doctest
import json
from itertools import pairwise

import nest_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.nest import OPERANDS, Level, Loop, Nest
from sim.nest import nest as nest_module


@st.composite
def nests(draw) -> Nest:
    """Small nests of every kind: short last tiles, uneven cuts, bypassed levels, replicas, unlatched operands."""
    sizes = {d: draw(st.integers(1, 6)) for d in "mnk"}
    left, loops = dict(sizes), []
    for _ in range(draw(st.integers(0, 6))):
        dim = draw(st.sampled_from("mnk"))
        left[dim] = draw(st.integers(1, left[dim]))
        loops.append(Loop(dim, left[dim]))
    spatial = {}
    for dim in "mnk":
        if draw(st.booleans()):
            largest = 8 if left[dim] == sizes[dim] else left[dim]
            spatial[dim] = (draw(st.sampled_from(("rows", "cols"))), draw(st.integers(1, largest)))
    levels = [Level("dram")]
    outside = dict.fromkeys(OPERANDS, 0)
    per: tuple[str, ...] = ()
    axes = sorted({axis for axis, _ in spatial.values()})
    for number in range(draw(st.integers(0, 3))):
        keeps = tuple(x for x in OPERANDS if draw(st.booleans()))
        outside |= {x: draw(st.integers(outside[x], len(loops))) for x in keeps}
        per = tuple(axis for axis in axes if axis in per or draw(st.integers(0, 3)) == 0)
        levels.append(Level(f"level{number}", keeps, {x: outside[x] for x in keeps}, per))
    latched = tuple(x for x in OPERANDS if draw(st.booleans()))
    return Nest(sizes, loops, levels, spatial, latched)


@settings(max_examples=300, deadline=None)
@given(nests())
def test_counts_are_those_of_a_run(nest):
    moves, most, steps = nest_oracle.run(nest)
    assert {place: tuple(row) for place, row in nest.accesses().items()} == moves
    held = {(name, x): number for name, f in nest.footprints().items() for x, number in f.elements.items()}
    assert held == most
    assert nest.steps() == steps


@settings(max_examples=100, deadline=None)
@given(nests())
def test_plain_form_and_text(nest):
    plain = json.loads(json.dumps(nest.to_dict()))
    assert Nest.from_dict(plain).accesses() == nest.accesses()
    lines = nest.text().splitlines()
    assert max(map(len, lines)) <= 100
    turning = sum(loop.tile < nest.extents(i)[loop.dim] for i, loop in enumerate(nest.loops))
    assert sum(line.lstrip().startswith("for ") for line in lines) == turning


@settings(max_examples=100, deadline=None)
@given(nests())
def test_conservation(nest):
    """What a level sends up arrives outside, and what comes in was read outside, replicas or not."""
    moves = nest.accesses()
    for operand in OPERANDS:
        chain = nest.chain(operand)
        for outer, inner in pairwise(chain):
            out, into = moves[outer.name, operand], moves[inner.name, operand]
            assert out.written_from_below <= into.read_up
            assert out.read_down <= into.written_from_above
            if not inner.per:
                assert out.written_from_below == into.read_up and out.read_down == into.written_from_above
    finished = nest.sizes["m"] * nest.sizes["n"]
    outermost = moves["dram", "outputs"]
    assert outermost.written_from_below - outermost.read_down == finished


def three_levels(order: str, **more) -> Nest:
    tiles = {"m": 16, "n": 512, "k": 192}
    return Nest(
        {"m": 128, "n": 1536, "k": 576},
        [Loop(d, tiles[d]) for d in order],
        [Level("dram"), Level("shared", at=3), Level("weight_buffer", ("weights",), 3)],
        **more,
    )


@pytest.mark.parametrize(
    ("order", "weights", "inputs", "outputs"),
    [("mnk", 8, 3, 1), ("mkn", 8, 1, 3), ("nmk", 8, 3, 1), ("nkm", 1, 3, 3), ("kmn", 8, 1, 3), ("knm", 1, 3, 3)],
)
def test_six_orders_by_hand(order, weights, inputs, outputs):
    moves = three_levels(order).accesses()
    assert moves["dram", "weights"].read_down == weights * 576 * 1536
    assert moves["dram", "inputs"].read_down == inputs * 128 * 576
    assert moves["dram", "outputs"].written_from_below == outputs * 128 * 1536
    assert moves["dram", "outputs"].read_down == (outputs - 1) * 128 * 1536


TIMELOOP_BUFFER = Level("Buffer", ("weights", "outputs"), at=1)
TIMELOOP = [
    # (sizes, loops, levels, (level, operand): (reads toward the array, fills, updates)); dense counts of
    # github.com/Accelergy-Project/timeloop-accelergy-exercises@2d5510807128 (MIT), example_designs/sparseloop/<name>/
    # ref_outputs: mapping in timeloop-mapper.map.yaml, counts in timeloop-mapper.stats.txt
    (
        "01.2.1-DUDU-dot-product",
        (1, 1, 16),
        [("k", 1)],
        [Level("Buffer")],
        {"Buffer inputs": (16, 0, 0), "Buffer weights": (16, 0, 0), "Buffer outputs": (15, 0, 16)},
    ),
    (
        "02.2.1-spMspM",
        (8, 8, 8),
        [("n", 8), ("k", 1), ("n", 1), ("m", 1)],
        [Level("BackingStorage"), TIMELOOP_BUFFER],
        {
            "Buffer weights": (512, 64, 0),
            "Buffer outputs": (448, 0, 512),
            "BackingStorage inputs": (512, 0, 0),
            "BackingStorage weights": (64, 0, 0),
            "BackingStorage outputs": (0, 0, 64),
        },
    ),
    (
        "02.2.2-spMspM-tiled",
        (8, 8, 8),
        [("n", 2), ("k", 1), ("n", 1), ("m", 1)],
        [Level("BackingStorage"), TIMELOOP_BUFFER],
        {
            "Buffer weights": (512, 64, 0),
            "Buffer outputs": (448, 0, 512),
            "BackingStorage inputs": (512, 0, 0),
            "BackingStorage weights": (64, 0, 0),
            "BackingStorage outputs": (0, 0, 64),
        },
    ),
]


@pytest.mark.parametrize(("name", "mnk", "loops", "levels", "counts"), TIMELOOP, ids=[case[0] for case in TIMELOOP])
def test_timeloop_counts(name, mnk, loops, levels, counts):
    """Timeloop reads operands at every turn (no latches) and, like us, does not read what starts from zero."""
    moves = Nest(dict(zip("mnk", mnk, strict=True)), loops, levels, latched=()).accesses()
    found = {
        f"{level} {x}": (row.read_down, row.written_from_above, row.written_from_below)
        for (level, x), row in moves.items()
    }
    assert {place: found[place] for place in counts} == counts


def test_short_last_tile_keeps_what_a_trip_count_would_fetch_again():
    """The last chunk of n (2 of 10) is one tile of the inner loop: k then reuses it, trip counts would say 3 x 2 x 2.

    n = 10 in 4, 4, 2; k = 6 in 3, 3 between; inner n tile 2: 4 -> two tiles twice, 2 -> one tile once."""
    nest = Nest(
        {"m": 5, "n": 10, "k": 6}, [("n", 4), ("k", 3), ("n", 2)], [Level("dram"), Level("buffer", ("outputs",), 3)]
    )
    assert nest.accesses()["dram", "outputs"].written_from_below == 5 * (8 + 8 + 2)


def test_footprints_and_overflow_by_one_bit():
    nest = three_levels("nkm", bits={"weights": 4})
    bits = 192 * 512 * 4 + 16 * 192 * 8 + 16 * 512 * 32
    room = nest.footprints({"shared": bits / 8192})["shared"]
    assert (room.bits, room.overflow_bits, room.fits) == (bits, 0, True)
    room = nest.footprints({"shared": (bits - 1) / 8192})["shared"]
    assert (room.overflow_bits, room.fits) == (1, False)
    room = nest.footprints({"shared": bits / 8192}, ["shared"])["shared"]
    assert room.overflow_bits == bits


@pytest.mark.parametrize(("latched", "accumulator"), [(("weights", "inputs"), 32), (OPERANDS, 8)])
def test_partial_sums_are_wide_only_where_they_rest(latched, accumulator):
    """k turns inside of the accumulator: it holds partial sums, unless the array adds them up in latches of its own."""
    nest = Nest(
        {"m": 4, "n": 4, "k": 4}, [("m", 1), ("n", 1), ("k", 1)],
        [Level("dram"), Level("shared", at=1), Level("accumulator", ("outputs",), 2)], latched=latched,
    )  # fmt: skip
    bits = {name: room.operand_bits["outputs"] for name, room in nest.footprints().items()}
    assert bits == {"dram": 16 * 8, "shared": 4 * 8, "accumulator": 1 * accumulator}


def test_text_of_a_weight_stationary_nest():
    nest = Nest(
        {"m": 128, "n": 48, "k": 40},
        [("n", 32), ("k", 16), ("m", 1)],
        [Level("dram"), Level("shared", at={"weights": 2, "inputs": 0, "outputs": 1})],
        {"n": ("cols", 32), "k": ("rows", 16)},
    )
    assert nest.text().splitlines() == [
        "GEMM m 128 x k 40 . k 40 x n 48: 245,760 MACs in 768 array steps",
        "dram: weights 1.9 KiB, inputs 5.0 KiB, outputs 6.0 KiB",
        "shared: inputs 5.0 KiB",
        "for n in 0:48:32                          # 2 turns, last 16; inputs again from shared",
        "  shared: outputs 16.0 KiB",
        "  for k in 0:40:16                        # 3 turns, last 8; outputs again from shared",
        "    shared: weights 0.5 KiB",
        "    for m in 0:128:1                      # 128 turns; weights stay in array",
        "      spatial n in 0:32 over 32 along cols",
        "      spatial k in 0:16 over 16 along rows",
    ]


GOOD = {
    "sizes": {"m": 8, "n": 8, "k": 8},
    "loops": [{"n": 4}, {"k": 2}],
    "levels": [{"name": "dram"}, {"name": "shared", "at": 1}, {"name": "wbuf", "keeps": ["weights"], "at": 2}],
    "spatial": {"n": {"axis": "cols", "factor": 4}},
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": [{"name": "dram"}, {"name": "shard"}]}, "'shard' is unknown: did you mean 'shared'?"),
        ({"loops": [{"n": 2}, {"n": 4}]}, "loop 1 (n): tile 4 is larger than the 2 outside of it"),
        ({"loops": [{"n": 9}]}, "tile 9 is larger than the 8 outside of it"),
        ({"loops": [{"q": 4}]}, "loop dimension 'q' is unknown"),
        ({"loops": [{"n": 0}]}, "tile of loop n must be a whole number >= 1, got 0"),
        ({"loops": [{"n": True}]}, "got True"),
        ({"loops": [{"n": 4, "k": 4}]}, "mapping.loops[0] must be one {dim: tile}"),
        ({"levels": [{"name": "dram"}, {"name": "shared", "at": 2}, {"name": "wbuf", "keeps": ["weights"], "at": 1}]},
         "level wbuf: tile of weights sits at 1, outside of its parent's: allowed 2 (shared) .. 2"),
        ({"levels": [{"name": "dram"}, {"name": "shared", "at": 3}]}, "allowed 0 (dram) .. 2 (all loops)"),
        ({"levels": [{"name": "dram", "keeps": ["inputs", "outputs"]}]}, "must keep all operands whole"),
        ({"levels": [{"name": "dram", "at": 1}]}, "must keep all operands whole"),
        ({"levels": [{"name": "dram"}, {"name": "dram"}]}, "level name 'dram' is used twice"),
        ({"levels": [{"name": "dram"}, {"name": "wbuf", "keeps": ["weight"]}]}, "did you mean 'weights'?"),
        ({"levels": [{"name": "dram"}, {"name": "wbuf", "at": {"weights": 1}}]}, "gives no position for it"),
        ({"levels": [{"name": "dram"}, {"name": "wbuf", "per": ["col"]}]}, "did you mean 'cols'?"),
        ({"levels": [{"name": "dram"}, {"name": "wbuf", "per": ["cols"]}, {"name": "shared", "at": 1}]},
         "must be replicated along cols"),
        ({"levels": []}, "levels must name at least one level"),
        ({"spatial": {"n": ("cols", 5)}}, "innermost tile of n is 4 but 5 are unrolled along cols"),
        ({"spatial": {"n": {"axis": "cols", "factor": 1.5}}}, "spatial factor along cols must be a whole number"),
        ({"sizes": {"m": 8, "n": 8}}, "sizes.k is missing"),
        ({"sizes": {"m": 8, "n": 8, "k": -1}}, "size of k must be a whole number >= 1, got -1"),
        ({"bits": {"weight": 4}}, "did you mean 'weights'?"),
        ({"latched": ["weigths"]}, "did you mean 'weights'?"),
        ({"order": "mnk"}, "mapping: field 'order' is unknown"),
    ],
)  # fmt: skip
def test_refusals(change, says):
    Nest.from_dict(GOOD, known_levels=("dram", "shared", "wbuf"))
    with pytest.raises(InputError) as error:
        Nest.from_dict(GOOD | change, known_levels=("dram", "shared", "wbuf"))
    assert says in str(error.value) and "\n" not in str(error.value)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 20), st.floats(), st.text(max_size=3), st.just([]), st.just({})
)


@settings(max_examples=300, deadline=None)
@given(nests(), st.data())
def test_broken_plain_forms_are_refused_in_one_line(nest, data):
    """Any value of a good mapping replaced by junk is either still a mapping or an InputError, never another error."""
    plain = json.loads(json.dumps(nest.to_dict()))
    part, key = plain, data.draw(st.sampled_from(sorted(plain)))
    while isinstance(part[key], list | dict) and part[key] and data.draw(st.integers(0, 3)):
        part = part[key]
        key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
    part[key] = data.draw(JUNK)
    try:
        assert Nest.from_dict(plain).text()
    except InputError as error:
        assert "\n" not in str(error)


def test_numpy_integers_are_numbers():
    sizes = dict(zip("mnk", np.array([8, 8, 8]), strict=True))
    nest = Nest(sizes, [("n", np.int64(4))], [Level("dram"), Level("shared", at=np.int32(1))])
    assert json.loads(json.dumps(nest.to_dict()))["loops"] == [{"n": 4}]


def test_example_of_the_docstring_and_moves_as_text():
    ran = doctest.testmod(nest_module)
    assert ran.attempted > 2 and ran.failed == 0
    lines = three_levels("nkm").moves_text().splitlines()
    assert len(lines) == 1 + 3 + 3 + 1 and len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["dram", "inputs", "221,184", "0", "0", "0", "1"]


def test_unknown_level_of_a_capacity():
    with pytest.raises(InputError, match="did you mean 'shared'"):
        three_levels("nkm").footprints({"shard": 4})
