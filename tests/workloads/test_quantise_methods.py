"""Each quantiser against its own definition: small matrices by hand, grids, what is chosen and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.errors import InputError
from workloads.quantise import Awq, BitMod, Gptq, Gwq, Mx, NvFp4, Rtn, StoredBits, Ternary, quantiser, table_cost
from workloads.quantise.bitmod import MAGNITUDES, candidates
from workloads.quantise.grids import FLOATS, Grid, float_grid


def test_rtn_by_hand():
    """Two groups of a row, [7, -3.4, 0] and [0, 14]: scales 1 and 2 at four bits."""
    found = Rtn(bits=4, group=3).quantise([[7, -3.4, 0, 0, 14]])
    np.testing.assert_array_equal(found.values, [[7, -3, 0, 0, 14]])
    np.testing.assert_array_equal(found.codes, [[14, 4, 7, 7, 14]])
    assert found.stored == StoredBits(values=5 * 4, scales=2 * 16)
    assert found.bits_per_weight == (20 + 32) / 5


def test_zero_point_by_hand():
    """From -1 to 2 at two bits: levels -1, 0, 1, 2; all-positive weights keep zero as a level."""
    found = Rtn(bits=2, group=None, symmetric=False).quantise([[-1, 2, 0.9, 0.2], [3, 3, 3, 1.2]])
    np.testing.assert_array_equal(found.values, [[-1, 2, 1, 0], [3, 3, 3, 1]])
    assert found.stored == StoredBits(values=8 * 2, scales=2 * 16, zero_points=2 * 2)


def test_error_of_rtn_is_half_a_step():
    weight = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    found = Rtn(bits=5, group=16).quantise(weight)
    step = np.abs(weight.reshape(20, 4, 16)).max(axis=2) / 15
    error = np.abs(found.values - weight).reshape(20, 4, 16)
    slack = 15 * 2**-11  # the FP16 scale may fall short of the largest weight by that share of a step
    assert np.all(error <= step[:, :, None] * (0.5 + slack))


@pytest.mark.parametrize("name", FLOATS)
def test_float_grids_are_the_formats(name):
    """Every bit pattern by the definition: (-1)^s 2^(e - bias) 1.m, subnormals 2^(1 - bias) 0.m."""
    exponent_bits, mantissa_bits, reserved = FLOATS[name]
    grid, bias, half = float_grid(name), 2 ** (exponent_bits - 1) - 1, 2 ** (exponent_bits + mantissa_bits)
    assert len(grid.values) == 2 * half and grid.bits == 1 + exponent_bits + mantissa_bits
    for pattern in range(half - reserved):
        e, m = divmod(pattern, 2**mantissa_bits)
        whole = m + (2**mantissa_bits if e else 0)
        value = math.ldexp(whole, max(e, 1) - bias - mantissa_bits)
        assert grid.values[pattern] == value and grid.values[half + pattern] == -value
    assert grid.largest == {"e2m1": 6, "e2m3": 7.5, "e3m2": 28, "e4m3": 448, "e5m2": 57344}[name]
    np.testing.assert_array_equal(grid.values[grid.codes(grid.values)], grid.values)


def test_rounding_to_a_grid():
    grid = float_grid("e2m1")
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 7, 100], np.float32)
    even = np.array([0, 1, 1, 2, 2, 4, 4, 6, 6], np.float32)
    np.testing.assert_array_equal(grid.values[grid.codes(ties)], even)
    np.testing.assert_array_equal(grid.values[grid.codes(-ties)], -even)
    x = np.random.default_rng(0).uniform(-7, 7, 500).astype(np.float32)
    nearest = np.abs(grid.values[grid.codes(x)] - x)
    assert np.all(nearest <= np.abs(grid.values[:, None] - x).min(axis=0) + 1e-6)
    with pytest.raises(InputError, match="float format 'e4m4' is unknown: did you mean"):
        float_grid("e4m4")


def test_mxfp4_by_hand():
    """max 6.5: shared exponent floor(log2 6.5) - 2 = 0, so elements are E2M1 numbers themselves, 6.5 saturates."""
    found = Mx().quantise([[6.5, -2.4, 0.2, 0.3] + [0] * 28 + [0.75]])
    np.testing.assert_array_equal(found.values[0, :4], [6, -2, 0, 0.5])
    assert found.values[0, 32] == 0.75
    np.testing.assert_array_equal(found.streams["scales"].numbers, [127, 127 - 1 - 2])
    assert found.stored == StoredBits(values=33 * 4, scales=2 * 8)


def test_mxint8_by_hand():
    """max 1.5: exponent 0, steps of 1/64; even ties; nothing reaches 2."""
    found = Mx(element="int8").quantise([[1.5, 1 / 128, 3 / 128, -1.999]])
    np.testing.assert_array_equal(found.values, [[1.5, 0, 2 / 64, -127 / 64]])


def test_shared_exponents_at_the_ends():
    """E8M0 holds 2^±127: weights below the smallest block scale vanish, the largest floats saturate."""
    found = Mx(element="e4m3").quantise(np.float32([[1e-44, 0], [3e38, -3e38]]))
    assert found.values[0].max() <= 1e-40 and np.isfinite(found.values).all()
    np.testing.assert_allclose(np.abs(found.values[1]), 3e38, rtol=0.07)


def test_nvfp4_by_hand():
    """The largest block's scale is 448: a matrix whose largest weight is 6 · 448 has matrix scale 1."""
    row = np.zeros((1, 32), np.float32)
    row[0, 0], row[0, 1], row[0, 16], row[0, 17] = 6 * 448, 3 * 448, 6, -2
    found = NvFp4().quantise(row)
    np.testing.assert_array_equal(found.values, row)
    assert found.stored == StoredBits(values=32 * 4, scales=2 * 8 + 32)


