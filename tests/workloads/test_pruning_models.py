"""Pruning across matrices and layers: heads, layers, channels, n:m by layer, knapsacks, budgets, layer by layer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import tiny_llama
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from workloads import prune
from workloads.calibration import Walk, block_influence, collect
from workloads.checkpoint import MATRIX_TYPES
from workloads.prune import prune_model
from workloads.pruning import Blocks, DenseModel, ModelMethod, Unstructured, method, methods, parse_pattern
from workloads.pruning.allocation import ALLOCATIONS, MOST, allocate, whole_counts
from workloads.pruning.flow import choose_patterns
from workloads.pruning.hessian import damped, output_error
from workloads.pruning.knapsack import cheapest
from workloads.pruning.lines import ATTENTION, head_energy, refit_columns
from workloads.pruning.select import removed_count
from workloads.transformer import token_nll

LAYERS = tuple(range(tiny_llama.LAYERS))
HEADS, KV = tiny_llama.HEADS, tiny_llama.KV
#: A pattern for every method, and the share of the matrices it touches that it removes (None: not fixed).
PATTERNS = {
    "ffn_channels": ["ffn 0.25"],
    "flow": ["0.5", "2:4"],
    "hape": ["0.3"],
    "heads": ["heads 0.5", "kv_heads 0.5", "0.25"],
    "heapr": ["ffn 0.25"],
    "layers": ["layers 0.5"],
    "struprune": ["0.25", "ffn 0.25", "heads 0.25", "kv_heads 0.5"],
    "trex": ["0.5"],
}
CASES = [(name, pattern) for name in methods(ModelMethod) for pattern in PATTERNS[name]]
every_case = pytest.mark.parametrize(("name", "pattern"), CASES)


@pytest.fixture
def windows(monkeypatch):
    """Random token ids instead of text: the tiny model reads no English."""
    rng = np.random.default_rng(0)
    calibration, evaluation = rng.integers(0, tiny_llama.VOCAB, (4, 24)), rng.integers(0, tiny_llama.VOCAB, (2, 16))
    monkeypatch.setattr(prune, "_calibration_windows", lambda checkpoint, tokens, seed: calibration)
    monkeypatch.setattr(prune, "_evaluation_windows", lambda checkpoint: evaluation)
    return calibration, evaluation


@pytest.fixture
def dense(tiny, windows):
    gathered = collect(tiny, windows[0])
    influence = lambda: block_influence(tiny, windows[0])  # noqa: E731
    return DenseModel(tiny.config, lru_cache(tiny.matrix), gathered.hessian, gathered.tokens, influence)


def run(model: DenseModel, name: str, pattern: str):
    chosen = method(name)
    return chosen.prune(model, chosen.read(parse_pattern(pattern)), MATRIX_TYPES, LAYERS)


@every_case
def test_conformance(dense, name, pattern):
    """Masks of the uncut shape, weights zero outside or cut smaller, finite, the same again, inputs untouched."""
    before = {(layer, t): dense.matrix(layer, t).copy() for layer in LAYERS for t in MATRIX_TYPES}
    one, two = run(dense, name, pattern), run(dense, name, pattern)
    assert one.keys() == two.keys() and one
    for key, found in one.items():
        assert found.mask.dtype == bool and found.mask.shape == before[key].shape
        assert found.weight.dtype == np.float32 and np.isfinite(found.weight).all()
        assert found.mask.tobytes() == two[key].mask.tobytes()
        assert found.weight.tobytes() == two[key].weight.tobytes()
        np.testing.assert_array_equal(dense.matrix(*key), before[key])
        if found.factors is not None:
            sparse = found.factors.left
            np.testing.assert_allclose(found.weight, sparse @ found.factors.right, atol=1e-5)
            assert np.all(sparse[~found.mask] == 0)
        elif found.weight.shape == found.mask.shape:
            assert np.all(found.weight[~found.mask] == 0)
        else:
            assert found.weight.size == found.mask.sum()


@every_case
def test_whole_call(tiny, tiny_path, windows, name, pattern):
    """The public function prunes and measures with it; the measured model is the one returned."""
    pruned = prune_model(tiny_path, name, pattern, evaluate=True, arithmetic="float")
    assert 0 < pruned.realised_sparsity < 1 and pruned.details.keys() == pruned.masks.keys()

    def weight(layer: int, t: str) -> np.ndarray:
        return pruned.weights[layer, t] if (layer, t) in pruned.weights else tiny.matrix(layer, t)

    assert pruned.perplexity.nll == pytest.approx(token_nll(tiny, windows[1], weight).mean())


@pytest.mark.parametrize(("pattern", "gone"), [("heads 0.25", 1), ("heads 0.5", 2), ("kv_heads 0.5", 2), ("0.99", 3)])
def test_heads_go_whole(dense, pattern, gone):
    """Whole query heads leave Q and the output matrix; a KV head leaves with the last query head that shares it."""
    found, size = run(dense, "heads", pattern), tiny_llama.HEAD_DIM
    for layer in LAYERS:
        lines = {t: found[layer, t].mask.any(axis=1 - (t == "attn_output")) for t in ATTENTION}
        queries = lines["attn_q"].reshape(HEADS, size)
        assert np.all(queries.all(axis=1) == queries.any(axis=1)) and (~queries[:, 0]).sum() == gone
        assert np.array_equal(lines["attn_q"], lines["attn_output"])
        shared = queries[:, 0].reshape(KV, -1).any(axis=1)
        for t in ("attn_k", "attn_v"):
            assert np.array_equal(lines[t], np.repeat(shared, size))
        if pattern.startswith("kv"):
            assert shared.sum() == KV - 1
        kept = queries[:, 0]
        if pattern == "heads 0.5":
            energy = head_energy(dense, layer)
            assert energy[kept].min() >= energy[~kept].max()


def test_a_head_without_lines_computes_nothing(tiny, windows, dense):
    """The model with zero lines equals the model whose attention output loses only the head's columns."""
    found = run(dense, "heads", "kv_heads 0.5")
    masked = token_nll(tiny, windows[1], lambda *key: found[key].weight if key in found else tiny.matrix(*key))
    only = {key: p.weight for key, p in found.items() if key[1] == "attn_output"}
    np.testing.assert_allclose(
        masked, token_nll(tiny, windows[1], lambda *key: only.get(key, tiny.matrix(*key))), rtol=1e-4
    )


