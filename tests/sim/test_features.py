"""Sparse features: laws of gating and skipping, tiles of leaders by hand, and the walk of real masks as the truth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sim.compute.dual_sided import DualSided
from sim.errors import InputError
from sim.nest import OPERANDS, Level, Loop, Nest, Unroll
from sim.sparsity.density import Actual, Bernoulli, FixedStructured, Hypergeometric, MaximumEntropy
from sim.sparsity.features import Features, Rank, Saf, count, leader_tile, walk
from sim.sparsity.features.ranks import rank_units, stored_share
from sim.sparsity.features.spec import mask_shape
from sim.sparsity.profile import Counts

MASKS = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"
MOVES = ("reads", "fills", "updates", "drains")
some = settings(derandomize=True, deadline=None, max_examples=40)


@st.composite
def nests(draw, perfect=False, spatial=True, largest=8):
    """Small nests; ``perfect``: every tile divides what it cuts."""
    sizes = {d: draw(st.sampled_from([2, 4, 8]) if perfect else st.integers(1, largest)) for d in "mnk"}
    extent, loops = dict(sizes), []
    for _ in range(draw(st.integers(0, 5))):
        dim = draw(st.sampled_from("mnk"))
        tile = draw(st.integers(1, extent[dim]))
        if not perfect or extent[dim] % tile == 0:
            extent[dim] = tile
            loops.append(Loop(dim, tile))
    units = {}
    if spatial:
        for dim, axis in zip(draw(st.permutations("mnk"))[: draw(st.integers(0, 2))], "xy", strict=False):
            units[dim] = Unroll(axis, draw(st.integers(1, extent[dim])))
    axes = [u.axis for u in units.values()]
    inner = tuple(a for a in axes if draw(st.booleans()))
    outer = tuple(a for a in inner if draw(st.booleans()))
    at = sorted(draw(st.integers(0, len(loops))) for _ in range(2))
    levels = [Level("dram")]
    for name, position, per in (("outer", at[0], outer), ("inner", at[1], inner)):
        keeps = tuple(x for x in OPERANDS if draw(st.booleans()))
        if keeps:
            levels.append(Level(name, keeps, position, per))
    latched = tuple(x for x in OPERANDS if draw(st.booleans()))
    window = not perfect and not set(units) - {"n"} and draw(st.booleans())
    return Nest(sizes, loops, levels, units, latched, window=window)


@st.composite
def features(draw, nest, formats=True, kinds=("gate", "skip")):
    safs, ranks = [], {}
    for level in nest.levels:
        for operand in level.keeps:
            leaders = [x for x in OPERANDS[:2] if x != operand and draw(st.booleans())]
            if leaders:
                safs.append(Saf(draw(st.sampled_from(kinds)), level.name, operand, tuple(leaders)))
            if formats and draw(st.booleans()):
                ranks[level.name, operand] = (Rank("rle", "m", 1),)
    return Features(tuple(safs), ranks, draw(st.sampled_from(["none", "gate", "skip"])))


def models(nest, weights, inputs):
    return {x: Bernoulli(mask_shape(nest, x), d) for x, d in (("weights", weights), ("inputs", inputs))}


densities = st.floats(0.02, 1.0)


def tallies(counts):
    return {(place, move): getattr(row, move) for place, row in counts.accesses.items() for move in MOVES}


def bandwidths(nest, words=1.0):
    return {level.name: (words, words) for level in nest.levels}


def counted(nest, sparse, weights, inputs, **rest):
    return count(nest, models(nest, weights, inputs), sparse, **rest)


@given(nests())
@some
def test_a_walk_moves_what_the_nest_says(nest):
    found = walk(nest, {}, Features())
    for place, moves in nest.accesses().items():
        row = found.accesses[place]
        assert tuple(getattr(row, move).algorithmic for move in MOVES) == tuple(moves[:4]), place
    assert found.computes.effectual == nest.macs()


@given(st.data(), nests(), densities, densities, st.integers(0, 99))
@some
def test_everything_is_accounted_for(data, nest, weights, inputs, seed):
    sparse = data.draw(features(nest))
    given_models = models(nest, weights, inputs)
    masks = {x: model.draw(seed) for x, model in given_models.items()}
    for found in count(nest, given_models, sparse), walk(nest, masks, sparse):
        for place, tally in tallies(found).items():
            assert sum(tally[1:]) == pytest.approx(tally.algorithmic), place
            assert min(tally) >= -1e-9
        shares = found.computes.shares()
        assert shares.pop("algorithmic") == 1
        assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= -1e-12


@given(st.data(), nests(), densities, densities)
@some
def test_effectual_computes_are_the_product_of_the_densities(data, nest, weights, inputs):
    found = counted(nest, data.draw(features(nest)), weights, inputs)
    assert found.computes.effectual == pytest.approx(nest.macs() * weights * inputs)


@given(st.data(), nests(), densities, densities)
@some
def test_gating_keeps_the_cycles_and_skipping_never_adds_any(data, nest, weights, inputs):
    sparse = data.draw(features(nest, formats=False))
    ports = {"bandwidth_words_per_cycle": bandwidths(nest)}
    plain = counted(nest, Features(), weights, inputs, **ports)

    def as_kind(kind):
        safs = tuple(Saf(kind, s.level, s.target, s.leaders) for s in sparse.safs)
        return counted(nest, Features(safs, {}, kind), weights, inputs, **ports)

    gated, skipped = as_kind("gate"), as_kind("skip")
    assert gated.total_cycles == pytest.approx(plain.total_cycles)
    assert gated.cycles == pytest.approx(plain.cycles)
    for where, cycles in skipped.cycles.items():
        assert cycles <= plain.cycles[where] * (1 + 1e-12)
    for place, tally in tallies(gated).items():
        other = tallies(skipped)[place]
        assert tally.actual == pytest.approx(other.actual) and tally.gated == pytest.approx(other.skipped)


@given(st.data(), nests(), densities, densities, densities)
@some
def test_a_denser_leader_never_lowers_an_actual_count(data, nest, weights, thin, dense):
    sparse = data.draw(features(nest, formats=False))
    thin, dense = sorted((thin, dense))
    few, many = (tallies(counted(nest, sparse, weights, inputs)) for inputs in (thin, dense))
    for place, tally in few.items():
        assert tally.actual <= many[place].actual * (1 + 1e-9) + 1e-9


@given(st.data(), nests(perfect=True, spatial=False), st.integers(0, 999))
@some
def test_with_one_leader_the_counts_of_a_real_mask_are_its_walk(data, nest, seed):
    """A model of the very mask knows its empty tiles; nothing else is needed where tiles divide. (Reads of partial sums
    are not compared: which of a sum's visits is the first, without a read, depends on the zeros' places.)"""
    leader, target = data.draw(st.sampled_from([("weights", "inputs"), ("inputs", "weights"), ("inputs", "outputs")]))
    rng = np.random.default_rng(seed)
    shape = mask_shape(nest, leader)
    mask = rng.random(shape) < rng.random((shape[0], 1)) * rng.random(shape[1])
    level = data.draw(st.sampled_from([x.name for x in nest.chain(target)]))
    sparse = Features((Saf(data.draw(st.sampled_from(["gate", "skip"])), level, target, (leader,)),))
    exact, expected = walk(nest, {leader: mask}, sparse), count(nest, {leader: Actual(mask)}, sparse)
    for (place, move), tally in tallies(expected).items():
        if (place[1], move) != ("outputs", "reads") and (place[1], move) != ("outputs", "fills"):
            assert tallies(exact)[place, move] == pytest.approx(tally), (place, move)
    assert exact.computes.shares() == pytest.approx(expected.computes.shares())


NEST = Nest(
    {"m": 16, "n": 24, "k": 12},
    [Loop("n", 8), Loop("m", 4), Loop("k", 4), Loop("m", 2), Loop("n", 4), Loop("k", 1)],
    [Level("dram"), Level("shared", at=2), Level("register", ("weights", "outputs"), at=5, per=("x",))],
    {"n": Unroll("x", 4), "m": Unroll("y", 2)},
    latched=("inputs",),
)
SPARSE = Features(
    (
        Saf("skip", "dram", "inputs", ("weights",)),
        Saf("gate", "shared", "inputs", ("weights",)),
        Saf("skip", "shared", "weights", ("inputs",)),
        Saf("skip", "register", "weights", ("inputs",)),
        Saf("gate", "register", "outputs", ("weights", "inputs")),
    ),
    {("shared", "weights"): (Rank("cp", "n", 8),), ("register", "weights"): (Rank("b", "n", 1),)},
    "skip",
)


@pytest.mark.parametrize(
    "model, weights, inputs", [(Hypergeometric, 0.1, 0.3), (Bernoulli, 0.02, 0.6), (Hypergeometric, 0.7, 0.05)]
)
def test_counts_are_the_mean_of_walks(model, weights, inputs):
    """Two leaders, spatial axes, formats, gates inside of skips: within 4 standard errors over 40 pairs of masks."""
    given_models = {"weights": model((24, 12), weights), "inputs": model((16, 12), inputs)}
    expected = count(NEST, given_models, SPARSE)
    walks = []
    for seed in range(40):
        masks = {"weights": given_models["weights"].draw(2 * seed), "inputs": given_models["inputs"].draw(2 * seed + 1)}
        walks.append(walk(NEST, masks, SPARSE))
    for place, tally in tallies(expected).items():
        seen = np.array([tallies(found)[place] for found in walks])
        error = 4 * seen.std(axis=0) / np.sqrt(len(walks)) + 0.005 * tally.algorithmic
        assert (np.abs(seen.mean(axis=0) - tally) <= error).all(), (place, seen.mean(axis=0), tally)
    shares = {name: np.array([found.computes.shares()[name] for found in walks]) for name in expected.computes.shares()}
    for name, want in expected.computes.shares().items():
        assert abs(shares[name].mean() - want) <= 4 * shares[name].std() / np.sqrt(len(walks)) + 0.005, name


def test_leader_tiles_by_hand():
    nest = Nest(
        {"m": 8, "n": 16, "k": 4},
        [Loop("k", 1), Loop("n", 4), Loop("m", 1)],
        [Level("dram"), Level("buffer", ("weights", "inputs"), at={"weights": 2, "inputs": 1}, per=("x",))],
        {"n": Unroll("x", 4)},
    )
    dram, buffer = nest.levels
    # a tile of 4 weights of one k stays in the buffers while all 8 rows pass; each of 4 units holds one of them
    assert leader_tile(nest, dram, "weights", "inputs") == (8, 1)
    # an input tile (8 x 1) is multicast from dram to all units: the leader is every channel of its k
    assert leader_tile(nest, dram, "inputs", "weights") == (16, 1)
    # from its own unit's buffer one latched input meets that unit's weight alone
    assert leader_tile(nest, buffer, "inputs", "weights") == (1, 1)
    # the array holds a latched weight while the rows pass
    assert leader_tile(nest, buffer, "weights", "inputs") == (8, 1)
    unlatched = Nest(nest.sizes, nest.loops, nest.levels, nest.spatial, latched=())
    assert leader_tile(unlatched, buffer, "weights", "inputs") == (1, 1)


def test_neighbours_that_share_an_operand_make_its_leader_larger():
    def skipped(lanes, per):
        nest = Nest(
            {"m": 1, "n": 8, "k": 64},
            [Loop("k", 1), Loop("n", lanes)],
            [Level("dram"), Level("buffer", per=per)],
            {"n": Unroll("x", lanes)},
            latched=(),
        )
        saf = Saf("skip", "buffer", "inputs", ("weights",))
        reads = counted(nest, Features((saf,)), 0.25, 1.0).accesses["buffer", "inputs"].reads
        return reads.skipped / reads.algorithmic

    assert [skipped(lanes, ()) for lanes in (1, 2, 8)] == pytest.approx([0.75, 0.75**2, 0.75**8])
    assert [skipped(lanes, ("x",)) for lanes in (1, 2, 8)] == pytest.approx([0.75] * 3)


def test_a_window_is_a_line_of_inputs():
    """9 outputs of 3 taps need 11 inputs; in tiles of 3 outputs, 5 for each."""
    loops, kept = [Loop("m", 3), Loop("m", 1), Loop("k", 1)], ("inputs",)
    sizes = {"m": 9, "n": 2, "k": 3}
    whole, tiled = (
        Nest(sizes, loops, [Level("dram"), Level("pad", kept, at=at)], latched=(), window=True) for at in (0, 1)
    )
    assert whole.accesses()["dram", "inputs"].read_down == 11
    assert tiled.accesses()["dram", "inputs"].read_down == 15
    assert whole.accesses()["pad", "inputs"].read_down == 27
    assert whole.footprints()["pad"].elements == {"inputs": 11} and mask_shape(whole, "inputs") == (1, 11)
    assert leader_tile(whole, whole.levels[0], "weights", "inputs") == (1, 1)
    assert Nest.from_dict(tiled.to_dict()).accesses() == tiled.accesses()
    with pytest.raises(InputError, match="spatial\\.k: neighbours would share inputs"):
        Nest(sizes, [], [Level("dram")], {"k": Unroll("x", 3)}, window=True)


def test_savings_reach_the_levels_inside():
    nest = Nest(
        {"m": 4, "n": 4, "k": 4},
        [Loop("k", 2), Loop("m", 1), Loop("k", 1), Loop("n", 1)],
        [Level("dram"), Level("buffer", at=1), Level("register", ("weights",), at=2)],
        latched=(),
    )
    outer = counted(nest, Features((Saf("skip", "dram", "weights", ("inputs",)),)), 1.0, 0.1)
    share = 0.9**8
    for level in "dram", "buffer", "register":
        reads = outer.accesses[level, "weights"].reads
        assert reads.skipped / reads.algorithmic == pytest.approx(share)
    assert outer.accesses["buffer", "weights"].fills.skipped == pytest.approx(share * 16)
    assert outer.accesses["buffer", "inputs"].reads.skipped == 0
    assert outer.computes.storage_skipped == pytest.approx(share * 64)
    assert outer.computes.effectual == pytest.approx(0.1 * 64)


def test_the_smallest_leader_tile_decides_what_reaches_the_array():
    """Weights skip by single inputs, outputs by all 4 of a row (they stay for the whole of k): a compute is left out
    where its own input is zero, in whatever order the levels and operands are looked at."""
    nest = Nest(
        {"m": 2, "n": 2, "k": 4},
        [Loop("m", 1), Loop("n", 1), Loop("k", 1)],
        [Level("dram"), Level("pad", ("weights", "outputs"), at=3)],
        latched=(),
    )
    safs = (Saf("skip", "pad", "weights", "inputs"), Saf("skip", "dram", "outputs", "inputs"))
    assert leader_tile(nest, nest.levels[0], "outputs", "inputs") == (1, 4)
    for order in safs, safs[::-1]:
        found = counted(nest, Features(order), 1.0, 0.1)
        assert found.computes.storage_skipped == pytest.approx(0.9 * 16)
        assert found.accesses["dram", "outputs"].updates.skipped == pytest.approx(0.9**4 * 4)
    mask = np.zeros((2, 4), bool)
    mask[0, 1] = True
    exact = walk(nest, {"inputs": mask}, Features(safs))
    assert exact.computes.storage_skipped == 14 and exact.accesses["dram", "outputs"].updates.skipped == 2


@pytest.mark.parametrize(
    "compute, stored, want",
    [
        # of 1000: both nonzero 250 x 0.4, inputs 0.4 x weights 0.25
        ("none", (), {"effectual": 100, "ineffectual": 900}),
        ("gate", (), {"effectual": 100, "gated": 900}),
        ("skip", (), {"effectual": 100, "ineffectual": 900}),
        ("none", ("weights",), {"effectual": 100, "ineffectual": 900}),
        ("skip", ("weights",), {"effectual": 100, "ineffectual": 150, "skipped": 750}),
        ("skip", ("weights", "inputs"), {"effectual": 100, "skipped": 450, "absent": 450}),
        ("gate", ("weights", "inputs"), {"effectual": 100, "gated": 450, "absent": 450}),
    ],
)
def test_states_of_a_pair_at_the_multiplier(compute, stored, want):
    nest = Nest({"m": 10, "n": 10, "k": 10}, [Loop("m", 1), Loop("n", 1), Loop("k", 1)], [Level("buffer")], latched=())
    formats = {("buffer", x): (Rank("cp", "k", 10),) for x in stored}
    found = counted(nest, Features((), formats, compute), 0.25, 0.4).computes
    parts = {name: 1000 * share for name, share in found.shares().items() if share and name != "algorithmic"}
    assert parts == pytest.approx(want)


def test_a_narrow_port_sets_the_cycles():
    nest = Nest({"m": 1, "n": 1, "k": 16}, [Loop("k", 1)], [Level("buffer")], latched=())
    saf = Saf("skip", "buffer", "weights", ("inputs",))
    dense_inputs = counted(nest, Features((saf,)), 1.0, 0.25, bandwidth_words_per_cycle={"buffer": (35, 16)})
    # 16 inputs, 4 weights and 15 partial sums over 35 ports
    assert dense_inputs.cycles == pytest.approx({"array": 4, "buffer": 1})
    narrow = counted(nest, Features((saf,)), 1.0, 0.25, bandwidth_words_per_cycle={"buffer": (5, 2)})
    assert narrow.total_cycles == pytest.approx(8)  # 16 updates, 2 a cycle


def test_replicas_have_a_port_each():
    def cycles(per):
        levels, lanes = [Level("dram"), Level("pad", per=per)], {"n": Unroll("x", 4)}
        nest = Nest({"m": 1, "n": 4, "k": 8}, [Loop("k", 1)], levels, lanes, latched=())
        return counted(nest, Features(), 1.0, 1.0, bandwidth_words_per_cycle={"pad": (1, 100)}).cycles

    # 8 inputs, 32 weights, 28 partial sums and 4 results; with pads of their own each channel reads 8 + 8 + 7 + 1
    assert cycles(()) == pytest.approx({"array": 8, "pad": 72})
    assert cycles(("x",)) == pytest.approx({"array": 8, "pad": 24})


def test_compressed_zeros_are_absent_and_their_metadata_is_read():
    nest = Nest({"m": 1, "n": 4, "k": 16}, [Loop("n", 1), Loop("k", 1)], [Level("buffer")], latched=())
    stored = Features((), {("buffer", "weights"): (Rank("uop", "n", 4), Rank("cp", "k", 16))})
    found = count(nest, {"weights": FixedStructured((4, 16), 0.25)}, stored).accesses["buffer", "weights"]
    assert found.reads == pytest.approx((64, 16, 0, 0, 48))
    assert found.metadata.tile == ((0, 5), (16, 0))
    assert sum(found.metadata.actual_reads, ()) == pytest.approx((0, 5, 16, 0))


def test_ranks_by_hand():
    model = FixedStructured((16, 64), 1 / 16)
    blocks = (Rank("b", "n", 16), Rank("cp", "k", 16), Rank("u", "k", 4))
    # 16 fibers of 16 blocks of 4: a block holds something with probability 1/4
    assert rank_units(blocks, "n", model) == ((16, 0), (64, 0), (0, 0))
    assert stored_share(blocks, "n", model) == pytest.approx(0.25)
    assert rank_units((Rank("ub", "n", 16), Rank("u", "k", 64)), "n", model)[0] == (16, 0)
    assert stored_share((Rank("ub", "n", 16),), "n", model) == 1.0


def test_products_are_counted_channel_by_channel():
    """Dense channels of one operand that meet dense channels of the other: a walk sees it, densities cannot."""
    rng = np.random.default_rng(0)
    channel = rng.random(12)
    weights, inputs = (rng.random((rows, 12)) < channel for rows in (24, 16))
    sparse = Features((Saf("skip", "register", "weights", ("inputs",)),), {}, "gate")
    exact = walk(NEST, {"weights": weights, "inputs": inputs}, sparse).computes.effectual
    assert exact == int(weights.sum(axis=0) @ inputs.sum(axis=0))
    known = {"weights": Actual(weights), "inputs": Actual(inputs)}
    assert count(NEST, known, sparse).computes.effectual < 0.9 * exact


@pytest.mark.parametrize("key", list(np.load(MASKS)))
def test_real_masks(key):
    """8 neighbouring outputs that all skip an input, in matrices half empty: a density alone expects 0.4 % of inputs,
    0.9 to 5 % are skipped; counts of rows and columns come nearer."""
    with np.load(MASKS) as masks:
        mask = np.unpackbits(masks[key], axis=1).astype(bool)
    nest = Nest(
        {"m": 1, "n": mask.shape[0], "k": mask.shape[1]},
        [Loop("k", 1), Loop("n", 8)],
        [Level("dram"), Level("buffer")],
        {"n": Unroll("x", 8)},
        latched=(),
    )
    sparse = Features((Saf("skip", "buffer", "inputs", ("weights",)),))

    def skipped(model):
        return count(nest, {"weights": model}, sparse).accesses["buffer", "inputs"].reads.skipped

    exact = walk(nest, {"weights": mask}, sparse).accesses["buffer", "inputs"].reads.skipped
    assert skipped(Actual(mask)) == pytest.approx(exact)
    alone = skipped(Hypergeometric(mask.shape, mask.mean()))
    known = skipped(MaximumEntropy(Counts(mask.sum(axis=1), mask.sum(axis=0))))
    assert alone < known and abs(known - exact) < abs(alone - exact)


@pytest.mark.parametrize("size", [(64, 64, 16), (40, 50, 9)])
def test_dual_sided_mean_of_walks(size):
    m, n, k = size
    array = DualSided(lanes=32, input_granule=8, weight_granule=16)
    pair = Bernoulli((m, k), 0.3), Bernoulli((n, k), 0.4)
    walks = [array.walk(pair[0].draw(2 * s), pair[1].draw(2 * s + 1)) for s in range(300)]
    assert np.mean(walks) == pytest.approx(array.cycles(*pair), abs=4 * np.std(walks) / np.sqrt(300))


def test_dual_sided_by_hand():
    array = DualSided()
    dense = array.cycles(Bernoulli((64, 10), 1.0), Bernoulli((32, 10), 1.0))
    assert dense == 10 * (2 * 4) * 2
    inputs, weights = np.zeros((32, 3), bool), np.zeros((32, 3), bool)
    inputs[:9, 0], weights[:17, 0] = True, True  # 2 x 2 granules
    inputs[:8, 1], weights[:16, 1] = True, True  # 1 x 1
    inputs[:, 2] = True  # meets nothing
    assert array.walk(inputs, weights) == 5
    with pytest.raises(InputError, match="they must be equal"):
        array.walk(inputs, weights[:, :2])


@given(densities, densities, densities)
@settings(derandomize=True, deadline=None, max_examples=30)
def test_dual_sided_cycles_lie_between_the_densities_and_dense(a, b, more):
    array = DualSided()
    cycles = array.cycles(Hypergeometric((64, 8), a), Hypergeometric((64, 8), b))
    dense = 8 * 8 * 4
    assert a * b * dense <= cycles * (1 + 1e-9) <= dense * (1 + 1e-8)
    assume(more >= a)
    assert array.cycles(Hypergeometric((64, 8), more), Hypergeometric((64, 8), b)) >= cycles * (1 - 1e-9)


SMALL = Nest({"m": 2, "n": 2, "k": 2}, [], [Level("dram"), Level("pad", ("weights",))])


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: Saf("skips", "dram", "weights", ("inputs",)), "kind of a feature 'skips'.*did you mean 'skip'"),
        (lambda: Saf("skip", "dram", "weights", ("weights",)), "leader of weights 'weights'"),
        (lambda: Saf("skip", "dram", "weights", ()), "leaders of weights in dram"),
        (lambda: Features(compute="stop"), "compute 'stop'"),
        (lambda: Rank("csr", "k", 4), "kind of a rank 'csr'"),
        (
            lambda: counted(SMALL, Features((Saf("skip", "pad", "inputs", "weights"),)), 1, 1),
            "level pad: target 'inputs'",
        ),
        (lambda: counted(SMALL, Features((Saf("skip", "dra", "inputs", "weights"),)), 1, 1), "did you mean 'dram'"),
        (lambda: count(SMALL, {"weights": Bernoulli((2, 3), 0.5)}, Features()), "mask of \\(2, 3\\).*needs \\(2, 2\\)"),
        (lambda: walk(SMALL, {"weights": np.ones((2, 3))}, Features()), "mask of weights has shape \\(2, 3\\)"),
        (
            lambda: counted(SMALL, Features(), 1, 1, bandwidth_words_per_cycle={"dram": (0, 1)}),
            "bandwidth of level dram",
        ),
        (lambda: rank_units((Rank("cp", "k", 9),), "n", Bernoulli((1, 8), 0.5)), "tile of 1 x 9, larger"),
        (lambda: DualSided(lanes=0), "lanes must be a whole number >= 1"),
        (
            lambda: walk(Nest({"m": 2048, "n": 2048, "k": 8}, [], [Level("dram")]), {}, Features()),
            "at most 16,777,216 multiply-accumulates",
        ),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(InputError, match=named):
        make()
