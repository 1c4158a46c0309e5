"""One suite that every matrix-wise pruning method runs, with every kind of pattern it takes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sim.errors import InputError
from workloads.calibration import Diagonal as Diagonals
from workloads.pruning import (
    Blocks,
    Diagonal,
    LowRank,
    Method,
    NofM,
    Pruned,
    PruningMethod,
    Unstructured,
    method,
    methods,
    register,
)
from workloads.pruning.hessian import output_error
from workloads.pruning.select import choose, removed_count
from workloads.pruning.sparsegpt import BLOCK

OUT, IN, TOKENS = 32, 272, 500
NAMES = methods(PruningMethod)
PATTERNS = (
    Unstructured(0.3),
    Unstructured(0.5),
    Unstructured(0.7),
    NofM(2, 4),
    NofM(3, 5),
    Blocks(1, 16, 0.5),
    Blocks(4, 1, 0.5),
    Blocks(16, 16, 0.4),
    Diagonal(4),
    LowRank(8, 0.5),
)
CASES = [(name, pattern) for name in NAMES for pattern in PATTERNS if isinstance(pattern, method(name).takes)]
every_case = pytest.mark.parametrize(("name", "pattern"), CASES, ids=lambda x: str(x))
every_method = pytest.mark.parametrize("name", NAMES)


def problem(
    seed: int = 0, levels: int | None = None, shape: tuple[int, int] = (OUT, IN)
) -> tuple[np.ndarray, np.ndarray]:
    """A weight matrix (with ``levels`` distinct magnitudes, if given) and the Hessian of correlated activations."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.05, shape)
    if levels:
        weight = np.round(weight / 0.05 * levels / 3) * 0.05
    size = shape[1]
    x = rng.normal(size=(TOKENS, size)) @ (np.eye(size) + 0.3 * rng.normal(size=(size, size)) / np.sqrt(size) * 4)
    x *= rng.lognormal(0, 1, size)
    x = x.astype(np.float32)
    return weight.astype(np.float32), x.T @ x


@cache
def pruned(name: str, pattern, seed: int = 0, levels: int | None = None) -> Pruned:
    weight, hessian = problem(seed, levels)
    return method(name).prune(weight, hessian, TOKENS, method(name).read(pattern))


def error(name: str, pattern, seed: int = 0) -> float:
    weight, hessian = problem(seed)
    return output_error(weight - pruned(name, pattern, seed).weight, hessian)


def sparsest(name: str):
    """A pattern the method takes, for checks that one is enough for."""
    return next(pattern for case, pattern in CASES if case == name)


def check_pattern(mask: np.ndarray, name: str, pattern) -> None:
    """Exactly as many weights, blocks or group members are kept as the pattern says, where ``compares`` says."""
    gone = ~mask
    pattern = method(name).read(pattern)
    if isinstance(pattern, NofM):
        whole = mask.shape[1] - mask.shape[1] % pattern.group
        kept = mask[:, :whole].reshape(len(mask), -1, pattern.group).sum(axis=2)
        assert np.all(kept == pattern.keep)
        return
    if isinstance(pattern, Blocks):
        tiles = gone[:: pattern.rows, :: pattern.columns]
        spread = np.repeat(np.repeat(tiles, pattern.rows, 0)[: len(gone)], pattern.columns, 1)[:, : gone.shape[1]]
        np.testing.assert_array_equal(spread, gone)
        gone = tiles
    share = pattern.sparsity
    compares = method(name).compares
    if compares == "row":
        assert np.all(gone.sum(axis=1) == removed_count(share, gone.shape[1]))
    elif compares == "columns":
        width = BLOCK // pattern.columns if isinstance(pattern, Blocks) else BLOCK
        for start in range(0, gone.shape[1], width):
            part = gone[:, start : start + width]
            assert part.sum() == removed_count(share, part.size)
    else:
        assert gone.sum() == removed_count(share, gone.size)


def test_methods_are_registered():
    assert {"alps", "elsa", "gqsa", "hwpq", "magnitude", "ria", "sparsegpt", "tetris", "wanda"} <= set(NAMES)
    assert set(NAMES) < set(methods(Method))
    with pytest.raises(InputError, match="did you mean 'wanda'"):
        method("wanada")
    assert all(type(method(name)).__doc__ for name in methods())


