"""Nothing is free: every knob that the default space turns costs something in some objective."""

from functools import lru_cache
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from accel_models import accelerator
from dse.objectives import Objectives
from dse.space import load
from sim.simulate import simulate
from sim.sparsity.lane_order import ALL as ASSIGNMENTS
from sim.trace import gemm
from workloads.bundled import profile_tables
from workloads.quality import bundled_model
from workloads.recipe import METHODS, Recipe

SPACE = load("edge_codesign")
ORDERED = [
    (machine, path)
    for machine, own in SPACE.machines.items()
    for path, values in {**SPACE.hardware, **own}.items()
    if len(values) > 1 and path not in ("sparsity.orientation", "sparsity.assignment", "dram")
]
COSTS = ("latency_s", "energy_per_token_pj", "area_mm2")


@lru_cache(maxsize=1)
def objectives():
    return Objectives(SPACE)


def costs(machines, recipe="wanda_50"):
    table = objectives().of(machines, [Recipe.uniform(recipe)] * len(machines))
    assert table["feasible"].all(), table["reason"].tolist()
    return table[list(COSTS)].to_numpy()


@pytest.mark.parametrize("machine,path", ORDERED)
def test_turning_an_ordered_knob_up_worsens_an_objective(machine, path):
    """From each value to the next: latency, energy or area gets strictly worse, so no value is free."""
    values = (SPACE.hardware | SPACE.machines[machine])[path]
    base = accelerator(machine).override({"memory.input_buffer.banks": 8, "memory.accumulator.banks": 8})
    found = costs([base.override({path: v}) for v in values])
    worse = np.diff(found, axis=0) > 1e-9 * found[:-1]
    assert worse.any(axis=1).all(), (values, found)


FOUR = {"array.count": 4, "network.hop_mm": 0.5, "network.bandwidth_gb_per_s": 102.4}
FURTHER = [  # ordered knobs that the default space leaves alone: what they are turned on, and their values
    ({}, "array.count", [1, 2, 4]),
    ({}, "array.arithmetic", ["parallel", "composable"]),
    ({}, "memory.shared.ports", [1, 2]),
    ({}, "memory.shared.access_bytes", [8, 4, 1]),
    ({}, "memory.input_buffer.banks", [4, 8, 16]),
    (FOUR, "network.bandwidth_gb_per_s", [25.6, 102.4, 204.8]),
    (FOUR, "network.multicast", [False, True]),
    (FOUR, "network.hops", [1, 2, 4]),
    ({}, "dma.channels", [1, 2, 3]),
    ({}, "dma.in_flight_kib", [0.5, 1, 4, 16]),
    ({}, "dma.prefetch_weights", [False, True]),
    ({}, "dma.stream_vector", [False, True]),
    ({}, "sparsity.gating", ["none", "weights", "both"]),
    ({}, "sparsity.format", ["dense", "bitmap"]),
    ({}, "sparsity.format", ["dense", "csr"]),
]


@pytest.mark.slow  # what they cost in area and power alone is in tests/sim/test_cost.py
@pytest.mark.parametrize("fields,path,values", FURTHER, ids=[f"{path}-{values[-1]}" for _, path, values in FURTHER])
def test_turning_any_other_knob_up_worsens_an_objective(fields, path, values):
    base = accelerator("dense_ws").override({"memory.input_buffer.banks": 8, "memory.accumulator.banks": 8} | fields)
    found = costs([base.override({path: v}) for v in values])
    worse = np.diff(found, axis=0) > 1e-9 * found[:-1]
    assert worse.any(axis=1).all(), (values, found)


def test_dram_choices_trade():
    """More channels cost area, and a costlier standard does not win on everything."""
    base = accelerator("dense_ws")
    found = {}
    for choice in SPACE.hardware["dram"]:
        standard, channels = choice.split(" x")
        found[choice] = costs([base.override({"dram.standard": standard, "dram.channels": int(channels)})])[0]
    for a in found:
        for b in found:
            assert a == b or not (found[a] <= found[b]).all(), (a, b)


def test_no_machine_dominates_on_every_pruning():
    """Each machine family is the fastest of the three somewhere, or the cheapest."""
    winners = set()
    for recipe in ("dense", "sparsegpt_2_4", "wanda_70"):
        table = costs([accelerator(m) for m in SPACE.machines], recipe)
        winners |= {int(i) for i in table.argmin(axis=0)}
    assert winners == {0, 1, 2}


