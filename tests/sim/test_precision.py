"""Cycles a MAC takes at the widths of its operands, for every arithmetic, against the published ratios."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models import accelerator
from sim.compute.precision import COMPOSABLE, PARALLEL, SERIAL, SERIAL_WEIGHTS, cycles_per_vector
from sim.cost.energy import prices
from sim.designs import Designs
from sim.errors import InputError
from sim.simulate import feasible, simulate
from sim.sparse_columns import S_ARRAY_BYTES, S_ROOM_BYTES, S_STORED_BYTES
from sim.sparse_ops import sparse_table
from sim.sparsity import formats
from sim.trace import NUMBERS, Trace, gemm, position

NATIVE = (8, 8)
bits = st.integers(1, 16)


def rate(arithmetic, weights, activations, native=NATIVE):
    """MACs a PE does in a cycle."""
    return 1 / float(cycles_per_vector(arithmetic, weights, activations, *native))


@pytest.mark.parametrize(
    ("weights", "activations", "macs"),
    [(8, 8, 1), (4, 8, 2), (8, 4, 2), (4, 4, 4), (2, 8, 4), (2, 4, 8), (2, 2, 16), (16, 8, 1 / 2), (16, 16, 1 / 4)],
)
def test_a_fusion_unit_is_sixteen_bricks(weights, activations, macs):
    """Bit Fusion (Sharma et al., ISCA 2018), section on spatial fusion: sixteen 2-bit bricks make one 8 x 8 product a
    cycle, two 4 x 8, four 4 x 4, four 2 x 8, sixteen 2 x 2; 16 x 16 takes four cycles."""
    assert rate(COMPOSABLE, weights, activations) == macs


@given(bits, bits, st.sampled_from([2, 4, 8, 16]), st.sampled_from([2, 4, 8, 16]))
def test_bricks_round_up_to_powers_of_two_and_never_waste_more_than_half_an_operand(w, a, native_w, native_a):
    cycles = float(cycles_per_vector(COMPOSABLE, w, a, native_w, native_a))
    assert np.log2(cycles) == round(np.log2(cycles))
    product = max(w, 2) * max(a, 2) / (native_w * native_a)
    assert product <= cycles < 4 * product


@pytest.mark.parametrize(("width", "speedup"), [(16, 1), (8, 2), (5, 3.2), (4, 4), (2, 8), (1, 16)])
def test_serial_in_one_operand_is_linear_in_its_bits(width, speedup):
    """Stripes (Judd et al., MICRO 2016): 16 / p over a 16-bit machine of equal peak, that is, with 16 serial PEs for
    each parallel one. UNPU (Lee et al., JSSC 2019): 345.6 GOPS at 16-bit weights."""
    parallel = rate(PARALLEL, width, 16, native=(16, 16))
    assert 16 * rate(SERIAL_WEIGHTS, width, 16, native=(16, 16)) / parallel == pytest.approx(speedup)
    assert rate(SERIAL_WEIGHTS, width, 1) == rate(SERIAL_WEIGHTS, width, 16)


@given(bits, bits)
def test_serial_in_both_operands_takes_their_product(w, a):
    """Loom (Sharify et al., DAC 2018): 256 / (Pw x Pa) over a 16-bit machine of equal peak."""
    assert 256 * rate(SERIAL, w, a) == pytest.approx(256 / (w * a))


@given(bits, bits, st.sampled_from([PARALLEL, COMPOSABLE, SERIAL_WEIGHTS, SERIAL]))
def test_fewer_bits_never_take_longer(w, a, arithmetic):
    assert rate(arithmetic, w, a) >= rate(arithmetic, min(w + 1, 16), a)
    assert rate(arithmetic, w, a) >= rate(arithmetic, w, min(a + 1, 16))


def test_everything_broadcasts():
    widths = np.array([1, 2, 4, 8, 16])
    found = cycles_per_vector(np.arange(4)[:, None], widths, widths, 8, 8)
    assert found.tolist() == [[1] * 5, [1 / 16, 1 / 16, 1 / 4, 1, 4], [1, 2, 4, 8, 16], [1, 4, 16, 64, 256]]


def test_the_peak_is_at_native_width():
    """Fewer than a MAC a PE and cycle where PEs are serial."""
    dense = accelerator("dense_ws")
    of = {
        name: dense.override({"array.arithmetic": name}).peak_tops / dense.peak_tops
        for name in ("composable", "bit_serial_weights", "bit_serial")
    }
    assert of == {"composable": 1, "bit_serial_weights": 1 / 8, "bit_serial": 1 / 64}


def test_widths_that_cannot_be():
    dense = accelerator("dense_ws")
    with pytest.raises(InputError, match=r"weight_bits of composable arithmetic must be 2, 4, 8 or 16 .*got 3"):
        dense.override({"array.arithmetic": "composable", "array.weight_bits": 3})
    with pytest.raises(InputError, match=r"array.activation_bits must be less than or equal to 16, got 17"):
        dense.override({"array.activation_bits": 17})
    assert dense.override({"array.arithmetic": "bit_serial", "array.weight_bits": 3}).array.weight_bits == 3


@pytest.mark.parametrize(
    ("arithmetic", "ratio"), [("parallel", 1), ("composable", 16), ("bit_serial_weights", 4), ("bit_serial", 16)]
)
def test_two_bit_operands_in_a_run(arithmetic, ratio):
    """Cycles that nothing but the array's arithmetic makes, against those of 8-bit operands."""
    machine = accelerator("dense_ws").override({"array.arithmetic": arithmetic})
    wide, narrow = (simulate(machine, gemm(m=512, k=256, n=256, bits=b)).stalls["compute"] for b in (8, 2))
    assert wide / narrow == pytest.approx(ratio)


