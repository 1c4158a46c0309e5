"""What holds for every storage format: it loses nothing, its bytes are counted right, and they follow the zeros."""

from functools import cache
from math import lgamma, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import real_masks
from formats.cases import CASES, IDS, MATRICES, drawn, fitting
from sim.errors import InputError
from sim.sparsity.density import Hypergeometric
from sim.sparsity.formats import FORMATS, Encoded, format_of

every = pytest.mark.parametrize("case", CASES, ids=IDS)


masks_alone = pytest.mark.parametrize("case", [case for case in CASES if not case.codes_values], ids=str)
any_mask = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.codes_values and case.name != "n_of_m"], ids=str
)


def test_every_format_is_put_through_this():
    assert {case.name for case in CASES} == set(FORMATS)


@every
def test_nothing_is_lost_on_the_way_through_packed_bytes(case):
    for name, matrix in MATRICES.items():
        codes = fitting(case, matrix)
        encoded = case.encode(codes, 8)
        packed = {key: stream.packed() for key, stream in encoded.streams.items()}
        assert [len(packed[key]) for key in packed] == [-(-s.bits // 8) for s in encoded.streams.values()]
        read = {key: stream.unpacked(packed[key]) for key, stream in encoded.streams.items()}
        again = Encoded(case, encoded.codes, read).decode()
        assert again.dtype == codes.dtype and np.array_equal(again, codes), name


@every
def test_floats_masks_and_narrow_codes_survive(case):
    half = fitting(case, MATRICES["signed"]).astype(np.float16) / 3
    for matrix, bits in ((half, 16), (half.astype(np.float32), 32), (half != 0, 8), (half != 0, 1)):
        if bits == 1 or case.name != "run_length" or case.word_bits == 0 or bits + case.run_bits <= case.word_bits:
            assert np.array_equal(case.encode(matrix, bits).decode(), matrix)


@every
def test_counted_bytes_are_those_of_the_streams(case):
    for name, matrix in MATRICES.items():
        codes = fitting(case, matrix)
        stored, written = case.stored(codes, 8), case.encode(codes, 8).stored()
        assert stored == written, name
        assert stored.total == sum(s.bits for s in case.encode(codes, 8).streams.values()) / 8
        assert min(stored.values, stored.metadata, stored.padding) >= 0
        if not case.codes_values:
            assert stored.values == np.count_nonzero(codes)
            assert case.stored(codes != 0, 8) == stored


@every
def test_counts_give_the_bytes_exactly_where_they_suffice(case):
    for name, matrix in MATRICES.items():
        codes = fitting(case, matrix)
        closed = case.closed(*codes.shape, np.count_nonzero(codes), 8)
        if case.counts_suffice:
            assert closed == case.stored(codes, 8), name
        if case.codes_values:
            assert closed.total >= case.stored(codes, 8).total - 1e-9, name
        elements = codes.size
        assert np.isfinite(8 * closed.total / elements) and closed.total >= 0


@any_mask
@pytest.mark.parametrize("density", [0.03, 0.5, 0.9])
def test_expected_bytes_are_the_mean_over_drawn_masks(case, density):
    """Within 0.3 % and four standard errors of the mean of masks, for the density model and for counts alone."""
    model = Hypergeometric((128, 192), density)
    drawn_bytes = [case.stored(model.draw(seed), 8).total for seed in range(8)]
    mean, error = np.mean(drawn_bytes), np.std(drawn_bytes) / np.sqrt(7)
    assert abs(case.expected(model, 8).total - mean) <= 0.003 * mean + 4 * error
    assert abs(case.closed(*model.shape, model.nonzeros, 8).total - mean) <= 0.003 * mean + 4 * error


@every
def test_bytes_broadcast_and_are_those_of_each_alone(case):
    rows, columns, nonzeros, bits = np.array([[8.0], [96.0]]), np.array([64.0, 70.0]), 100.0, np.array([4.0, 16.0])
    many = case.closed(rows, columns, nonzeros, bits).total
    assert many.shape == (2, 2)
    for (i, j), found in np.ndenumerate(many):
        assert found == pytest.approx(case.closed(rows[i, 0], columns[j], nonzeros, bits[j]).total)


@masks_alone  # a value that makes the commonest one commoner shortens the others' Huffman codes
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 90), st.floats(0, 1))
def test_another_nonzero_never_takes_fewer_bytes(case, seed, rows, columns, density):
    rng = np.random.default_rng(seed)
    more = fitting(case, (rng.random((rows, columns)) < density).astype(np.int64))
    held = np.argwhere(more)
    if not len(held):
        return
    fewer = more.copy()
    fewer[tuple(held[rng.integers(len(held))])] = 0
    assert case.stored(fewer, 8).total <= case.stored(more, 8).total
    assert case.stored(more, 8).total <= case.worst(rows, columns, 8)