def test_dropped_layers_pass_the_residual_by(tiny, windows, dense):
    found = run(dense, "layers", "0.5")
    gone = {layer for layer, _ in found}
    influence = block_influence(tiny, windows[0])
    assert gone == {int(np.argmin(influence))} and influence.min() > 0
    walk = Walk(tiny, windows[0])
    for layer in LAYERS:
        moved = walk.step(lambda *key: found[key].weight if key in found else tiny.matrix(*key))
        assert (moved == pytest.approx(0, abs=1e-5)) == (layer in gone)


def test_heapr_ranks_over_all_layers(dense):
    found = run(dense, "heapr", "ffn 0.25")
    widths = [found[layer, "ffn_up"].weight.shape[0] for layer in LAYERS]
    assert sum(widths) == len(LAYERS) * tiny_llama.FFN - removed_count(0.25, len(LAYERS) * tiny_llama.FFN)
    extreme = run(dense, "heapr", "ffn 0.96")
    assert min(extreme[layer, "ffn_up"].weight.shape[0] for layer in LAYERS) >= 1


def test_struprune_budget_is_exact(dense):
    found = run(dense, "struprune", "ffn 0.25")
    kept = sum(found[layer, "ffn_down"].weight.shape[1] for layer in LAYERS)
    assert kept == len(LAYERS) * tiny_llama.FFN * 3 // 4


def test_refitted_columns_are_optimal(dense):
    """No refit does worse than leaving the weights, and the gradient of the error vanishes on what is kept."""
    weight, hessian = dense.matrix(0, "ffn_down"), dense.hessian(0, "ffn_down")
    kept = np.arange(weight.shape[1]) % 3 > 0
    h, _ = damped(hessian)
    found = refit_columns(weight, hessian, kept)
    assert output_error(weight - found, h) < output_error(weight * ~kept, h)
    np.testing.assert_allclose(((weight - found) @ h)[:, kept], 0, atol=1e-3 * np.abs(weight @ h).max())


@pytest.mark.parametrize("name", ["ffn_channels", "heads"])
def test_refit_beats_plain_cuts(dense, name):
    """StruPrune's refitted outputs are nearer to the dense ones than the same number of groups cut without."""
    t, pattern = ("ffn_down", "ffn 0.5") if name == "ffn_channels" else ("attn_output", "heads 0.5")
    lost = {"struprune": 0.0, name: 0.0}
    for each in lost:
        for (layer, own), found in run(dense, each, pattern).items():
            if own == t:
                weight = np.zeros(found.mask.shape, np.float32)
                weight[found.mask] = (
                    found.weight[found.mask] if found.weight.shape == found.mask.shape else found.weight.ravel()
                )
                lost[each] += output_error(dense.matrix(layer, t) - weight, dense.hessian(layer, t))
    assert lost["struprune"] < lost[name]


