"""Removed rows and columns: the same result from smaller GEMMs, and what is paid where no neighbour absorbs them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparchitect as sp
from sim.errors import InputError
from sim.sparsity.removal.transform import plan, remove
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT
from sim.sparsity.reorder.cost import RUNTIMES
from sim.trace import Sparsity, Trace
from workloads.bundled import counts
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm
from workloads.transformer import silu

CONFIG = ModelConfig("tiny", 2, 32, 48, 4, 2, 8, 64, 1e4, 1e-5, True)
SIZES = {"prefill": {"tokens": 6}, "decode": {"context": 5, "batch": 3}}
laws = settings(max_examples=40, deadline=None, derandomize=True)


def holed(shape, seed, rows=0.25, columns=0.25):
    """A mask at half density, some of whose rows and columns are all zero."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.5
    mask[rng.random(shape[0]) < rows] = False
    mask[:, rng.random(shape[1]) < columns] = False
    return mask


def decoder(phase="prefill", mask=holed, config=CONFIG, **size):
    seeds = {t: i for i, t in enumerate(MATRIX_TYPES)}
    return llm(
        config,
        phase=phase,
        sparsity=lambda layer, t: Sparsity(mask=mask(config.matrix_shape(t), 10 * layer + seeds[t])),
        **(size or SIZES[phase]),
    )


def without_movers(trace):
    """The trace as if activations moved for nothing."""
    ops = trace.ops[~trace.ops["name"].str.endswith((".pick", ".fill"))].reset_index(drop=True)
    return Trace(ops, trace.profiles, {"name": "free"}, trace.counts, trace.masks)


def by_name(trace):
    return trace.ops.set_index("name").to_dict("index")


@st.composite
def masks(draw, most=40):
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    return holed(shape, draw(st.integers(0, 999)), *(draw(st.sampled_from((0.0, 0.3, 0.9, 1.0))) for _ in range(2)))


