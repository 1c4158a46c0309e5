"""Orders of rows and columns: what each method promises, against hand-made optima, planted structure and real masks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity import lanes
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT, alone
from sim.sparsity.reorder.balance import balance
from sim.sparsity.reorder.cluster import cluster, empty_tiles, tile_mass, tiles_to_drop
from sim.sparsity.reorder.pattern import fit, violations
from sim.sparsity.reorder.swaps import best_swaps

REAL = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"
LANES = {
    "lanes": 4,
    "barrier_depth": 8,
    "orientation": "output",
    "assignment": "contiguous",
    "fifo_depth": 0,
    "empty_tile_cycles": 1,
    "stealing": "none",
}


def real(key):
    with np.load(REAL) as masks:
        return np.unpackbits(masks[key], axis=1).astype(bool)


@st.composite
def masks(draw, most=40):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    busy = rng.random((shape[0], 1)) ** 2 + rng.random((1, shape[1])) ** 2
    return rng.random(shape) < draw(st.sampled_from((0.2, 0.5, 1.0))) * busy


def conserved(before, work):
    """The arrangement's permutations make its mask of the one before, and lose nothing."""
    rows, columns = work.permutation(0, OUTPUT), work.permutation(0, INPUT)
    assert sorted(rows) == list(range(before.shape[0])) and sorted(columns) == list(range(before.shape[1]))
    assert (before[np.ix_(rows, columns)] == work.masks[0]).all()


laws = settings(max_examples=60, deadline=None, derandomize=True)


@laws
@given(
    masks(),
    st.integers(1, 9),
    st.sampled_from((1, 4, 16, "full")),
    st.sampled_from(lanes.ORIENTATIONS),
    st.sampled_from(("contiguous", "interleaved")),
    st.sampled_from((0, 1, 2)),
)
def test_balance_never_slows_the_lanes_it_was_made_for(mask, count, depth, orientation, assignment, fifo):
    design = LANES | {
        "lanes": count, "barrier_depth": depth, "orientation": orientation, "assignment": assignment, "fifo_depth": fifo
    }  # fmt: skip
    work = alone([mask])
    before, after = balance(work, design)
    assert before == lanes.walk(mask, **design) and after == lanes.walk(work.masks[0], **design)
    assert after <= before
    conserved(mask, work)


