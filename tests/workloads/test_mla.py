"""Multi-head latent attention: what is cached, what absorption and expansion compute, against hand formulas."""

from __future__ import annotations

import pytest

from accel_models import accelerator
from sim.simulate import simulate
from workloads import zoo
from workloads.llm import llm

V2, LITE, V3 = "deepseek_v2", "deepseek_v2_lite", "deepseek_v3"
HEADS = {V2: 128, LITE: 16, V3: 128}
RANK, ROPE, NOPE, VALUE = 512, 64, 128, 128


def layer(name, *args, **more):
    """Ops of one layer, attention alone."""
    ops = llm(name, *args, layers=1, **more).ops
    first = list(ops["name"]).index("layer0.attn_norm")
    last = list(ops["name"]).index("layer0.attn_output")
    return ops.iloc[first : last + 1]


def macs(ops):
    return float((ops["batch"] * ops["m"] * ops["n"] * ops["k"]).sum())


def elements(ops, source="kv"):
    chosen = ops[ops["weight_source"] == source]
    return float((chosen["batch"] * chosen["stored_elements"]).sum())


@pytest.mark.parametrize("name", HEADS)
def test_cache_is_the_latent_and_one_rotary_key_whatever_the_heads(name):
    ops = layer(name, "decode", 3, context=100, kv_bits=16)
    assert elements(ops) * 2 == 3 * 100 * (RANK + ROPE) * 2
    assert ops["dram_write_bytes"].sum() == 3 * (RANK + ROPE) * 2


def test_the_published_ratio_to_a_multi_head_cache():
    """DeepSeek-V2 against multi-head attention of its heads (section 2.1.4: 4.5 head_dim for 2 heads head_dim)."""
    latent = elements(layer(V2, "decode", context=64)) / 64
    assert latent == 4.5 * 128 and latent / (2 * 128 * 128) == 4.5 / 256


@pytest.mark.parametrize("name", HEADS)
def test_decode_absorbs_the_up_projection(name):
    context, batch, heads = 77, 2, HEADS[name]
    f = zoo.raw(name)
    d, q_rank = f["hidden_size"], f.get("q_lora_rank")
    width = heads * (NOPE + ROPE)
    query = d * width if q_rank is None else q_rank * (d + width)
    projections = query + d * (RANK + ROPE) + RANK * heads * (NOPE + VALUE) + heads * VALUE * d
    attention = heads * (context + 1) * (RANK + ROPE + RANK)
    ops = layer(name, "decode", batch, context=context)
    assert macs(ops) == batch * (projections + attention)
    assert elements(ops, "weights") == projections


@pytest.mark.parametrize("name", [V2, LITE])
@pytest.mark.parametrize(("tokens", "context"), [(48, 0), (16, 32)])
def test_prefill_expands_keys_and_values_of_all_positions(name, tokens, context):
    batch, heads, f = 2, HEADS[name], zoo.raw(name)
    d, q_rank, positions = f["hidden_size"], f.get("q_lora_rank"), tokens + context
    width = heads * (NOPE + ROPE)
    query = d * width if q_rank is None else q_rank * (d + width)
    new = query + d * (RANK + ROPE) + heads * VALUE * d
    expand = RANK * heads * (NOPE + VALUE)
    attention = heads * tokens * positions * (NOPE + ROPE + VALUE)
    ops = layer(name, "prefill", batch, tokens, context)
    assert macs(ops) == batch * (tokens * new + positions * expand + attention)
    scratch = batch * positions * heads * (NOPE + ROPE + VALUE)
    assert elements(ops, "activations") == scratch
    assert ops["dram_write_bytes"].sum() == scratch + batch * tokens * (RANK + ROPE)
    assert ops["dram_read_bytes"].sum() == batch * context * (RANK + ROPE)


def test_verification_absorbs_too():
    whole = llm(V2, "speculative", context=50, draft=LITE, gamma=3, acceptance=0.5, layers=1).ops
    verify = whole[whole["name"].str.startswith("verify.")].set_index("matrix_type")
    assert tuple(verify.loc["attn_scores", ["batch", "m", "n", "k"]]) == (1, 4 * 128, 54, RANK + ROPE)
    assert verify.loc["attn_scores", "stored_elements"] == 50 * (RANK + ROPE)


def test_absorption_pays_at_long_contexts_on_a_machine():
    """A step that re-expanded its whole cache would read less and compute far more."""
    machine = accelerator("tpu_like")
    absorbed = simulate(machine, llm(LITE, "decode", context=2048, layers=1)).cycles
    expanded = simulate(machine, llm(LITE, tokens=1, context=2048, layers=1)).cycles
    assert absorbed < expanded
