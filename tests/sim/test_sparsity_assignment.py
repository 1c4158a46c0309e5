"""Who meets in a lane group, and lanes that steal: plain references, the laws, and what real masks say."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator
from sim.compute.array_work import lanes_work
from sim.cost.area import area
from sim.cost.energy import front_end_pj
from sim.designs import Designs, kernel_matrix
from sim.errors import InputError
from sim.sparse_columns import S_ARRAY_BYTES, S_CUT_PASS, S_PASS, S_ROOM_BYTES, S_STORED_BYTES
from sim.sparse_ops import sparse_table
from sim.sparsity import lanes
from sim.sparsity.lane_order import ALL, ASSIGNMENTS, LOOK_AHEAD, REORDERING, work_order
from sim.sparsity.stealing import STEAL_CYCLES, STEAL_POSITIONS
from sim.trace import gemm

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
LANES = accelerator("sparse_lanes").override({"sparsity.fifo_depth": 0})
REAL = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"


@st.composite
def masks(draw, rows=40, columns=150):
    """Rows and columns of unlike density, some of them empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    mask = rng.random(shape) < rng.random(shape[0])[:, None] * (0.3 + 0.7 * rng.random(shape[1]))
    mask[rng.random(shape[0]) < 0.1] = False
    return mask


designs = st.fixed_dictionaries(
    {
        "lanes": st.integers(1, 20),
        "barrier_depth": st.sampled_from((8, 16, 37, 64, "full")),
        "orientation": st.sampled_from(lanes.ORIENTATIONS),
        "assignment": st.sampled_from(ALL),
    }
)


