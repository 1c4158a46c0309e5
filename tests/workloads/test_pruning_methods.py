"""What single pruning methods promise beyond the conformance suite: order of errors, optimality, orders of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from test_pruning_conformance import IN, OUT, TOKENS, error, problem, pruned

from workloads.pruning import Blocks, Diagonal, LowRank, NofM, Unstructured, method
from workloads.pruning.hessian import DAMPING, damped, output_error, refit
from workloads.pruning.hwpq import BETA, moving_threshold
from workloads.pruning.permute import block_of, settle
from workloads.pruning.trex import dictionary


@pytest.mark.parametrize("pattern", [Unstructured(0.3), Unstructured(0.5), Unstructured(0.7), NofM(2, 4)], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_error_order(pattern, seed):
    found = {name: error(name, pattern, seed) for name in ("alps", "sparsegpt", "wanda", "magnitude")}
    assert found["alps"] <= found["sparsegpt"] <= found["wanda"] <= found["magnitude"]


@pytest.mark.parametrize(
    "pattern", [Unstructured(0.6), Unstructured(0.8), Blocks(1, 16, 0.6), Blocks(4, 1, 0.6)], ids=str
)
def test_alps_beats_sparsegpt_where_it_is_hard(pattern):
    assert error("alps", pattern) < 0.9 * error("sparsegpt", pattern)


@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4)], ids=str)
def test_sparsegpt_equals_one_by_one_surgeon(pattern):
    """Column by column with the inverse of what is left of H (optimal brain surgeon, no Cholesky): the same weights."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(6, 24)).astype(np.float32)
    x = rng.normal(size=(90, 24)) @ rng.normal(size=(24, 24))
    hessian = (x.T @ x).astype(np.float32)
    found = method("sparsegpt").prune(weight, hessian, 90, pattern)
    h = hessian.astype(np.float64)
    h += DAMPING * np.diagonal(h).mean() * np.eye(24)
    w = weight.astype(np.float64)
    for column in range(24):
        inverse = np.linalg.inv(h[column:, column:])
        for row in np.flatnonzero(~found.mask[:, column]):
            w[row, column:] -= w[row, column] / inverse[0, 0] * inverse[0]
    np.testing.assert_allclose(found.weight, np.where(found.mask, w, 0), rtol=2e-3, atol=2e-4)


def test_an_input_that_is_never_used_is_dropped():
    weight, hessian = problem()
    hessian[7] = hessian[:, 7] = 0
    for name in ("sparsegpt", "alps", "elsa"):
        assert np.all(method(name).prune(weight, hessian, TOKENS, Unstructured(0.5)).weight[:, 7] == 0), name


def test_refit_reaches_least_squares():
    """Conjugate gradients on a fixed support end at the normal equations' solution, output by output."""
    weight, hessian = problem(shape=(6, 40))
    h, _ = damped(hessian)
    mask = np.random.default_rng(3).random(weight.shape) < 0.5
    found = refit(weight, weight, mask, h.astype(np.float32), 60)
    for row in range(len(weight)):
        s = np.flatnonzero(mask[row])
        best = np.linalg.solve(h[np.ix_(s, s)], h[s] @ weight[row])
        np.testing.assert_allclose(found[row, s], best, rtol=2e-2, atol=2e-4)
        assert np.all(found[row, ~mask[row]] == 0)


def test_alps_ends_at_least_squares_of_its_support():
    weight, hessian = problem()
    h, _ = damped(hessian)
    found = pruned("alps", Unstructured(0.7))
    best = refit(weight, found.weight, found.mask, h.astype(np.float32), 50)
    assert output_error(weight - found.weight, h) <= 1.02 * output_error(weight - best, h)


def test_moving_threshold_is_the_recurrence():
    contribution = np.random.default_rng(0).random((3, 50)).astype(np.float32)
    t = contribution.mean(axis=1)
    found = moving_threshold(contribution)
    for column in range(50):
        before = contribution.mean(axis=1) if column == 0 else contribution[:, column - 1]
        t = BETA * t + (1 - BETA) * before
        np.testing.assert_allclose(found[:, column], t, rtol=1e-5)


