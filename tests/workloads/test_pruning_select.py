"""What pruning methods are made of: patterns as written, exact selection, ties, blocks, cut channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.pruning import (
    Blocks,
    Channels,
    Diagonal,
    Heads,
    Layers,
    LowRank,
    NofM,
    Unstructured,
    kept_channels,
    parse_pattern,
)
from workloads.pruning.ffn_channels import as_mask, cut
from workloads.pruning.pattern import KINDS
from workloads.pruning.select import block_norms, choose, keep_largest, keep_n_of_m, spread_blocks, tie_order


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 40), st.integers(1, 4), st.integers(0, 1000))
def test_keep_largest(rows, n, remove, levels, seed):
    scores = np.random.default_rng(seed).integers(0, levels, (rows, n)).astype(np.float32)
    mask = keep_largest(scores, remove)
    assert np.all(mask.sum(axis=1) == max(0, n - remove))
    for row in range(rows):
        if mask[row].any() and not mask[row].all():
            assert scores[row][mask[row]].min() >= scores[row][~mask[row]].max()


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(2, 9), st.integers(1, 4), st.integers(0, 1000))
def test_keep_n_of_m(rows, n, group, levels, seed):
    keep = 1 + seed % (group - 1)
    scores = np.random.default_rng(seed).integers(0, levels, (rows, n)).astype(np.float32)
    mask = keep_n_of_m(scores, keep, group)
    for row in range(rows):
        for start in range(0, n, group):
            part, kept = scores[row, start : start + group], mask[row, start : start + group]
            assert kept.sum() == (keep if len(part) == group else -(-keep * len(part) // group))
            if kept.any() and not kept.all():
                assert part[kept].min() >= part[~kept].max()


def test_tie_order_is_a_permutation():
    assert len(np.unique(tie_order(100_000))) == 100_000


def test_channels_are_really_removed():
    rng = np.random.default_rng(2)
    gate, up, down = rng.normal(size=(40, 16)), rng.normal(size=(40, 16)), rng.normal(size=(16, 40))
    mean_square = rng.uniform(0.1, 2, 40)
    kept = kept_channels(down, mean_square, 0.3)
    assert len(kept) == 28 and np.all(np.diff(kept) > 0)
    score = np.linalg.norm(down, axis=0) * np.sqrt(mean_square)
    assert score[kept].min() > np.delete(score, kept).max()
    assert cut(gate, "ffn_gate", kept).shape == (28, 16) and cut(down, "ffn_down", kept).shape == (16, 28)
    for weight, t in ((gate, "ffn_gate"), (up, "ffn_up"), (down, "ffn_down")):
        mask = as_mask(weight.shape, t, kept)
        np.testing.assert_array_equal(weight[mask].reshape(cut(weight, t, kept).shape), cut(weight, t, kept))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("0.5", Unstructured(0.5)),
        (" 50 % ", Unstructured(0.5)),
        (0.25, Unstructured(0.25)),
        (".3", Unstructured(0.3)),
        ("2:4", NofM(2, 4)),
        ("4 : 8", NofM(4, 8)),
        ("ffn 0.1", Channels(0.1)),
        ("ffn 10%", Channels(0.1)),
        (NofM(1, 2), NofM(1, 2)),
        ("0.5 1x16", Blocks(1, 16, 0.5)),
        ("50% 4X1", Blocks(4, 1, 0.5)),
        ("block 16x16 0.7", Blocks(16, 16, 0.7)),
        ("1x16 70%", Blocks(1, 16, 0.7)),
        ("diagonal 4", Diagonal(4)),
        ("rank 32 + 0.5", LowRank(32, 0.5)),
        ("heads 0.25", Heads(0.25)),
        ("kv_heads 33%", Heads(0.33, whole_groups=True)),
        ("layers 0.1", Layers(0.1)),
    ],
)
def test_patterns(text, pattern):
    assert parse_pattern(text) == pattern
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1",
        "1.5",
        "100%",
        "-0.5",
        "4:2",
        "0:4",
        "4:4",
        "2:4:8",
        "ffn",
        "ffn 2:4",
        "half",
        "0.5 0x16",
        "16x16",
        "block 0.5",
        "diagonal 1",
        "rank 0 + 0.5",
        "rank 8",
        "head 0.5",
        "layers 2",
    ],
)
def test_wrong_patterns(text):
    with pytest.raises(InputError, match="pruning pattern"):
        parse_pattern(text)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_patterns_of_their_kind(kind):
    assert type(parse_pattern(kind.example)) is kind


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6), st.integers(0, 100))
def test_block_norms(rows, columns, high, wide, seed):
    """The norm of every block, those at the edges included, is that of its own entries; spreading undoes blocking."""
    scores = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    norms = block_norms(scores, high, wide)
    for (i, j), norm in np.ndenumerate(norms):
        own = scores[i * high : (i + 1) * high, j * wide : (j + 1) * wide]
        assert norm == pytest.approx(np.sqrt(np.mean(np.square(own))), rel=1e-5)
    spread = spread_blocks(norms > 0.5, high, wide, scores.shape)
    assert spread.shape == scores.shape
    np.testing.assert_array_equal(spread[::high, ::wide], norms > 0.5)


def test_blocks_within_strips():
    """Per row, every strip of blocks loses the same number."""
    scores = np.random.default_rng(0).random((8, 32)).astype(np.float32)
    kept = choose(scores, Blocks(2, 4, 0.25), per_row=True)[::2, ::4]
    assert np.all(kept.sum(axis=1) == 6)
    assert choose(scores, Blocks(2, 4, 0.25), per_row=False)[::2, ::4].sum() == 24
