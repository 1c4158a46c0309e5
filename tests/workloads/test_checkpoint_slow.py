"""The real model through another format: SmolLM2-135M as a sharded Hugging Face folder is the same model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

from workloads.calibration import bundled_windows
from workloads.checkpoint import MATRIX_TYPES, Checkpoint, open_checkpoint
from workloads.tokenizer import Tokenizer
from workloads.transformer import token_nll

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gguf():
    return open_checkpoint()


@pytest.fixture(scope="module")
def folder(gguf, tmp_path_factory):
    """float32 in three shards of 180 MB."""
    tensors = {"token_embd.weight": gguf.embedding, "output_norm.weight": gguf.output_norm}
    for layer, matrix_type, weight in gguf.matrices():
        tensors[f"blk.{layer}.{matrix_type}.weight"] = weight
    for layer in range(gguf.config.layers):
        for which in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{which}.weight"] = gguf.norm(layer, which)
    c = gguf.config
    path = tiny_llama.write_hf(
        tmp_path_factory.mktemp("hf") / "smollm2",
        tiny_llama.hf_tensors(tensors),
        shards=3,
        hidden_size=c.d_model,
        intermediate_size=c.ffn,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        head_dim=c.head_dim,
        vocab_size=c.vocab,
        rope_theta=c.rope_theta,
        rms_norm_eps=c.norm_eps,
    )
    Tokenizer(gguf)._tokenizer.save(str(path / "tokenizer.json"))
    yield path
    for shard in path.glob("*.safetensors"):
        shard.unlink()


def test_same_matrices_and_dimensions(gguf, folder):
    read = open_checkpoint(folder)
    assert {**vars(read.config), "name": ""} == {**vars(gguf.config), "name": ""}
    for layer in range(gguf.config.layers):
        for matrix_type in MATRIX_TYPES:
            np.testing.assert_array_equal(read.matrix(layer, matrix_type), gguf.matrix(layer, matrix_type))


def test_same_perplexity_and_tokens(gguf, folder):
    read = Checkpoint(folder, cache_bytes=0)
    window = bundled_windows()["evaluation"][:1, :256]
    np.testing.assert_array_equal(token_nll(read, window), token_nll(gguf, window))
    text = Tokenizer(gguf).decode(window[0])
    np.testing.assert_array_equal(Tokenizer(read).encode(text), Tokenizer(gguf).encode(text))
