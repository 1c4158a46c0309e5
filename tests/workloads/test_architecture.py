"""Traces of every model of the zoo: what all have in common, and families against formulas written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workloads import zoo
from workloads.llm import llm

NAMES = zoo.names()
ENCODERS = ("bert_base", "bert_large", "vit_b_16", "vit_l_16")
DECODERS = tuple(n for n in NAMES if n not in ENCODERS)
ATTENTION = tuple(n for n in DECODERS if not n.startswith("mamba"))
DENSE = tuple(n for n in ATTENTION if zoo.architecture(n).moe is None)


def total(ops, *columns):
    return float(np.prod([ops[c].to_numpy(dtype=float) for c in columns], axis=0).sum())


def weights(ops):
    return ops[(ops["kind"] == "gemm") & (ops["weight_source"] == "weights")]


def runs(name):
    if name in ENCODERS:
        return [llm(name, "encode", 2, 197)]
    size = {"layers": 2, "ends": True}
    return [llm(name, tokens=24, context=8, batch=2, **size), llm(name, "decode", 3, context=40, **size)]


@pytest.mark.parametrize("name", NAMES)
def test_live_bytes_are_handed_on_and_hold_what_each_op_reads_and_writes(name):
    for trace in runs(name):
        ops = trace.ops
        assert (ops["live_out_bytes"].to_numpy()[:-1] == ops["live_in_bytes"].to_numpy()[1:]).all()
        gemm = ops["kind"] == "gemm"
        wrote = np.where(gemm, ops["batch"] * ops["m"] * ops["n"] * ops["output_bits"] / 8, ops["write_bytes"])
        assert (ops["live_out_bytes"] >= wrote).all()
        assert (ops["live_in_bytes"] >= np.where(gemm, 0, ops["read_bytes"])).all()
        assert (ops.loc[gemm, ["batch", "m", "n", "k"]] >= 1).all().all()
        assert ops["name"].is_unique


@pytest.mark.parametrize("name", DENSE)
def test_prefill_macs_are_matrix_parameters_times_tokens_and_attention(name):
    """Four projections and two or three feed-forward matrices a layer; scores and values see tokens x tokens."""
    a, batch, tokens = zoo.architecture(name), 2, 24
    d, at = a.d_model, a.attention
    ffn = a.ffn.width * d * (3 if a.ffn.gated else 2)
    projections = 2 * d * at.heads * at.head_dim + 2 * d * at.kv_heads * at.head_dim
    scores = 2 * batch * at.heads * tokens * tokens * at.head_dim
    assert llm(name, batch=batch, tokens=tokens, layers=1).macs == batch * tokens * (projections + ffn) + scores


@pytest.mark.parametrize("name", [n for n in DENSE if zoo.parameters(n) < 4e9])
def test_weights_of_a_decode_step_are_the_parameters_but_tables_and_vectors(name):
    a, trace = zoo.architecture(name), llm(name, "decode", context=4)
    read = total(weights(trace.ops), "batch", "stored_elements")
    tables = (a.vocab * (a.embedding_width or a.d_model) if not a.tied else 0) + a.positions * a.d_model
    vectors = zoo.parameters(name) - tables - read
    widest = 4 * a.ffn.width + 20 * a.d_model + 4 * a.attention.query
    assert 0 < vectors <= (a.layers + 1) * widest + a.vocab * a.head_bias


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("kv_bits", [4, 16])
def test_decode_reads_what_is_cached_once_and_appends_one_position(name, kv_bits):
    f = zoo.raw(name)
    heads = f.get("num_attention_heads") or f["n_head"]
    width = f.get("hidden_size") or f["n_embd"]
    cached = 2 * f.get("num_key_value_heads", heads) * f.get("head_dim", width // heads)
    if "kv_lora_rank" in f:
        cached = f["kv_lora_rank"] + f["qk_rope_head_dim"]
    trace, batch, context = llm(name, "decode", 3, context=60, layers=2, kv_bits=kv_bits), 3, 60
    kv = trace.ops[trace.ops["weight_source"] == "kv"]
    assert total(kv, "batch", "stored_elements", "weight_bits") / 8 == 2 * batch * context * cached * kv_bits / 8
    assert trace.ops["dram_write_bytes"].sum() == 2 * batch * cached * kv_bits / 8


@pytest.mark.parametrize(
    ("small", "large", "ratio"),
    [("llama3_8b", "llama_7b", 4), ("llama2_70b", "llama_65b", 8), ("gemma_2b", "gemma_7b", 16)],
)
def test_grouped_and_multi_query_caches_shrink_by_heads_per_key(small, large, ratio):
    """Grouped-query (4 and 8 heads a key) and multi-query attention against their multi-head neighbours."""

    def bytes_read(name):
        ops = llm(name, "decode", context=1000, layers=1).ops
        return total(ops[ops["weight_source"] == "kv"], "batch", "stored_elements")

    assert bytes_read(large) == ratio * bytes_read(small)


def test_attention_of_one_key_runs_all_heads_as_rows():
    ops = llm("gemma_2b", "decode", 2, context=99, layers=1).ops.set_index("name")
    assert tuple(ops.loc["layer0.attn_scores", ["batch", "m", "n", "k"]]) == (2, 8, 100, 256)


class TestSlidingWindow:
    def test_decode_sees_and_fetches_no_more_than_the_window(self):
        for context, seen in ((100, 101), (4095, 4096), (4096, 4096), (30000, 4096)):
            ops = llm("mistral_7b", "decode", context=context, layers=1).ops.set_index("name")
            assert ops.loc["layer0.attn_scores", "n"] == seen == ops.loc["layer0.attn_values", "k"]
            assert ops.loc["layer0.attn_scores", "stored_elements"] == (seen - 1) * 128

    def test_pattern_of_gemma(self):
        two = llm("gemma2_2b", "decode", context=8000, layers=4).ops
        scores = two[two["matrix_type"] == "attn_scores"]
        assert list(scores["n"]) == [4096, 8001, 4096, 8001]
        three = llm("gemma3_1b", "decode", context=8000).ops
        seen = three[three["matrix_type"] == "attn_scores"]["n"].tolist()
        assert seen.count(8001) == 4 and seen.count(512) == 22 and next(i for i, n in enumerate(seen) if n > 512) == 5

    @pytest.mark.parametrize(
        ("tokens", "context"), [(512, 0), (513, 0), (1500, 0), (1024, 100), (700, 9000), (1, 9000)]
    )
    def test_blocks_of_a_prefill_cover_every_query_and_key_of_the_band(self, tokens, context):
        ops = llm("gemma3_270m", tokens=tokens, context=context, layers=1).ops
        scores = ops[ops["matrix_type"] == "attn_scores"]
        assert total(scores, "batch", "m") == tokens * 4  # every query once, 4 heads on one key
        band = sum(min(context + q + 1, 512) for q in range(tokens))
        computed = total(scores, "batch", "m", "n") / 4
        assert band <= computed <= 2 * band + 512 * 512
        assert scores["n"].max() <= 2 * 512 - 1

    def test_a_window_no_shorter_than_the_prompt_changes_nothing(self):
        with_window, without = (llm(m, tokens=64, layers=1).ops for m in ("mistral_7b", "mistral_7b_v0_3"))
        assert with_window.equals(without)


class TestFamilies:
    def test_order_of_ops_of_gpt2(self):
        names = [n.removeprefix("layer0.") for n in llm("gpt2_small", tokens=4, layers=1).ops["name"]]
        assert names == [
            "attn_norm", "attn_q", "attn_k", "attn_v", "kv_append", "attn_scores", "softmax", "attn_values",
            "attn_quantise", "attn_output", "attn_add", "ffn_norm", "ffn_up", "gelu", "ffn_quantise", "ffn_down",
            "ffn_add",
        ]  # fmt: skip

    def test_parallel_block_has_one_norm_and_keeps_its_output_for_the_ffn(self):
        ops = llm("phi2", tokens=4, layers=1).ops.set_index("name")
        assert not any("ffn_norm" in n or "attn_add" in n for n in ops.index)
        assert ops.loc["layer0.ffn_add", "read_bytes"] == 3 * 4 * 2560 * 2
        size = 4 * 2560
        assert ops.loc["layer0.attn_output", "live_out_bytes"] == 2 * size + size + 2 * size

    def test_sandwich_norms(self):
        names = list(llm("gemma2_2b", tokens=4, layers=1).ops["name"])
        assert [n for n in names if "norm" in n] == [
            f"layer0.{n}" for n in ("attn_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm")
        ]

    def test_biases_caps_and_query_norms_are_vector_work(self):
        t, heads, dim = 4, 32, 128

        def rotary(name):
            return llm(name, tokens=t, layers=1).ops.set_index("name").loc["layer0.rotary_kv_append"]

        plain, normed = rotary("llama3_8b"), rotary("qwen3_8b")
        elements, vectors = t * (heads + 8) * dim, t * (heads + 8)
        assert normed["alu_ops"] - plain["alu_ops"] == 3 * elements + vectors
        assert normed["special_function_ops"] - plain["special_function_ops"] == vectors
        ops = llm("gemma2_2b", tokens=t, layers=1).ops.set_index("name")
        scores = 8 * t * t
        assert ops.loc["layer0.softmax", "special_function_ops"] == scores + 8 * t + 2 * scores

    def test_partial_rotary(self):
        full, part = (llm(m, tokens=4, layers=1).ops.set_index("name") for m in ("llama_7b", "phi2"))
        rotated = {"llama_7b": 128, "phi2": 32}
        quantise = {m: 4 * 96 * (4 * d + 1) for m, d in (("llama_7b", 128), ("phi2", 80))}
        assert full.loc["layer0.rotary_kv_append", "alu_ops"] == 2 * 4 * 64 * rotated["llama_7b"] + quantise["llama_7b"]
        bias = 4 * 96 * 80
        assert part.loc["layer0.rotary_kv_append", "alu_ops"] == 2 * 4 * 64 * rotated["phi2"] + quantise["phi2"] + bias

    def test_narrow_embedding_is_projected_both_ways(self):
        ops = llm("opt_350m", tokens=4).ops.set_index("name")
        assert tuple(ops.loc["embedding_projection", ["m", "n", "k"]]) == (4, 1024, 512)
        assert tuple(ops.loc["head_projection", ["m", "n", "k"]]) == (1, 512, 1024)
        assert tuple(ops.loc["lm_head", ["m", "n", "k"]]) == (1, 50272, 512)
        assert ops.loc["embedding", "dram_read_bytes"] == 4 * 512 * 2

    def test_masks_land_on_the_matrices_of_any_dense_model(self):
        from sim.trace import Sparsity

        asked = []

        def zeros(layer, kind):
            asked.append(kind)
            return Sparsity(density=0.5) if kind == "ffn_up" else None

        ops = llm("gpt2_small", tokens=4, layers=1, sparsity=zeros).ops.set_index("name")
        assert asked == ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"]
        assert 0.49 < ops.loc["layer0.ffn_up", "nonzeros"] / (768 * 3072) < 0.51


class TestEncoders:
    def test_bert_by_hand(self):
        trace, t, d = llm("bert_base", "encode", 3, 128), 128, 768
        attention = 2 * 3 * 12 * t * t * 64
        assert trace.macs == 12 * (3 * t * (4 * d * d + 8 * d * d) + attention) + 3 * d * d
        assert trace.ops["dram_write_bytes"].sum() == 0
        stationary = trace.ops[trace.ops["matrix_type"].isin(["attn_scores", "attn_values"])]
        assert (stationary["stored_elements"] == 0).all() and (stationary["weight_source"] == "activations").all()

    def test_no_causal_mask(self):
        ops = llm("bert_base", "encode", tokens=16, layers=1).ops.set_index("name")
        assert ops.loc["layer0.softmax", "alu_ops"] == 5 * 12 * 16 * 16

    def test_image_is_patches_and_a_class_token(self):
        trace, d = llm("vit_b_16", "encode", 2), 768
        ops = trace.ops.set_index("name")
        assert trace.meta["tokens"] == 197
        assert tuple(ops.loc["patch_embedding", ["m", "n", "k"]]) == (2 * 196, d, 3 * 16 * 16)
        assert ops.loc["patches", "dram_read_bytes"] == 2 * 224 * 224 * 3
        assert tuple(ops.loc["classifier", ["m", "n", "k"]]) == (2, 1000, d)
        # 17.5 GMACs an image is what timm and torchvision state for this model
        assert trace.macs / 2 == pytest.approx(17.5e9, rel=0.01)
