"""Traces cut over chips: against one chip, against a layer built with half the heads, and against cut masks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fast_machines import unstalled

from accel_models import accelerator
from sim.errors import InputError
from sim.operations import sequence
from sim.parallel.chips import simulate_chips
from sim.parallel.network import Chips
from sim.parallel.report import CAUSES
from sim.parallel.split import even, shards, stages
from sim.parallel.zeros import ESTIMATE
from sim.simulate import ENGINES, simulate
from sim.trace import Op, Trace, gemm
from workloads import zoo
from workloads.llm import llm
from workloads.quantise.choice import QuantisationChoice, everywhere
from workloads.quantise.trace import quantised_llm
from workloads.shapes import layer_ops

DECODE = {"phase": "decode"}
LAYER = llm("llama2_7b", "prefill", tokens=64, layers=1)


def ring(count, link=25.0, latency=500.0, **more):
    fields = {"topology": "ring", "links_per_chip": 2, "energy_pj_per_bit": 5.0} | more
    return Chips(count=count, link_gb_per_s=link, link_latency_ns=latency, **fields)


def first_layer(config, label):
    return {key: choice for key, choice in everywhere(config, label).items() if key[0] == 0}


def total(traces, column, kind="gemm"):
    """Of a product of columns, over all ops of all traces."""
    return sum(float(t.ops[t.ops["kind"] == kind].eval(column).sum()) for t in traces)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_chip_is_simulate(engine):
    machine, trace = accelerator("dense_ws"), llm("smollm2_135m", "decode", context=64, layers=2)
    report, alone = simulate_chips(machine, trace, ring(1), engine=engine), simulate(machine, trace, engine)
    assert report.seconds == pytest.approx(alone.seconds, rel=1e-12) and report.area_mm2 == alone.area_mm2
    assert report.energy_pj == pytest.approx(alone.energy_pj, rel=1e-12)
    pd.testing.assert_frame_equal(report.stages[0].reports[0].table, alone.table)


@pytest.mark.parametrize("step", [{"phase": "prefill", "tokens": 32}, {"phase": "decode", "context": 40, "batch": 2}])
@pytest.mark.parametrize(("model", "tensor"), [("llama2_7b", 2), ("llama2_7b", 8), ("smollm2_135m", 3)])
def test_macs_and_stored_elements_are_conserved(model, tensor, step):
    trace = llm(model, **step, layers=2, ends=True)
    found = shards(trace, tensor)
    for column in ("batch * m * n * k", "batch * stored_elements", "batch * nonzeros"):
        assert total(found.traces, column) == pytest.approx(total([trace], column), rel=1e-12)
    assert total(found.traces, "dram_write_bytes", "vector") == pytest.approx(
        total([trace], "dram_write_bytes", "vector")
    )
    assert not found.notes


@pytest.mark.parametrize("step", [{"phase": "prefill", "tokens": 32}, {"phase": "decode", "context": 40, "batch": 2}])
def test_a_chip_of_two_runs_a_layer_with_half_the_heads_and_channels(step):
    """Every number of every op, live bytes included, against the layer of a model that is half as wide inside."""
    config = zoo.config("llama2_7b")
    half = replace(config, heads=config.heads // 2, kv_heads=config.kv_heads // 2, ffn=config.ffn // 2)
    assert half.d_model == config.d_model and half.head_dim == config.head_dim
    found = shards(Trace.from_ops(layer_ops(config, 0, **step)), 2)
    wanted = Trace.from_ops(layer_ops(half, 0, **step)).ops
    rows = step.get("tokens", 1) * step.get("batch", 1)
    for trace in found.traces:
        same = trace.ops.drop(columns=["alu_ops", "special_function_ops"])
        pd.testing.assert_frame_equal(same, wanted[same.columns], check_dtype=False)
        for column in ("alu_ops", "special_function_ops"):  # per-row work of a split op is split, too
            assert (trace.ops[column] - wanted[column]).abs().max() <= rows / 2


def test_communication_of_a_llama_layer_by_hand():
    """Two all-reduces of 64 x 4096 16-bit numbers; 2 chips move 2 (p - 1) n bytes for each."""
    n = 64 * 4096 * 2
    report = simulate_chips(accelerator("dense_ws"), LAYER, ring(2), tensor=2)
    assert report.transfers["op"].tolist() == ["layer0.attn_output", "layer0.ffn_down"]
    assert report.transfers["size_bytes"].tolist() == [n, n]
    assert report.bytes_on_wire == 2 * 2 * n and report.energy["links"] == 4 * n * 8 * 5
    assert report.seconds_by_cause["communication"] == pytest.approx(2 * (2 * 500e-9 + n / 50e9))


def test_head_and_embedding_are_gathered():
    trace = llm("smollm2_135m", "decode", context=8, batch=4, layers=1, ends=True)
    found = shards(trace, 3)
    names = {trace.ops["name"][i]: t for i, t in found.transfers.items()}
    assert names["embedding"].kind == names["lm_head"].kind == "all_gather"
    assert names["lm_head"].size_bytes == 4 * 49152 * 2 and names["embedding"].size_bytes == 4 * 576 * 2
    lookup = sum(float(t.ops["dram_read_bytes"].iloc[0]) for t in found.traces)
    assert lookup == pytest.approx(trace.ops["dram_read_bytes"].iloc[0])


def test_more_link_bandwidth_is_never_slower_and_no_bandwidth_is_the_limit():
    machine = accelerator("dense_ws")
    times = [simulate_chips(machine, LAYER, ring(4, link), tensor=4).seconds for link in (0.01, 0.1, 1, 10, 1e5)]
    assert times == sorted(times, reverse=True) and times[0] > 10 * times[-1]
    starved = simulate_chips(machine, LAYER, ring(4, 0.01), tensor=4)
    assert starved.limit.startswith("communication") and "bandwidth" in starved.limit
    far = simulate_chips(machine, LAYER, ring(4, 1e5, latency=1e8), tensor=4)
    assert far.limit.startswith("communication") and "latency" in far.limit
    assert simulate_chips(machine, LAYER, ring(4, 1e5), tensor=4).limit.startswith("the chips themselves")


@pytest.mark.parametrize(
    "where",
    [
        {"topology": "ring"},
        {"topology": "switch"},
        {"topology": "all_to_all"},
        {"topology": "mesh", "mesh_rows": 2, "mesh_cols": 4},
        {"topology": "mesh", "mesh_rows": 4, "mesh_cols": 2},
        {"topology": "mesh", "mesh_rows": 1, "mesh_cols": 8},
    ],
)
@pytest.mark.parametrize(("tensor", "pipeline"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_every_topology_and_cut_adds_up(where, tensor, pipeline):
    """Causes, link energy, and more bandwidth; every stage but the last sends, over as many channels as it is far."""
    machine, trace = accelerator("dense_ws"), llm("llama2_7b", "decode", context=8, layers=8)
    found = [simulate_chips(machine, trace, ring(8, b, **where), tensor, pipeline, 3) for b in (0.1, 1, 1000)]
    for report in found:
        assert sum(report.seconds_by_cause.values()) == report.seconds
        assert report.energy["links"] == pytest.approx(report.bytes_on_wire * 8 * 5.0)
        sends = report.transfers[report.transfers["kind"] == "point_to_point"]
        assert sends["stage"].tolist() == list(range(pipeline - 1))
        assert (sends["wire_bytes"] >= sends["size_bytes"]).all()
    assert found[0].seconds >= found[1].seconds >= found[2].seconds
    assert found[0].seconds_by_cause["compute"] == pytest.approx(found[2].seconds_by_cause["compute"], rel=1e-9)


@pytest.mark.parametrize("micro_batches", [1, 3, 8])
def test_bubble_of_equal_stages(micro_batches):
    trace = llm("smollm2_135m", "prefill", tokens=64, layers=4)
    chips = ring(4, 1e6, 0)
    report = simulate_chips(accelerator("dense_ws"), trace, chips, pipeline=4, micro_batches=micro_batches)
    bubble = report.seconds_by_cause["bubble"] / report.seconds
    assert bubble == pytest.approx(3 / (micro_batches + 3), rel=2e-3)
    assert sum(report.seconds_by_cause.values()) == report.seconds and set(report.seconds_by_cause) == set(CAUSES)
    slow, stage_sum = max(s.seconds for s in report.stages), sum(s.seconds for s in report.stages)
    assert report.seconds == pytest.approx(stage_sum + (micro_batches - 1) * slow)


def test_stages_take_whole_layers_evenly_and_ends_where_they_belong():
    trace = llm("smollm2_135m", "decode", context=8)
    parts = stages(trace, 4)
    assert sorted(p.ops["layer"].drop_duplicates().ge(0).sum() for p in parts) == [7, 7, 8, 8]
    assert parts[0].ops["name"].iloc[0] == "embedding" and parts[-1].ops["name"].iloc[-1] == "argmax"
    pd.testing.assert_frame_equal(pd.concat([p.ops for p in parts], ignore_index=True), trace.ops)


def test_a_stage_sends_the_residual_stream():
    trace = llm("smollm2_135m", "prefill", tokens=10, layers=2)
    report = simulate_chips(accelerator("dense_ws"), trace, ring(2), pipeline=2)
    sent = report.transfers
    assert sent["kind"].tolist() == ["point_to_point"] and sent["size_bytes"].tolist() == [10 * 576 * 2]
    tensor = simulate_chips(accelerator("dense_ws"), trace, ring(6), tensor=3, pipeline=2).transfers
    sends = tensor[(tensor["stage"] == 0) & ~tensor["kind"].eq("all_reduce")]
    assert set(sends["kind"]) <= {"point_to_point", "all_gather"} and len(sends)


def test_real_masks_are_cut_and_the_slower_chip_counts():
    """Dense outputs on one chip, sparse ones on the other: exactly what each half does by itself."""
    rng = np.random.default_rng(0)
    mask = np.concatenate([rng.random((64, 96)) < 0.9, rng.random((64, 96)) < 0.2])
    machine, trace = unstalled("sparse_lanes"), gemm(256, 96, 128, sparsity=mask)
    report = simulate_chips(machine, trace, ring(2), tensor=2)
    halves = [simulate(machine, gemm(256, 96, 64, sparsity=part)) for part in (mask[:64], mask[64:])]
    assert [r.cycles for r in report.stages[0].reports] == [r.cycles for r in halves]
    assert halves[0].cycles > 1.5 * halves[1].cycles
    assert report.seconds_by_cause["compute"] == halves[0].seconds and report.seconds_by_cause["waiting"] == 0
    assert report.transfers["kind"].tolist() == ["all_gather"] and "no rule for" in report.notes[0]


def down(mask, name="ffn_down"):
    outputs, inputs = mask.shape
    base = gemm(16, inputs, outputs, sparsity=mask)
    return replace(base, ops=base.ops.assign(matrix_type=name))


def test_rows_of_a_mask_are_cut_for_a_sum_over_chips():
    rng = np.random.default_rng(1)
    mask = np.concatenate([rng.random((48, 64)) < 0.9, rng.random((48, 64)) < 0.1], axis=1)
    found = shards(down(mask), 2)
    assert all((t.masks[0] == m).all() for t, m in zip(found.traces, (mask[:, :64], mask[:, 64:]), strict=True))
    assert [t.ops["k"].iloc[0] for t in found.traces] == [64, 64] and found.transfers[0].kind == "all_reduce"
    assert found.transfers[0].size_bytes == 16 * 48


def test_chips_wait_for_each_other_at_every_collective():
    """First op heavy on chip 0, second on chip 1: together they take as long as the heavy halves."""
    rng = np.random.default_rng(2)
    mask = np.concatenate([rng.random((64, 64)) < 0.9, rng.random((64, 64)) < 0.1], axis=1)
    trace = sequence(down(mask), down(mask[:, ::-1]), chained=False)
    machine = unstalled("sparse_lanes")
    report = simulate_chips(machine, trace, ring(2, 1e5, 0), tensor=2)
    heavy = simulate(machine, down(mask[:, :64])).table["cycles"].sum() / machine.clock_ghz * 1e-9
    spent = report.seconds_by_cause["compute"] + report.seconds_by_cause["waiting"]
    assert report.seconds_by_cause["waiting"] > 0.2 * spent
    assert spent == pytest.approx(2 * heavy, rel=0.02)


def test_without_masks_parts_are_estimates_that_say_so():
    rng = np.random.default_rng(3)
    mask = rng.random((256, 128)) < np.linspace(0.2, 0.9, 256)[:, None]
    whole = gemm(64, 128, 256, sparsity=mask)
    machine = accelerator("sparse_lanes")
    exact = simulate_chips(machine, whole, ring(2), tensor=2)
    counted = simulate_chips(machine, replace(whole, masks=None), ring(2), tensor=2)
    blind = simulate_chips(machine, replace(whole, masks=None, counts=None), ring(2), tensor=2)
    assert ESTIMATE not in exact.notes
    assert all(ESTIMATE in r.notes for r in (counted, blind))
    assert counted.seconds == pytest.approx(exact.seconds, rel=0.1)
    parts = shards(replace(whole, masks=None), 2).traces
    assert [t.ops["nonzeros"].iloc[0] for t in parts] == [mask[:128].sum(), mask[128:].sum()]
    assert all(t.counts[0].rows.sum() == t.counts[0].columns.sum() for t in parts)
    off_grid = machine.override({"sparsity.barrier_depth": 48})
    guessed, walked = (
        simulate_chips(off_grid, t, ring(2), tensor=2).seconds for t in (replace(whole, masks=None), whole)
    )
    assert guessed == pytest.approx(walked, rel=0.1)


def test_parts_of_an_n_of_m_mask_still_fit_it():
    machine = accelerator("nm_24")
    trace = gemm(64, 1376, 96, sparsity="2:4")
    trace = replace(trace, ops=trace.ops.assign(matrix_type="ffn_down"))
    for part in shards(trace, 3).traces:
        assert part.ops["group4_max"].iloc[0] == 2
        assert simulate(machine, part).table["weights_are"].tolist() == ["n:m"]


@pytest.mark.parametrize(("model", "tensor"), [("llama2_7b", 8), ("smollm2_135m", 3)])
def test_work_beside_a_product_is_cut_as_the_product_is(model, tensor):
    """Scaling weights or partial sums of every matrix: the chips' shares sum to the whole, uneven ones too."""
    config = zoo.config(model)
    trace = quantised_llm(model, first_layer(config, "rtn"), context=8, layers=1, **DECODE)
    beside = "(name.str.endswith('.rescale')) * alu_ops"
    parts = shards(trace, tensor).traces
    assert total([trace], beside, "vector") > 0
    assert total(parts, beside, "vector") == pytest.approx(total([trace], beside, "vector"), rel=1e-12)
    for part in parts:
        whole, mine = (t.ops.set_index("name") for t in (trace, part))
        for matrix, dim in (("ffn_up", "n"), ("ffn_down", "k"), ("attn_v", "n"), ("attn_output", "k")):
            share = mine[dim][f"layer0.{matrix}"] / whole[dim][f"layer0.{matrix}"]
            work = [t["alu_ops"][f"layer0.{matrix}.rescale"] for t in (mine, whole)]
            assert work[0] == pytest.approx(share * work[1])
        assert part.ops["live_out_bytes"].iloc[-1] == trace.ops["live_out_bytes"].iloc[-1]


