"""The forward pass against an independent float64 reference, and its promises."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads import transformer
from workloads.calibration import calibrate, collect
from workloads.checkpoint import INPUTS, MATRIX_TYPES
from workloads.transformer import token_nll


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(3).integers(0, tiny_llama.VOCAB, (2, 12))


def test_float_equals_reference(tiny, tiny_weights, tokens):
    found = token_nll(tiny, tokens)
    expected = np.stack([tiny_llama.reference_nll(tiny_weights, window) for window in tokens])
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_w8a8kv8_equals_integer_reference(tiny, tiny_weights, tokens):
    found = token_nll(tiny, tokens, arithmetic="w8a8kv8")
    expected = np.stack([tiny_llama.reference_nll(tiny_weights, window, int8=True) for window in tokens])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert np.abs(found - token_nll(tiny, tokens)).max() > 1e-3  # it is another arithmetic


def test_untied_head_and_rope_divisors(tmp_path, tiny_weights, tokens):
    from workloads.checkpoint import Checkpoint

    same = {
        **tiny_weights,
        "output.weight": tiny_weights["token_embd.weight"],
        "rope_freqs.weight": np.ones(tiny_llama.HEAD_DIM // 2, np.float32),
    }
    plain = Checkpoint(tiny_llama.write_gguf(tmp_path / "a.gguf", tiny_weights))
    untied = Checkpoint(tiny_llama.write_gguf(tmp_path / "b.gguf", same))
    assert not untied.config.tied_embeddings
    np.testing.assert_array_equal(token_nll(plain, tokens), token_nll(untied, tokens))
    same["rope_freqs.weight"] = np.full(tiny_llama.HEAD_DIM // 2, 8, np.float32)
    scaled = Checkpoint(tiny_llama.write_gguf(tmp_path / "c.gguf", same))
    assert np.abs(token_nll(plain, tokens) - token_nll(scaled, tokens)).max() > 1e-3


def test_blocks_do_not_change_the_result(tiny, tokens, monkeypatch):
    whole = token_nll(tiny, tokens)
    monkeypatch.setattr(transformer, "_QUERY_BLOCK", 5)
    monkeypatch.setattr(transformer, "_VOCAB_BLOCK", 100)
    np.testing.assert_allclose(token_nll(tiny, tokens), whole, rtol=1e-5, atol=1e-5)


def test_causal(tiny, tokens):
    changed = tokens.copy()
    changed[:, 8:] = (changed[:, 8:] + 1) % tiny_llama.VOCAB
    np.testing.assert_allclose(token_nll(tiny, changed)[:, :7], token_nll(tiny, tokens)[:, :7], rtol=1e-6)


@pytest.mark.parametrize("arithmetic", transformer.ARITHMETICS)
def test_windows_are_independent(tiny, tokens, arithmetic):
    together = token_nll(tiny, tokens, arithmetic=arithmetic)
    np.testing.assert_array_equal(together[1:], token_nll(tiny, tokens[1:], arithmetic=arithmetic))


def test_removed_channels_equal_zeroed_channels(tiny, tokens):
    kept = np.arange(0, tiny_llama.FFN, 3)
    line = np.zeros(tiny_llama.FFN, np.float32)
    line[kept] = 1

    def cut(layer, t):
        weight = tiny.matrix(layer, t)
        if t in ("ffn_gate", "ffn_up"):
            return weight[kept]
        return weight[:, kept] if t == "ffn_down" else weight

    def zeroed(layer, t):
        weight = tiny.matrix(layer, t)
        return weight * line[:, None] if t == "ffn_up" else weight

    np.testing.assert_allclose(token_nll(tiny, tokens, cut), token_nll(tiny, tokens, zeroed), rtol=1e-5, atol=1e-5)


def test_hook_sees_what_enters_each_matrix(tiny, tokens):
    seen = []
    token_nll(tiny, tokens, hook=lambda layer, name, x: seen.append((layer, name, x.shape)), layers_only=True)
    c = tiny.config
    features = {"attn_in": c.d_model, "attn_o_in": c.heads * c.head_dim, "ffn_in": c.d_model, "ffn_down_in": c.ffn}
    one_layer = [(0, name, (12, features[name])) for name in INPUTS]
    assert seen[: len(INPUTS)] == one_layer
    assert len(seen) == c.layers * len(tokens) * len(INPUTS)


def test_hessians_and_their_cache(tiny, tokens):
    rows = {}
    token_nll(tiny, tokens, hook=lambda layer, name, x: rows.setdefault((layer, name), []).append(x.astype(float)))
    gathered = collect(tiny, tokens)
    for (layer, name), parts in rows.items():
        x = np.concatenate(parts)
        np.testing.assert_allclose(gathered.hessians[name][layer], x.T @ x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        gathered.mean_square(1, "ffn_down"), np.square(np.concatenate(rows[1, "ffn_down_in"])).mean(0), rtol=1e-4
    )
    calibrate(tiny, tokens)
    again = calibrate(tiny, tokens)  # now from the disk
    for layer in range(tiny.config.layers):
        for t in MATRIX_TYPES:
            np.testing.assert_array_equal(again.hessian(layer, t), gathered.hessian(layer, t))


@pytest.mark.parametrize(
    "windows", [np.zeros((2, 1), int), np.zeros(5, int), np.full((1, 4), tiny_llama.VOCAB), np.full((1, 4), -1)]
)
def test_bad_windows(tiny, windows):
    with pytest.raises(InputError, match="token ids"):
        token_nll(tiny, windows)


def test_bad_arithmetic(tiny, tokens):
    with pytest.raises(InputError, match="did you mean 'w8a8kv8'"):
        token_nll(tiny, tokens, arithmetic="w8a8")
