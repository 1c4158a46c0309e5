"""Huffman codes: optimal, canonical, and never far from the entropy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import real_masks
from sim.errors import InputError
from sim.sparsity.formats import canonical, format_of


def entropy_bits(values):
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def test_the_textbook_code():
    """Cormen et al., Introduction to Algorithms: 45, 13, 12, 16, 9, 5 thousand characters take 224 thousand bits."""
    counts = [45, 13, 12, 16, 9, 5]
    lengths = canonical.code_lengths(counts)
    assert lengths.tolist() == [1, 3, 3, 3, 4, 4] and (np.array(counts) * lengths).sum() == 224
    assert [f"{w:0{n}b}" for w, n in zip(canonical.code_words(lengths), lengths, strict=True)] == [
        "0", "100", "101", "110", "1110", "1111",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=300))
def test_codes_are_complete_and_prefix_free(counts):
    lengths = canonical.code_lengths(counts)
    assert sum(2.0 ** -int(n) for n in lengths) == 1.0  # Kraft: complete
    words = sorted(f"{w:0{n}b}" for w, n in zip(canonical.code_words(lengths), lengths, strict=True))
    assert not any(b.startswith(a) for a, b in pairwise(words))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.floats(0.05, 0.95), st.floats(0.2, 30))
def test_entropy_bounds_the_code(seed, density, spread):
    rng = np.random.default_rng(seed)
    codes = np.clip(np.rint(rng.normal(0, spread, (40, 50))), -127, 127).astype(int) * (rng.random((40, 50)) < density)
    if not codes.any():
        return
    for over, coded in (("bitmap", codes[codes != 0]), ("dense", codes.reshape(-1))):
        stored = format_of("huffman", over=over).stored(codes, 8)
        bits = 8 * (stored.values + stored.padding)
        assert entropy_bits(coded) - 1e-6 <= bits <= entropy_bits(coded) + coded.size


@pytest.mark.parametrize("variant", real_masks.VARIANTS)
def test_real_codes_shrink(variant):
    """int8 codes of a real layer: normally distributed values are worth coding, and never worse than a fixed width."""
    mask = real_masks.masks()[variant]
    codes = real_masks.codes() * mask
    coded, plain = format_of("huffman").stored(codes, 8), format_of("bitmap").stored(codes, 8)
    kept = codes[mask]
    assert entropy_bits(kept) <= 8 * coded.values <= entropy_bits(kept) + 0.05 * kept.size  # many symbols: far below 1
    assert coded.total < plain.total
    measured = format_of("huffman", code_bits=8 * coded.values / kept.size)
    assert measured.closed(*mask.shape, kept.size, 8).total == pytest.approx(coded.total, rel=0.005)
    assert (coded.metadata * 8 - codes.size) % 14 == 0  # the table: a symbol and its length each


def test_a_mask_has_no_values_to_code():
    with pytest.raises(InputError, match="got a mask"):
        format_of("huffman").stored(real_masks.masks()["wanda_50"], 8)