@LAWS
@given(masks(), designs, st.sampled_from(((0, 0), (0, 1), (2, 1), (8, 1))), st.booleans())
def test_bounds_of_any_assignment(mask, design, fifo_and_empty, steal):
    fifo, empty = fifo_and_empty
    stealing = "group" if steal and not fifo else "none"
    found = lanes.walk(mask, **design, fifo_depth=fifo, empty_tile_cycles=empty, stealing=stealing)
    owners, positions = mask.shape if design["orientation"] == "output" else mask.shape[::-1]
    groups = -(-owners // design["lanes"])
    assert found >= groups + -(-int(mask.sum()) // design["lanes"])
    assert found <= groups * (positions + (2 if fifo else 1)), "never slower than without zeros"


@LAWS
@given(masks(), st.integers(1, 20), st.integers(0, 2**32))
def test_no_grouping_beats_the_sorted_one_without_barriers(mask, lane_count, seed):
    """The 4/3 of longest-first scheduling is not needed: between groups there is nothing left to lose."""
    best = lanes.walk(mask, lane_count, "full", assignment="sorted")
    assert lanes.walk(mask, lane_count, "full", assignment="balanced") == best
    most = np.sort(mask.sum(axis=1))[::-1]
    groups = -(-len(mask) // lane_count)
    worst = groups + int(np.maximum(most[:groups], 1).sum())
    for order in (np.arange(len(mask)), np.random.default_rng(seed).permutation(len(mask))):
        assert best <= lanes.walk(mask[order], lane_count, "full") <= worst
    assert best == sum(1 + max(int(most[g]), 1) for g in range(0, len(mask), lane_count))


@LAWS
@given(masks(), st.integers(1, 20), st.sampled_from((8, 16, 64, "full")))
def test_groups_are_full_but_the_last_and_every_owner_has_one_lane(mask, lane_count, depth):
    work = lanes.tile_counts(mask, depth).T.astype(np.int32)
    for assignment in ALL:
        order, starts = work_order(work, lane_count, assignment)
        assert sorted(order) == list(range(len(mask)))
        sizes = np.diff(starts)
        assert sizes.sum() == len(mask) and len(sizes) == -(-len(mask) // lane_count)
        if assignment in REORDERING:
            assert (sizes[:-1] == lane_count).all()
    order, _ = work_order(work, lane_count, "sorted")
    totals = work.sum(axis=0)[order]
    assert (np.diff(totals) <= 0).all() and all(
        a < b for a, b, same in zip(order[:-1], order[1:], np.diff(totals) == 0, strict=True) if same
    ), "of equal owners the first comes first"


def balanced_plainly(work, lane_count):
    """The rule of the module, word by word."""
    left = sorted(range(work.shape[1]), key=lambda owner: (-work[:, owner].sum(), owner))
    taken = []
    while left:
        group = [left.pop(0)]
        while left and len(group) < lane_count:
            longest = work[:, group].max(axis=1)

            def idle(owner, longest=longest):
                return lane_count * np.maximum(work[:, owner] - longest, 0).sum() - work[:, owner].sum()

            group.append(left.pop(int(np.argmin([idle(owner) for owner in left[: lane_count * LOOK_AHEAD]]))))
        taken += group
    return taken


@LAWS
@given(masks(), st.integers(1, 9), st.sampled_from((8, 16, 64)))
def test_balanced_is_its_rule(mask, lane_count, depth):
    work = lanes.tile_counts(mask, depth).T.astype(np.int32)
    if len(work) > 1:
        assert work_order(work, lane_count, "balanced")[0].tolist() == balanced_plainly(work, lane_count)


def stretch_plainly(tiles, lane_count):
    """[owners][tiles] of one group between two barriers: the shortest of the four ways to share it out."""
    count = len(tiles[0])
    ways = []
    for dealt in {0, count // 4, count // 2, count}:
        loads = [sum(own[: count - dealt]) for own in tiles] + [0] * (lane_count - len(tiles))
        pool = sorted((n for own in tiles for n in own[count - dealt :] if n), reverse=True)
        for n in pool:
            loads[loads.index(min(loads))] += n + STEAL_CYCLES
        ways.append(max(loads))
    return min(ways)


def stolen_plainly(mask, lane_count, depth, assignment, empty):
    counts = lanes.tile_counts(mask, depth)
    depth = mask.shape[1] if depth == "full" else depth
    order, starts = work_order(counts.T.astype(np.int32), lane_count, assignment)
    total = 0
    for first, last in itertools.pairwise(starts):
        total += 1
        for t in range(0, mask.shape[1], depth):
            part = mask[order[first:last], t : t + depth]
            tiles = [
                [int(row[q : q + STEAL_POSITIONS].sum()) for q in range(0, part.shape[1], STEAL_POSITIONS)]
                for row in part
            ]
            total += max(stretch_plainly(tiles, lane_count), empty)
    return total


@LAWS
@given(masks(), designs, st.integers(0, 1))
def test_stealing_is_its_recurrence(mask, design, empty):
    owned = lanes.owners_first(mask, design["orientation"])
    want = stolen_plainly(owned, design["lanes"], design["barrier_depth"], design["assignment"], empty)
    assert lanes.walk(mask, **design, empty_tile_cycles=empty, stealing="group") == want


@LAWS
@given(masks(), designs, st.data())
def test_laws_of_stealing(mask, design, data):
    found = lanes.walk(mask, **design, stealing="group")
    assert found <= lanes.walk(mask, **design), "stealing is never slower"
    owned = lanes.owners_first(mask, design["orientation"])
    depth = lanes.positions_between(design["barrier_depth"], owned.shape[1])
    order, starts = work_order(
        lanes.tile_counts(owned, depth).T.astype(np.int32), design["lanes"], design["assignment"]
    )
    least = 0
    for first, last in itertools.pairwise(starts):
        for t in range(0, owned.shape[1], depth):
            part = owned[order[first:last], t : t + depth]
            least += max(-(-part.sum() // design["lanes"]), lanes.tile_counts(part, STEAL_POSITIONS).max(), 1)
    assert found >= least + len(starts) - 1, "never faster than the mean, nor than the longest tile"
    if design["assignment"] in ASSIGNMENTS:
        more = mask.copy()
        more[data.draw(st.integers(0, mask.shape[0] - 1)), data.draw(st.integers(0, mask.shape[1] - 1))] = True
        assert lanes.walk(more, **design, stealing="group") >= found, "a further nonzero is never faster"


def best_makespan(sizes, lane_count):
    return min(
        max(sum(s for s, lane in zip(sizes, where, strict=True) if lane == p) for p in range(lane_count))
        for where in itertools.product(range(lane_count), repeat=len(sizes))
    )


@LAWS
@given(st.integers(2, 3), st.lists(st.integers(1, 16), min_size=1, max_size=7))
def test_dealing_longest_first_is_within_four_thirds_of_the_best(lane_count, sizes):
    """Graham, Bounds on multiprocessing timing anomalies (1969): 4/3 - 1/(3P). One owner, a tile each."""
    mask = np.zeros((1, STEAL_POSITIONS * len(sizes)), bool)
    for q, n in enumerate(sizes):
        mask[0, STEAL_POSITIONS * q : STEAL_POSITIONS * q + n] = True
    best = best_makespan([n + STEAL_CYCLES for n in sizes], lane_count)
    found = lanes.walk(mask, lane_count, "full", stealing="group") - 1
    assert 3 * lane_count * found <= (4 * lane_count - 1) * best


def test_stealing_by_hand():
    row = np.ones((1, 64), bool)
    assert lanes.walk(row, 4, 64) == 1 + 64
    assert lanes.walk(row, 4, 64, stealing="group") == 1 + 16 + 1, "four tiles, one a lane, idle lanes help"
    assert lanes.walk(row, 2, 64, stealing="group") == 1 + 34, "two owned (32), two dealt to the other (34)"
    assert lanes.walk(row, 4, 16, stealing="group") == 1 + 64, "one tile between barriers: nothing to share"
    assert lanes.walk(np.ones((4, 64), bool), 4, 64, stealing="group") == 1 + 64, "even lanes keep their own"
    assert lanes.walk(np.zeros((4, 64), bool), 4, 16, empty_tile_cycles=0, stealing="group") == 1
    assert lanes.walk(np.zeros((4, 64), bool), 4, 16, stealing="group") == 1 + 4


@pytest.mark.parametrize("settings_", [{"assignment": "sortd"}, {"stealing": "grup"}, {"fifo_depth": 2}])
def test_bad_arguments(settings_):
    with pytest.raises(InputError, match=r"did you mean '(sorted|group)'|stealing 'group' needs fifo_depth 0"):
        lanes.walk(np.ones((4, 8), bool), 4, 4, **({"stealing": "group"} | settings_))
    with pytest.raises(InputError):
        LANES.override({f"sparsity.{k}": v for k, v in ({"stealing": "group"} | settings_).items()})


@LAWS
@given(st.integers(1, 200), st.sampled_from((1, 8, 16)), st.integers(1, 10**6))
def test_tokens_multiply_walks(m, vectors, one_pass):
    """M tokens on V vectors: as many walks as it takes V at a time, whatever the walk costs."""
    d = kernel_matrix(Designs.from_machines([LANES.override({"array.cols": vectors})]))[0]
    cycles = lanes_work(d, m, 96, 64, 96 * 64, one_pass, one_pass, 1.0, 1.0, m, 96, 64)[0]
    assert cycles == -(-m // vectors) * one_pass


@pytest.mark.parametrize("orientation", lanes.ORIENTATIONS)
def test_reordering_and_stealing_cost_area_and_energy(orientation):
    for base in (LANES, LANES.override({"array.rows": 1})):
        base = base.override({"sparsity.orientation": orientation})
        plain, inter, srt, bal = sum(area(Designs.from_grid(base, {"sparsity.assignment": list(ALL)})).values())
        assert plain < inter < srt == bal
        found = Designs.from_grid(base, {"sparsity.stealing": ["none", "group"]})
        assert np.diff(sum(area(found).values()))[0] > 0
    wide = Designs.from_grid(LANES, {"sparsity.stealing": ["none", "group"]})
    assert np.diff(front_end_pj(wide))[0] > 0


def row_of(trace, **fields):
    """The only op's row of the sparse table of lanes with these sparsity fields, and its label."""
    machine = LANES.override({f"sparsity.{name}": value for name, value in fields.items()})
    found = sparse_table(Designs.from_machines([machine]), trace)
    return found.values[0, 0], found.labels[0][0]


@pytest.mark.parametrize("orientation", lanes.ORIENTATIONS)
def test_a_simulated_op_walks_its_mask_and_fetches_the_permutation(orientation):
    mask = np.random.default_rng(1).random((200, 130)) < np.linspace(0.1, 0.9, 200)[:, None]
    trace = gemm(m=20, k=130, n=200, sparsity=mask)
    owners = 200 if orientation == "output" else 130
    plain, _ = row_of(trace, orientation=orientation)
    for assignment, stealing in itertools.product(ALL, ("none", "group")):
        row, label = row_of(trace, orientation=orientation, assignment=assignment, stealing=stealing)
        assert (
            row[S_PASS]
            == row[S_CUT_PASS]
            == lanes.walk(mask, LANES.array.rows, 64, orientation, assignment, stealing=stealing)
        )
        index_bytes = owners * 8 / 8 if assignment in REORDERING else 0  # 130 and 200 owners: eight bits each
        for column in (S_STORED_BYTES, S_ROOM_BYTES, S_ARRAY_BYTES):
            assert row[column] == plain[column] + index_bytes
        assert label == (
            "profile (exact)"
            if (assignment, stealing) in (("contiguous", "none"), ("interleaved", "none"))
            else "mask walked (exact)"
        )
    trace.masks = None
    assert row_of(trace, assignment="sorted")[1].startswith("estimate: maximum entropy")
    trace.counts = None
    assert row_of(trace, assignment="sorted")[1].startswith("estimate: density")


def test_idle_lanes_help_where_nothing_is_pruned():
    """Dense ops of lanes that steal: what walking a mask of ones gives, a short last group included."""
    for n, k in ((16, 64), (40, 200), (3, 130)):
        row, label = row_of(gemm(m=4, k=k, n=n), stealing="group", barrier_depth=64)
        assert label == "dense"
        assert row[S_PASS] == lanes.walk(np.ones((n, k), bool), LANES.array.rows, 64, stealing="group")
        assert row[S_PASS] <= row_of(gemm(m=4, k=k, n=n), barrier_depth=64)[0][S_PASS]


@pytest.mark.parametrize("fifo", [0, 2])
def test_neither_reordering_wins_on_all_real_masks(fifo):
    """Both beat the plain orders on most; between them it depends on the mask and on who waits for whom."""
    wins = dict.fromkeys(ALL, 0)
    with np.load(REAL) as packed:
        for key in packed:
            mask = np.unpackbits(packed[key], axis=1).astype(bool)
            for orientation in lanes.ORIENTATIONS:
                found = {a: lanes.walk(mask, 16, 64, orientation, a, fifo) for a in ALL}
                for name, cycles in found.items():
                    wins[name] += cycles == min(found.values())
    assert wins["sorted"] > 0 and wins["balanced"] > 0 if fifo == 0 else wins["sorted"] > wins["balanced"]
    assert wins["contiguous"] < wins["sorted"] + wins["balanced"]
