"""Traces of language models against formulas written out by hand: MACs, weight, KV and live bytes, vector work."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.errors import InputError
from sim.vector_ops import VECTOR_OPS, operations
from workloads import zoo
from workloads.llm import llm
from workloads.shapes import layer_ops

MODELS = (
    "llama2_13b",
    "llama2_7b",
    "llama3_2_1b",
    "llama3_8b",
    "smollm2_135m",
    "smollm2_360m",
    "tinyllama_1_1b",
)
LAYER = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "rotary_kv_append",
    "attn_scores",
    "softmax",
    "attn_values",
    "attn_quantise",
    "attn_output",
    "attn_add",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "swiglu",
    "ffn_quantise",
    "ffn_down",
    "ffn_add",
]
RUNS = [
    {"phase": "prefill", "tokens": 128},
    {"phase": "prefill", "tokens": 16, "context": 48, "batch": 2},
    {"phase": "decode", "context": 512},
    {"phase": "decode", "context": 0, "batch": 3},
]


def matrix_elements(c):
    """Elements of the seven matrices of one layer."""
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    return c.d_model * (2 * q + 2 * kv) + 3 * c.d_model * c.ffn


def total(ops, *columns):
    return float(np.prod([ops[c].to_numpy(dtype=float) for c in columns], axis=0).sum())


def weights(trace):
    return trace.ops[(trace.ops["kind"] == "gemm") & (trace.ops["weight_source"] == "weights")]


def kv(trace):
    return trace.ops[trace.ops["weight_source"] == "kv"]


def test_order_of_ops():
    names = list(llm("smollm2_135m", tokens=8).ops["name"])
    expected = ["embedding", *(f"layer{i}.{n}" for i in range(30) for n in LAYER), "final_norm", "lm_head", "argmax"]
    assert names == expected


@pytest.mark.parametrize("model", MODELS)
def test_prefill_macs(model):
    c, batch, tokens = zoo.config(model), 2, 96
    linear = batch * tokens * matrix_elements(c)
    attention = 2 * batch * c.heads * tokens * tokens * c.head_dim
    assert llm(model, "prefill", batch, tokens).macs == c.layers * (linear + attention) + batch * c.vocab * c.d_model


@pytest.mark.parametrize("model", MODELS)
def test_decode_macs(model):
    c, batch, context = zoo.config(model), 4, 300
    attention = 2 * batch * c.heads * (context + 1) * c.head_dim
    expected = c.layers * (batch * matrix_elements(c) + attention) + batch * c.vocab * c.d_model
    assert llm(model, "decode", batch, context=context).macs == expected


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bits", [4, 8])
def test_weight_bytes_are_the_matrices_and_the_head(model, bits):
    c = zoo.config(model)
    ops = weights(llm(model, "decode", context=7, weight_bits=bits))
    expected = (c.layers * matrix_elements(c) + c.vocab * c.d_model) * bits / 8
    assert total(ops, "batch", "stored_elements", "weight_bits") / 8 == expected


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kv_bits", [8, 16])
def test_decode_reads_the_cache_once_and_appends_one_position(model, kv_bits):
    c, batch, context = zoo.config(model), 3, 700
    trace = llm(model, "decode", batch, context=context, kv_bits=kv_bits)
    position = 2 * c.layers * c.kv_heads * c.head_dim * kv_bits / 8 * batch
    assert total(kv(trace), "batch", "stored_elements", "weight_bits") / 8 == position * context
    assert trace.ops["dram_write_bytes"].sum() == position
    scores = kv(trace)[kv(trace)["matrix_type"] == "attn_scores"]
    assert (scores["n"] == context + 1).all() and (scores["stored_elements"] == context * c.head_dim).all()


def test_prefill_appends_every_position_and_reads_it_back():
    c, tokens, context = zoo.config("llama3_8b"), 32, 64
    trace = llm("llama3_8b", tokens=tokens, context=context, layers=1)
    position = 2 * c.kv_heads * c.head_dim
    assert trace.ops["dram_write_bytes"].sum() == position * tokens
    assert total(kv(trace), "batch", "stored_elements") == position * (tokens + context)


def test_attention_groups_heads_that_share_kv():
    ops = llm("llama3_8b", "decode", 2, context=99).ops.set_index("name")
    scores, values = ops.loc["layer5.attn_scores"], ops.loc["layer5.attn_values"]
    assert tuple(scores[["batch", "m", "n", "k"]]) == (2 * 8, 4, 100, 128)
    assert tuple(values[["batch", "m", "n", "k"]]) == (2 * 8, 4, 128, 100)
    assert scores["output_bits"] == 16 and scores["accumulator_bits"] == 32


def test_head_sees_the_last_token_of_each_sequence():
    ops = llm("llama2_7b", batch=3, tokens=10).ops.set_index("name")
    assert tuple(ops.loc["lm_head", ["m", "n", "k"]]) == (3, 32000, 4096)
    assert ops.loc["embedding", "dram_read_bytes"] == 3 * 10 * 4096 * 2
    assert ops.loc["final_norm", "read_bytes"] == 3 * 4096 * 2
    assert ops.loc["argmax", "read_bytes"] == 3 * 32000 * 2 and ops.loc["argmax", "live_out_bytes"] == 3 * 4


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("model", ["smollm2_135m", "llama3_8b"])
def test_live_bytes_are_handed_from_op_to_op(model, run):
    trace = llm(model, **run)
    ops = trace.ops
    assert (ops["live_out_bytes"].to_numpy()[:-1] == ops["live_in_bytes"].to_numpy()[1:]).all()
    own = np.where(
        ops["kind"] == "vector", ops["write_bytes"], ops["batch"] * ops["m"] * ops["n"] * ops["output_bits"] / 8
    )
    assert (ops["live_out_bytes"] >= own).all()
    taken = np.where(
        ops["kind"] == "vector", ops["read_bytes"], ops["batch"] * ops["m"] * ops["k"] * ops["activation_bits"] / 8
    )
    assert (ops["live_in_bytes"] >= taken).all()
    residual = run.get("batch", 1) * trace.meta["tokens"] * zoo.config(model).d_model * 2
    layered = ops[ops["layer"] >= 0]
    assert (layered.loc[layered["name"].str.endswith("attn_norm"), "live_in_bytes"] == residual).all()


def test_live_bytes_of_a_layer_by_hand():
    t, d, q, kv_width, ffn, heads = 8, 576, 576, 192, 1536, 9
    live = llm("smollm2_135m", tokens=t, layers=1).ops["live_out_bytes"].tolist()
    x, scores = 2 * t * d, heads * t * t
    assert live == [
        x + t * d,
        x + t * d + 2 * t * q,
        x + t * d + 2 * t * (q + kv_width),
        x + 2 * t * (q + 2 * kv_width),  # the normalised input is no longer needed
        x + t * q,
        x + 2 * scores,
        x + scores,
        x + 2 * t * q,
        x + t * q,
        2 * x,
        x,
        x + t * d,
        x + t * d + 2 * t * ffn,
        x + 4 * t * ffn,
        x + 2 * t * ffn,
        x + t * ffn,
        2 * x,
        x,
    ]


def test_decode_keeps_the_new_position_on_chip_until_it_is_used():
    ops = llm("smollm2_135m", "decode", context=20, layers=1).ops.set_index("name")
    assert ops.loc["layer0.rotary_kv_append", "live_out_bytes"] == 2 * 576 + 576 + 2 * 192
    assert ops.loc["layer0.attn_scores", "live_out_bytes"] == 2 * 576 + 192 + 2 * 9 * 21
    assert ops.loc["layer0.attn_values", "live_out_bytes"] == 2 * 576 + 2 * 576


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("model", ["smollm2_135m", "tinyllama_1_1b"])
def test_one_layer_is_its_share_of_the_model(model, run):
    c = zoo.config(model)
    one, whole = llm(model, layers=1, **run), llm(model, ends=False, **run)
    assert len(one) == len(LAYER)
    for column in ("alu_ops", "special_function_ops", "read_bytes", "write_bytes", "dram_write_bytes", "nonzeros"):
        assert whole.ops[column].sum() == c.layers * one.ops[column].sum(), column
    assert whole.macs == c.layers * one.macs
    assert llm(model, layers=1, ends=True, **run).macs - one.macs == run.get("batch", 1) * c.vocab * c.d_model


def test_decode_of_the_next_token_is_a_prefill_of_one_but_for_the_mask_and_the_cache():
    decode, prefill = llm("llama3_8b", "decode", context=50), llm("llama3_8b", tokens=1, context=50)
    same = ["name", "batch", "m", "n", "k", "special_function_ops", "read_bytes", "dram_write_bytes"]
    assert decode.ops[same].equals(prefill.ops[same])
    masked = 32 * 32 * 51
    assert prefill.ops["alu_ops"].sum() - decode.ops["alu_ops"].sum() == masked
    assert total(kv(prefill), "batch", "stored_elements") == total(kv(decode), "batch", "stored_elements") * 51 / 50


def test_batch_multiplies_work_but_not_weights():
    one, four = llm("smollm2_135m", "decode", 1, context=64), llm("smollm2_135m", "decode", 4, context=64)
    assert four.macs == 4 * one.macs
    for column in ("alu_ops", "special_function_ops", "live_in_bytes", "dram_read_bytes", "dram_write_bytes"):
        assert (four.ops[column] == 4 * one.ops[column]).all(), column
    assert weights(four)["stored_elements"].equals(weights(one)["stored_elements"])


def test_vector_work_by_hand():
    ops = llm("smollm2_135m", tokens=4, layers=1).ops.set_index("name")[["alu_ops", "special_function_ops"]]
    heads, kv_heads, t, d, ffn = 9, 3, 4, 576, 1536
    assert tuple(ops.loc["layer0.attn_norm"]) == (7 * t * d + 2 * t, 2 * t)
    vectors = t * (heads + 2 * kv_heads)
    assert tuple(ops.loc["layer0.rotary_kv_append"]) == (2 * 64 * t * 12 + 4 * 64 * vectors + vectors, vectors)
    assert tuple(ops.loc["layer0.softmax"]) == (6 * heads * t * t, heads * t * t + heads * t)
    assert tuple(ops.loc["layer0.swiglu"]) == (3 * t * ffn, 2 * t * ffn)
    assert tuple(ops.loc["layer0.ffn_add"]) == (t * d, 0)


@pytest.mark.parametrize("kind", VECTOR_OPS)
def test_every_vector_cost_is_derived(kind):
    assert VECTOR_OPS[kind].source.startswith("counted")
    alu, special = operations(kind, 100, 10)
    assert alu > 0 and special >= 0


def test_unknown_vector_op_gets_the_nearest():
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        operations("sofmax", 1)


def test_narrow_ffn_shrinks_its_neighbours_only():
    dense, narrow = (llm("smollm2_135m", tokens=8, ffn_width=f).ops for f in (None, lambda i: 1024 if i else None))
    changed = dense["name"][(dense != narrow).any(axis=1)]
    shrunk = ("ffn_gate", "ffn_up", "swiglu", "ffn_quantise", "ffn_down")
    assert list(changed) == [f"layer{i}.{n}" for i in range(1, 30) for n in shrunk]
    layer = narrow[narrow["layer"] == 1].set_index("name")
    assert tuple(layer.loc["layer1.ffn_down", ["n", "k"]]) == (576, 1024)
    assert layer.loc["layer1.swiglu", "read_bytes"] == 2 * 2 * 8 * 1024
    assert (narrow["live_out_bytes"].to_numpy()[:-1] == narrow["live_in_bytes"].to_numpy()[1:]).all()


def test_layer_ops_are_the_rows_of_the_trace():
    trace = llm("tinyllama_1_1b", tokens=5, batch=2)
    rows = [op.row() for op in layer_ops(zoo.config("tinyllama_1_1b"), 3, "prefill", 2, 5)]
    expected = trace.ops[trace.ops["layer"] == 3].to_dict("records")
    assert rows == expected


def test_names_and_meta_say_what_runs():
    trace = llm("llama2_7b", "decode", 4, context=100, layers=2, kv_bits=16)
    assert trace.name == "llama2_7b_decode_100context_batch4_2layers"
    assert trace.meta["numerics"] == "w8a8kv16" and trace.meta["parameters"] == 6_738_415_616
    assert "not fused" in trace.meta["attention"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "llama2-7b", "tokens": 1}, "did you mean 'llama2_7b'"),
        ({"phase": "decod", "context": 1}, "phase 'decod' is unknown, did you mean 'decode'"),
        ({}, "prefill needs tokens"),
        ({"phase": "decode"}, "decode needs context"),
        ({"phase": "decode", "context": 5, "tokens": 2}, "leave tokens out, got 2"),
        ({"tokens": 0}, "tokens must be an integer >= 1, got 0"),
        ({"tokens": 2.5}, "tokens must be an integer >= 1, got 2.5"),
        ({"tokens": 1, "batch": -1}, "batch must be an integer >= 1, got -1"),
        ({"tokens": 1, "batch": True}, "batch must be an integer >= 1, got True"),
        ({"phase": "decode", "context": -1}, "context must be an integer >= 0, got -1"),
        ({"tokens": 1, "layers": 31}, "layers must be an integer from 1 to 30, got 31"),
        ({"tokens": 1, "kv_bits": 7}, "kv_bits must be one of 4, 8, 16, got 7"),
        ({"tokens": 1, "vector_bits": 8}, "vector_bits must be one of 16, 32, got 8"),
        ({"tokens": 1, "ffn_width": lambda i: 2000}, "layer 0: ffn width must be an integer from 1 to 1536, got 2000"),
    ],
)
def test_bad_arguments_are_told_what_is_right(arguments, message):
    with pytest.raises(InputError, match=message):
        llm(**{"model": "smollm2_135m", **arguments})


def test_a_folder_with_a_config_is_a_model(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    fields = {name: value for name, value in zoo.raw("smollm2_135m").items() if name != "source"}
    (tmp_path / "mini" / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    by_folder, by_file = (llm(name, tokens=4, layers=1) for name in ("mini", "mini/config.json"))
    assert by_folder.name == by_file.name == "mini_prefill_4tokens_batch1_1layers"
    assert by_folder.ops.equals(by_file.ops)