@laws
@given(masks(), st.sampled_from((1, 4, 16)))
def test_a_gemm_of_what_stays_put_back_among_zeros_is_the_whole_product(mask, multiple):
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=mask.shape) * mask, rng.normal(size=(5, mask.shape[1]))
    trace = sp.gemm(m=5, n=mask.shape[0], k=mask.shape[1], sparsity=mask)
    (matrix,) = plan(trace, multiple_of=multiple).matrices.values()
    rows, columns = matrix.kept(OUTPUT), matrix.kept(INPUT)
    y = np.zeros((5, mask.shape[0]))
    y[:, rows] = x[:, columns] @ weights[np.ix_(rows, columns)].T
    assert y == pytest.approx(x @ weights.T, abs=1e-12)
    for kept, size, alive in zip((rows, columns), mask.shape, (mask.any(1), mask.any(0)), strict=True):
        assert len(kept) in (size, max(-(-alive.sum() // multiple) * multiple, min(multiple, size)))
    found = remove(trace, multiple_of=multiple)
    op = found.ops[found.ops["kind"] == "gemm"].iloc[0]
    assert (op["n"], op["k"]) == (len(rows), len(columns)) and op["nonzeros"] == mask.sum()
    assert found.macs == 5 * len(rows) * len(columns) == op["stored_elements"] * 5
    assert (found.masks[0] == mask[np.ix_(rows, columns)]).all()
    assert found.profiles[0].shape == found.masks[0].shape
    if multiple == 1:
        assert remove(found) is found, "nothing more to remove"


def attention_layer(x, weights, kept, config=CONFIG):
    """One decoder layer without norms and rotary, in float64. ``kept`` [channels] of every KV head that ``attn_v``
    makes, as positions in it; heads may keep unlike numbers."""
    tokens, group, dim = len(x), config.heads // config.kv_heads, config.head_dim
    q = (x @ weights["attn_q"].T).reshape(tokens, config.heads, dim)
    k = (x @ weights["attn_k"].T).reshape(tokens, config.kv_heads, dim)
    v = x @ weights["attn_v"].T
    mixed = []
    for head in range(config.heads):
        scores = np.exp(q[:, head] @ k[:, head // group].T)
        mixed.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, kept[head // group]])
    return np.concatenate(mixed, axis=1)


@pytest.mark.parametrize("multiple", [1, 4])
def test_a_decoder_without_what_is_absorbed_computes_the_same(multiple):
    """v without dead channels, attn_output without their columns in every query head; gate, up and down likewise."""
    trace, rng = decoder(), np.random.default_rng(7)
    found = plan(trace, multiple_of=multiple, paid=False)
    for layer in range(CONFIG.layers):
        of = {
            t: found.matrices[int(trace.ops.index[trace.ops["name"] == f"layer{layer}.{t}"][0])] for t in MATRIX_TYPES
        }
        dense = {t: rng.normal(size=CONFIG.matrix_shape(t)) * of[t].mask / 4 for t in MATRIX_TYPES}
        small = {t: w[np.ix_(of[t].kept(OUTPUT), of[t].kept(INPUT))] for t, w in dense.items()}
        assert small["attn_v"].size < dense["attn_v"].size and small["ffn_gate"].size < dense["ffn_gate"].size
        x = rng.normal(size=(6, CONFIG.d_model))
        every = np.arange(16).reshape(2, 8)
        heads = [np.flatnonzero(of["attn_v"].kept(OUTPUT) // 8 == head) for head in range(2)]
        a = attention_layer(x, dense, every) @ dense["attn_output"].T
        b = attention_layer(x, small, heads)
        group = CONFIG.heads // CONFIG.kv_heads
        assert b.shape[1] == group * len(of["attn_v"].kept(OUTPUT))
        read = np.flatnonzero(
            np.isin(np.flatnonzero(~of["attn_output"].absorbed[INPUT]), of["attn_output"].kept(INPUT))
        )
        assert b[:, read] @ small["attn_output"].T == pytest.approx(a, abs=1e-12)
        y = (silu(x @ dense["ffn_gate"].T) * (x @ dense["ffn_up"].T)) @ dense["ffn_down"].T
        less = (silu(x @ small["ffn_gate"].T) * (x @ small["ffn_up"].T)) @ small["ffn_down"].T
        assert less == pytest.approx(y, abs=1e-12)
        widths = {len(of[t].kept(side)) for t, side in (("ffn_gate", 0), ("ffn_up", 0), ("ffn_down", 1))}
        assert len(widths) == 1 and widths.pop() % multiple == 0


def test_a_dead_v_row_takes_the_columns_of_every_query_head_of_its_kv_head():
    """KV head 1 of 2, channel 3: query heads 2 and 3 read it at 16 + 3 and 24 + 3 of attn_output's inputs."""

    def mask(shape, seed):
        full = np.ones(shape, bool)
        if shape == (16, 32) and seed % 10 == MATRIX_TYPES.index("attn_v"):
            full[8 + 3] = False
        return full

    found = remove(decoder(mask=mask))
    ops = by_name(found)
    assert ops["layer0.attn_v"]["n"] == 15 and ops["layer0.attn_output"]["k"] == 30
    assert ops["layer0.attn_values"]["n"] == 8, "the other head keeps all eight"
    assert found.meta["removal"][0]["pays"] == [] and len(found) == len(decoder())
    (step,) = found.meta["removal"]
    assert (step["outputs"], step["inputs"]) == (2, 4)
    assert plan(decoder(mask=mask)).matrices  # and which ones:
    output = next(m for m in plan(decoder(mask=mask)).matrices.values() if m.absorbed[INPUT].any())
    assert np.flatnonzero(output.absorbed[INPUT]).tolist() == [19, 27]


def test_a_column_that_one_query_head_alone_does_not_read_is_paid_for():
    def mask(shape, seed):
        full = np.ones(shape, bool)
        if seed % 10 == MATRIX_TYPES.index("attn_output"):
            full[:, 19] = False
        return full

    found = remove(decoder(mask=mask))
    assert found.meta["removal"][0]["pays"] == [[f"layer{i}.attn_output", "input"] for i in range(2)]
    assert by_name(found)["layer0.attn_v"]["n"] == 16
    assert remove(decoder(mask=mask), paid=False).meta.get("removal") is None


def test_what_dies_empties_others():
    """up reads nothing, so hidden channel 5 is zero; the one output of down that reads only it dies too."""

    def mask(shape, seed):
        full = np.ones(shape, bool)
        if seed % 10 == MATRIX_TYPES.index("ffn_up"):
            full[5] = False
        if seed % 10 == MATRIX_TYPES.index("ffn_down"):
            full[9] = np.arange(48) == 5
        return full

    ops = by_name(remove(decoder(mask=mask)))
    assert [ops[f"layer1.ffn_{t}"]["n"] for t in ("gate", "up", "down")] == [47, 47, 31]
    assert ops["layer1.ffn_down.fill"]["write_bytes"] == 6 * 32 * 2 and ops["layer1.ffn_down"]["k"] == 47


@pytest.mark.parametrize("phase", SIZES)
def test_channels_absorbed_are_a_narrower_model_to_the_byte(phase):
    """40 of 48 hidden channels removed: the trace of a model that was made with 40, in every column."""
    alive = np.arange(48) % 6 > 0
    trace = llm(CONFIG, phase=phase, **SIZES[phase])
    keep = {f"layer{i}.ffn_up": np.flatnonzero(alive) for i in range(2)}
    found = remove(trace, keep_outputs=keep)
    narrow = llm(CONFIG, phase=phase, ffn_width=lambda layer: 40, **SIZES[phase])
    assert found.ops.drop(columns="name").to_numpy().tolist() == narrow.ops.drop(columns="name").to_numpy().tolist()


@pytest.mark.parametrize("model", ["gemma_2b", "qwen3_0_6b"])
def test_gated_parts_of_other_models_shrink_alike(model):
    """Geglu as swiglu; a prompt in two chunks runs the layer twice, and both runs shrink."""
    keep = np.arange(512)
    for size in ({"tokens": 4}, {"tokens": 4, "chunk": 2}):
        trace = llm(model, layers=1, **size)
        ups = trace.ops.loc[trace.ops["matrix_type"] == "ffn_up", "name"]
        found = remove(trace, keep_outputs=dict.fromkeys(ups, keep))
        narrow = llm(model, layers=1, ffn_width=lambda layer: 512, **size)
        assert len(ups) == (2 if "chunk" in size else 1) and found.meta["removal"][0]["pays"] == []
        assert found.ops.drop(columns="name").to_numpy().tolist() == narrow.ops.drop(columns="name").to_numpy().tolist()


@pytest.mark.parametrize("phase", SIZES)
def test_heads_whose_channels_are_absorbed_are_a_narrower_value_path(phase):
    """Six of eight channels in every head: v, its cache, what is mixed and attn_output's inputs are 3/4 of what they
    were; scores and everything else are as before."""
    trace = llm(CONFIG, phase=phase, **SIZES[phase])
    alive = np.flatnonzero(np.arange(16) % 8 < 6)
    ops, before = by_name(remove(trace, keep_outputs={"layer0.attn_v": alive})), by_name(trace)
    for name, column in (
        ("attn_v", "n"), ("attn_output", "k"), ("attn_values", "n"), ("attn_values", "stored_elements"),
        ("attn_quantise", "read_bytes"), ("attn_quantise", "write_bytes"),
    ):  # fmt: skip
        assert ops[f"layer0.{name}"][column] == 0.75 * before[f"layer0.{name}"][column], (name, column)
    rows = before["layer0.attn_v"]["m"]
    spared = {
        c: before["layer0.rotary_kv_append"][c] - ops["layer0.rotary_kv_append"][c]
        for c in ("read_bytes", "dram_write_bytes", "write_bytes")
    }
    new = rows * 4 if phase == "decode" else 0  # v of the new token waits on chip
    assert spared == {"read_bytes": rows * 4 * 2, "dram_write_bytes": rows * 4, "write_bytes": new}
    assert all(ops[name] == before[name] for name in ("layer0.attn_add", "layer0.ffn_down", "layer1.attn_v"))
    beside = {c: before["layer0.attn_scores"][c] - ops["layer0.attn_scores"][c] for c in before["layer0.attn_scores"]
              if not isinstance(ops["layer0.attn_scores"][c], str)}  # fmt: skip
    assert {c: v for c, v in beside.items() if v} == ({"live_in_bytes": new, "live_out_bytes": new} if new else {})
    assert all(row["live_in_bytes"] >= 0 and row["live_out_bytes"] >= 0 for row in ops.values())


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("gpt2_small", {"phase": "decode", "context": 7, "batch": 2}),
        ("bert_base", {"phase": "encode", "tokens": 6}),
        ("qwen3_0_6b", {"phase": "decode", "context": 7}),
    ],
)
def test_value_channels_leave_other_models_as_they_leave_a_llama(model, size):
    """With and without rotary embedding and a cache: half of every head's channels, half of V and what is mixed."""
    trace = llm(model, layers=1, **size)
    before = by_name(trace)
    dim = int(before["layer0.attn_scores"]["k"])
    alive = np.flatnonzero(np.arange(before["layer0.attn_v"]["n"]) % dim < dim // 2)
    found = remove(trace, keep_outputs={"layer0.attn_v": alive})
    ops, halved = by_name(found), ("read_bytes", "write_bytes")
    assert all(ops["layer0.attn_quantise"][c] == before["layer0.attn_quantise"][c] / 2 for c in halved)
    taker = next(name for name in ops if name.endswith(("kv_append", "qkv_quantise")))
    assert before[taker]["read_bytes"] - ops[taker]["read_bytes"] == before["layer0.attn_v"]["m"] * len(alive) * 2
    assert ops[taker]["dram_write_bytes"] == before[taker]["dram_write_bytes"] * 0.75
    assert ops["layer0.attn_values"]["stored_elements"] == before["layer0.attn_values"]["stored_elements"] / 2
    assert found.ops[["live_in_bytes", "live_out_bytes", "write_bytes", "alu_ops"]].min(axis=None) >= 0
    tail = ["live_in_bytes", "live_out_bytes"]
    assert found.ops[tail].iloc[-1].equals(trace.ops[tail].iloc[-1].astype(float))


def test_what_is_not_absorbed_is_paid_for_in_bytes():
    """24 x 40, of which 18 outputs and 30 inputs stay, 6 rows of activations: picked inputs are read and written once;
    all outputs are written, those that stay are read; places of 6 and 5 bits."""
    mask = np.zeros((24, 40), bool)
    mask[:18, :30] = True
    trace = sp.gemm(m=6, k=40, n=24, sparsity=mask)
    found = remove(trace)
    before, gemm, after = found.ops.to_dict("records")
    assert [before["name"], after["name"]] == [f"{gemm['name']}.pick", f"{gemm['name']}.fill"]
    assert before["read_bytes"] == before["write_bytes"] == before["alu_ops"] == 6 * 30
    assert before["dram_read_bytes"] == 30 * 6 / 8 and before["live_in_bytes"] == 6 * 40
    assert after["read_bytes"] == 6 * 18 and after["write_bytes"] == after["alu_ops"] == 6 * 24
    assert after["dram_read_bytes"] == pytest.approx(18 * 5 / 8) and after["live_out_bytes"] == 6 * 24
    assert (gemm["n"], gemm["k"], gemm["live_in_bytes"], gemm["live_out_bytes"]) == (18, 30, 6 * 30, 6 * 18)
    assert before["live_out_bytes"] == gemm["live_in_bytes"] and after["live_in_bytes"] == gemm["live_out_bytes"]
    op, zeros = remove(trace, runtime="indexed").ops.to_dict("records")
    assert op["weight_scale_bytes"] == pytest.approx(30 * 6 / 8 + 18 * 5 / 8) and op["live_in_bytes"] == 6 * 40
    assert zeros["write_bytes"] == zeros["alu_ops"] == pytest.approx(6 * 6) and zeros["read_bytes"] == 0


def test_inputs_that_others_still_read_stay_alive_beside_those_picked():
    """Queries, keys and values read one tensor of 6 x 32 bytes; q and k take 24 of it as a copy, v in its place. 28 of
    the 32 outputs of q leave."""
    keep = {f"layer0.attn_{t}": range(24) for t in "qkv"}
    trace = llm(CONFIG, **SIZES["prefill"])
    ops, before = by_name(remove(trace, keep_inputs=keep, keep_outputs={"layer0.attn_q": range(4)})), by_name(trace)
    for t, extra in (("q", 6 * 24), ("k", 6 * 24), ("v", -6 * 8)):
        name = f"layer0.attn_{t}"
        assert ops[name]["live_in_bytes"] == ops[f"{name}.pick"]["live_out_bytes"]
        assert ops[name]["live_in_bytes"] == before[name]["live_in_bytes"] + extra
    assert before["layer0.attn_q"]["live_out_bytes"] - ops["layer0.attn_q"]["live_out_bytes"] == 6 * 28 * 2


@pytest.mark.parametrize(
    ("machine", "engine"), [("dense_ws", "analytic"), ("gemmini_like", "analytic"), ("dense_ws", "timeline")]
)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("phase", SIZES)
def test_a_dense_machine_loses_no_more_than_what_moves_activations(machine, engine, runtime, phase):
    trace = decoder(phase)
    found = remove(trace, runtime=runtime)
    removed = 1 - found.macs / trace.macs
    assert removed > 0.1
    machine = sp.accelerator(machine)
    before, after = (sp.simulate(machine, t, engine=engine) for t in (trace, without_movers(found)))
    assert after.cycles < before.cycles and after.energy_pj < before.energy_pj
    free = sp.simulate(machine, remove(trace, paid=False), engine=engine)
    assert free.cycles < before.cycles and free.energy_pj < before.energy_pj
    assert free.energy["array"] < before.energy["array"]


@laws
@given(masks(), st.integers(1, 64))
def test_a_smaller_gemm_is_never_slower(mask, m):
    """On a dense array: without the ops that move activations, cycles and MACs of what stays."""
    trace = sp.gemm(m=m, n=mask.shape[0], k=mask.shape[1], sparsity=mask)
    found = remove(trace)
    before, after = (sp.simulate(sp.accelerator("dense_ws"), t) for t in (trace, without_movers(found)))
    assert after.cycles <= before.cycles * (1 + 1e-12) and after.energy_pj <= before.energy_pj * (1 + 1e-12)


def test_unstructured_masks_leave_next_to_nothing_to_remove():
    """The table of docs/removal.md: empty rows and columns of 210 real matrices."""
    found = {}
    for variant in ("magnitude_50", "wanda_50", "sparsegpt_50", "magnitude_70", "wanda_70", "sparsegpt_70"):
        known = counts("smollm2_135m", variant)
        found[variant] = tuple(int(sum((getattr(c, side) == 0).sum() for c in known)) for side in ("rows", "columns"))
    assert list(found.values()) == [(27, 70), (0, 389), (1, 283), (214, 332), (0, 634), (62, 452)]


def test_sizes_stay_multiples_of_heads_too():
    found = remove(decoder(), multiple_of=4)
    ops = found.ops[(found.ops["kind"] == "gemm") & (found.ops["weight_source"] == "weights")]
    ops = ops[ops["matrix_type"] != "lm_head"]
    assert (ops["n"] % 4 == 0).all() and (ops["k"] % 4 == 0).all()
    assert decoder().macs > found.macs > remove(decoder()).macs
    values = found.ops[found.ops["matrix_type"] == "attn_values"]
    assert (values["n"] % 4 == 0).all()


def test_a_choice_drops_the_quality_and_zeros_do_not():
    trace = decoder()
    trace.meta |= {"perplexity": 20.0, "perplexity_nll": 3.0}
    assert "perplexity" in remove(trace).meta
    chosen = remove(trace, keep_inputs={"layer0.attn_q": range(0, 32, 2)})
    assert not {"perplexity", "perplexity_nll"} & set(chosen.meta)
    assert chosen.meta["removal"][0]["settings"]["chosen"] == [["layer0.attn_q", "input"]]
    assert by_name(chosen)["layer0.attn_q"]["k"] <= 16


def test_a_removed_trace_survives_the_disk_and_has_profiles_of_its_own(tmp_path):
    found = remove(decoder())
    again = sp.load_trace(found.save(tmp_path / "less"))
    assert again.meta["removal"] == json.loads(json.dumps(found.meta["removal"]))
    assert remove(again) is again
    assert sp.simulate(sp.accelerator("sparse_lanes"), again).cycles > 0
    for op in found.ops[found.ops["profile"] >= 0].itertuples():
        assert found.masks[op.profile].shape == found.profiles[op.profile].shape == (op.n, op.k)
        assert found.counts[op.profile].rows.sum() == op.nonzeros


def test_a_mask_without_empty_lines_is_left_as_it_is():
    trace = sp.gemm(m=4, k=32, n=32, sparsity=np.eye(32, dtype=bool))
    assert remove(trace) is trace
    assert remove(sp.gemm(m=4, k=8, n=8)).macs == 4 * 64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: remove(sp.load_trace("smollm2_135m_wanda_50")), "removal needs masks, this trace has profiles of its"),
        (lambda: remove(decoder(), multiple_of=0), "multiple_of must be a whole number >= 1, got 0"),
        (lambda: remove(decoder(), runtime="vectors"), "did you mean 'vector'?"),
        (lambda: remove(decoder(), keep_outputs={"layer0.ffn_upp": [1]}), "did you mean 'layer0.ffn_up'?"),
        (
            lambda: remove(decoder(), keep_inputs={"layer0.ffn_up": [32]}),
            "keep_inputs of layer0.ffn_up must be a whole",
        ),
        (lambda: remove(decoder(), keep_inputs={"layer0.ffn_up": []}), "must keep at least one feature, got none"),
        (
            lambda: remove(remove(decoder()), keep_inputs={"layer0.attn_q": [1]}),
            "were removed and paid for before; remove all of them in one call",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)
