"""GGUF round trip and the ways a file can be wrong."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint, undo_rope_permutation


def test_round_trip(tiny, tiny_weights):
    c = tiny.config
    assert (c.layers, c.d_model, c.ffn, c.heads, c.kv_heads, c.head_dim, c.vocab) == (2, 24, 32, 4, 2, 6, 256)
    assert c.rope_theta == 1000.0 and c.tied_embeddings and c.norm_eps == pytest.approx(1e-5)
    for layer in range(c.layers):
        for matrix_type in MATRIX_TYPES:
            weight = tiny.matrix(layer, matrix_type)
            assert weight.dtype == np.float32 and weight.shape == c.matrix_shape(matrix_type)
            np.testing.assert_array_equal(weight, tiny_weights[f"blk.{layer}.{matrix_type}.weight"])
    np.testing.assert_array_equal(tiny.head, tiny_weights["token_embd.weight"])
    assert set(MATRIX_INPUT) == set(MATRIX_TYPES)


def test_rope_permutation_is_undone():
    weight = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_array_equal(undo_rope_permutation(tiny_llama.interleave(weight, 2), 2), weight)


def test_quantised_tensors_are_dequantised(tmp_path, tiny_weights):
    import gguf

    rng = np.random.default_rng(1)
    dense = rng.normal(size=(tiny_llama.D, tiny_llama.FFN)).astype(np.float32)
    path = tmp_path / "q8.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    for key, value in (("block_count", 2), ("embedding_length", 24), ("feed_forward_length", 32), ("head_count", 4)):
        getattr(writer, f"add_{key}")(value)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, tensor in tiny_weights.items():
        if name == "blk.0.ffn_down.weight":
            packed = gguf.quants.quantize(dense, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = Checkpoint(path)
    assert read.config.rope_theta == 10000.0  # the format's default
    np.testing.assert_allclose(read.matrix(0, "ffn_down"), dense, atol=np.abs(dense).max() / 127)


def one_line(raised) -> str:
    text = str(raised.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InputError) as raised:
        Checkpoint(tmp_path / "none.gguf")
    assert "no such file" in one_line(raised)
    foreign = tmp_path / "foreign.gguf"
    foreign.write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(InputError) as raised:
        Checkpoint(foreign)
    assert "not a GGUF file" in one_line(raised)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_truncated_file(tmp_path, tiny_path, share):
    whole = tiny_path.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: max(4, int(share * len(whole)))])
    with pytest.raises(InputError) as raised:
        Checkpoint(cut)
    assert "cut.gguf" in one_line(raised)


@pytest.mark.parametrize("seed", range(5))
def test_garbled_header(tmp_path, tiny_path, seed):
    data = bytearray(tiny_path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, 400, 40):
        data[place] = rng.integers(256)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(bytes(data))
    with pytest.raises(InputError) as raised:
        Checkpoint(broken)
    one_line(raised)


def test_other_architecture(tmp_path, tiny_weights):
    path = tiny_llama.write_gguf(tmp_path / "gpt.gguf", tiny_weights, architecture="gpt2")
    with pytest.raises(InputError, match="'gpt2'; only 'llama' models are read"):
        Checkpoint(path)


def test_lacking_tensor_wrong_shape_and_bias(tmp_path, tiny_weights):
    less = {name: t for name, t in tiny_weights.items() if name != "blk.1.ffn_up.weight"}
    with pytest.raises(InputError, match=r"no tensor blk\.1\.ffn_up\.weight"):
        Checkpoint(tiny_llama.write_gguf(tmp_path / "less.gguf", less))
    turned = {**tiny_weights, "blk.1.ffn_up.weight": np.ascontiguousarray(tiny_weights["blk.1.ffn_up.weight"].T)}
    with pytest.raises(InputError, match=r"blk\.1\.ffn_up\.weight is \(24, 32\), expected \(32, 24\)"):
        Checkpoint(tiny_llama.write_gguf(tmp_path / "turned.gguf", turned))
    biased = {**tiny_weights, "blk.0.attn_q.bias": np.zeros(24, np.float32)}
    with pytest.raises(InputError, match="bias"):
        Checkpoint(tiny_llama.write_gguf(tmp_path / "biased.gguf", biased))


def test_missing_extra_names_the_remedy(tiny_path, monkeypatch):
    real = builtins.__import__

    def without_gguf(name, *args, **kwargs):
        if name.split(".")[0] == "gguf":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gguf)
    with pytest.raises(InputError, match=r"pip install 'sparchitect\[llm\]'"):
        Checkpoint(tiny_path)
