"""PEs that a zero operand gates: the cycle passes, nothing switches; finding the zero costs area and energy."""

import numpy as np
import pytest
from laws.check import law
from laws.strategies import gemms, machines

from accel_models import accelerator
from sim.cost import area, energy
from sim.designs import GATINGS, Designs
from sim.errors import InputError
from sim.simulate import simulate
from sim.spec import build
from sim.trace import Trace, gemm

MACHINES = ("dense_ws", "nm_24", "sparse_lanes")


def gated(name, gating):
    return accelerator(name).override({"sparsity.gating": gating})


def half_mask(outputs=96, inputs=128):
    return np.random.default_rng(3).random((outputs, inputs)) < 0.5


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("gating", GATINGS)
@pytest.mark.parametrize("name", MACHINES)
def test_actual_and_gated_macs_are_all_that_are_walked(name, gating, engine):
    mask, density = half_mask(), 0.25
    trace = gemm(m=40, k=128, n=96, sparsity=mask, input_density=density)
    row = simulate(gated(name, gating), trace, engine).table.iloc[0]
    walked = 40 * (mask.sum() if name == "sparse_lanes" else mask.size)
    kept = density if gating in ("inputs", "both") else 1.0
    if gating in ("weights", "both") and name != "sparse_lanes":
        kept *= mask.mean()
    assert row["macs"] == row["mac_cycles"] == pytest.approx(walked * kept)
    assert row["gated_mac_cycles"] == pytest.approx(walked * (1 - kept))
    machine = accelerator(name)
    elements = machine.array.rows * machine.array.cols
    assert row[["mac_cycles", "gated_mac_cycles", "idle_pe_cycles"]].sum() == pytest.approx(row["cycles"] * elements)


def test_what_a_gated_mac_saves_by_hand():
    """Half of the MACs gated by weights: each saves its switching, and every PE pays its comparator."""
    plain, machine = accelerator("dense_ws"), gated("dense_ws", "weights")
    trace = gemm(m=64, k=256, n=128, sparsity=half_mask(128, 256))
    before, after = simulate(plain, trace), simulate(machine, trace)
    done = after.table["macs"].sum()
    stopped = after.table["gated_mac_cycles"].sum()
    price = energy.prices(Designs.from_machines([plain]))
    seen = energy.detect_pj(Designs.from_machines([machine]))[0]
    saved = stopped * (price["mac_cycles"][0] - price["idle_pe_cycles"][0]) - (done + stopped) * seen
    spent = [r.energy["array"] for r in (before, after)]
    assert spent[0] - spent[1] == pytest.approx(saved, rel=1e-9)
    assert spent[1] < spent[0] and before.cycles == after.cycles


@pytest.mark.parametrize("gating", [g for g in GATINGS if g != "none"])
def test_gating_is_not_free(gating):
    """Dense work: larger, and no energy saved."""
    plain, machine = (Designs.from_machines([gated("dense_ws", g)]) for g in ("none", gating))
    assert area.area(machine)["array"][0] > area.area(plain)["array"][0]
    trace = gemm(m=64, k=256, n=128)
    before, after = (simulate(gated("dense_ws", g), trace) for g in ("none", gating))
    assert after.cycles == before.cycles and after.energy_pj > before.energy_pj


@law(machines(), gemms(), quick=10, many=200)
def test_gating_never_changes_time_nor_traffic_and_denser_inputs_never_cost_less(machine, trace):
    found = []
    for gating, density in (("none", 0.5), ("both", 0.3), ("both", 0.8)):
        raw = machine.model_dump(mode="json")
        raw["sparsity"]["gating"] = gating
        work = Trace(trace.ops.assign(input_density=density), trace.profiles, {}, trace.counts, trace.masks)
        try:
            found.append(simulate(build(raw), work))
        except InputError:
            return
    plain, sparse, denser = found
    for report in (sparse, denser):
        assert report.cycles == plain.cycles and report.dram_bytes == plain.dram_bytes
        walked = report.table["mac_cycles"] + report.table["gated_mac_cycles"]
        assert np.allclose(walked, plain.table["mac_cycles"], rtol=1e-12)
    assert sparse.table["macs"].sum() <= denser.table["macs"].sum()
    assert sparse.energy_pj <= denser.energy_pj * (1 + 1e-12)


def test_input_density_is_kept_on_disk_and_checked(tmp_path):
    trace = gemm(m=4, k=8, n=8, input_density=0.3)
    assert Trace.load(trace.save(tmp_path / "t")).ops["input_density"].tolist() == [0.3]
    old = Trace(trace.ops.drop(columns="input_density"), meta=trace.meta)
    assert Trace.load(old.save(tmp_path / "old")).ops["input_density"].tolist() == [1]
    with pytest.raises(InputError, match="input_density must be between 0 and 1"):
        gemm(m=4, k=8, n=8, input_density=1.3)