@every_case
@pytest.mark.parametrize("levels", [None, 7])
def test_exact_pattern(name, pattern, levels):
    found = pruned(name, pattern, levels=levels)
    mask = found.mask
    if found.row_order is not None:
        assert sorted(found.row_order) == list(range(OUT)) and sorted(found.column_order) == list(range(IN))
        mask = mask[found.row_order][:, found.column_order]
    if isinstance(pattern, Diagonal):
        rows, columns = np.arange(OUT) * pattern.blocks // OUT, np.arange(IN) * pattern.blocks // IN
        np.testing.assert_array_equal(mask, rows[:, None] == columns)
    else:
        check_pattern(mask, name, pattern)


@every_case
def test_weights_fit_the_mask(name, pattern):
    weight, _ = problem()
    found = pruned(name, pattern)
    assert found.mask.dtype == bool and found.weight.dtype == np.float32
    assert found.mask.shape == found.weight.shape == weight.shape
    assert np.isfinite(found.weight).all()
    if found.factors is None:
        assert np.all(found.weight[~found.mask] == 0)
    else:
        np.testing.assert_allclose(
            found.weight, found.factors.left @ found.factors.right + found.factors.remainder, atol=1e-6
        )
        assert np.all(found.factors.remainder[~found.mask] == 0)
    if not method(name).refits:
        np.testing.assert_array_equal(found.weight[found.mask], weight[found.mask])
    if found.quantised is not None:
        stands_for = found.factors.remainder if found.factors else found.weight
        np.testing.assert_array_equal(found.quantised.values, stands_for)
        np.testing.assert_array_equal(found.quantised.mask, found.mask)


@every_case
def test_deterministic_and_leaves_its_input_alone(name, pattern):
    weight, hessian = problem(levels=5)
    before = weight.copy(), hessian.copy()
    pattern = method(name).read(pattern)
    one = method(name).prune(weight, hessian, TOKENS, pattern)
    two = method(name).prune(weight.copy(), hessian.copy(), TOKENS, pattern)
    assert one.mask.tobytes() == two.mask.tobytes() and one.weight.tobytes() == two.weight.tobytes()
    np.testing.assert_array_equal(weight, before[0])
    np.testing.assert_array_equal(hessian, before[1])


@every_case
def test_needs_no_more_than_it_says(name, pattern):
    """A large model's Hessian comes as its diagonal, or not at all, where ``needs`` says so."""
    weight, hessian = problem()
    asked = {"nothing": None, "diagonal": Diagonals(np.diagonal(hessian)), "hessian": hessian}[method(name).needs]
    found = method(name).prune(weight, asked, TOKENS, method(name).read(pattern))
    np.testing.assert_array_equal(found.mask, pruned(name, pattern).mask)
    np.testing.assert_array_equal(found.weight, pruned(name, pattern).weight)


def test_what_a_method_states_must_be_known():
    with pytest.raises(InputError, match=r"Wrong.compares 'rows' is unknown: did you mean 'row'"):
        register(type("Wrong", (PruningMethod,), {"name": "wrong", "compares": "rows"}))
    with pytest.raises(InputError, match=r"Wrong.needs 'all' is unknown"):
        register(type("Wrong", (PruningMethod,), {"name": "wrong", "needs": "all"}))
    assert "wrong" not in methods()


@every_method
def test_one_instance_serves_every_matrix(name):
    """What a method keeps about one Hessian does not leak into the next matrix."""
    pattern = method(name).read(sparsest(name))
    shared = method(name)
    for seed in (0, 1, 0):
        weight, hessian = problem(seed)
        found = shared.prune(weight, hessian, TOKENS, pattern)
        np.testing.assert_array_equal(found.weight, pruned(name, sparsest(name), seed).weight)


