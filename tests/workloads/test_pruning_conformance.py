"""One suite that every pruning method runs: exact counts, consistent weights, determinism, ties, error order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.pruning import Channels, NofM, Unstructured, kept_channels, method, methods, parse_pattern
from workloads.pruning.ffn_channels import as_mask, cut
from workloads.pruning.select import keep_largest, keep_n_of_m, removed_count, tie_order
from workloads.pruning.sparsegpt import BLOCK, DAMPING

OUT, IN, TOKENS = 48, 320, 600


def problem(seed: int = 0, levels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight matrix (with ``levels`` distinct magnitudes, if given), correlated activations and their Hessian."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.05, (OUT, IN))
    if levels:
        weight = np.round(weight / 0.05 * levels / 3) * 0.05
    x = rng.normal(size=(TOKENS, IN)) @ (np.eye(IN) + 0.3 * rng.normal(size=(IN, IN)) / np.sqrt(IN) * 4)
    x *= rng.lognormal(0, 1, IN)
    return weight.astype(np.float32), x.astype(np.float32), (x.T @ x).astype(np.float32)


def prune(name: str, pattern, seed: int = 0, levels: int | None = None):
    weight, _, hessian = problem(seed, levels)
    return weight, method(name).prune(weight, hessian, TOKENS, pattern)


every_method = pytest.mark.parametrize("name", methods())
shares = pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
groups = pytest.mark.parametrize("pattern", [NofM(2, 4), NofM(4, 8), NofM(1, 4), NofM(3, 5)], ids=str)


def test_methods_are_registered():
    assert methods() == ("magnitude", "sparsegpt", "wanda")
    with pytest.raises(InputError, match="did you mean 'wanda'"):
        method("wanada")


@every_method
@shares
@pytest.mark.parametrize("levels", [None, 7])
def test_exact_sparsity(name, share, levels):
    _, pruned = prune(name, Unstructured(share), levels=levels)
    gone = ~pruned.mask
    if name == "wanda":
        assert np.all(gone.sum(axis=1) == removed_count(share, IN))
    elif name == "magnitude":
        assert gone.sum() == removed_count(share, gone.size)
    else:
        for start in range(0, IN, BLOCK):
            block = gone[:, start : start + BLOCK]
            assert block.sum() == removed_count(share, block.size)
    assert pruned.sparsity == pytest.approx(share, abs=0.005)


@every_method
@groups
@pytest.mark.parametrize("levels", [None, 7])
def test_n_of_m_in_every_group(name, pattern, levels):
    _, pruned = prune(name, pattern, levels=levels)
    whole = IN - IN % pattern.group
    kept = pruned.mask[:, :whole].reshape(OUT, -1, pattern.group).sum(axis=2)
    assert np.all(kept == pattern.keep)


@every_method
@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4)], ids=str)
def test_weights_fit_the_mask(name, pattern):
    weight, pruned = prune(name, pattern)
    assert pruned.mask.dtype == bool and pruned.weight.dtype == np.float32
    assert pruned.mask.shape == pruned.weight.shape == weight.shape
    assert np.all(pruned.weight[~pruned.mask] == 0)
    if name != "sparsegpt":
        np.testing.assert_array_equal(pruned.weight[pruned.mask], weight[pruned.mask])


@every_method
@pytest.mark.parametrize("pattern", [Unstructured(0.4), NofM(4, 8)], ids=str)
def test_deterministic_and_leaves_its_input_alone(name, pattern):
    weight, _, hessian = problem(levels=5)
    before = weight.copy(), hessian.copy()
    one = method(name).prune(weight, hessian, TOKENS, pattern)
    two = method(name).prune(weight.copy(), hessian.copy(), TOKENS, pattern)
    assert one.mask.tobytes() == two.mask.tobytes() and one.weight.tobytes() == two.weight.tobytes()
    np.testing.assert_array_equal(weight, before[0])
    np.testing.assert_array_equal(hessian, before[1])


@pytest.mark.parametrize("name", ["magnitude", "wanda"])
def test_more_sparsity_keeps_a_subset(name):
    weight, _, hessian = problem()
    masks = [method(name).prune(weight, hessian, TOKENS, Unstructured(s)).mask for s in (0.2, 0.4, 0.6)]
    assert not np.any(masks[1] & ~masks[0]) and not np.any(masks[2] & ~masks[1])


@every_method
def test_ties_carve_no_stripes(name):
    """Equal weights: every place of a group, and every column, is kept about equally often."""
    weight = np.full((400, 64), 0.5, np.float32)
    mask = method(name).prune(weight, np.eye(64, dtype=np.float32), 1, NofM(2, 4)).mask
    assert abs(mask.reshape(400, 16, 4).mean(axis=(0, 1)) - 0.5).max() < 0.03
    assert abs(mask.mean(axis=0) - 0.5).max() < 0.12
    mask = method(name).prune(weight, np.eye(64, dtype=np.float32), 1, Unstructured(0.5)).mask
    assert abs(mask.mean(axis=0) - 0.5).max() < 0.12


def output_error(weight: np.ndarray, pruned: np.ndarray, hessian: np.ndarray) -> float:
    """‖X (W − Ŵ)ᵀ‖² on the calibration data."""
    gone = (weight - pruned).astype(np.float64)
    return float(np.einsum("oi,ij,oj->", gone, hessian.astype(np.float64), gone))


@pytest.mark.parametrize("pattern", [Unstructured(0.3), Unstructured(0.5), Unstructured(0.7), NofM(2, 4)], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_error_order(pattern, seed):
    weight, _, hessian = problem(seed)
    pruned = {name: method(name).prune(weight, hessian, TOKENS, pattern).weight for name in methods()}
    error = {name: output_error(weight, matrix, hessian) for name, matrix in pruned.items()}
    assert error["sparsegpt"] <= error["wanda"] <= error["magnitude"]


@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4)], ids=str)
def test_sparsegpt_equals_one_by_one_surgeon(pattern):
    """Column by column with the inverse of what is left of H (optimal brain surgeon, no Cholesky): the same weights."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(6, 24)).astype(np.float32)
    x = rng.normal(size=(90, 24)) @ rng.normal(size=(24, 24))
    hessian = (x.T @ x).astype(np.float32)
    pruned = method("sparsegpt").prune(weight, hessian, 90, pattern)
    h = hessian.astype(np.float64)
    h += DAMPING * np.diagonal(h).mean() * np.eye(24)
    w = weight.astype(np.float64)
    for column in range(24):
        inverse = np.linalg.inv(h[column:, column:])
        for row in np.flatnonzero(~pruned.mask[:, column]):
            w[row, column:] -= w[row, column] / inverse[0, 0] * inverse[0]
    np.testing.assert_allclose(pruned.weight, np.where(pruned.mask, w, 0), rtol=2e-3, atol=2e-4)


def test_sparsegpt_with_an_input_that_is_never_used():
    weight, x, _ = problem()
    x[:, 7] = 0
    pruned = method("sparsegpt").prune(weight, x.T @ x, TOKENS, Unstructured(0.5))
    assert np.isfinite(pruned.weight).all() and np.all(pruned.weight[:, 7] == 0)


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
    ],
)
def test_patterns(text, pattern):
    assert parse_pattern(text) == pattern
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "0", "1", "1.5", "100%", "-0.5", "4:2", "0:4", "4:4", "2:4:8", "ffn", "ffn 2:4", "half"]
)
def test_wrong_patterns(text):
    with pytest.raises(InputError, match="pruning pattern"):
        parse_pattern(text)