def test_bitmod_takes_the_best_special_value():
    """Groups made of one special grid are kept exactly, with that selector; plain FP3 never beats it."""
    rng = np.random.default_rng(0)
    for bits in (3, 4):
        for selector, grid in enumerate(candidates(bits)):
            special = grid.values[len(MAGNITUDES[bits])]
            row = np.concatenate([grid.values, [special] * 3])
            found = BitMod(bits=bits).quantise(row[None] / 16)
            np.testing.assert_array_equal(found.values[0], row / 16)
            assert found.streams["selectors"].numbers.tolist() == [selector]
        plain = np.array(MAGNITUDES[bits], np.float32)
        plain = Grid.of(np.concatenate([plain, -plain]))
        weight = rng.normal(size=(8, 128)).astype(np.float32)
        scale = np.abs(weight).max(axis=1, keepdims=True) / plain.largest
        plain_error = np.square(plain.values[plain.codes(weight / scale)] * scale - weight).sum(axis=1)
        error = np.square(BitMod(bits=bits).quantise(weight).values - weight).sum(axis=1)
        assert np.all(error <= plain_error * 1.001)
    assert BitMod(bits=3).storage(2, 200) == StoredBits(values=400 * 3, scales=4 * 16, selectors=4 * 2)


def test_ternary_by_hand():
    """mean |w| of the kept weights is 1: 0.4 falls to zero, 2.3 to one; a pruned weight does not dilute the mean."""
    mask = np.array([[True, True, True, False, True]])
    found = Ternary().quantise([[-0.4, 2.3, 0.7, 5.0, -0.6]], mask=mask)
    np.testing.assert_array_equal(found.values, [[0, 1, 1, 0, -1]])
    assert found.stored == StoredBits(values=4 * 2, scales=16)


def test_five_trits_fill_a_byte():
    weight = np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32)
    mask = np.random.default_rng(1).random((3, 11)) < 0.7
    packed, plain = Ternary(packed=True).quantise(weight, mask=mask), Ternary().quantise(weight, mask=mask)
    np.testing.assert_array_equal(packed.values, plain.values)
    assert packed.stored.values == 8 * math.ceil(mask.sum() / 5) and packed.streams["values"].numbers.max() < 3**5
    digits = [int(code) for code in plain.codes[mask][:5]]
    assert packed.streams["values"].numbers[0] == sum(d * 3**i for i, d in enumerate(digits))


def test_tables_of_partial_sums():
    """Three inputs have 27 sums of ±x or nothing; 13 distinct up to sign, three of them the inputs themselves."""
    cost = table_cost(outputs=10, inputs=6, span=3, sum_bits=16)
    assert (cost.entries, cost.build_adds, cost.lookups, cost.table_bits) == (13, 2 * 10, 10 * 2, 2 * 13 * 16)
    assert table_cost(10, 128, 3, group=64).lookups == 10 * 2 * 22  # 64 = 21 · 3 + 1: spans end with the group
    assert table_cost(10, 7, 3).build_adds == 2 * 10  # the last input is alone, and its table itself
    assert table_cost(10, 8, 3).table_bits == (2 * 13 + 4) * 16
    sums = {tuple(s) for s in np.sign(np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T)}
    assert len(sums) == 27 == 2 * cost.entries + 1
    best = min(range(1, 9), key=lambda g: table_cost(576, 576, g).build_adds + table_cost(576, 576, g).lookups)
    assert 3 <= best <= 6