WIDE = {"banks": 64, "bandwidth_gb_per_s": 1600}


def test_a_fusion_unit_sums_its_products_before_they_leave():
    """Bit Fusion adds a fusion unit's products inside it: four times the MACs with the same partial-sum traffic, so an
    accumulator that keeps up with 8-bit operands keeps up with 4-bit ones."""
    wide = {f"memory.{level}.{field}": v for level in ("weight_buffer", "input_buffer") for field, v in WIDE.items()}
    machine = accelerator("dense_ws").override({"array.arithmetic": "composable", **wide})
    eight, four = (simulate(machine, gemm(m=512, k=512, n=512, bits=bits)).cycles for bits in (8, 4))
    assert eight > 3 * four


@pytest.mark.parametrize(
    ("arithmetic", "ratio"), [("parallel", 1), ("composable", 16), ("bit_serial_weights", 4), ("bit_serial", 16)]
)
def test_energy_of_a_mac_follows_the_bits_of_the_op(arithmetic, ratio):
    """The multiply's energy goes with the PE-cycles that an op's widths take; what enters once a MAC does not."""
    designs = Designs.from_machines([accelerator("dense_ws").override({"array.arithmetic": arithmetic})])
    price = {action: float(pj[0]) for action, pj in prices(designs).items()}
    machine = accelerator("dense_ws").override({"array.arithmetic": arithmetic})
    macs, cycles = 512 * 256 * 256, {}
    for bits in (8, 2):
        report = simulate(machine, gemm(m=512, k=256, n=256, bits=bits))
        row = report.table.iloc[0]
        cycles[bits] = row["mac_cycles"]
        assert row["macs"] == macs
        assert report.utilization == pytest.approx(row["mac_cycles"] / (row["cycles"] * 1024))
        assert row["mac_cycles"] + row["idle_pe_cycles"] == pytest.approx(row["cycles"] * 1024)
        assert report.energy["array"] == pytest.approx(macs * price["macs"] + row["mac_cycles"] * price["mac_cycles"])
    assert cycles[8] / cycles[2] == ratio


