"""The forward pass against an independent float64 reference, and its promises."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads import transformer
from workloads.arithmetic import FLOAT, W8A8KV8, Arithmetic, label, per_layer
from workloads.calibration import calibrate, collect
from workloads.checkpoint import INPUTS, MATRIX_INPUT, MATRIX_TYPES
from workloads.quantise import fake_quantise
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


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("float", (None, None, None)),
        ("w8a8kv8", (8, 8, 8)),
        ("wxa8kv4", (None, 8, 4)),
        ("w4afkv16", (4, None, 16)),
        ("w2a16kvf", (2, 16, None)),
    ],
)
def test_arithmetic_round_trip(text, bits):
    assert Arithmetic.parse(text) == Arithmetic(*bits) and str(Arithmetic(*bits)) == text
    assert Arithmetic.parse("wxafkvf") == FLOAT and Arithmetic.parse("w8a8kv8") == W8A8KV8


def test_arithmetics_of_layers_round_trip():
    mixed = per_layer("w8a8kv8*2,wxa8kv4,float", 4)
    assert [str(one) for one in mixed] == ["w8a8kv8", "w8a8kv8", "wxa8kv4", "float", "float"]
    assert label(mixed) == "w8a8kv8*2,wxa8kv4,float*2" and per_layer(label(mixed), 4) == mixed
    assert label(per_layer("w4a4kv4", 4)) == "w4a4kv4"
    assert per_layer([W8A8KV8] * 4 + ["float"], 4)[-1] == FLOAT


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("w8a8", r"arithmetic 'w8a8' is not 'float' or like 'w8a8kv8' \(w: 2..16 or x, a and kv: 2..16 or f\)"),
        ("wfa8kv8", "wfa8kv8"),
        ("w8a1kv8", r"activation_bits must be None or a whole number in 2..16, got 1"),
        ("w8a8kv17", "kv_bits must be"),
        (("w8a8kv8",) * 4, r"one a layer \(2, and one for the head\), got 4"),
        ("w8a8kv8*0,float", "repeat a whole number of times"),
        ("w8a8kv8*²,float", "repeat a whole number of times"),
        ("w8a8kv8*100000,float", "at most 99999"),
        (f"w8a8kv8*{'9' * 5000},float", "at most 99999"),
        (f"w{'9' * 5000}a8kv8", "is not 'float' or like"),
    ],
)
def test_bad_arithmetics(tiny, tokens, given, message):
    with pytest.raises(InputError, match=message):
        token_nll(tiny, tokens, arithmetic=given)


@pytest.mark.parametrize("name", ["float", "w8a8kv8", "wxa4kv4", "w4afkv8"])
def test_one_arithmetic_a_layer_that_are_all_alike_is_that_one(tiny, tokens, name):
    one = token_nll(tiny, tokens, arithmetic=name)
    for same in ((name,) * 2, (name,) * 3, Arithmetic.parse(name), f"{name}*2"):
        np.testing.assert_array_equal(token_nll(tiny, tokens, arithmetic=same), one)


def test_each_layer_has_its_own_arithmetic(tiny, tokens):
    """A layer of float weights beside a layer of integer ones is the float model with those weights rounded."""

    def rounded(layer, t):
        return fake_quantise(tiny.matrix(layer, t), 5) if layer == 1 else tiny.matrix(layer, t)

    mixed = token_nll(tiny, tokens, arithmetic=("float", "w5afkvf", "float"))
    np.testing.assert_allclose(mixed, token_nll(tiny, tokens, rounded), rtol=1e-4, atol=1e-4)
    assert np.abs(mixed - token_nll(tiny, tokens)).max() > 1e-3


def test_more_bits_come_closer_to_float(tiny, tokens):
    """Every operand alone and all together; 16 bits are float but for their last digits."""
    exact = token_nll(tiny, tokens)
    for form in ("w{0}afkvf", "wxa{0}kvf*2,float", "wxafkv{0}", "w{0}a{0}kv{0}"):
        errors = [np.abs(token_nll(tiny, tokens, arithmetic=form.format(b)) - exact).mean() for b in (3, 4, 8, 16)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < errors[2] / 50, form
        assert errors[1] > 3 * errors[2], form


def test_weights_as_given_are_not_rounded_again(tiny, tokens):
    """Weights on the int4 grid already: as given and w4 agree, and w8 cannot but move them by less."""

    def quantised(layer, t):
        return fake_quantise(tiny.matrix(layer, t), 4)

    given = token_nll(tiny, tokens, quantised, ("wxa8kv8", "wxa8kv8", "w8a8kv8"))
    again = token_nll(tiny, tokens, quantised, ("w4a8kv8", "w4a8kv8", "w8a8kv8"))
    np.testing.assert_allclose(given, again, rtol=2e-2, atol=2e-2)
    np.testing.assert_array_equal(given, token_nll(tiny, tokens, quantised, "wxa8kv8"))  # the head goes to int8
    assert np.abs(given - token_nll(tiny, tokens, arithmetic="wxa8kv8")).max() > 0.05


def test_an_edit_enters_the_matrices(tiny, tokens):
    """Nothing changed, by tensor or by matrix: nothing moves. Zeroed inputs: as zeroed columns of the weights."""
    plain = token_nll(tiny, tokens, arithmetic="w8a8kv8")
    readers = {name: [t for t in MATRIX_TYPES if MATRIX_INPUT[t] == name] for name in INPUTS}
    for edit in (lambda layer, name, x: x, lambda layer, name, x: dict.fromkeys(readers[name], x)):
        np.testing.assert_array_equal(token_nll(tiny, tokens, arithmetic="w8a8kv8", edit=edit), plain)
    line = np.ones(tiny_llama.D, np.float32)
    line[::3] = 0

    def edit(layer, name, x):
        return {"ffn_gate": x, "ffn_up": x * line} if name == "ffn_in" else x

    def zeroed(layer, t):
        return tiny.matrix(layer, t) * line if t == "ffn_up" else tiny.matrix(layer, t)

    found = token_nll(tiny, tokens, edit=edit)
    np.testing.assert_allclose(found, token_nll(tiny, tokens, zeroed), rtol=1e-5, atol=1e-5)
    assert np.abs(found - token_nll(tiny, tokens)).max() > 1e-3


def test_the_hook_sees_what_the_edit_is_given(tiny, tokens):
    seen, given = [], []
    token_nll(
        tiny,
        tokens,
        hook=lambda layer, name, x: seen.append(x),
        edit=lambda layer, name, x: (given.append(x), np.zeros_like(x))[1],
        layers_only=True,
    )
    assert len(seen) == len(given) and all(a is b for a, b in zip(seen, given, strict=True))