def random_error(pattern, weight: np.ndarray, hessian: np.ndarray) -> float:
    """Output error of a random mask of the same pattern, kept weights as they were (mean of five)."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(5):
        scores = rng.random(weight.shape, dtype=np.float32)
        if isinstance(pattern, Diagonal):
            rows, columns = rng.permutation(OUT) * pattern.blocks // OUT, rng.permutation(IN) * pattern.blocks // IN
            mask = rows[:, None] == columns
        else:
            shape = Unstructured(pattern.sparsity) if isinstance(pattern, LowRank) else pattern
            mask = choose(scores, shape, per_row=False)
        errors.append(output_error(np.where(mask, np.float32(0), weight), hessian))
    return float(np.mean(errors))


@every_case
@pytest.mark.parametrize("seed", [0, 1])
def test_never_worse_than_random(name, pattern, seed):
    weight, hessian = problem(seed)
    assert error(name, pattern, seed) < random_error(method(name).read(pattern), weight, hessian)


@every_method
def test_error_grows_with_sparsity(name):
    takes = method(name).takes
    if Diagonal in takes:
        patterns = [Diagonal(n) for n in (2, 4, 8)]
    elif LowRank in takes:
        patterns = [LowRank(8, s) for s in (0.3, 0.5, 0.7)]
    elif Unstructured in takes:
        patterns = [Unstructured(s) for s in (0.3, 0.5, 0.7)]
    else:
        patterns = [Blocks(4, 4, s) for s in (0.3, 0.5, 0.7)]
    errors = [error(name, pattern) for pattern in patterns]
    assert errors == sorted(errors) and errors[0] < errors[-1]


@every_case
def test_zeros_stay_zeros(name, pattern):
    """A matrix of zeros, an output of zeros and an input that is never used: finite weights, zero where they should."""
    weight, hessian = problem()
    pattern = method(name).read(pattern)
    nothing = method(name).prune(np.zeros_like(weight), hessian, TOKENS, pattern)
    assert np.all(nothing.weight == 0)
    weight[5] = 0
    hessian[7] = hessian[:, 7] = 0
    found = method(name).prune(weight, hessian, TOKENS, pattern)
    assert np.isfinite(found.weight).all()
    np.testing.assert_allclose(found.weight[5], 0, atol=1e-6)
    unused = method(name).prune(weight, np.zeros_like(hessian), TOKENS, pattern)
    assert np.isfinite(unused.weight).all()


@every_case
@pytest.mark.parametrize("shape", [(7, 30), (33, 5), (1, 19)], ids=str)
def test_any_shape(name, pattern, shape):
    """Sizes that no block or group divides."""
    weight, hessian = problem(shape=shape)
    found = method(name).prune(weight, hessian, TOKENS, method(name).read(pattern))
    assert found.weight.shape == found.mask.shape == shape and np.isfinite(found.weight).all()
    if not isinstance(pattern, Diagonal | LowRank) and found.row_order is None:
        check_pattern(found.mask, name, pattern)


#: HWPQ's moving threshold is another one the second time.
AGAIN = [name for name in NAMES if Unstructured in method(name).takes and name != "hwpq"]


@pytest.mark.parametrize("name", AGAIN)
def test_pruning_again_changes_nothing(name):
    """What was pruned is the least of all, so it goes again: the mask is (nearly) a fixed point."""
    pattern = method(name).read(Unstructured(0.5))
    _, hessian = problem()
    first = pruned(name, Unstructured(0.5))
    again = method(name).prune(first.weight, hessian, TOKENS, pattern)
    moved = np.count_nonzero(again.mask != first.mask)
    assert moved <= (0.02 * first.mask.size if method(name).refits else 0)


@pytest.mark.parametrize("name", ["magnitude", "ria", "wanda"])
def test_more_sparsity_keeps_a_subset(name):
    masks = [pruned(name, Unstructured(s)).mask for s in (0.2, 0.4, 0.6)]
    assert not np.any(masks[1] & ~masks[0]) and not np.any(masks[2] & ~masks[1])


@every_method
def test_ties_carve_no_stripes(name):
    """Equal weights: every place of a group, and every column, is kept about equally often."""
    weight, hessian = np.full((400, 64), 0.5, np.float32), np.eye(64, dtype=np.float32)
    takes = method(name).takes
    if NofM in takes:
        mask = method(name).prune(weight, hessian, 1, NofM(2, 4)).mask
        assert abs(mask.reshape(400, 16, 4).mean(axis=(0, 1)) - 0.5).max() < 0.03
        assert abs(mask.mean(axis=0) - 0.5).max() < 0.12
    if Unstructured in takes and name != "gqsa":
        mask = method(name).prune(weight, hessian, 1, Unstructured(0.5)).mask
        assert abs(mask.mean(axis=0) - 0.5).max() < 0.12


@every_method
def test_patterns_that_do_not_fit(name):
    for pattern in PATTERNS:
        if not isinstance(pattern, method(name).takes):
            with pytest.raises(InputError, match=f"{name} takes patterns like"):
                method(name).read(pattern)
