"""One suite that every method of activation sparsity runs; what each promises; the measured rows of the bundle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny_llama

from sim.errors import InputError
from sim.trace import gemm
from workloads.activation_sparsity import Facts, SparseInputs, activation_method, activation_methods
from workloads.activation_sparsity.allocation import MOST, STEP, allocate, path, search, step_sizes
from workloads.activation_sparsity.facts import READERS
from workloads.activation_sparsity.measure import LEVELS, METHODS, WINDOWS, edit_of, mean_density, measure, row, tasks
from workloads.activation_sparsity.table import densities, measured, perplexities
from workloads.activations import by_tensor, with_activation_zeros
from workloads.activations import measured as thresholds_table
from workloads.calibration import bundled_windows, windows_sha256
from workloads.checkpoint import INPUTS, MATRIX_TYPES
from workloads.perplexity import Meter
from workloads.pruning.select import removed_count
from workloads.quality import read_measured
from workloads.transformer import token_nll

NAMES = activation_methods()
CALIBRATED = tuple(name for name in NAMES if activation_method(name).needs_calibration)
EXACT = tuple(name for name in NAMES if activation_method(name).exact)
every_method = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A cache that all tests here share: the greedy search runs once."""
    return tmp_path_factory.mktemp("searched")


@pytest.fixture
def facts(tiny, searched, monkeypatch) -> Facts:
    """The tiny model and four calibration windows of 48 tokens, every value in the quantiles."""
    monkeypatch.setenv("SPARCHITECT_CACHE", str(searched))
    return Facts(tiny, np.random.default_rng(3).integers(0, tiny_llama.VOCAB, (4, 48)), every=1)