@pytest.mark.parametrize(
    "axis,values", [("orientation", ("output", "input")), ("assignment", ("contiguous", "interleaved"))]
)
def test_categorical_lane_knobs_have_no_winner_on_real_masks(axis, values):
    """On real masks each value is the faster one for many masks and lane designs."""
    first, second = 0, 0
    for method in METHODS:
        table = profile_tables("smollm2_135m").index(f"{method}_50")
        for depth in (64, "full"):
            a, b = (
                table.cycles(16, depth, **{"assignment": "contiguous", "orientation": "output", axis: v})
                for v in values
            )
            first += int((a < b).sum())
            second += int((b < a).sum())
    assert min(first, second) > 0.1 * (first + second)


REAL = Path(__file__).parents[1] / "workloads" / "data" / "real_masks.npz"
OWNERS = {**{name: {"assignment": name} for name in ASSIGNMENTS}, "stealing": {"stealing": "group"}}
"""How lanes get their work: every assignment, and contiguous with stealing."""


@lru_cache(maxsize=1)
def lane_costs():
    """[designs x masks, ways of :data:`OWNERS`, (cycles, energy, area)] of eight real masks on lanes without FIFO."""
    with np.load(REAL) as packed:
        masks = [np.unpackbits(packed[name], axis=1).astype(bool) for name in packed.files]
    base = accelerator("sparse_lanes").override({"sparsity.fifo_depth": 0, "array.cols": 8})
    assert base.array.kind == "lanes"
    found = []
    for rows, orientation, depth in product((8, 32), ("output", "input"), (64, "full")):
        lanes = base.override(
            {"array.rows": rows, "sparsity.orientation": orientation, "sparsity.barrier_depth": depth}
        )
        machines = [lanes.override({f"sparsity.{k}": v for k, v in way.items()}) for way in OWNERS.values()]
        for mask in masks:
            reports = [
                simulate(machine, gemm(m=8, k=mask.shape[1], n=mask.shape[0], sparsity=mask)) for machine in machines
            ]
            found.append([(r.cycles, r.energy_pj, r.area_mm2) for r in reports])
    return np.array(found)


def test_assignments_that_know_the_mask_and_stealing_cost_area():
    """A crossbar and indices for what a compiler permutes, a counter and crossbars for what lanes take over."""
    area = dict(zip(OWNERS, lane_costs()[..., 2].T, strict=True))
    assert (area["interleaved"] > area["contiguous"]).all()
    for name in ("sorted", "balanced", "stealing"):
        assert (area[name] > area["contiguous"]).all(), name
    assert (area["sorted"] == area["balanced"]).all()


@pytest.mark.parametrize("a,b", list(permutations(ASSIGNMENTS, 2)))
def test_each_assignment_beats_each_other_on_some_real_mask(a, b):
    """In cycles; so none wins on all."""
    cycles = dict(zip(OWNERS, lane_costs()[..., 0].T, strict=True))
    assert (cycles[a] < cycles[b]).any()


def test_stealing_saves_cycles_for_area():
    """An ordered knob: no mask makes it slower than barriers, and every design with it is larger."""
    cycles, _, area = (dict(zip(OWNERS, lane_costs()[..., i].T, strict=True)) for i in range(3))
    assert (cycles["stealing"] <= cycles["contiguous"]).all() and (cycles["stealing"] < cycles["contiguous"]).any()
    assert (area["stealing"] > area["contiguous"]).all()


def test_no_way_of_sharing_work_wins_everything_on_all_real_masks():
    """For every way there is another that is strictly cheaper in some objective on some mask and design."""
    costs_of = lane_costs()
    best = costs_of.min(axis=1, keepdims=True)
    assert ((costs_of > best).any(axis=(0, 2))).all()


def test_pruning_costs_quality():
    """Uniform recipes, from 20 % on (below, differences are inside the measurement's noise): more zeros, more NLL."""
    model = bundled_model()
    for method in METHODS:
        nll = model.nll(np.array([Recipe.uniform(f"{method}_{level}").codes() for level in (20, 30, 40, 50, 60, 70)]))
        assert (np.diff(nll) > 0).all()
    channels = model.nll(np.array([Recipe.uniform(f"ffn_channels_{level}").codes() for level in (10, 20, 30)]))
    assert (np.diff(channels) > 0).all() and channels[0] > model.dense_nll
