"""What a machine pays to decode its weights: units that keep up with the array, an energy for every decode."""

import numpy as np
import pytest

from accel_models import accelerator
from sim.cost.decoder import array_decoders, decode_energy_pj
from sim.designs import Designs
from sim.simulate import simulate
from sim.sparsity.formats import format_of
from sim.trace import gemm

FORMATS = ("bitmap", "csr", "coo", "run_length", "tca_bme", "tiled_csl")


def stored(name, kind="dense_ws"):
    return accelerator(kind).override({"sparsity.format": name})


def quarter():
    return gemm(m=64, k=512, n=256, sparsity=np.random.default_rng(0).random((256, 512)) < 0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_load_sparse_compute_dense(name):
    """Fewer bytes from DRAM, as many MACs, and a price for every decode."""
    dense, sparse = (simulate(stored(n), quarter()) for n in ("dense", name))
    assert sparse.dram_bytes < dense.dram_bytes
    assert sparse.table["macs"].sum() == dense.table["macs"].sum()
    decodes = sparse.table["decodes"].sum()
    per = format_of(name).decoder(8).per
    units = quarter().ops["nonzeros"][0] if per == "values" else 256 * 512
    assert decodes > 0 and decodes % units == 0
    assert sparse.energy["front_end"] == pytest.approx(decodes * decode_energy_pj(format_of(name), 8))
    assert sparse.area_mm2 > dense.area_mm2


def test_more_columns_take_more_decoders():
    um2 = [array_decoders(Designs.from_machines([stored("csr").override({"array.cols": c})]))[0][0] for c in (16, 32)]
    assert um2[1] == 2 * um2[0] > 0


@pytest.mark.parametrize(("kind", "name"), [("dense_ws", "dense"), ("nm_24", "n_of_m"), ("sparse_lanes", "bitmap")])
def test_what_the_array_undoes_itself_needs_no_decoder(kind, name):
    machine = accelerator(kind)
    assert machine.sparsity.format == name
    assert array_decoders(Designs.from_machines([machine]))[0][0] == 0
    assert simulate(machine, quarter()).table["decodes"].sum() == 0


def test_a_matrix_that_is_stored_dense_is_not_decoded():
    found = simulate(stored("csr"), gemm(m=64, k=512, n=256, sparsity=0.9))
    assert found.table["decodes"].sum() == 0