@given(st.floats(0.2, 0.8), st.integers(3, 40), st.integers(0, 99))
def test_flow_meets_its_budget(mean, count, seed):
    """Over all matrices the kept share is the budget to within one group's step of the largest matrix."""
    rng = np.random.default_rng(seed)
    keep = {(i, "ffn_up"): float(mean + rng.uniform(-0.1, 0.1)) for i in range(count)}
    sizes = {key: int(rng.integers(5, 20)) * 64 for key in keep}
    found = choose_patterns(keep, sizes)
    kept = sum((1 - found[key].sparsity) * size for key, size in sizes.items())
    assert abs(kept - sum(keep[key] * sizes[key] for key in keep)) <= max(sizes.values()) / 8 + 1e-6
    assert found[max(keep, key=keep.get)].group == 32 and found[min(keep, key=keep.get)].group == 8


def test_flow_on_a_model(dense):
    found = run(dense, "flow", "0.5")
    kept = sum(p.mask.sum() for p in found.values()) / sum(p.mask.size for p in found.values())
    assert kept == pytest.approx(0.5, abs=0.06)


@given(st.integers(1, 4), st.integers(2, 4), st.floats(0.1, 0.95), st.integers(0, 999))
def test_knapsack_against_all_choices(items, options, share, seed):
    """What it saves meets the target, and nothing that saves 2 % more than the target is cheaper."""
    rng = np.random.default_rng(seed)
    losses = [np.append(0.0, rng.random(options - 1)) for _ in range(items)]
    savings = [np.append(0.0, rng.random(options - 1)) for _ in range(items)]
    target = share * sum(s.max() for s in savings)
    chosen = cheapest(losses, savings, target)
    saved = sum(s[c] for s, c in zip(savings, chosen, strict=True))
    lost = sum(x[c] for x, c in zip(losses, chosen, strict=True))
    assert saved >= target * (1 - 1e-9)
    for every in np.ndindex(*(options,) * items):
        if sum(s[c] for s, c in zip(savings, every, strict=True)) >= 1.02 * target:
            assert lost <= sum(x[c] for x, c in zip(losses, every, strict=True)) + 1e-9
    assert cheapest(losses, savings, 1.01 * sum(s.max() for s in savings)) is None


def test_hape_follows_the_machine(tiny_path, windows):
    """A machine on which attention takes no time leaves attention alone; every choice meets the target."""

    def ffn_only(outputs: int, inputs: int, pattern) -> float:
        share = pattern.sparsity if pattern is not None else 0
        return outputs * inputs * (1 - share) if tiny_llama.D in (outputs, inputs) and outputs != inputs else 0.0

    attention_free = prune_model(
        tiny_path, "hape", "0.3", latency=lambda o, i, p: ffn_only(o, i, p) if (o, i) != (12, 24) else 0.0
    )
    assert attention_free.masks and all(t.startswith("ffn") for _, t in attention_free.masks)
    for target in (0.2, 0.5):
        assert prune_model(tiny_path, "hape", target).realised_sparsity >= target - 1e-9
    with pytest.raises(InputError, match="saves 95%"):
        prune_model(tiny_path, "hape", "0.95")


def test_trex_shares_one_dictionary(dense):
    found = run(dense, "trex", "0.5")
    for t in MATRIX_TYPES:
        shared = {found[layer, t].factors.right.tobytes() for layer in LAYERS}
        assert len(shared) == 1 and found[0, t].factors.shared
        assert np.all(
            found[0, t].mask.sum(axis=1) <= found[0, t].mask.shape[1] - removed_count(0.5, found[0, t].mask.shape[1])
        )


