"""Packed masks: every kernel against a plain count of the bools, at the edges of words, tiles and blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity import packed_blocks, packing

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def masks(draw):
    """Sides around multiples of 16 and 64; full, empty and uneven stretches."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sides = st.one_of(st.integers(1, 150), st.sampled_from((15, 16, 17, 63, 64, 65, 128, 255, 256, 257)))
    rows, columns = draw(sides), draw(sides)
    mask = rng.random((rows, columns)) < rng.random((rows, 1)) * draw(st.sampled_from((0.05, 1.0, 2.0)))
    mask[:, rng.random(columns) < 0.2] = draw(st.booleans())
    mask[rows // 3 : rows // 2] = False
    return mask


def blocks(mask, rows, columns):
    """Nonzeros of every block [block rows, block columns], short ones at the edges too."""
    down = np.add.reduceat(mask, np.arange(0, mask.shape[0], rows), axis=0, dtype=np.int64)
    return np.add.reduceat(down, np.arange(0, mask.shape[1], columns), axis=1)


@LAWS
@given(masks())
def test_there_and_back(mask):
    packed = packing.pack(mask)
    assert packed.shape == mask.shape and packed.words.shape == (len(mask), -(-mask.shape[1] // 64))
    np.testing.assert_array_equal(packed.unpacked(), mask)
    np.testing.assert_array_equal(packing.from_packbits(np.packbits(mask, axis=1), mask.shape[1]).words, packed.words)
    np.testing.assert_array_equal(packing.pack(mask * -2.5).words, packed.words)


@LAWS
@given(masks())
def test_counts(mask):
    packed = packing.pack(mask)
    assert packing.total(packed.words) == mask.sum()
    np.testing.assert_array_equal(packing.row_counts(packed.words), mask.sum(axis=1))
    np.testing.assert_array_equal(packing.column_counts(packed), mask.sum(axis=0))
    np.testing.assert_array_equal(packing.tiles_along(packed), blocks(mask, 1, 16))
    np.testing.assert_array_equal(packing.tiles_down(packed), blocks(mask, 16, 1))


@LAWS
@given(masks())
def test_groups_runs_and_blocks(mask):
    packed = packing.pack(mask)
    assert packed_blocks.group_maxima(packed) == {g: blocks(mask, 1, g).max() for g in packed_blocks.GROUPS}
    assert packed_blocks.empty_runs(packed) == {g: (blocks(mask, 1, g) == 0).sum() for g in packed_blocks.RUNS}
    assert packed_blocks.empty_blocks(packed) == {b: (blocks(mask, b, b) == 0).sum() for b in packed_blocks.BLOCKS}


@pytest.mark.parametrize("rows, columns", [(16 * 15 * 2 + 3, 70), (5, 64 * 513)])
def test_counters_that_overflow_a_byte_and_more_words_than_a_chunk(rows, columns):
    full = np.ones((rows, columns), bool)
    packed = packing.pack(full)
    assert (packing.column_counts(packed) == rows).all() and (packing.row_counts(packed.words) == columns).all()
    full[:, -1] = False
    assert packed_blocks.group_maxima(packing.pack(full)) == {4: 4, 8: 8, 16: 16, 32: 32}
    lone = np.zeros((rows, columns), bool)
    lone[-1, -1] = True
    packed = packing.pack(lone)
    assert packed_blocks.group_maxima(packed) == dict.fromkeys(packed_blocks.GROUPS, 1)
    assert packed_blocks.empty_runs(packed)[8] == rows * -(-columns // 8) - 1


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_bad_masks(shape):
    with pytest.raises(InputError, match="mask must be out x in"):
        packing.pack(np.ones(shape, bool))


@pytest.mark.parametrize("wrong", [np.zeros((3, 2), np.uint8), np.zeros(3, np.uint8), np.zeros((3, 3), np.int64)])
def test_bad_bytes(wrong):
    with pytest.raises(InputError, match=r"packed rows of 20 columns must be uint8 \[rows, 3\]"):
        packing.from_packbits(wrong, 20)
