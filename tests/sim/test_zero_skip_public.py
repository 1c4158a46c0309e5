"""Every zero-skip RTL row through the public path: machine YAML, mask, ``sp.gemm``, ``sp.simulate``, report.

The array's own cycles (causes compute, edge, imbalance and fill_drain) are the RTL's, to the cycle. What the path adds
around them is not the array's: DRAM latency, the first load and the last store.
"""

from functools import cache
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import yaml

import sparchitect as sp
from validation.rtl.zero_skip import lanes_may_wait, restored

RTL = resources.files("validation") / "data" / "rtl"
ARRAY = ["compute", "edge", "imbalance", "fill_drain"]
AROUND = ["dram_latency", "dram_bandwidth", "dependency"]
MACHINE = """
name: lanes_of_the_rtl
clock_ghz: 0.5
array: {{kind: lanes, rows: {lanes}, cols: {vectors}}}
sparsity: {{format: bitmap, orientation: {orientation}, barrier_depth: {depth}, fifo_depth: {fifo}}}
memory:
  shared: {{keeps: [weights, inputs, outputs], capacity_kib: 65536, bandwidth_gb_per_s: 25000, banks: 1024}}
dram: {{standard: lpddr4_3200, bandwidth_gb_per_s: 1000000}}
vector: {{lanes: 16, special_function_lanes: 4}}
"""


@cache
def machine(lanes, vectors, orientation, depth, fifo):
    fields = {"lanes": lanes, "vectors": vectors, "orientation": orientation, "depth": depth, "fifo": fifo}
    return sp.accelerator(yaml.safe_load(MACHINE.format(**fields)))


def table(name, masks):
    """Rows of a table in random order, and its masks: key to what both operands keep [owners, positions]."""
    with (RTL / name).open() as file:
        rows = pd.read_csv(file)
    return rows.sample(frac=1.0, random_state=0), masks()


def given_masks():
    with (RTL / "zero_skip_masks.npz").open("rb") as file:
        packed = dict(np.load(file))
    return {
        key.removesuffix("_w"): np.unpackbits(packed[key], axis=1)
        & np.unpackbits(packed[key.removesuffix("_w") + "_a"])
        for key in packed
        if key.endswith("_w")
    }


def own_masks():
    with (RTL / "own_zero_skip_masks.csv").open() as file:
        found = restored(pd.read_csv(file, dtype={"bits": str}))
    return {key: weights & activations for key, (weights, activations) in found.items()}


def simulated(kept, lanes, vectors, orientation, depth, fifo, whole=False):
    """The report of a mask [owners, positions] on a machine of the RTL's lanes; ``whole``: in one tile, not cut where
    the search likes it."""
    mask = np.asarray(kept, dtype=bool)
    mask = mask if orientation == "output" else mask.T
    trace = sp.gemm(m=vectors, k=mask.shape[1], n=mask.shape[0], sparsity=np.ascontiguousarray(mask))
    one_tile = {"tiers": [{"m": vectors, "n": mask.shape[0], "k": mask.shape[1]}]}
    return sp.simulate(machine(lanes, vectors, orientation, depth, fifo), trace, mapping=one_tile if whole else None)


def wrong_rows(rows, masks, whole=False):
    """(row, cycles of the array) of the rows that are not the RTL's."""
    found = []
    for row in rows.itertuples():
        orientation = "input" if getattr(row, "array", "output") in ("input", "shared") else "output"
        design = (row.P, getattr(row, "V", 1), orientation, row.T, row.fifo_depth)
        report = simulated(masks[row.mask_key], *design, whole=whole)
        causes = report.table.iloc[0]
        assert causes[ARRAY + AROUND].sum() == pytest.approx(causes["cycles"], rel=1e-12)
        if abs(causes[ARRAY].sum() - row.cycles) > 1e-6:
            found.append((row, float(causes[ARRAY].sum())))
    return found


SPREAD = [120, pytest.param(None, marks=pytest.mark.slow)]
"""Rows of each table by default, and all of them."""


@pytest.mark.parametrize("count", SPREAD)
def test_given_rows_are_exact(count):
    rows, masks = table("zero_skip_cycles.csv", given_masks)
    assert len(rows) == 1416
    part = rows.head(count) if count else rows
    assert part["fifo_depth"].nunique() == rows["fifo_depth"].nunique() and part["P"].nunique() == rows["P"].nunique()
    assert not wrong_rows(part, masks)


@pytest.mark.parametrize("count", SPREAD)
def test_own_rows_are_exact(count):
    """Lane groups, short ones too, input lanes, two vectors that share a nonzero; in one tile, as the RTL walks them;
    rows whose accumulators conflict apart (the simulator takes them as free of conflicts)."""
    rows, masks = table("own_zero_skip_cycles.csv", own_masks)
    rows = rows[~lanes_may_wait(rows)]
    part = rows.head(count) if count else rows
    assert set(part["array"]) == {"output", "input", "shared"} and set(part["V"]) == {1, 2}
    assert not wrong_rows(part, masks, whole=True)


@pytest.mark.slow
def test_own_rows_are_exact_as_the_search_tiles_them():
    """The search has nothing to gain from a cut."""
    rows, masks = table("own_zero_skip_cycles.csv", own_masks)
    assert not wrong_rows(rows[~lanes_may_wait(rows)], masks)


def test_a_cut_does_not_take_the_fifo_away():
    """Empty tiles behind a FIFO of one tile take two cycles each, however the walk is cut."""
    empty = np.zeros((4, 160), dtype=bool)
    searched, whole = (
        simulated(empty, 4, 1, "output", 16, 1, whole).table.iloc[0][ARRAY].sum() for whole in (False, True)
    )
    assert whole == 21
    assert searched >= whole


def test_two_groups_of_vectors_walk_twice():
    """V vectors share a walk: up to V cost the RTL's cycles, V + 1 cost them twice."""
    rows, masks = table("zero_skip_cycles.csv", given_masks)
    row = rows.iloc[0]
    kept = masks[row["mask_key"]].astype(bool)
    design = machine(int(row["P"]), 4, "output", int(row["T"]), int(row["fifo_depth"]))
    for vectors, walks in ((1, 1), (4, 1), (5, 2), (8, 2)):
        report = sp.simulate(design, sp.gemm(m=vectors, k=kept.shape[1], n=kept.shape[0], sparsity=kept))
        assert report.table.iloc[0][ARRAY].sum() == pytest.approx(walks * row["cycles"])


def test_the_machine_around_the_array_adds_latency_and_loads_only():
    """With slow DRAM the array's part stays the RTL's and the rest is the bus's."""
    rows, masks = table("zero_skip_cycles.csv", given_masks)
    row = rows.iloc[1]
    kept = masks[row["mask_key"]].astype(bool)
    slow = machine(int(row["P"]), 1, "output", int(row["T"]), int(row["fifo_depth"])).override(
        {"dram.bandwidth_gb_per_s": 1.0}
    )
    report = sp.simulate(slow, sp.gemm(m=1, k=kept.shape[1], n=kept.shape[0], sparsity=kept))
    causes = report.table.iloc[0]
    assert causes[AROUND].sum() > 0
    assert causes[ARRAY].sum() + causes[AROUND].sum() == pytest.approx(causes["cycles"])
    bytes_over_bus = report.dram_bytes / 1.0 * 0.5  # cycles at 1 GB/s and 0.5 GHz
    assert causes["cycles"] >= max(bytes_over_bus, row["cycles"])
