"""Mixture of experts: which experts are hit and how often, MACs and bytes of the experts, offload."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator
from sim.simulate import simulate
from sim.trace import Sparsity
from workloads import zoo
from workloads.architecture import Experts
from workloads.llm import llm
from workloads.routing import Routing, chances, expected_hit, grouped, loads

MIXTRAL, QWEN, DEEPSEEK = "mixtral_8x7b", "qwen3_30b_a3b", "deepseek_moe_16b"
MOE = [n for n in zoo.names() if zoo.architecture(n).moe is not None]
experts = st.builds(lambda n, k: Experts(n, min(k, n), 8), st.integers(1, 200), st.integers(1, 9))


def expert_ops(trace):
    return trace.ops[trace.ops["matrix_type"].str.startswith("expert_")]


class TestRouting:
    @given(experts, st.floats(0, 3))
    def test_chances_are_probabilities_that_add_up_to_top_k(self, moe, skew):
        found = chances(moe, skew)
        assert (found > 0).all() and (found <= 1).all() and (np.diff(found) <= 1e-12).all()
        assert found.sum() == pytest.approx(moe.top_k, rel=1e-6)

    @given(experts, st.integers(1, 500))
    def test_uniform_experts_hit_has_its_closed_form(self, moe, tokens):
        closed = moe.experts * (1 - (1 - moe.top_k / moe.experts) ** tokens)
        assert expected_hit(moe, tokens) == pytest.approx(closed)

    @settings(max_examples=60)
    @given(experts, st.integers(1, 300), st.floats(0, 2), st.sampled_from([None, 0, 7]), st.integers(1, 6))
    def test_every_token_gets_its_experts(self, moe, tokens, skew, seed, classes):
        found = loads(moe, tokens, Routing(skew=skew, seed=seed))
        assert found.sum() == tokens * moe.top_k
        assert found.max() <= tokens and moe.top_k <= len(found) <= moe.experts
        groups = grouped(found, classes)
        assert sum(n * load for n, load in groups) == tokens * moe.top_k
        assert sum(n for n, _ in groups) == len(found) and len(groups) <= 2 * classes

    @pytest.mark.parametrize("tokens", [1, 4, 32])
    @pytest.mark.parametrize("skew", [0.0, 0.8, 1.5])
    def test_the_mean_of_draws_is_what_is_expected(self, tokens, skew):
        moe = Experts(64, 6, 8)
        hit = [len(loads(moe, tokens, Routing(skew, seed), layer)) for seed in range(20) for layer in range(10)]
        assert np.mean(hit) == pytest.approx(expected_hit(moe, tokens, skew), rel=0.06)  # the race is approximate
        assert len(loads(moe, tokens, Routing(skew))) == pytest.approx(expected_hit(moe, tokens, skew), abs=0.51)

    def test_skew_hits_fewer_experts_and_makes_one_busier(self):
        moe = Experts(128, 8, 8)
        found = [loads(moe, 64, Routing(skew)) for skew in (0.0, 0.5, 1.0, 2.0)]
        hit, busiest = [len(f) for f in found], [int(f[0]) for f in found]
        assert hit == sorted(hit, reverse=True) and busiest == sorted(busiest)
        assert hit[0] > hit[-1] and busiest[0] < busiest[-1]

    def test_a_seed_is_a_draw_and_layers_differ(self):
        moe = Experts(60, 4, 8)
        same = [loads(moe, 50, Routing(seed=3), 1) for _ in range(2)]
        assert np.array_equal(*same) and not np.array_equal(same[0], loads(moe, 50, Routing(seed=3), 2))


@pytest.mark.parametrize("name", MOE)
@pytest.mark.parametrize("routing", [{}, {"skew": 1.0}, {"seed": 1}, {"classes": 1}])
def test_expert_macs_are_top_k_experts_a_token(name, routing):
    f, tokens = zoo.raw(name), 37
    width = f.get("moe_intermediate_size", f["intermediate_size"])
    top_k, layers = f["num_experts_per_tok"], f.get("first_k_dense_replace", 0) + 1
    trace = llm(name, tokens=tokens, layers=layers, routing=routing)
    ops = expert_ops(trace)
    macs = (ops["batch"] * ops["m"] * ops["n"] * ops["k"]).sum()
    assert macs == tokens * top_k * 3 * width * f["hidden_size"]
    read = (ops["batch"] * ops["stored_elements"]).sum()
    assert read == trace.meta["experts_hit"] * 3 * width * f["hidden_size"]


@pytest.mark.parametrize("name", MOE)
def test_one_token_reads_the_active_parameters(name):
    """A decode step of one sequence fetches what the model counts as active, but for vectors and the token table."""
    a, trace = zoo.architecture(name), llm(name, "decode", context=1)
    ops = trace.ops[(trace.ops["kind"] == "gemm") & (trace.ops["weight_source"] == "weights")]
    read = (ops["batch"] * ops["stored_elements"]).sum()
    vectors = zoo.active_parameters(name) - a.vocab * a.d_model - read
    assert 0 < vectors <= a.layers * 4 * a.d_model + a.layers * 3 * a.attention.query


def test_a_large_batch_reads_every_expert():
    trace = llm(MIXTRAL, "decode", 64, context=1, layers=1)
    ops = expert_ops(trace)
    assert ops.loc[ops["matrix_type"] == "expert_up", "batch"].sum() == 8 == trace.meta["experts_hit"]
    assert trace.meta["expert_tokens_mean"] == 16 and trace.meta["expert_tokens_busiest"] == 16


def test_dense_layers_come_first_and_shared_experts_see_every_token():
    ops = llm(DEEPSEEK, tokens=20, layers=2).ops
    first, second = (ops[ops["layer"] == i].set_index("matrix_type") for i in (0, 1))
    assert tuple(first.loc["ffn_up", ["m", "n", "k"]]) == (20, 10944, 2048)
    assert tuple(second.loc["shared_up", ["m", "n", "k"]]) == (20, 2 * 1408, 2048)
    assert tuple(second.loc["moe_router", ["m", "n", "k"]]) == (20, 64, 2048) and "ffn_up" not in second.index


def test_shared_gate_of_qwen():
    ops = llm("qwen1_5_moe_a2_7b", tokens=20, layers=1).ops.set_index("matrix_type")
    assert tuple(ops.loc["shared_router", ["m", "n", "k"]]) == (20, 1, 2048)


def test_zeros_of_an_expert_stand_for_all_that_are_hit():
    asked = []

    def zeros(layer, kind):
        asked.append(kind)
        return Sparsity(n_of_m="2:4") if kind == "expert_up" else None

    ops = llm(DEEPSEEK, tokens=20, layers=2, sparsity=zeros).ops
    up = ops[ops["matrix_type"] == "expert_up"]
    assert (up["nonzeros"] == 2048 * 1408 / 2).all() and (up["group4_max"] == 2).all()
    assert {"shared_up", "expert_gate"} <= set(asked) and "moe_router" not in asked


def test_offloaded_experts_are_slower_dram_reads():
    place = {"offloaded": 0.5, "slowdown": 8.0}
    trace = llm(MIXTRAL, "decode", context=8, layers=1, weight_bits=4, routing=place)
    fetch = trace.ops.set_index("name").loc["layer0.expert_fetch"]
    assert fetch["dram_read_bytes"] == 2 * 3 * 4096 * 14336 / 2 * 0.5 * 8.0
    machine = accelerator("tpu_like")
    near = llm(MIXTRAL, "decode", context=8, layers=1, weight_bits=4)
    assert simulate(machine, trace).cycles > 2 * simulate(machine, near).cycles


def test_skew_saves_weights_of_small_batches_on_a_machine():
    machine = accelerator("tpu_like")
    flat, skewed = (
        simulate(machine, llm(QWEN, "decode", 16, context=64, layers=1, routing={"skew": s})).cycles for s in (0.0, 1.5)
    )
    assert skewed < flat