def activations(facts: Facts) -> dict[tuple[int, str], np.ndarray]:
    """What enters the matrices of the dense model on the calibration windows, [tokens, features]."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    hook = lambda layer, name, x: found.setdefault((layer, name), []).append(x)  # noqa: E731
    token_nll(facts.checkpoint, facts.windows, hook=hook, layers_only=True)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def masks(kept: np.ndarray | dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """One mask a matrix type."""
    return dict(kept) if isinstance(kept, dict) else dict.fromkeys(READERS[name], kept)


def test_methods_are_registered():
    assert set(NAMES) == set(METHODS) == {"dynatran", "teal", "teal_blockwise", "topk", "wina"}
    assert all(type(activation_method(name)).__doc__ for name in NAMES)
    with pytest.raises(InputError, match="did you mean 'wina'"):
        activation_method("wino")


@every_method
@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_sparsity_out_of_range(facts, name, sparsity):
    with pytest.raises(InputError, match=rf"sparsity of {name} must be at least 0 and below 1"):
        activation_method(name).keep(facts, sparsity)


@every_method
@pytest.mark.parametrize("arithmetic", ["float", "w8a8kv8"])
def test_nothing_dropped_is_the_dense_model_to_the_bit(facts, name, arithmetic):
    edit = SparseInputs(activation_method(name).keep(facts, 0.0), texts=4)
    found = token_nll(facts.checkpoint, facts.windows, arithmetic=arithmetic, edit=edit)
    np.testing.assert_array_equal(found, token_nll(facts.checkpoint, facts.windows, arithmetic=arithmetic))
    assert len(edit.densities) == 2 * (7 if activation_method(name).per_matrix else 4)
    assert all(one["density"] == 1 for one in edit.densities)


@every_method
def test_every_token_is_masked_alone_and_nothing_else_changes(facts, name):
    keep = activation_method(name).keep(facts, 0.5)
    for (layer, tensor), x in activations(facts).items():
        before = x.copy()
        together = masks(keep(layer, tensor, x), tensor)
        assert tuple(together) == READERS[tensor]
        for i in (0, 7, 50):
            alone = masks(keep(layer, tensor, x[i : i + 1]), tensor)
            for t in together:
                np.testing.assert_array_equal(alone[t][0], together[t][i])
        np.testing.assert_array_equal(x, before)


@every_method
def test_a_higher_sparsity_drops_more_of_the_same(facts, name):
    """Kept at 70 % is kept at 40 %, for scores are compared with a threshold or with each other."""
    low, high = (activation_method(name).keep(facts, s) for s in (0.4, 0.7))
    for (layer, tensor), x in activations(facts).items():
        more, fewer = (masks(keep(layer, tensor, x), tensor) for keep in (low, high))
        assert all((more[t] | ~fewer[t]).all() for t in more)


@every_method
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_the_share_dropped_is_of_all_products(facts, name, sparsity):
    """On the calibration tokens, whose quantiles the thresholds are; a top-k rounds to whole features."""
    keep = activation_method(name).keep(facts, sparsity)
    kept = total = 0.0
    for (layer, tensor), x in activations(facts).items():
        for t, mask in masks(keep(layer, tensor, x), tensor).items():
            outputs = facts.weights(layer, t).shape[0]
            kept, total = kept + mask.sum() * outputs, total + mask.size * outputs
    assert 1 - kept / total == pytest.approx(sparsity, abs=0.02)


@pytest.mark.parametrize("name", EXACT)
def test_exactly_so_many_of_every_token(facts, name):
    """Ties too: a token of equal values, one of zeros."""
    keep = activation_method(name).keep(facts, 0.4)
    x = np.random.default_rng(0).standard_normal((5, tiny_llama.D)).astype(np.float32)
    x[1], x[2] = 1, 0
    for mask in masks(keep(0, "attn_in", x), "attn_in").values():
        assert (mask.sum(axis=1) == tiny_llama.D - removed_count(0.4, tiny_llama.D)).all()


@pytest.mark.parametrize("name", ["teal", "teal_blockwise"])
def test_thresholds_hit_their_share_of_every_tensor(facts, name):
    shares = allocate(facts, 0.5) if name == "teal_blockwise" else dict.fromkeys(facts.samples, 0.5)
    keep = activation_method(name).keep(facts, 0.5)
    for (layer, tensor), x in activations(facts).items():
        assert 1 - keep(layer, tensor, x).mean() == pytest.approx(shares[layer, tensor], abs=1e-3)


def test_dynatran_has_one_threshold(facts):
    keep = activation_method("dynatran").keep(facts, 0.5)
    line = np.linspace(0, 10, tiny_llama.FFN, dtype=np.float32)[None]
    assert len({keep(layer, tensor, line).tobytes() for layer, tensor in facts.samples}) == 1
    lost = [1 - keep(layer, tensor, x).mean() for (layer, tensor), x in activations(facts).items()]
    assert max(lost) - min(lost) > 0.2  # tensors differ in size, and it does not know


def test_wina_weighs_by_columns(tiny, facts):
    """Of equal norms it is the top-k; a column of zeros goes first, however large its activation."""

    def level(layer, t):
        weight = tiny.matrix(layer, t)
        return weight / np.linalg.norm(weight, axis=0)

    def dead(layer, t):
        weight = tiny.matrix(layer, t).copy()
        weight[:, 3] = 0
        return weight

    x = np.random.default_rng(1).standard_normal((20, tiny_llama.D)).astype(np.float32)
    x[:, 3] = 100
    topk = activation_method("topk").keep(facts, 0.5)(0, "attn_in", x)
    equal = activation_method("wina").keep(Facts(tiny, facts.windows, level), 0.5)(0, "attn_in", x)
    for mask in equal.values():
        assert (mask == topk).mean() > 0.999  # norms are 1 to the last digit of float32
    without = activation_method("wina").keep(Facts(tiny, facts.windows, dead), 0.5)(0, "attn_in", x)
    assert topk[:, 3].all() and not any(mask[:, 3].any() for mask in without.values())
    ours = activation_method("wina").keep(facts, 0.5)(0, "attn_in", x)
    assert not np.array_equal(ours["attn_q"], ours["attn_v"])  # each matrix by its own norms


def test_weight_norms_help_where_columns_differ(tiny, facts):
    """The product's error of one matrix whose columns differ in norm: smaller than the top-k's of the same size."""
    scale = np.random.default_rng(5).lognormal(0, 1, tiny_llama.D).astype(np.float32)
    uneven = Facts(
        tiny, facts.windows, lambda layer, t: tiny.matrix(layer, t) * (scale if t in READERS["ffn_in"] else 1)
    )
    weight = uneven.weights(0, "ffn_up")
    x = np.random.default_rng(1).standard_normal((64, tiny_llama.D)).astype(np.float32)
    lost = {}
    for name in ("wina", "topk"):
        mask = masks(activation_method(name).keep(uneven, 0.5)(0, "ffn_in", x), "ffn_in")["ffn_up"]
        lost[name] = np.linalg.norm(np.where(mask, 0, x) @ weight.T)
    assert lost["wina"] < 0.8 * lost["topk"]


def test_the_first_tokens_stay_whole(facts):
    seen = {}
    keep = activation_method("topk").keep(facts, 0.5)
    for dense_tokens in (0, 1, 3):
        edit = SparseInputs(keep, dense_tokens, texts=1)
        x = np.random.default_rng(0).standard_normal((40, tiny_llama.D)).astype(np.float32)
        seen[dense_tokens] = edit(0, "attn_in", x)
        assert (seen[dense_tokens][:dense_tokens] == x[:dense_tokens]).all()
        assert edit.densities[0]["density"] == 0.5 and ("tokens_32" in edit.densities[0])
    np.testing.assert_array_equal(seen[0][3:], seen[3][3:])
    assert (seen[0][:3] == 0).any()


def test_only_the_tensors_asked_for(facts):
    edit = SparseInputs(activation_method("topk").keep(facts, 0.5), texts=4, tensors=("ffn_down_in",))
    token_nll(facts.checkpoint, facts.windows, edit=edit)
    assert [(one["layer"], one["tensor"]) for one in edit.densities] == [(0, "ffn_down_in"), (1, "ffn_down_in")]
    down = sum(facts.weights(layer, "ffn_down").size for layer in range(2))
    whole = sum(facts.weights(layer, t).size for layer in range(2) for t in MATRIX_TYPES)
    assert mean_density(facts, pd.DataFrame(edit.densities)) == pytest.approx(1 - 0.5 * down / whole)


def test_samples_are_every_so_manieth_value(tiny, facts):
    """Whatever the windows are cut into."""
    some = Facts(tiny, facts.windows, every=61).samples
    for key, x in activations(facts).items():
        np.testing.assert_allclose(some[key], np.sort(np.abs(x).reshape(-1)[::61]), rtol=1e-5, atol=1e-6)


def test_the_greedy_allocation(facts):
    """Every layer drops what was asked, no tensor more than the most, and a lower sparsity is on the way to a higher.
    Its own error is no larger than that of equal shares."""
    taken = path(facts)
    np.testing.assert_array_equal(taken, search(facts))
    np.testing.assert_array_equal(taken, path(facts))  # now from the cache
    before = dict.fromkeys(facts.samples, 0.0)
    for sparsity in (0.1, 0.3, 0.5, 0.7):
        shares = allocate(facts, sparsity)
        assert all(before[key] <= shares[key] <= MOST for key in shares)
        for layer in range(2):
            cost = STEP / step_sizes(facts, layer)
            assert sum(shares[layer, n] * c for n, c in zip(INPUTS, cost, strict=True)) == pytest.approx(sparsity)
        before = shares


@pytest.mark.parametrize("task", [t for t in tasks() if t.sparsity in (0, 0.5) and t.domain == "wikipedia"], ids=str)
def test_a_row_says_what_was_measured(facts, task, monkeypatch):
    monkeypatch.setitem(WINDOWS, "wikipedia", 4)
    meter = Meter(facts.checkpoint, facts.windows, domain="wikipedia")
    dense, _ = measure(tasks()[0], meter, facts)
    dense_row = row(tasks()[0], dense, pd.DataFrame({"domain": []}), facts, None)
    found, edit = measure(task, meter, facts)
    line = row(task, found, pd.DataFrame([dense_row]), facts, edit)
    expected = token_nll(facts.checkpoint, facts.windows, arithmetic="w8a8kv8", edit=edit_of(task, facts)).mean()
    assert line["ppl"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert line["delta_nll"] == pytest.approx(expected - dense.nll, abs=1e-4)
    calibrated = task.method in CALIBRATED
    assert line["calibration_sha256"] == (windows_sha256(facts.windows) if calibrated else "")
    if task.setting == "default":
        assert line["density"] == pytest.approx(1 - task.sparsity, abs=0.08)
    assert line["density"] <= line["tokens_2"] <= line["tokens_4"] <= 1


def test_the_bundle_is_as_the_code_says():
    """Rows of the tasks, once each, on the bundled windows and the dense rows of the other tables."""
    table = perplexities()
    identities = {task.identity for task in tasks()}
    names = ["method", "sparsity", "setting", "domain"]
    assert set(table[names].itertuples(index=False, name=None)) <= identities
    assert not table.duplicated(names).any() and (table["arithmetic"] == "w8a8kv8").all()
    wikipedia = table[table["domain"] == "wikipedia"]
    assert set(wikipedia["windows_sha256"]) == {windows_sha256(bundled_windows()["evaluation"])}
    dense = wikipedia[wikipedia["method"] == "dense"].iloc[0]
    other = read_measured().set_index(["key", "arithmetic"]).loc[("dense", "w8a8kv8")]
    assert dense["ppl"] == pytest.approx(float(other["ppl"]), abs=2e-4)
    assert dense["model_sha256"] == other["model_sha256"]
    for method in ("dynatran", "teal", "topk", "wina"):
        assert measured(method, 0.5) is not None and measured(method, 0.55) is None


def test_what_the_measured_rows_show():
    """More dropped costs more; what is asked is what is left; unions grow; TEAL's table and its pass agree."""
    table = perplexities().query("setting == 'default' and method != 'dense'")
    for _, rows in table.groupby(["method", "domain"]):
        rows = rows.sort_values("sparsity")
        assert (np.diff(rows["delta_nll"]) > 0).all()
        more = 1 - rows["density"] - rows["sparsity"]  # a pass with zeros is quieter than the one calibrated on
        assert more.between(-0.04, 0.15).all() and (rows["method"].isin(CALIBRATED).all() or more.abs().max() < 1e-3)
        steps = rows[["density", "tokens_2", "tokens_4", "tokens_8"]].to_numpy()
        assert (np.diff(steps, axis=1) > -0.003).all()
    for method in sorted(set(table["method"]) - {"teal"}):
        rows = densities(method)
        assert set(rows["sparsity"]) <= set(LEVELS)
        tensors = MATRIX_TYPES if activation_method(method).per_matrix else INPUTS
        assert set(rows["tensor"]) == set(tensors) and not rows.duplicated(["sparsity", "layer", "tensor"]).any()
        one = rows[rows["sparsity"] == 0.5]
        assert len(one) == 30 * len(tensors) and one[["density", "tokens_8", "texts_8"]].stack().between(0, 1).all()
    before = by_tensor(thresholds_table())["density"].xs(0.5, level="sparsity").mean()
    assert measured("teal", 0.5)["density"] == pytest.approx(before, abs=0.03)


@pytest.mark.slow
def test_one_window_of_the_real_model():
    """The first window of WINA at 50 % on the real weights is the row's, as far as last digits of another BLAS, which
    tip masks over, let it be."""
    import json

    from workloads.checkpoint import open_checkpoint

    checkpoint, task = open_checkpoint(), next(t for t in tasks() if t.method == "wina" and t.sparsity == 0.5)
    facts = Facts(checkpoint, bundled_windows()["calibration"][::4])
    windows = bundled_windows()["evaluation"][:1]
    found = token_nll(checkpoint, windows, arithmetic="w8a8kv8", edit=edit_of(task, facts)).mean()
    stored = json.loads(measured("wina", 0.5)["window_nll"])
    assert found == pytest.approx(stored[0], abs=0.15)


@pytest.mark.parametrize("level", ["threshold_²", "threshold_" + "9" * 5000, "threshold_", "teal_50"])
def test_a_level_that_is_no_share(level):
    with pytest.raises(InputError, match="level must be a share of inputs dropped"):
        with_activation_zeros(gemm(8, 8, 8), level)