@given(st.integers(1, 12), st.floats(0, 0.94), st.integers(0, 999))
def test_whole_counts(count, share, seed):
    """Counts add up to the budget, stay within bounds, and keep the order of what was wanted for equal sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 5000, count)
    wanted = rng.normal(share, 0.3, count) * sizes
    budget = int(share * np.floor(MOST * sizes).sum())
    found = whole_counts(wanted, sizes, budget)
    assert found.sum() == budget and np.all(found >= 0) and np.all(found <= MOST * sizes)
    with pytest.raises(InputError, match="cannot be removed"):
        whole_counts(wanted, sizes, int(sizes.sum()))


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize("pattern", [Unstructured(0.5), Unstructured(0.13), Blocks(1, 4, 0.5)], ids=str)
def test_budgets_hold_exactly(dense, name, pattern):
    """The weights (blocks) removed over all matrices are what the share of all of them is, whatever the rule."""
    keys = [(layer, t) for layer in LAYERS for t in MATRIX_TYPES]
    rules = allocate(name, dense, keys, pattern)
    gone = total = 0
    for key, rule in rules.items():
        blocks = method("magnitude").prune(dense.matrix(*key), None, 0, rule).mask
        blocks = blocks[:, :: pattern.columns] if isinstance(pattern, Blocks) else blocks
        gone, total = gone + (~blocks).sum(), total + blocks.size
    if name != "uniform":
        assert gone == removed_count(pattern.sparsity, total)
        assert len({rule.sparsity for rule in rules.values()}) > 1


def test_outlier_layers_keep_more(dense):
    """Plant outliers in one layer: OWL takes less from it than from the other."""

    def planted(layer: int, t: str) -> np.ndarray:
        weight = dense.matrix(layer, t).copy()
        if layer == 1:
            weight.flat[::50] *= 30
        return weight

    model = DenseModel(dense.config, lru_cache(planted), dense.hessian, dense.tokens)
    rules = allocate("owl", model, [(layer, t) for layer in LAYERS for t in MATRIX_TYPES], Unstructured(0.5))
    assert rules[1, "ffn_up"].sparsity < 0.5 < rules[0, "ffn_up"].sparsity


def test_sensitive_matrices_keep_more(dense):
    """A matrix of few large weights can lose more than one of equal weights."""

    def planted(layer: int, t: str) -> np.ndarray:
        weight = np.sign(dense.matrix(layer, t))
        return weight * np.where(np.arange(weight.shape[1]) % 4 == 0, 1, 1e-3 if layer else 1).astype(np.float32)

    model = DenseModel(dense.config, lru_cache(planted), dense.hessian, dense.tokens)
    rules = allocate("sensitivity", model, [(layer, "ffn_up") for layer in LAYERS], Unstructured(0.4))
    assert rules[1, "ffn_up"].sparsity > rules[0, "ffn_up"].sparsity


def test_slow_matrices_lose_more(dense):
    """On a machine where only FFN matrices take time, the latency rule takes weights from them first."""
    wide = DenseModel(
        dense.config,
        dense.matrix,
        dense.hessian,
        dense.tokens,
        None,
        lambda o, i, p: (o * i if max(o, i) == tiny_llama.FFN else 1e-3 * o * i) * (1 - (p.sparsity if p else 0)),
    )
    rules = allocate("latency", wide, [(layer, t) for layer in LAYERS for t in MATRIX_TYPES], Unstructured(0.4))
    ffn = np.mean([rule.sparsity for (_, t), rule in rules.items() if t.startswith("ffn")])
    attention = np.mean([rule.sparsity for (_, t), rule in rules.items() if t.startswith("attn")])
    assert ffn > attention + 0.15


@pytest.mark.parametrize("allocation", ["owl", "sensitivity"])
def test_allocated_model(tiny_path, windows, allocation):
    pruned = prune_model(tiny_path, "sparsegpt", "0.5", allocation=allocation)
    assert pruned.realised_sparsity == pytest.approx(0.5, abs=0.002)
    assert pruned.provenance["allocation"] == allocation


def test_walk_is_the_model(tiny, windows):
    """Layer by layer through dense weights, the Hessians are those of one pass."""
    gathered, walk = collect(tiny, windows[0]), Walk(tiny, windows[0])
    for layer in LAYERS:
        for name, hessian in walk.hessians().items():
            np.testing.assert_allclose(hessian, gathered.hessians[name][layer], rtol=1e-5, atol=1e-4)
        walk.step()


@pytest.mark.parametrize("name", ["wanda", "sparsegpt", "alps"])
def test_sequential(tiny, tiny_path, windows, name):
    """The first layer sees dense inputs, so it is pruned alike; the second sees what the pruned first sends on."""
    at_once, stepwise = (prune_model(tiny_path, name, "0.6", sequential=flag) for flag in (False, True))
    assert at_once.provenance["sequential"] is False and stepwise.provenance["sequential"] is True
    for t in MATRIX_TYPES:
        np.testing.assert_allclose(stepwise.weights[0, t], at_once.weights[0, t], rtol=1e-3, atol=1e-4)
    seen = {}
    weights = lambda layer, t: at_once.weights[layer, t] if layer == 0 else tiny.matrix(layer, t)  # noqa: E731

    def hook(layer: int, name: str, x: np.ndarray) -> None:
        seen[layer, name] = seen.get((layer, name), 0) + x.T @ x

    token_nll(tiny, windows[0], weights, hook=hook, layers_only=True)
    expected = method(name).prune(tiny.matrix(1, "attn_q"), seen[1, "attn_in"], windows[0].size, Unstructured(0.6))
    agree = (stepwise.masks[1, "attn_q"] == expected.mask).mean()
    assert agree > 0.99 and not np.array_equal(stepwise.masks[1, "attn_q"], at_once.masks[1, "attn_q"])


def test_sparsegpt_sequential_by_name(tiny_path, windows):
    named = prune_model(tiny_path, "sparsegpt_sequential", "0.5")
    flagged = prune_model(tiny_path, "sparsegpt", "0.5", sequential=True)
    assert named.provenance["sequential"] is True
    for key in flagged.weights:
        np.testing.assert_array_equal(named.weights[key], flagged.weights[key])