def test_gwq_keeps_its_share_in_fp16():
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(10, 100)).astype(np.float32)
    weight[3, 50] = 30
    found = Gwq(bits=3, outliers=0.02).quantise(weight, np.eye(100, dtype=np.float32), 10)
    at = np.repeat(np.arange(10), found.streams["outliers.counts"].numbers), found.streams["outliers.columns"].numbers
    assert len(at[0]) == 20
    np.testing.assert_array_equal(found.values[at], weight[at].astype(np.float16).astype(np.float32))
    # with H = 1 the gradient is twice the rounding error: what RTN gets most wrong is kept
    wrong = np.abs(Rtn(bits=3).quantise(weight).values - weight)
    kept = np.zeros(weight.shape, bool)
    kept[at] = True
    assert wrong[kept].min() >= wrong[~kept].max()
    assert found.stored.outliers == 10 * 7 + 20 * (7 + 16)


def test_awq_shares_one_scale_and_folds_it():
    rng = np.random.default_rng(5)
    weight, x = rng.normal(size=(12, 64)).astype(np.float32), rng.normal(size=(200, 64)) * rng.lognormal(0, 1.5, 64)
    hessian = (x.T @ x).astype(np.float32)
    folded = Awq(bits=3, group=32).quantise(weight, hessian, 200)
    apart = Awq(bits=3, group=32).unfolded().quantise(weight, hessian, 200)
    np.testing.assert_array_equal(folded.values, apart.values)
    assert apart.stored.scales == folded.stored.scales + 64 * 16
    scales = folded.streams["folded.inputs"].numbers.astype(np.uint16).view(np.float16).astype(np.float64)
    size = np.sqrt(np.diagonal(hessian))
    assert np.corrcoef(np.log(scales), np.log(size))[0, 1] > 0.999  # larger inputs are scaled up, by one power


def test_gptq_without_correlation_is_rounding():
    weight = np.random.default_rng(6).normal(size=(8, 96)).astype(np.float32)
    for group in (None, 32):
        found = Gptq(group=group).quantise(weight, np.eye(96, dtype=np.float32), 10)
        np.testing.assert_array_equal(found.values, Rtn(group=group).quantise(weight).values)


def test_gptq_spreads_the_error_of_twins():
    """The first two inputs are always equal: 0.4 + 2.4 rounds to 0 + 2 alone, and to 0 + 3 once 0.4 is handed on."""
    hessian = np.array([[100, 100, 0], [100, 100, 0], [0, 0, 1]], np.float32)
    found = Gptq(group=None).quantise([[0.4, 2.4, 7], [2.6, 2.6, 7]], hessian, 10)
    np.testing.assert_array_equal(found.values, [[0, 3, 7], [3, 2, 7]])


def test_gptq_hands_on_what_pruned_weights_did():
    """Twins again: 3 is pruned from the first, the second takes it over; scales never look at what is pruned."""
    hessian = np.array([[100, 100, 0], [100, 100, 0], [0, 0, 1]], np.float32)
    mask = np.array([[False, True, True]])
    for first, second in ((3, 5), (300, 7), (0, 2)):  # 7: as far as the codes reach
        found = Gptq(group=None).quantise([[first, 2.4, 7]], hessian, 10, mask)
        np.testing.assert_array_equal(found.values, [[0, second, 7]])


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("group", [None, 48])
def test_gptq_behind_a_mask_makes_up_for_what_is_pruned(bits, group):
    """Correlated inputs: the error against the dense outputs, also on data it never saw, is below that of rounding what
    is left, and below that of GPTQ when it is told that the pruned weights were zero."""
    rng = np.random.default_rng(bits)
    mix, weight = rng.normal(size=(24, 96)), rng.normal(size=(16, 96)).astype(np.float32)
    mask = np.abs(weight) >= np.quantile(np.abs(weight), 0.5)
    x, unseen = (rng.normal(size=(2000, 24)) @ mix + 0.5 * rng.normal(size=(2000, 96)) for _ in range(2))
    hessian, zeroed = (x.T @ x).astype(np.float32), weight * mask

    def error(method, given):
        return np.square(unseen @ (method.quantise(given, hessian, 2000, mask).values - weight).T).sum()

    joint = error(Gptq(bits, group), weight)
    assert joint < 0.75 * min(error(Gptq(bits, group), zeroed), error(Rtn(bits, group), zeroed))


def test_work_beside_the_product():
    """Scales are applied to partial sums or to weights, whichever is less; one scale a row is free."""
    assert quantiser("rtn:group=None").vector_ops(64, 100, 512, 51200) == 0
    assert quantiser("rtn").vector_ops(1, 100, 512, 51200) == 1 * 100 * 4
    assert quantiser("rtn").vector_ops(10_000, 100, 512, 51200) == 51200
    assert quantiser("rtn:symmetric=False").vector_ops(1, 100, 512, 51200) == 512 + 2 * 100 * 4
    assert quantiser("gwq").vector_ops(3, 100, 512, 51200) == 3 * 100 * 4 + 3 * 512
    assert quantiser("awq:folded=False").vector_ops(3, 100, 512, 51200) == 3 * 100 * 4 + 3 * 512
    assert quantiser("awq").vector_ops(3, 100, 512, 51200) == 3 * 100 * 4
