"""Vector work and live bytes that families differ in, by hand: activations, biases, residual adds, embeddings."""

from __future__ import annotations

import pytest

from workloads.llm import llm
from workloads.segment import Segment
from workloads.steps import Numerics

T = 4


def ops_of(name, phase="prefill", **more):
    return llm(name, phase, tokens=T, **more).ops.set_index("name")


@pytest.mark.parametrize(
    ("name", "op", "alu", "special"),
    [
        ("gpt2_small", "gelu", 5 + 1, 2),  # and one bias
        ("opt_125m", "relu", 1 + 1, 0),
        ("llama_7b", "swiglu", 3, 2),
        ("gemma_2b", "geglu", 5 + 1, 2),  # gelu, and times the other half
    ],
)
def test_activations(name, op, alu, special):
    found = ops_of(name, layers=1)
    hidden = T * found.loc["layer0.ffn_down", "k"]
    assert found.loc[f"layer0.{op}", "alu_ops"] == alu * hidden
    assert found.loc[f"layer0.{op}", "special_function_ops"] == special * hidden


@pytest.mark.parametrize(
    ("name", "attention", "ffn"),
    [("llama_7b", 1, 1), ("gpt2_small", 2, 2), ("qwen2_7b", 1, 1), ("phi2", 0, 4), ("bert_base", 2, 2)],
)
def test_residual_adds_and_output_biases(name, attention, ffn):
    """One add of the stream a part, one more for its bias; a parallel block does all four at its end."""
    found = ops_of(name, "encode" if name == "bert_base" else "prefill", layers=1)
    stream = T * found.loc["layer0.attn_output", "n"]
    assert found.loc["layer0.ffn_add", "alu_ops"] == ffn * stream
    assert ("layer0.attn_add" in found.index) == bool(attention)
    assert not attention or found.loc["layer0.attn_add", "alu_ops"] == attention * stream


def test_embeddings():
    plain, learned, scaled = (ops_of(n).loc["embedding"] for n in ("llama_7b", "gpt2_small", "gemma_2b"))
    assert plain["alu_ops"] == 0 and plain["dram_read_bytes"] == T * 4096 * 2
    assert learned["alu_ops"] == T * 768 and learned["dram_read_bytes"] == 2 * T * 768 * 2
    assert scaled["alu_ops"] == T * 2048
    bert = ops_of("bert_base", "encode").loc["embedding"]
    assert bert["alu_ops"] == 2 * T * 768 + 4 * T * 768 + 4 * T  # positions, token types, and a norm


def test_heads():
    assert ops_of("phi2").loc["argmax", "alu_ops"] == 3 * 51200
    assert ops_of("gemma2_2b").loc["argmax", "special_function_ops"] == 2 * 256000
    pooled = ops_of("bert_base", "encode").loc["pooler_tanh"]
    assert pooled["alu_ops"] == 4 * 768 and pooled["read_bytes"] == 768 * 2


def test_a_tensor_lives_until_its_last_read_before_it_is_written_again():
    s = Segment("", 0, Numerics(), {"x": 1.0})
    s.vector("make", [], {"x": 1}, {"t": 10})
    s.vector("use", [], {"t": 10}, {"a": 100})
    s.vector("idle", [], {"x": 1}, {"b": 1000})
    s.vector("make_again", [], {"b": 1000}, {"t": 20})
    s.vector("use_again", [], {"t": 20, "a": 100}, {"out": 5})
    live = [op.numbers["live_out_bytes"] for op in s.ops()]
    assert live == [1 + 10, 1 + 100, 100 + 1000, 100 + 20, 5]


def test_fetched_experts_are_those_that_were_hit():
    fetch = llm("mixtral_8x7b", "decode", 64, context=4, layers=1, routing={"offloaded": 0.25}).ops.set_index("name")
    assert fetch.loc["layer0.expert_fetch", "dram_read_bytes"] == 8 * 3 * 4096 * 14336 * 0.25
