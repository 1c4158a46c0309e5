"""An array that skips zeros of both operands, as a machine: its cycles are those of the granules that meet."""

import numpy as np
import pytest
from hypothesis import strategies as st
from laws.check import law, search_is_exact
from laws.strategies import featured, gemms, machines

from accel_models import accelerator
from sim import analytic
from sim.compute.dual_sided import DualSided
from sim.cost import area
from sim.designs import OBJECTIVES, Designs
from sim.errors import InputError
from sim.simulate import simulate
from sim.sparsity.density import Actual, Bernoulli, Hypergeometric
from sim.trace import Trace, gemm
from validation.sparseloop.data import table

MACHINE = accelerator("dual_sided")
TENSOR_CORE = MACHINE.override({"array.rows": 8, "array.cols": 16, "array.outer_tile": 32})
RNG = np.random.default_rng(5)


def array_cycles(report):
    return float(report.table[["compute", "edge"]].to_numpy().sum())


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("density", [1.0, 0.4, 0.05])
@pytest.mark.parametrize("shape", [(200, 576, 512), (1, 300, 130), (32, 64, 32), (33, 65, 31)])
def test_cycles_are_the_granules_that_meet(shape, density, engine):
    m, k, n = shape
    mask = RNG.random((n, k)) < 0.3
    report = simulate(TENSOR_CORE, gemm(m=m, k=k, n=n, sparsity=mask, input_density=density), engine)
    wanted = DualSided().cycles(Bernoulli((m, k), density), Actual(mask))
    assert array_cycles(report) == pytest.approx(wanted)
    assert report.table["macs"].sum() == pytest.approx(m * mask.sum() * density)
    assert report.table["skipped_macs"].sum() == pytest.approx(m * (n * k - mask.sum() * density))
    assert report.cycles >= wanted - 1


@pytest.mark.parametrize(
    ("shape", "split", "wanted"), [((4, 64, 64), "m", 256), ((1, 64, 32), "n", 64), ((32, 64, 8), "n", 256)]
)
def test_arrays_share_whole_tiles(shape, split, wanted):
    """Four arrays: a part of a tile has as many granules as one."""
    m, k, n = shape
    machine = TENSOR_CORE.override({"array.count": 4, "array.split": split})
    assert array_cycles(simulate(machine, gemm(m=m, k=k, n=n))) == wanted


def test_dense_inputs_and_a_mask_are_walked_exactly():
    mask = RNG.random((96, 128)) < 0.2
    report = simulate(TENSOR_CORE, gemm(m=64, k=128, n=96, sparsity=mask))
    assert round(array_cycles(report), 6) == DualSided().walk(np.ones((64, 128), dtype=bool), mask)


def test_points_of_the_published_chart_through_a_machine():
    """Latency over the dense one; the module that compares with the chart takes the same granules as the machine."""
    rows = table("dstc_latency_vs_density").head(6)
    for row in rows.itertuples():
        m, n, k = int(row.M), int(row.N), int(row.K)
        trace = gemm(m=m, k=k, n=n, bits=16, input_density=float(row.A_density))
        trace.ops["nonzeros"] = round(n * k * row.B_density)
        machine = TENSOR_CORE.override({"array.weight_bits": 16, "array.activation_bits": 16})
        found = array_cycles(simulate(machine, trace))
        inputs, weights = Bernoulli((m, k), row.A_density), Hypergeometric((n, k), row.B_density)
        assert found == pytest.approx(DualSided().cycles(inputs, weights), rel=1e-3)


def test_column_counts_come_close_to_the_mask():
    mask = RNG.random((256, 256)) < np.linspace(0.02, 0.9, 256)[None, :]
    whole = gemm(m=64, k=256, n=256, sparsity=mask)
    counted = Trace(whole.ops, whole.profiles, dict(whole.meta), whole.counts)
    bare = Trace(whole.ops.assign(profile=-1.0), None, dict(whole.meta))
    exact, near, far = (array_cycles(simulate(TENSOR_CORE, t)) for t in (whole, counted, bare))
    assert abs(near / exact - 1) < 0.01 < abs(far / exact - 1)


def test_skipping_both_sides_has_a_price():
    designs = Designs.from_machines([accelerator("dense_ws"), MACHINE, MACHINE.override({"array.outer_tile": 256})])
    parts = area.area(designs)
    assert parts["scatter"][0] == 0 < parts["scatter"][1] < parts["scatter"][2]
    assert parts["front_end"][0] == 0 < parts["front_end"][1] < parts["front_end"][2]
    trace = gemm(m=128, k=256, n=256)
    dense, both = (simulate(accelerator(name), trace) for name in ("dense_ws", "dual_sided"))
    assert both.energy["front_end"] > 0 and both.energy["scatter"] > 0 == dense.energy["scatter"]


@pytest.mark.parametrize(
    "fields", [{"sparsity.block_skipping": True}, {"sparsity.position_skipping": True}, {"sparsity.format": "n_of_m"}]
)
def test_what_it_does_anyway_is_refused(fields):
    more = {"sparsity.n_of_m": "2:4"} if "sparsity.format" in fields else {}
    with pytest.raises(InputError, match="outer_product"):
        MACHINE.override(fields | more)


@st.composite
def outer_machines(draw):
    machine = draw(machines(kinds=("systolic",), most_tiers=2, counts=(1, 1, 2), arithmetics=("parallel",)))
    plain = {"sparsity.n_of_m": None, "sparsity.format": draw(st.sampled_from(("dense", "bitmap")))}
    plain |= {"array.kind": "outer_product", "array.outer_tile": draw(st.sampled_from((8, 32, 50)))}
    base = machine.override({"sparsity.n_of_m": None, "sparsity.format": "dense"})
    found = draw(featured(base)).override({"sparsity.block_skipping": False, "sparsity.position_skipping": False})
    return found.override(plain)


@law(
    outer_machines(),
    gemms(sizes=st.integers(1, 300)),
    st.sampled_from(list(OBJECTIVES)),
    st.sampled_from((0.05, 0.5, 1.0)),
    quick=10,
    many=200,
)
def test_pruned_is_exhaustive(machine, trace, objective, density):
    trace.ops["input_density"] = density
    search_is_exact(machine, trace, objective)


@law(outer_machines(), st.integers(1, 60), st.integers(1, 200), st.integers(1, 200), st.booleans(), quick=10, many=200)
def test_more_nonzeros_never_cost_less(machine, m, k, n, more_inputs):
    rng = np.random.default_rng(m * k + n)
    fewer = rng.random((n, k)) < 0.3
    more = fewer if more_inputs else fewer | (rng.random((n, k)) < 0.2)
    traces = [
        gemm(m=m, k=k, n=n, sparsity=mask, input_density=density)
        for mask, density in ((fewer, 0.4), (more, 0.6 if more_inputs else 0.4))
    ]
    before, after = (analytic.run(Designs.from_machines([machine]), t) for t in traces)
    if not np.isnan(before["cycles"]).any() and not np.isnan(after["cycles"]).any():
        assert (after["cycles"] >= before["cycles"] * (1 - 1e-9)).all()