@pytest.mark.parametrize("name", ["hwpq", "gqsa"])
def test_quantised_survivors(name):
    """At most 16 values a group of an output, and the stored bits are those of the kept weights."""
    found = pruned(name, Unstructured(0.5))
    group = found.quantised.method.group
    for start in range(0, IN, group):
        for row in found.weight[:, start : start + group]:
            assert len(np.unique(row)) <= 16
    assert found.quantised.stored.values == 4 * found.mask.sum()


def test_reordering_finds_hidden_tiles():
    """Tiles shuffled away are found again: TETRIS loses far less than the same tiles unmoved."""
    rng = np.random.default_rng(0)
    tiles = np.kron(rng.random((6, 8)) < 0.5, np.ones((8, 8)))
    weight = (rng.normal(size=tiles.shape) * (tiles + 0.02)).astype(np.float32)
    weight = weight[rng.permutation(48)][:, rng.permutation(64)]
    pattern, hessian = Blocks(8, 8, 0.5), np.eye(64, dtype=np.float32)
    gone = [
        1 - np.square(method(n).prune(weight, hessian, 1, pattern).weight).sum() / np.square(weight).sum()
        for n in ("tetris", "wanda")
    ]
    assert gone[0] < 0.5 * gone[1]


def test_block_diagonal_finds_a_hidden_diagonal():
    rng = np.random.default_rng(1)
    inside = np.kron(np.eye(4), np.ones((8, 10)))
    weight = (rng.normal(size=inside.shape) * (inside + 0.05)).astype(np.float32)
    weight = weight[rng.permutation(32)][:, rng.permutation(40)]
    found = method("block_diagonal").prune(weight, np.eye(40, dtype=np.float32), 1, Diagonal(4))
    assert np.square(found.weight).sum() > 0.6 * np.square(weight).sum()


def test_swaps_never_lose_and_end_where_no_pair_gains():
    rng = np.random.default_rng(2)
    lost, block = rng.random((24, 6)), block_of(24, 4)
    order = settle(lost, np.arange(24), block)
    assert sorted(order) == list(range(24))
    held = lost[order, block]
    assert held.sum() < lost[np.arange(24), block].sum()
    swapped = lost[order][:, block]  # [place, other place]: the line at a place in the other's block
    assert np.all(swapped + swapped.T >= held[:, None] + held - 1e-6)


def test_low_rank_part_helps():
    """Factors beside the sparse part lower the error, and more rank lowers it further."""
    weight, hessian = problem(4)
    rng = np.random.default_rng(4)
    weight += (rng.normal(size=(OUT, 6)) @ rng.normal(size=(6, IN)) * 0.05).astype(np.float32)
    sevedo, errors = method("sevedo"), []
    for rank in (1, 4, 8, 24):
        found = sevedo.prune(weight, hessian, TOKENS, LowRank(rank, 0.5))
        assert found.factors.left.shape == (OUT, rank) and found.factors.right.shape == (rank, IN)
        errors.append(output_error(weight - found.weight, hessian))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < output_error(
        weight - method("wanda").prune(weight, hessian, TOKENS, Unstructured(0.5)).weight, hessian
    )


def test_shared_dictionary_is_orthonormal_and_finds_sparse_codes():
    rng = np.random.default_rng(0)
    true = np.linalg.qr(rng.normal(size=(16, 16)))[0].astype(np.float32)
    weights = [(rng.normal(size=(80, 16)) * (rng.random((80, 16)) < 0.2)).astype(np.float32) @ true for _ in range(3)]
    shared, codes = dictionary(weights, Unstructured(0.5))
    np.testing.assert_allclose(shared @ shared.T, np.eye(16), atol=1e-4)
    lost = sum(np.square(w - c @ shared).sum() for w, c in zip(weights, codes, strict=True))
    plain = sum(
        np.square(w - method("wanda").prune(w, np.eye(16, dtype=np.float32), 1, Unstructured(0.5)).weight).sum()
        for w in weights
    )
    assert lost < 0.8 * plain
