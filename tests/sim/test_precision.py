"""Cycles a MAC takes at the widths of its operands, for every arithmetic, against the published ratios."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models import accelerator
from sim.compute.precision import COMPOSABLE, PARALLEL, SERIAL, SERIAL_WEIGHTS, cycles_per_vector
from sim.errors import InputError

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
