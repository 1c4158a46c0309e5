"""Phases: chunks, requests, mixed batches, speculation, diffusion; each against sums of simpler passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models import accelerator
from sim.errors import InputError
from sim.simulate import simulate
from workloads.llm import llm
from workloads.phases import PHASES, decode_runs, expected_tokens

MODEL = "smollm2_135m"
EXAMPLES = {
    "prefill": {"tokens": 32, "chunk": 16},
    "decode": {"context": 64, "kv_kept": 0.25},
    "request": {"tokens": 16, "new_tokens": 9},
    "mixed": {"mix": [(3, 1, 40), (1, 16, 8)]},
    "speculative": {"context": 64, "draft": MODEL, "gamma": 3, "acceptance": 0.7},
    "diffusion": {"tokens": 16, "context": 8, "steps": 8, "block": 8},
}
COSTS = ("alu_ops", "special_function_ops", "dram_read_bytes", "dram_write_bytes")


def total(trace, column):
    return float((trace.ops[column] * trace.ops["repeats"]).sum())


def kv_bytes(trace):
    ops = trace.ops[trace.ops["weight_source"] == "kv"]
    return float((ops["batch"] * ops["stored_elements"] * ops["weight_bits"] / 8 * ops["repeats"]).sum())


def same(found, expected):
    """MACs, cache bytes and vector work of ``found`` are those of the traces ``expected``, added up."""
    assert found.macs == sum(t.macs for t in expected)
    assert kv_bytes(found) == sum(map(kv_bytes, expected))
    for column in COSTS:
        assert total(found, column) == pytest.approx(sum(total(t, column) for t in expected), rel=1e-12), column


@pytest.mark.parametrize("machine", ["dense_ws", "sparse_lanes"])
@pytest.mark.parametrize("phase", EXAMPLES)
def test_every_phase_runs_on_a_machine(phase, machine):
    report = simulate(accelerator(machine), llm(MODEL, phase, layers=1, ends=True, **EXAMPLES[phase]))
    assert report.cycles > 0 and report.energy_pj > 0


@pytest.mark.parametrize("phase", EXAMPLES)
def test_names_are_unique_and_live_bytes_are_handed_on(phase):
    ops = llm(MODEL, phase, layers=2, ends=True, **EXAMPLES[phase]).ops
    assert ops["name"].is_unique
    inside = (ops["name"].str.endswith("embedding")).to_numpy()[1:] | (ops["live_out_bytes"].to_numpy()[:-1] == 0)
    handed = ops["live_out_bytes"].to_numpy()[:-1] == ops["live_in_bytes"].to_numpy()[1:]
    assert (handed | inside).all()


class TestChunkedPrefill:
    def test_chunks_are_prefills_after_cached_positions_and_one_head(self):
        found = llm(MODEL, tokens=40, chunk=16, context=8)
        starts = [(16, 8), (16, 24), (8, 40)]
        parts = [llm(MODEL, tokens=t, context=c, layers=30, ends=False) for t, c in starts]
        whole = llm(MODEL, tokens=40)
        assert found.macs == sum(p.macs for p in parts) + 49152 * 576
        assert list(found.ops["matrix_type"]).count("lm_head") == 1
        assert total(found, "dram_write_bytes") == total(whole, "dram_write_bytes")

    def test_a_chunk_as_long_as_the_prompt_is_the_prompt(self):
        same(llm(MODEL, tokens=40, chunk=64), [llm(MODEL, tokens=40)])

    def test_smaller_chunks_skip_masked_scores_and_read_more_of_the_cache(self):
        runs = [llm(MODEL, tokens=64, chunk=c, layers=1) for c in (64, 32, 16, 8)]
        macs, bytes_read = [r.macs for r in runs], [kv_bytes(r) for r in runs]
        assert macs == sorted(macs, reverse=True) and bytes_read == sorted(bytes_read)
        assert macs[0] > macs[-1] and bytes_read[0] < bytes_read[-1]


class TestRequest:
    @pytest.mark.parametrize("new", [1, 2, 7, 20])
    def test_all_steps_are_a_prefill_and_every_decode(self, new):
        found = llm(MODEL, "request", 2, 12, new_tokens=new, decode_samples="all", layers=1, ends=True)
        size = {"layers": 1, "ends": True}
        steps = [llm(MODEL, "decode", 2, context=12 + i, **size) for i in range(new - 1)]
        same(found, [llm(MODEL, "prefill", 2, 12, **size), *steps])

    @pytest.mark.parametrize("samples", [1, 2, 3, 8])
    @pytest.mark.parametrize("new", [2, 9, 30, 101])
    def test_sampled_steps_add_up_exactly(self, new, samples):
        size = {"new_tokens": new, "layers": 1, "ends": True}
        exact = llm(MODEL, "request", 1, 12, decode_samples="all", **size)
        found = llm(MODEL, "request", 1, 12, decode_samples=samples, **size)
        same(found, [exact])
        assert found.meta["decode_steps"] == new - 1 and found.meta["decode_runs"] <= samples + 1

    def test_the_machine_agrees_within_a_percent(self):
        machine, size = accelerator("dense_ws"), {"tokens": 16, "new_tokens": 33, "layers": 1}
        few, every = (simulate(machine, llm(MODEL, "request", decode_samples=s, **size)).cycles for s in (4, "all"))
        assert few == pytest.approx(every, rel=0.01)

    @given(st.integers(0, 5000), st.integers(0, 3000), st.integers(1, 40))
    def test_runs_cover_every_step_once_in_order(self, first, steps, samples):
        runs = decode_runs(first, steps, samples)
        at = first
        for context, count in runs:
            assert count % 2 == 1 and context == at + count // 2
            at += count
        assert at == first + steps and len(runs) <= samples + 1


class TestMixed:
    def test_matrices_see_all_tokens_and_attention_its_own(self):
        found = llm(MODEL, "mixed", mix=[(3, 1, 40), (1, 16, 8)], layers=1)
        ops = found.ops.set_index("name")
        assert ops.loc["layer0.ffn_up", "m"] == 3 + 16
        parts = [llm(MODEL, "decode", 3, context=40, layers=1), llm(MODEL, tokens=16, context=8, layers=1)]
        same(found, parts)
        linear = ops[ops["weight_source"] == "weights"]
        assert linear["stored_elements"].sum() == parts[0].ops.query("weight_source == 'weights'").stored_elements.sum()

    def test_one_kind_alone_is_that_phase(self):
        mixed, decode = llm(MODEL, "mixed", mix=[(4, 1, 30)]), llm(MODEL, "decode", 4, context=30)
        assert mixed.ops.equals(decode.ops)


class TestSpeculative:
    def test_a_round_is_gamma_draft_steps_and_one_verification(self):
        found = llm("smollm2_360m", "speculative", 2, context=50, draft=MODEL, gamma=4, acceptance=0.8)
        drafts = [llm(MODEL, "decode", 2, context=50 + i) for i in range(4)]
        verify = found.ops[found.ops["name"].str.startswith("verify.")]
        head = verify[verify["matrix_type"] == "lm_head"].iloc[0]
        assert head["m"] == 2 * 5 and (verify.loc[verify["matrix_type"] == "ffn_up", "m"] == 2 * 5).all()
        target = 2 * 5 * (361_821_120 - 65 * 960) + 32 * 2 * (2 * 5 * 15 * 64 * 55)
        assert found.macs == sum(d.macs for d in drafts) + target
        position = 2 * 32 * 5 * 64
        assert (verify["dram_write_bytes"]).sum() == 2 * 5 * position
        cached = verify[verify["weight_source"] == "kv"]
        assert (cached["batch"] * cached["stored_elements"]).sum() == 2 * 50 * position

    @given(st.integers(1, 12), st.floats(0, 1))
    def test_expected_tokens_is_the_geometric_sum(self, gamma, rate):
        closed = gamma + 1 if rate == 1 else (1 - rate ** (gamma + 1)) / (1 - rate)
        assert expected_tokens(gamma, rate) == pytest.approx(closed, rel=1e-6)
        assert 1 <= expected_tokens(gamma, rate) <= gamma + 1

    def test_layers_of_the_two_models_are_told_apart(self):
        ops = llm("smollm2_360m", "speculative", context=5, draft=MODEL, gamma=1, acceptance=0.8).ops
        drafted = ops["name"].str.startswith("draft")
        assert set(ops.loc[drafted, "layer"]) == {-1, *range(32, 62)}
        assert set(ops.loc[~drafted, "layer"]) == {-1, *range(32)}

    def test_meta_says_what_a_round_yields(self):
        meta = llm(MODEL, "speculative", context=8, draft=MODEL, gamma=2, acceptance=0.5, layers=1).meta
        assert meta["expected_tokens"] == 1.75 and meta["draft"] == MODEL


class TestDiffusion:
    def test_every_step_is_a_full_bidirectional_pass(self):
        found = llm(MODEL, "diffusion", 2, 24, 8, steps=6)
        length, d, heads = 32, 576, 9
        layer = 2 * length * (134_515_008 - 49152 * d - d - 30 * 2 * d) / 30 + 2 * 2 * heads * length * length * 64
        assert found.macs == 6 * (30 * layer + 2 * 24 * 49152 * d)
        assert kv_bytes(found) == 0 and total(found, "dram_write_bytes") == 0
        softmax = found.ops.set_index("name").loc["layer0.softmax"]
        assert softmax["alu_ops"] == 5 * 2 * heads * length**2 and softmax["repeats"] == 6  # no mask

    def test_blocks_use_the_cache_of_what_is_before_them(self):
        found = llm(MODEL, "diffusion", 1, 16, 8, steps=8, block=8, layers=1)
        ops = found.ops
        scores = ops[ops["matrix_type"] == "attn_scores"]
        assert list(scores["n"]) == [8, 16, 16, 24] and list(scores["repeats"]) == [1, 3, 1, 4]
        assert total(found, "dram_write_bytes") == (8 + 8) * 2 * 3 * 64  # prompt and first block, once each
        assert kv_bytes(found) == 2 * 3 * 64 * (8 + 4 * 8 + 4 * 16)

    def test_cached_blocks_cost_less_than_full_passes(self):
        full, blocks = (llm(MODEL, "diffusion", 1, 64, 64, steps=32, block=b, layers=1).macs for b in (None, 16))
        assert blocks < full / 4


class TestSparseCache:
    @pytest.mark.parametrize(("kept", "left"), [(1.0, 100), (0.5, 50), (0.333, 34), (0.01, 1), (0.0, 0)])
    def test_kept_positions_are_fetched_and_seen(self, kept, left):
        ops = llm(MODEL, "decode", 2, context=100, layers=1, kv_kept=kept).ops.set_index("name")
        assert ops.loc["layer0.attn_scores", "n"] == left + 1 == ops.loc["layer0.attn_values", "k"]
        assert ops.loc["layer0.attn_scores", "stored_elements"] == left * 64
        assert ops.loc["layer0.rotary_kv_append", "dram_write_bytes"] == 2 * 2 * 3 * 64

    def test_all_kept_is_the_plain_trace(self):
        plain, kept = llm(MODEL, "decode", context=9), llm(MODEL, "decode", context=9, kv_kept=1.0)
        assert plain.ops.equals(kept.ops) and plain.meta == kept.meta

    def test_new_positions_are_never_dropped(self):
        found = llm(MODEL, tokens=16, context=100, layers=1, kv_kept=0.1)
        assert found.ops.set_index("name").loc["layer0.attn_scores", "n"] == 16 + 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phase": "prefil", "tokens": 1}, "phase 'prefil' is unknown, did you mean 'prefill'"),
        ({"tokens": 8, "chunk": 0}, "chunk must be an integer >= 1, got 0"),
        ({"tokens": 8, "gamma": 2}, "gamma is not for prefill, only for speculative"),
        ({"phase": "decode", "context": 8, "chunk": 2}, "chunk is not for decode, only for prefill, request"),
        ({"phase": "request", "tokens": 8}, "request needs new_tokens"),
        ({"phase": "request", "new_tokens": 8}, "prefill needs tokens"),
        ({"phase": "request", "tokens": 8, "new_tokens": 3, "decode_samples": 0}, "decode_samples must be an integer"),
        ({"phase": "mixed"}, "mixed needs mix"),
        ({"phase": "mixed", "mix": [(1, 2)]}, r"mix\[0\] must be \(sequences, new tokens, cached positions\), got"),
        ({"phase": "mixed", "mix": [(1, 0, 2)]}, r"mix\[0\] new tokens must be an integer >= 1, got 0"),
        ({"phase": "speculative", "context": 8, "gamma": 2, "acceptance": 0.5}, "speculative needs draft"),
        ({"phase": "speculative", "context": 8, "gamma": 2, "draft": MODEL}, "speculative needs acceptance"),
        (
            {"phase": "speculative", "context": 8, "gamma": 2, "acceptance": 1.5, "draft": MODEL},
            "acceptance must be a number from 0 to 1, got 1.5",
        ),
        ({"tokens": 8, "draft": MODEL}, "draft is not for prefill"),
        (
            {"phase": "speculative", "context": 1022, "gamma": 3, "acceptance": 0.5, "draft": "gpt2_small"},
            "gpt2_small has 1024 learned positions, got 1025",
        ),
        (
            {"phase": "speculative", "context": 8, "gamma": 3, "acceptance": 0.5, "draft": "bert_base"},
            "bert_base is an encoder: phase must be encode, got speculative",
        ),
        ({"phase": "diffusion", "tokens": 8}, "diffusion needs tokens .* and steps"),
        ({"phase": "diffusion", "tokens": 8, "steps": 4, "block": 3}, "block must divide tokens 8"),
        ({"phase": "encode", "tokens": 8}, "smollm2_135m is no encoder: phase must be any phase but encode"),
        ({"model": "bert_base", "tokens": 8}, "bert_base is an encoder: phase must be encode, got prefill"),
        ({"model": "vit_b_16", "phase": "encode", "tokens": 8}, "an image is 197 tokens, got 8"),
        ({"model": "gpt2_small", "tokens": 1025}, "gpt2_small has 1024 learned positions, got 1025"),
        ({"phase": "decode", "context": 8, "kv_kept": 1.1}, "kv_kept must be a number from 0 to 1, got 1.1"),
        ({"tokens": 8, "routing": {"skw": 1}}, "routing.skw is unknown, did you mean 'skew'"),
        ({"tokens": 8, "routing": {"slowdown": 0.5}}, "routing.slowdown must be a number >= 1, got 0.5"),
    ],
)
def test_bad_arguments_are_told_what_is_right(arguments, message):
    with pytest.raises(InputError, match=message):
        llm(**{"model": MODEL, **arguments})


def test_every_phase_has_an_example_here():
    assert set(PHASES) == {*EXAMPLES, "encode"}