@pytest.mark.parametrize(
    ("arithmetic", "weights", "activations"),
    [
        ("parallel", False, False),
        ("composable", True, True),
        ("bit_serial_weights", True, False),
        ("bit_serial", True, True),
    ],
)
def test_wider_operands_run_only_where_they_come_in_parts(arithmetic, weights, activations):
    designs = Designs.from_machines([accelerator("dense_ws").override({"array.arithmetic": arithmetic})])
    for trace, runs, name in (
        (gemm(m=8, k=8, n=8, bits=8, weight_bits=16), weights, "weight_bits"),
        (gemm(m=8, k=8, n=8, bits=16, weight_bits=8), activations, "activation_bits"),
    ):
        ok, reasons = feasible(designs, trace)
        assert bool(ok[0]) == runs
        assert reasons[0] == ("" if runs else f"array.{name} is 8, the trace needs 16")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"bits": 0}, "bits must be an integer between 1 and 16, got 0"),
        ({"bits": 17}, "bits must be an integer between 1 and 16, got 17"),
        ({"weight_bits": 2.5}, "weight_bits must be an integer between 1 and 16, got 2.5"),
        ({"group": 0}, "group must be an integer >= 1, got 0"),
        ({"group": 64, "scale_bits": 0}, "scale_bits must be an integer >= 1, got 0"),
    ],
)
def test_widths_and_groups_out_of_range(fields, wanted):
    with pytest.raises(InputError, match=wanted):
        gemm(m=8, k=8, n=8, **fields)


def stored(trace, machine="dense_ws"):
    """Bytes of the weights (as fetched, as the array reads them, as room is made for them)."""
    row = sparse_table(Designs.from_machines([accelerator(machine)]), trace).values[0, 0]
    return [float(row[column]) for column in (S_STORED_BYTES, S_ARRAY_BYTES, S_ROOM_BYTES)]


def test_group_scales_are_stored_with_the_weights():
    """Four-bit weights in groups of 128 with 16-bit scales: 4.125 bits a weight, as of GPTQ and Marlin."""
    assert stored(gemm(m=4, k=512, n=96, weight_bits=4, group=128)) == [512 * 96 * 4.125 / 8] * 3
    # the last group is short: five groups of 600 inputs
    assert stored(gemm(m=4, k=600, n=96, weight_bits=4, group=128, scale_bits=24)) == [600 * 96 / 2 + 5 * 96 * 3] * 3
    assert stored(gemm(m=4, k=512, n=96, weight_bits=4)) == [512 * 96 / 2] * 3


def test_scales_come_on_top_of_every_format():
    sparse = {"m": 4, "k": 512, "n": 96, "sparsity": "2:4"}
    scales = 96 * 4 * 2
    assert stored(gemm(**sparse, group=128), "nm_24") == [512 * 96 * 5 / 8 + scales] * 3
    bitmap = float(formats.bytes_of("bitmap", 96, 512, 512 * 96 / 2, 8))
    assert stored(gemm(**sparse, group=128), "sparse_lanes")[:2] == [bitmap + scales] * 2


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_scales_are_read_from_dram(engine):
    machine = accelerator("dense_ws")
    without, with_scales = (simulate(machine, gemm(m=1, k=1024, n=512, group=g), engine) for g in (None, 64))
    assert with_scales.dram_bytes - without.dram_bytes == pytest.approx(512 * 16 * 2)
    assert with_scales.cycles > without.cycles


def test_a_trace_from_before_scales_has_none(tmp_path):
    trace = gemm(m=4, k=64, n=64, group=32)
    loaded = Trace.load(trace.save(tmp_path / "now"))
    assert loaded.ops["weight_scale_bytes"].tolist() == [64 * 2 * 2]
    old = Trace(trace.ops.drop(columns="weight_scale_bytes"), meta=trace.meta)
    assert Trace.load(old.save(tmp_path / "before")).ops["weight_scale_bytes"].tolist() == [0]


def test_the_kernels_see_every_number_where_position_says():
    trace = gemm(m=4, k=64, n=64, group=32)
    row = trace.numeric()[0]
    assert len(row) == len(NUMBERS) + 1
    assert {name: row[position(name)] for name in NUMBERS} == {name: float(trace.ops[name][0]) for name in NUMBERS}
    assert row[position("kind")] == 0
