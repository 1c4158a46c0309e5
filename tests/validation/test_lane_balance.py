"""Imbalance by assignment and way of waiting: the table against sums by hand, on a few real masks."""

from pathlib import Path

import numpy as np
import pytest

from sim.sparsity.lane_order import ALL
from validation.lane_balance import LANES, WAYS, table

REAL = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"


@pytest.fixture(scope="module")
def masks():
    with np.load(REAL) as packed:
        return {
            method: [
                np.unpackbits(packed[f"{method}_50/{name}"], axis=1).astype(bool) for name in ("15/attn_k", "3/attn_v")
            ]
            for method in ("magnitude", "wanda", "sparsegpt")
        }


@pytest.fixture(scope="module")
def found(masks):
    return table(masks).set_index(["method", "lanes own", "waiting"])


def test_a_row_a_method_orientation_and_way(found, masks):
    assert len(found) == len(masks) * 2 * len(WAYS) and list(found.columns) == list(ALL)
    assert (found >= 1).all(axis=None), "no lanes beat even ones"


def test_lanes_that_wait_at_the_end_only_are_those_of_a_sum_by_hand(found, masks):
    """A group takes what its busiest lane does and a restart; even lanes the mean and a restart."""
    for method, matrices in masks.items():
        for own, axis in (("outputs", 1), ("inputs", 0)):
            walked = even = 0
            for mask in matrices:
                work = mask.sum(axis=axis)
                groups = work.reshape(-1, LANES)
                walked += groups.max(axis=1).sum() + len(groups)
                even += work.sum() / LANES + len(groups)
            assert found.loc[(method, own, "barrier full"), "contiguous"] == pytest.approx(walked / even, abs=5.1e-4)


def test_more_freedom_is_never_slower(found):
    """Longest first is the best grouping without barriers, where balanced is the same; lanes that steal wait less."""
    by_way = {way: found.xs(way, level="waiting") for way in WAYS}
    full = by_way["barrier full"]
    assert (full["sorted"] <= full[["contiguous", "interleaved"]].min(axis=1)).all()
    assert (full["sorted"] == full["balanced"]).all()
    assert (by_way["stealing 64"] <= by_way["barrier 64"]).all(axis=None)
    assert (full <= by_way["barrier 64"] + 1e-9).all(axis=None)


def test_wanda_is_even_over_outputs_and_not_over_inputs(found):
    assert found.loc[("wanda", "outputs", "barrier full"), "contiguous"] < 1.01
    assert found.loc[("wanda", "inputs", "barrier full"), "contiguous"] > 1.1


def test_a_full_mask_leaves_no_imbalance():
    even = table({"none": [np.ones((64, 128), bool)]})
    assert (even[list(ALL)] == 1).all(axis=None)