def test_work_beside_copied_heads_is_copied_with_them():
    choices = first_layer(zoo.config("smollm2_135m"), "rtn")
    trace = quantised_llm("smollm2_135m", choices, context=8, layers=1, **DECODE)
    beside = "(name == 'layer0.{}.rescale') * alu_ops"
    for matrix, copies in (("attn_k", 3), ("attn_q", 1)):
        mine, whole = (total(t, beside.format(matrix), "vector") for t in (shards(trace, 9).traces, [trace]))
        assert mine == pytest.approx(copies * whole)


def test_products_by_look_up_are_refused():
    choice = {(0, "ffn_up"): QuantisationChoice("ternary", lookup_span=4)}
    with pytest.raises(InputError, match=r"layer0\.ffn_up\.lookup: a product by table look-up cannot be cut"):
        shards(quantised_llm("smollm2_135m", choice, context=8, layers=1, **DECODE), 3)


def test_kv_heads_are_copied_where_chips_outnumber_them():
    trace = llm("smollm2_135m", "decode", context=16, layers=1)
    found = shards(trace, 9)
    by_type = {t: total(found.traces, f"(matrix_type == '{t}') * batch * m * n * k") for t in ("attn_q", "attn_k")}
    assert by_type == {"attn_q": 576 * 576, "attn_k": 3 * 576 * 192}
    assert any("copied" in n for n in found.notes)
    assert total(found.traces, "(matrix_type == 'attn_scores') * batch * m") == 9
    for t in found.traces:
        assert t.ops["live_out_bytes"].iloc[-1] == trace.ops["live_out_bytes"].iloc[-1]


