"""Adding nonzeros to a mask never lowers bytes, cycles or energy, under a fixed assignment and order of features.

Random machines of both kinds of array, every storage format that a machine may name, every orientation, barrier depth
and FIFO; masks A, a subset of B. With one mapping for both, every count is B's at least. Where each mask has the
mapping that is best for it, so is the count that was minimised. A few examples run by default, hundreds if slow.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from laws.check import law
from laws.strategies import featured, machines
from test_laws_slow import as_fixed

from sim import analytic
from sim.designs import Designs, kernel_matrix
from sim.errors import InputError
from sim.memory.runs import run_efficiency
from sim.simulate import simulate
from sim.sparsity import lanes
from sim.sparsity.formats import FORMATS
from sim.spec import Accelerator
from sim.trace import gemm

OPTIONS = {"n_of_m": {"n_of_m": "2:4"}, "ranks": {"ranks": "UOP-CP"}}
"""Formats that are nothing without an option."""
TRAFFIC = ["dram_read_bytes", "dram_write_bytes"]
sizes = st.one_of(st.integers(1, 40), st.sampled_from((64, 97, 200, 300)))
engines = st.sampled_from(["analytic", "timeline"])


@dataclass(frozen=True)
class Nested:
    """Masks out x in, ``fewer`` a subset of ``more``."""

    fewer: np.ndarray
    more: np.ndarray
    m: int
    input_density: float

    def trace(self, mask: np.ndarray):
        outputs, inputs = mask.shape
        return gemm(m=self.m, k=inputs, n=outputs, bits=8, sparsity=mask, input_density=self.input_density)


@st.composite
def nested(draw):
    shape = draw(sizes), draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    fewer = rng.random(shape) < draw(st.sampled_from((0.0, 0.03, 0.2, 0.5, 0.9)))
    added = {
        "one": np.zeros(shape, dtype=bool),
        "row": np.zeros(shape, dtype=bool),
        "column": np.zeros(shape, dtype=bool),
        "some": rng.random(shape) < 0.3,
        "all": np.ones(shape, dtype=bool),
    }
    added["one"][rng.integers(shape[0]), rng.integers(shape[1])] = True
    added["row"][rng.integers(shape[0])] = True
    added["column"][:, rng.integers(shape[1])] = True
    more = fewer | added[draw(st.sampled_from(list(added)))]
    return Nested(fewer, more, draw(st.integers(1, 40)), draw(st.sampled_from((1.0, 0.6, 0.05))))


@st.composite
def sparse_machines(draw, kinds=("systolic", "lanes")) -> Accelerator:
    """A machine that stores weights in any format, and may gate and skip; systolic ones may also compute n:m."""
    machine = draw(machines(kinds=kinds, counts=(1, 1, 2)))
    if draw(st.booleans()):
        machine = draw(featured(machine))
    name = draw(st.sampled_from(list(FORMATS)))
    if machine.array.kind == "lanes" and not machine.sparsity.fifo_depth:
        machine = machine.override({"sparsity.stealing": draw(st.sampled_from(("none", "group")))})
    refused = machine.array.kind == "lanes" or machine.sparsity.block_skipping
    if machine.sparsity.n_of_m or (name == "n_of_m" and refused):
        return machine
    options = {"format": name} | OPTIONS.get(name, {})
    return machine.override({f"sparsity.{field}": value for field, value in options.items()})


def counts(report):
    """What a mask may not lower."""
    moved = {c: float(report.table[c].sum()) for c in report.table if c.endswith(("_read_bytes", "_write_bytes"))}
    return {"cycles": float(report.table["cycles"].sum()), "energy": report.energy_pj} | moved


def no_fewer(more, fewer):
    """``more`` is at least ``fewer``."""
    assert fewer <= more * (1 + 1e-9) + 1e-9, f"{fewer} with fewer nonzeros, {more} with more"


def reports(machine, masks, engine="analytic", **more):
    """Reports of both masks; the example is passed over where nothing fits."""
    try:
        return [simulate(machine, masks.trace(mask), engine, **more) for mask in (masks.fewer, masks.more)]
    except InputError:
        assume(False)
        raise


def one_level(name, kind):
    """A small machine that stores weights in the format ``name``."""
    levels = {"keeps": ["weights", "inputs", "outputs"], "capacity_kib": 64, "bandwidth_gb_per_s": 50, "banks": 32}
    raw = {
        "name": name,
        "clock_ghz": 0.5,
        "array": {"kind": kind, "rows": 8, "cols": 8},
        "sparsity": {"format": name} | OPTIONS.get(name, {}),
        "memory": {"shared": levels},
        "vector": {"lanes": 8, "special_function_lanes": 1},
    }
    return Accelerator.model_validate(raw)


@law(sparse_machines(), nested(), engines, quick=12, many=500)
def test_more_nonzeros_cost_more_under_one_mapping(machine, masks, engine):
    """Of the fuller mask, whose tiles are the larger ones."""
    reports(machine, masks)
    detail = analytic.run_detailed(Designs.from_machines([machine]), masks.trace(masks.more), "latency")
    fixed = as_fixed(detail.mappings[0], len(machine.tiers))
    fewer, more = (counts(found) for found in reports(machine, masks, engine, mapping=fixed))
    for name in fewer:
        no_fewer(more[name], fewer[name])


@law(sparse_machines(), nested(), st.sampled_from(["latency", "energy", "traffic"]), quick=12, many=500)
def test_more_nonzeros_cost_more_under_the_best_mapping_of_each(machine, masks, objective):
    """The count that the search minimises; energy without DRAM latency, which the search leaves out."""
    fewer, more = reports(machine, masks, objective=objective)
    if objective == "latency":
        no_fewer(more.table["cycles"].sum(), fewer.table["cycles"].sum())
    elif objective == "traffic":
        no_fewer(more.table[TRAFFIC].to_numpy().sum(), fewer.table[TRAFFIC].to_numpy().sum())
    else:
        designs = Designs.from_machines([machine])
        decided = [
            analytic.run_detailed(designs, masks.trace(mask), objective).mappings[0, 2]
            for mask in (masks.more, masks.fewer)
        ]
        no_fewer(*decided)


@pytest.mark.parametrize("standard", ["hbm2", "lpddr4_3200"])
def test_a_longer_run_takes_no_less_time(standard):
    """Time of one run of weights, byte by byte: run / (peak x efficiency)."""
    designs = Designs.from_machines([one_level("csr", "lanes").override({"dram.standard": standard})])
    row = kernel_matrix(designs)[0]
    runs = np.arange(32.0, 257.0)
    times = [run / run_efficiency(row, run)[0] for run in runs]
    assert (np.diff(times) >= -1e-9).all()


@law(
    nested(),
    st.integers(1, 40),
    st.sampled_from((1, 5, 16, 37, 64, "full")),
    st.sampled_from(lanes.ORIENTATIONS),
    st.sampled_from(("contiguous", "interleaved")),
    st.sampled_from((0, 1, 2, 8)),
    st.booleans(),
    st.sampled_from(("none", "group")),
    quick=60,
    many=3000,
)
def test_more_nonzeros_are_never_walked_faster(masks, count, depth, orientation, assignment, fifo, free, stealing):
    """The walk alone: exact, whole numbers, any lanes; empty tiles are free, and lanes steal, only without a FIFO."""
    empty = 0 if free and not fifo else 1
    how = (count, depth, orientation, assignment, fifo, empty, "none" if fifo else stealing)
    fewer, more = (lanes.walk(mask, *how) for mask in (masks.fewer, masks.more))
    assert fewer <= more


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["systolic", "lanes"])
def test_every_format_moves_more_bytes_for_a_fuller_mask(kind, name):
    """A matrix that fills in step by step, from empty to full; every format a machine may name, none left out."""
    if name == "n_of_m" and kind == "lanes":
        pytest.skip("n:m is for systolic arrays")
    machine = one_level(name, kind)
    rank = np.random.default_rng(1).random((96, 80))
    shares = (0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0)
    traces = [gemm(m=4, k=80, n=96, sparsity=rank < share) for share in shares]
    moved = [simulate(machine, trace, objective="traffic").dram_bytes for trace in traces]
    assert (np.diff(moved) >= -1e-9).all(), moved
    if name not in ("dense", "n_of_m"):
        assert moved[0] < moved[-1]