@laws
@given(masks(), st.integers(1, 9), st.sampled_from(lanes.ORIENTATIONS), st.sampled_from(("contiguous", "interleaved")))
def test_without_barriers_balance_is_the_best_there_is(mask, count, orientation, assignment):
    """A group takes what its longest lane does; no grouping beats longest first (and no order of positions matters)."""
    design = LANES | {"lanes": count, "barrier_depth": "full", "orientation": orientation, "assignment": assignment}
    work = alone([mask])
    _, after = balance(work, design)
    longest = np.sort(lanes.owners_first(mask, orientation).sum(axis=1))[::-1]
    groups = -(-len(longest) // count)
    best = int(np.maximum(longest[::count], 1).sum()) + groups
    if assignment == "contiguous":
        assert after == best
    assert after >= best


def test_positions_are_spread_over_barriers():
    """Lane 0 works in the first barrier, lane 1 in the second: interleaved, both work at once."""
    mask = np.zeros((2, 4), dtype=bool)
    mask[0, :2] = mask[1, 2:] = True
    work = alone([mask])
    assert balance(work, LANES | {"lanes": 2, "barrier_depth": 2}) == (1 + 2 + 2, 1 + 1 + 1)
    assert (work.permutation(0, OUTPUT) == np.arange(2)).all()


def test_alike_owners_meet_in_a_group():
    """Four owners busy early and four busy late, alternating: each group alike walks one barrier's work, not two."""
    early = np.arange(8) % 2 == 0
    mask = np.repeat(np.where(early[:, None], [[True, False]], [[False, True]]), 8, axis=1)
    work = alone([mask], sides=(OUTPUT,))
    before, after = balance(work, LANES)
    assert before == 2 * (1 + 8 + 8) and after == 2 * (1 + 8 + 1)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_real_masks_balance(method):
    """Rows of Wanda hold as much each, so there is nothing to gain without barriers over outputs; everywhere else real
    masks are skewed, and orders win some of it back."""
    mask = real(f"{method}_50/15/attn_k")
    for orientation in lanes.ORIENTATIONS:
        for depth in (64, "full"):
            design = LANES | {"lanes": 16, "barrier_depth": depth, "orientation": orientation}
            work = alone([mask])
            before, after = balance(work, design)
            even = mask.sum() / 16
            if method == "wanda" and orientation == "output" and depth == "full":
                assert before == after and work.masks[0] is mask
            else:
                assert after < 0.97 * before
            assert after <= (1.1 if depth == "full" else 1.3) * even


@laws
@given(masks(), st.sampled_from(((4, 4), (16, 16), (1, 8), (3, 1), (2, 5))))
def test_empty_tiles_never_fall(mask, tile):
    work = alone([mask])
    before, after = cluster(work, tile)
    assert before == empty_tiles(mask, tile) and after == empty_tiles(work.masks[0], tile)
    assert after >= before
    conserved(mask, work)


@pytest.mark.parametrize("tile", [(4, 4), (1, 8), (8, 8)])
def test_planted_tiles_are_found(tile):
    """Outputs that read one half of the inputs or the other, shuffled: every line is alike in number, so only swaps
    towards tiles part them. Half of all tiles are empty then, and no order has more."""
    rng = np.random.default_rng(5)
    mask = np.kron(np.eye(2, dtype=bool), np.ones((32, 48), dtype=bool))
    mixed = mask[rng.permutation(64)][:, rng.permutation(96)]
    assert empty_tiles(mixed, tile) < 0.1 * tile_mass(mask, tile).size
    work = alone([mixed])
    assert cluster(work, tile)[1] == empty_tiles(mask, tile) == tile_mass(mask, tile).size // 2


@laws
@given(masks(24), st.sampled_from(((4, 4), (1, 8), (2, 3))), st.sampled_from((0.0, 0.3, 0.5, 1.0)), st.booleans())
def test_dropped_tiles_cost_no_more_than_in_place(mask, tile, sparsity, planted):
    """Planted: some tiles are light already, where lines sorted by mass or likeness would only spoil them."""
    rng = np.random.default_rng(mask.size)
    magnitudes = np.abs(rng.normal(size=mask.shape)) * mask
    if planted:
        light = rng.random(tile_mass(mask, tile).shape) < 0.5
        magnitudes *= np.kron(np.where(light, 0.01, 1.0), np.ones(tile))[: mask.shape[0], : mask.shape[1]]
    found = tiles_to_drop(magnitudes, tile, sparsity)
    here = np.sort(tile_mass(magnitudes, tile), axis=None)
    count = round(sparsity * here.size)
    assert found.dropped.sum() == count
    assert found.dropped_mass <= here[:count].sum() * (1 + 1e-9) + 1e-9
    ordered = magnitudes[np.ix_(found.rows, found.columns)]
    assert found.dropped_mass == pytest.approx(tile_mass(ordered, tile)[found.dropped].sum(), abs=1e-9)
    assert found.total_mass == pytest.approx(magnitudes.sum())


@laws
@given(masks(), st.sampled_from(((1, 4), (2, 4), (2, 8), (3, 5))))
def test_violations_never_rise(mask, pattern):
    work = alone([mask])
    before, after = fit(work, *pattern)
    assert before == violations(mask, *pattern) and after == violations(work.masks[0], *pattern)
    assert after <= before
    conserved(mask, work)
    assert (work.permutation(0, OUTPUT) == np.arange(len(mask))).all()


def test_columns_that_are_full_together_are_parted():
    """Three full columns side by side and five empty ones: 3 of 4 violates 2:4 in every row, two and one do not."""
    mask = np.zeros((6, 8), dtype=bool)
    mask[:, :3] = True
    assert fit(alone([mask]), 2, 4) == (6.0, 0.0)


@laws
@given(st.integers(0, 999), st.integers(2, 12), st.integers(1, 6))
def test_swaps_between_two_places_are_the_best_assignment(seed, units, first):
    """With two kinds of slot the cheapest assignment puts the units there that save most."""
    first = min(first, units - 1)
    cost = np.random.default_rng(seed).integers(0, 50, (units, 2)).astype(np.float32)
    places = np.repeat([0, 1], [first, units - first])
    order, _ = best_swaps(cost, places)
    found = cost[order, places].sum()
    saved = np.sort(cost[:, 0] - cost[:, 1])
    assert found == cost[:, 1].sum() + saved[:first].sum()


@laws
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 7))
def test_no_pair_of_units_would_rather_swap(seed, units, kinds):
    rng = np.random.default_rng(seed)
    cost = rng.random((units, kinds)).astype(np.float32)
    places = np.sort(rng.integers(0, kinds, units))
    order, _ = best_swaps(cost, places)
    assert sorted(order) == list(range(units))
    now = cost[order, places]
    swapped = cost[order][:, places]  # [slot's unit, other slot]
    gain = now[:, None] + now[None, :] - swapped - swapped.T
    assert gain.max() <= 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster(alone([np.ones((4, 4), bool)]), (0, 4)), "tile must be a whole number >= 1, got 0"),
        (lambda: cluster(alone([np.ones((4, 4), bool)]), 4), "tile must be a pair (outputs, inputs), got 4"),
        (lambda: fit(alone([np.ones((4, 4), bool)]), 4, 4), "n_of_m must have 0 < n < m, got 4:4"),
        (lambda: tiles_to_drop(-np.ones((4, 4)), (2, 2), 0.5), "magnitudes must be out x in, >= 0"),
        (lambda: tiles_to_drop(np.ones((4, 4)), (2, 2), 1.5), "sparsity must be between 0 and 1, got 1.5"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)