def test_waiting_chips_leak():
    machine, trace = accelerator("dense_ws"), llm("smollm2_135m", "prefill", tokens=16, layers=2)
    quick, slow = (simulate_chips(machine, trace, ring(2, 1e5, x), pipeline=2) for x in (0, 1e7))
    power = simulate(machine, trace)
    watts = sum(power.energy[c] for c in ("leakage", "dram_background")) / power.seconds
    for report in (quick, slow):
        standing = sum(report.energy[c] for c in ("leakage", "dram_background"))
        assert standing == pytest.approx(2 * watts * report.seconds, rel=1e-5)
    assert slow.energy["array"] == quick.energy["array"]


def test_report_fits_a_terminal_and_says_what_limits():
    report = simulate_chips(accelerator("dense_ws"), LAYER, ring(4), tensor=4)
    text = repr(report)
    assert max(map(len, text.splitlines())) <= 120 and "limit:" in text and "all_reduce (ring)" in text
    assert report.to_dict()["seconds"] == report.seconds


def test_even_ranges_are_whole_grains_that_cover_everything():
    assert even(10, 3) == [(0, 3), (3, 6), (6, 10)]
    assert even(1536, 5) == [(0, 288), (288, 608), (608, 896), (896, 1216), (1216, 1536)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chips": ring(4), "tensor": 2}, "tensor x pipeline must be the 4 chips, got 2 x 1"),
        ({"chips": ring(64), "tensor": 64}, "tensor must be <= the trace's 32 attention heads, got 64"),
        ({"chips": ring(2), "pipeline": 2}, "pipeline must be <= the trace's 1 layers, got 2"),
        ({"chips": ring(2), "tensor": 0}, "tensor must be a whole number >= 1"),
        ({"chips": ring(1), "micro_batches": 0}, "micro_batches must be a whole number >= 1"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message):
        simulate_chips(accelerator("dense_ws"), LAYER, **arguments)


def test_layers_that_come_back_cannot_be_stages():
    trace = llm("smollm2_135m", "prefill", tokens=4, layers=2)
    with pytest.raises(InputError, match="each layer's ops together"):
        stages(sequence(trace, trace), 2)


def test_an_op_smaller_than_the_chips_is_copied():
    op = Op("odd", "gemm", "odd", numbers={"m": 4, "n": 2, "k": 8})
    found = shards(Trace.from_ops([op]), 4)
    assert not found.transfers and all(t.ops["n"].iloc[0] == 2 for t in found.traces)
