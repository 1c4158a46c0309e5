"""State-space models: projections, scan work, SSD products and state bytes against hand formulas."""

from __future__ import annotations

import pytest

from accel_models import accelerator
from sim.simulate import simulate
from workloads import zoo
from workloads.llm import llm

ONE = [n for n in zoo.names() if zoo.raw(n)["model_type"] == "mamba"]
TWO = [n for n in zoo.names() if zoo.raw(n)["model_type"] == "mamba2"]


def sizes(name):
    f = zoo.raw(name)
    d = f["hidden_size"]
    return d, 2 * d, f["state_size"], f["conv_kernel"]


def by_name(trace):
    return trace.ops.set_index("name")


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("phase", [{"tokens": 50}, {"phase": "decode", "context": 50}])
def test_mamba_macs_are_its_four_matrices(name, phase):
    d, inner, state, _ = sizes(name)
    rank, rows = zoo.raw(name)["time_step_rank"], phase.get("tokens", 1) * 2
    matrices = d * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * d
    assert llm(name, batch=2, layers=1, **phase).macs == rows * matrices


@pytest.mark.parametrize("name", ONE)
def test_scan_work_is_linear_in_tokens(name):
    _, inner, state, conv = sizes(name)
    for tokens in (1, 10, 1000):
        ops = by_name(llm(name, tokens=tokens, layers=1))
        n = tokens * inner
        assert ops.loc["layer0.ssm_scan", "alu_ops"] == n * (4 * state + 2) + n + n  # scan, softplus, bias of dt
        assert ops.loc["layer0.ssm_scan", "special_function_ops"] == n * state + 2 * n
        assert ops.loc["layer0.ssm_conv", "alu_ops"] == n * conv + 2 * n + 4 * n + tokens


@pytest.mark.parametrize("name", [*ONE, *TWO])
@pytest.mark.parametrize("context", [1, 100, 100_000])
def test_a_decode_step_reads_and_writes_the_state_whatever_the_context(name, context):
    _, inner, state, conv = sizes(name)
    channels = inner + (2 * state if name in TWO else 0)
    ops = llm(name, "decode", 3, context=context, layers=2).ops
    kept = 2 * 3 * (inner * state + channels * (conv - 1)) * 2
    assert ops["dram_read_bytes"].sum() == kept == ops["dram_write_bytes"].sum()
    assert (ops["weight_source"] != "kv").all()


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_a_prompt_starts_from_nothing_and_leaves_one_state(name):
    _, inner, state, conv = sizes(name)
    channels = inner + (2 * state if name in TWO else 0)
    ops = llm(name, tokens=700, batch=2, layers=1).ops
    assert ops["dram_read_bytes"].sum() == 0
    assert ops["dram_write_bytes"].sum() == 2 * (inner * state + channels * (conv - 1)) * 2


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("tokens", [2, 256, 1024])
def test_mamba2_prefill_is_chunked_products(name, tokens):
    d, inner, state, _ = sizes(name)
    heads, batch = inner // 64, 2
    q = min(256, tokens)
    chunks = batch * tokens // q
    projections = batch * tokens * (d * (2 * inner + 2 * state + heads) + inner * d)
    scores = chunks * q * q * state
    inside = chunks * heads * q * q * 64
    states = 2 * chunks * heads * q * 64 * state  # into the chunk's state, and out of the one before
    trace = llm(name, batch=batch, tokens=tokens, layers=1)
    assert trace.macs == projections + scores + inside + states
    ssd = trace.ops[trace.ops["matrix_type"].str.startswith("ssd_")]
    assert (ssd["stored_elements"] == 0).all() and (ssd["weight_source"] == "activations").all()


def test_a_last_short_chunk_is_padded():
    padded, whole = (llm("mamba2_130m", tokens=t, layers=1).ops for t in (257, 512))
    ssd = padded["matrix_type"].str.startswith("ssd_")
    same = ["batch", "m", "n", "k"]
    assert padded.loc[ssd, same].equals(whole.loc[whole["matrix_type"].str.startswith("ssd_"), same])


def test_mamba2_decodes_as_a_recurrence():
    ops = by_name(llm("mamba2_2_7b", "decode", 4, context=9, layers=1))
    inner, state, heads = 5120, 128, 80
    work = 4 * inner * (3 * state + 2) + 4 * heads * (1 + 1 + 1)  # update, and bias, softplus and decay of dt
    assert ops.loc["layer0.ssm_update", "alu_ops"] == work
    assert not any("ssd" in name for name in ops.index)


def test_mixed_sequences_scan_and_update_side_by_side():
    ops = by_name(llm("mamba2_130m", "mixed", mix=[(3, 1, 40), (1, 300, 0)], layers=1))
    assert ops.loc["layer0.ssm_in", "m"] == 303 and ops.loc["layer0.ssd_scores_1", "batch"] == 2
    assert ops.loc["layer0.ssm_update_0", "dram_read_bytes"] == 3 * 1536 * 128 * 2
    assert ops.loc["layer0.ssd_pass_1", "dram_read_bytes"] == 0


@pytest.mark.parametrize("name", ["mamba_130m", "mamba2_130m"])
def test_a_machine_runs_them_and_decode_does_not_depend_on_context(name):
    machine = accelerator("dense_ws")
    near, far = (simulate(machine, llm(name, "decode", context=c, layers=1)).cycles for c in (10, 10_000))
    assert near == far > 0
    assert simulate(machine, llm(name, tokens=300, layers=1)).cycles > near
