"""Pruning and measuring a whole (tiny) model through the public function."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads import prune
from workloads.calibration import calibrate
from workloads.perplexity import Meter
from workloads.prune import load_masks, prune_model
from workloads.recipe import Recipe
from workloads.transformer import token_nll
from workloads.variants import VariantStore


@pytest.fixture(autouse=True)
def some_windows(monkeypatch):
    """Random token ids instead of text: the tiny model reads no English."""
    rng = np.random.default_rng(0)
    calibration, evaluation = rng.integers(0, tiny_llama.VOCAB, (4, 24)), rng.integers(0, tiny_llama.VOCAB, (2, 16))
    monkeypatch.setattr(prune, "_calibration_windows", lambda checkpoint, tokens, seed: calibration)
    monkeypatch.setattr(prune, "_evaluation_windows", lambda checkpoint: evaluation)
    return calibration, evaluation


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_prune_and_measure(tiny, tiny_path, some_windows, method):
    steps = []
    pruned = prune_model(tiny_path, method, "50%", evaluate=True, seed=3, progress=lambda *step: steps.append(step))
    assert pruned.realised_sparsity == pytest.approx(0.5, abs=0.01)
    assert set(pruned.masks) == {(layer, t) for layer in range(2) for t in tiny_llama.SHAPES}
    measured = token_nll(tiny, some_windows[1], lambda layer, t: pruned.weights[layer, t], "w8a8kv8").mean()
    assert pruned.perplexity.nll == pytest.approx(measured)
    assert pruned.dense_perplexity.nll == pytest.approx(token_nll(tiny, some_windows[1], arithmetic="w8a8kv8").mean())
    assert pruned.provenance["method"] == method and pruned.provenance["seed"] == 3
    assert pruned.provenance["model_sha256"] == tiny.sha256
    assert bool(pruned.provenance["calibration_sha256"]) == (method != "magnitude")
    assert {what for _, _, what in steps} >= {"pruning", "measuring perplexity"}
    assert method in repr(pruned) and "perplexity" in repr(pruned)


def test_types_layers_and_no_measurement(tiny_path):
    pruned = prune_model(tiny_path, "magnitude", "2:4", types=["attn", "ffn_up"], layers=[1])
    assert set(pruned.masks) == {(1, t) for t in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up")}
    assert pruned.perplexity is None and pruned.dense_perplexity is None
    assert all(mask.mean() == 0.5 for mask in pruned.masks.values())


def test_channels(tiny_path):
    pruned = prune_model(tiny_path, "ffn_channels", "ffn 25%", evaluate=True)
    assert pruned.weights[0, "ffn_gate"].shape == (24, 24) and pruned.weights[1, "ffn_down"].shape == (24, 24)
    assert pruned.masks[0, "ffn_gate"].shape == (32, 24) and pruned.masks[0, "ffn_gate"].mean() == 0.75
    assert prune_model(tiny_path, "ffn_channels", "0.25").provenance["pattern"] == "ffn 0.25"


def test_save_and_load(tiny_path, tmp_path):
    pruned = prune_model(tiny_path, "wanda", "0.3")
    masks, provenance = load_masks(pruned.save(tmp_path / "masks.npz"))
    assert masks.keys() == pruned.masks.keys() and provenance == pruned.provenance
    assert all(np.array_equal(masks[key], pruned.masks[key]) for key in masks)
    assert [p.name for p in tmp_path.glob("*.npz")] == ["masks.npz"] and not list(tmp_path.glob(".*.part"))
    with pytest.raises(InputError, match="cannot be written"):
        pruned.save(tmp_path / "no" / "such" / "folder.npz")
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="not a file of pruned masks"):
        load_masks(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "wandb"}, "did you mean 'wanda'"),
        ({"pattern": "half"}, "pruning pattern 'half'"),
        ({"types": "ffn_dwn"}, "did you mean 'ffn_down'"),
        ({"types": []}, "no matrix type"),
        ({"method": "ffn_channels", "pattern": "2:4"}, r"'ffn 0.1' or '0.5', not '2:4'"),
        ({"method": "ffn_channels", "types": "attn"}, "include all of them"),
        ({"method": "wanda", "pattern": "ffn 0.1"}, "which is for: ffn_channels, heapr"),
        ({"method": "ria", "allocation": "owls"}, "did you mean 'owl'"),
        ({"method": "heads", "allocation": "owl"}, "spreads its budget itself"),
        ({"method": "heads", "sequential": True}, "whole dense model"),
        ({"method": "magnitude", "sequential": True}, "needs no calibration"),
        ({"method": "wanda", "pattern": "2:4", "allocation": "owl"}, "fixes it"),
        ({"layers": [2]}, r"layers must be in 0\.\.1"),
        ({"layers": []}, r"layers must be in 0\.\.1"),
        ({"method": "heads", "pattern": "heads 0.01"}, r"'heads 0.01' removes none of 4 query heads; one is 0.25"),
        ({"method": "heads", "pattern": "kv_heads 0.2"}, r"'kv_heads 0.2' removes none of 2 KV heads; one is 0.5"),
        ({"method": "layers", "pattern": "0.1"}, r"'layers 0.1' removes none of 2 layers; one is 0.5"),
        ({"method": "ffn_channels", "pattern": "0.01"}, r"'ffn 0.01' removes none of 32 FFN channels; one is 0.0312"),
        ({"method": "heapr", "pattern": "0.005"}, r"'ffn 0.005' removes none of 64 FFN channels"),
        ({"method": "struprune", "pattern": "heads 0.05"}, r"removes none of 8 query heads"),
        ({"method": "sevedo", "pattern": "rank 24 + 0.5"}, r"attn_q is 24 x 24; the rank must be below 24, got 24"),
        ({"method": "sevedo", "pattern": "rank 12 + 0.5"}, r"attn_k is 12 x 24; the rank must be below 12, got 12"),
        ({"windows": "some text"}, r"windows must be whole numbers \[n, length\] \(token ids\), got text"),
        ({"windows": np.zeros((2, 8))}, r"windows must be whole numbers .*, got float64"),
        ({"windows": [[1, 2], [3]]}, r"windows must be whole numbers .*, got rows of different lengths"),
        ({"windows": np.arange(8)}, r"windows must be \[n, length\], n >= 1 windows of at least 1 tokens, got \(8,\)"),
        ({"windows": np.full((1, 8), 256)}, r"windows: token ids must be in 0\.\.255, got 256\.\.256"),
        ({"evaluation": np.full((1, 8), -1)}, r"evaluation: token ids must be in 0\.\.255, got -1\.\.-1"),
        ({"evaluation": np.ones((3, 1), int)}, r"evaluation must be .* at least 2 tokens, got \(3, 1\)"),
    ],
)
def test_bad_requests(tiny_path, arguments, message):
    with pytest.raises(InputError, match=message):
        prune_model(tiny_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "heads", "types": "ffn"}, "include all of them"),
        ({"method": "struprune", "types": "ffn"}, "include all of them"),
        ({"method": "hape", "pattern": "2:4"}, "takes patterns like"),
        ({"method": "layers", "sequential": True}, "whole dense model"),
    ],
)
def test_bad_requests_are_refused_before_a_model_is_opened(arguments, message):
    with pytest.raises(InputError, match=message):
        prune_model("no/such/model.gguf", **arguments)


def test_too_few_calibration_tokens(tiny, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(InputError, match="at least 512"):
        prune._calibration_windows(tiny, 100, 0)


def test_a_model_without_a_tokenizer_needs_token_ids(tmp_path, tiny_weights, monkeypatch, some_windows):
    monkeypatch.undo()
    monkeypatch.setenv("SPARCHITECT_CACHE", str(tmp_path / "cache"))
    model = tiny_llama.write_hf(tmp_path / "mini", tiny_llama.hf_tensors(tiny_weights))
    with pytest.raises(InputError, match=r"mini: no tokenizer\.json in it: give token ids \(--windows FILE\.npy, or "):
        prune_model(model)
    calibration, evaluation = some_windows
    with pytest.raises(InputError, match=r"no tokenizer\.json in it: .*--evaluation FILE\.npy.*evaluation="):
        prune_model(model, windows=calibration, evaluate=True)
    found = prune_model(model, windows=calibration.astype(np.uint16), evaluate=True, evaluation=evaluation)
    assert found.provenance["calibration_tokens"] == calibration.size and found.perplexity.tokens == 30


def test_variant_store_agrees_with_prune_model(tiny, tiny_path, some_windows):
    """Variants on disk (packed masks, float16 weights) are the masks and weights of a direct call."""
    store = VariantStore(tiny, calibrate(tiny, some_windows[0]))
    for variant, method, pattern in (
        ("wanda_30", "wanda", "30%"),
        ("sparsegpt_2_4", "sparsegpt", "2:4"),
        ("magnitude_4_8", "magnitude", "4:8"),
        ("ffn_channels_20", "ffn_channels", "ffn 0.2"),
    ):
        direct = prune_model(tiny_path, method, pattern)
        for (layer, t), mask in direct.masks.items():
            np.testing.assert_array_equal(store.mask(variant, layer, t), mask)
            np.testing.assert_allclose(store.weight(variant, layer, t), direct.weights[layer, t], rtol=1e-3)
        assert store.sparsity(Recipe.uniform(variant)) == pytest.approx(direct.realised_sparsity)
    assert not list(store.folder.glob(".*.part"))
    with pytest.raises(InputError, match="did you mean"):
        store.ensure("wanda_33")


def test_recipes_compose(tiny, some_windows):
    store = VariantStore(tiny, calibrate(tiny, some_windows[0]))
    recipe = Recipe.of(attn_q="wanda_50", attn_v="sparsegpt_30", ffn="ffn_channels_10")
    measured = Meter(tiny, some_windows[1]).recipe(recipe, store)
    weights = {
        (layer, t): store.weight(recipe[t], layer, t) for layer in range(tiny.config.layers) for t in tiny_llama.SHAPES
    }
    assert weights[0, "ffn_up"].shape == (29, 24)
    expected = token_nll(tiny, some_windows[1], lambda layer, t: weights[layer, t], "w8a8kv8").mean()
    assert measured.nll == pytest.approx(expected) and measured.recipe == recipe.key
    assert measured.realised_sparsity == pytest.approx(store.sparsity(recipe)) and measured.tokens == 30
    assert "w8a8kv8" in str(measured) and len(measured.window_nll) == 2 and measured.nll_stderr > 0