@every
def test_the_worst_mask_is_provisioned(case):
    for matrix in MATRICES.values():
        assert case.stored(fitting(case, matrix), 8).total <= case.worst(*matrix.shape, 8) + 1e-9


@any_mask
@pytest.mark.parametrize("density", [0.02, 0.3, 0.8])
def test_no_format_beats_the_entropy_of_where_the_nonzeros_are(case, density):
    """log2 C(N, r) bits for r of N places, less what tells how many there are: these are known from outside."""
    codes = drawn((96, 160), density)
    nonzeros, places = np.count_nonzero(codes), codes.size
    entropy = (lgamma(places + 1) - lgamma(nonzeros + 1) - lgamma(places - nonzeros + 1)) / log(2)
    stored = case.stored(codes, 8)
    slack = 8 * 96 + 64  # a format whose fibers' lengths are given apart may lean on them
    assert 8 * (stored.metadata + stored.padding) >= entropy - slack


def test_real_masks_of_equal_density_are_not_alike():
    """A density number cannot tell: 2:4 pruning leaves fewer empty blocks and shorter runs than magnitude pruning."""
    masks = real_masks.masks()
    for case in (format_of("block", block=(1, 4)), format_of("two_four_residual")):
        found = {name: case.stored(masks[name], 8).total for name in ("magnitude_50", "wanda_50", "wanda_2_4")}
        assert len(set(found.values())) == 3
    residual = format_of("two_four_residual")
    assert residual.stored(masks["wanda_2_4"], 8).total < residual.stored(masks["wanda_50"], 8).total


@every
def test_what_does_not_fit_is_refused_in_one_line(case):
    for matrix, bits, text in (
        (np.array([[300]]), 8, "values must be between 0 and 255"),
        (np.array([[-129]]), 8, "values must be between -128 and 127"),
        (np.ones((2, 2), np.float16), 8, "must be 16"),
        (np.ones((2, 2)), 8, "float64"),
        (np.ones(4, int), 8, "out x in"),
        (np.ones((1, 1), int), 33, "bits must be"),
    ):
        with pytest.raises(InputError, match=text) as error:
            case.encode(matrix, bits)
        assert "\n" not in str(error.value)


def test_indices_are_as_wide_as_the_matrix_needs():
    """Nothing is counted too small: 4 bits asked for 60 columns are 6; pointers never follow."""
    eye = np.eye(60, dtype=np.int64)
    assert format_of("coo", index_bits=4).encode(eye, 8).streams["columns"].width == 6
    assert format_of("csr", index_bits=4).stored(eye, 8).metadata == (60 * 6 + 61 * 32) / 8
    assert format_of("csr", index_bits=12).stored(eye, 8).metadata == (60 * 12 + 61 * 32) / 8
    assert format_of("csc", index_bits=4).closed(2**10, 2, 100, 8).metadata == (100 * 10 + 3 * 32) / 8


def test_options_are_checked():
    for name, options, text in (
        ("bit_map", {}, "did you mean 'bitmap'"),
        ("csr", {"index_bit": 8}, "did you mean 'index_bits'"),
        ("csr", {"index_bits": 0}, "index_bits must be"),
        ("n_of_m", {"n": 4, "m": 4}, "1 <= n < m"),
        ("block", {"block": (0, 4)}, "block must be"),
        ("huffman", {"over": "csr"}, "bitmap or dense"),
        ("run_length", {"run_bits": 0}, "run_bits must be"),
    ):
        with pytest.raises(InputError, match=text):
            format_of(name, **options)
    with pytest.raises(InputError, match="at least 21"):
        format_of("run_length", word_bits=16).closed(4, 4, 4, 16)
    with pytest.raises(InputError, match="more than 1 nonzeros in some group of 4"):
        format_of("n_of_m", n=1, m=4).stored(np.ones((1, 4), bool), 8)


@cache
def large_masks():
    """Three matrices of a layer, a method each, from the user's cache."""
    from workloads.calibration import calibrate
    from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
    from workloads.variants import VariantStore

    checkpoint = open_checkpoint()
    store = VariantStore(checkpoint, calibrate(checkpoint))
    variants = zip(("magnitude_70", "wanda_50", "sparsegpt_2_4"), MATRIX_TYPES[1::2], strict=True)
    return [store.mask(variant, 7, matrix_type).astype(np.int64) for variant, matrix_type in variants]


@pytest.mark.slow
@every
def test_real_masks_of_large_matrices(case):
    for mask in large_masks():
        codes = fitting(case, mask)
        encoded = case.encode(codes, 8)
        assert np.array_equal(encoded.decode(), codes)
        assert encoded.stored() == case.stored(codes, 8)
