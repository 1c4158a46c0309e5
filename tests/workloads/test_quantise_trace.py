"""Quantisation choices in traces and in the forward pass: bits, bytes, work, and which layer has which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel_models import accelerator
from sim.errors import InputError
from sim.simulate import simulate
from sim.trace import gemm
from workloads import zoo
from workloads.calibration import collect
from workloads.checkpoint import MATRIX_TYPES
from workloads.llm import llm
from workloads.quantise import quantiser
from workloads.quantise.__main__ import ROWS, Row, choices_of, table
from workloads.quantise.choice import QuantisationChoice, everywhere
from workloads.quantise.model import QuantisedModel
from workloads.quantise.trace import average_bits, matrix_columns, quantised, quantised_llm
from workloads.transformer import token_nll

MODEL = "smollm2_135m"
CONFIG = zoo.config(MODEL)
RUN = {"phase": "decode", "context": 64, "layers": 2}


def row(trace, name: str) -> dict:
    return trace.ops[trace.ops["name"] == name].iloc[0].to_dict()


def test_same_columns_as_a_single_gemm():
    """4.125 bits a weight, as ``sim.trace.gemm`` counts it."""
    ours = matrix_columns(quantiser("rtn"), outputs=96, inputs=512)
    theirs = gemm(m=4, k=512, n=96, weight_bits=4, group=128).ops.iloc[0]
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize(
    "label", ["rtn", "rtn:symmetric=False,group=32", "gwq", "mx", "nvfp4", "bitmod", "ternary", "ternary:packed=True"]
)
def test_bytes_reach_dram(label):
    """A decode step fetches what the quantiser stores, to the byte, and nothing else changes."""
    two = {key: choice for key, choice in everywhere(CONFIG, label).items() if key[0] < 2}
    machine = accelerator("dense_ws")
    base, trace = llm(MODEL, **RUN), quantised_llm(MODEL, two, extra_work=False, **RUN)
    stored = sum(quantiser(label).storage(*CONFIG.matrix_shape(t)).total for t in MATRIX_TYPES) * 2 / 8
    eight_bits = sum(np.prod(CONFIG.matrix_shape(t)) for t in MATRIX_TYPES) * 2
    found = simulate(machine, trace).dram_bytes - simulate(machine, base).dram_bytes
    assert found == pytest.approx(stored - eight_bits, rel=1e-9)
    assert average_bits(trace) == pytest.approx(stored * 8 / eight_bits)


def test_one_layer_may_differ():
    choices = {
        (0, "attn_q"): QuantisationChoice("rtn:bits=8,group=None", activation_bits=16, kv_bits=4),
        (1, "ffn_up"): QuantisationChoice("mx"),
    }
    trace = quantised_llm(MODEL, choices, **RUN)
    q, k, up = row(trace, "layer0.attn_q"), row(trace, "layer0.attn_k"), row(trace, "layer1.ffn_up")
    assert (q["weight_bits"], q["activation_bits"], q["weight_scale_bytes"]) == (8, 16, 576 * 2)
    assert (k["weight_bits"], k["activation_bits"], k["weight_scale_bytes"]) == (8, 16, 0)
    assert (up["weight_bits"], up["activation_bits"], up["weight_scale_bytes"]) == (4, 8, 1536 * 18)
    cache = [row(trace, f"layer{i}.attn_scores")["weight_bits"] for i in (0, 1)]
    written = [row(trace, f"layer{i}.rotary_kv_append")["dram_write_bytes"] for i in (0, 1)]
    assert cache == [4, 8] and written[1] == 2 * written[0]
    assert trace.meta["quantisation"] == ["mx:element=e2m1,size=32", "rtn:bits=8,group=None,symmetric=True"]


def test_extra_work_is_a_vector_op_that_costs_time():
    trace = quantised_llm(MODEL, {(0, "ffn_up"): QuantisationChoice("gwq")}, **RUN)
    at = trace.ops.index[trace.ops["name"] == "layer0.ffn_up.rescale"][0]
    work, before = trace.ops.iloc[at], trace.ops.iloc[at - 1]
    assert before["name"] == "layer0.ffn_up" and work["kind"] == "vector"
    outliers = round(0.01 * 1536 * 576)
    assert work["alu_ops"] == 1536 * 5 + outliers
    assert work["live_in_bytes"] == before["live_out_bytes"] == trace.ops.iloc[at + 1]["live_in_bytes"]
    free = quantised_llm(MODEL, {(0, "ffn_up"): QuantisationChoice("gwq")}, extra_work=False, **RUN)
    machine = accelerator("dense_ws")
    assert simulate(machine, trace).cycles > simulate(machine, free).cycles
    assert simulate(machine, trace).energy_pj > simulate(machine, free).energy_pj


@pytest.mark.parametrize(("packed", "codes"), [(False, 1536 * 576 // 4), (True, 1536 * 576 // 5 + 1)])
def test_products_by_look_up(packed, codes):
    """A prefill of three tokens by hand, tables of four inputs: 40 sums of which 4 are the inputs, 144 tables, five
    groups of a scale; the GEMM is gone, and its activations and codes move as before."""
    run = {"phase": "prefill", "tokens": 3, "layers": 1}
    choice = QuantisationChoice(f"ternary:packed={packed}", lookup_span=4)
    trace, base = quantised_llm(MODEL, {(0, "ffn_up"): choice}, **run), llm(MODEL, **run)
    up, gemm_row = row(trace, "layer0.ffn_up.lookup"), row(base, "layer0.ffn_up")
    assert len(trace.ops) == len(base.ops) and "layer0.ffn_up" not in set(trace.ops["name"])
    build, lookups, scales = 144 * (40 - 4), 1536 * 144, 1536 * 5
    assert up["kind"] == "vector" and up["alu_ops"] == 3 * (build + 2 * lookups + scales)
    assert up["dram_read_bytes"] == codes + 1536 * 5 * 2
    assert (up["read_bytes"], up["write_bytes"]) == (3 * 576, 3 * 1536 * 2)
    assert all(up[name] == gemm_row[name] for name in ("live_in_bytes", "live_out_bytes", "repeats", "layer"))
    machine = accelerator("dense_ws")
    found, by_array = (
        simulate(machine, quantised_llm(MODEL, {(0, "ffn_up"): c}, **run))
        for c in (choice, QuantisationChoice(f"ternary:packed={packed}"))
    )
    assert found.dram_bytes == pytest.approx(by_array.dram_bytes, rel=0.05)
    assert trace.macs == base.macs - 3 * 1536 * 576


def test_look_up_is_for_ternary_weights():
    with pytest.raises(InputError, match="lookup_span is for ternary weights, got rtn:bits=4"):
        QuantisationChoice("rtn", lookup_span=4)
    with pytest.raises(InputError, match="span must be an integer from 1 to 8, got 9"):
        QuantisationChoice("ternary", lookup_span=9)


def test_masks_shrink_values_but_not_scales():
    pruned = gemm(m=1, k=512, n=96, sparsity="2:4")
    pruned.ops["layer"], pruned.ops["matrix_type"] = 0, "ffn_up"
    found = row(quantised(pruned, {(0, "ffn_up"): QuantisationChoice("gwq")}, extra_work=False), pruned.ops["name"][0])
    kept = 96 * 512 // 2
    assert found["nonzeros"] == kept and found["profile"] == 0
    assert found["weight_scale_bytes"] * 8 == 96 * 4 * 16 + 96 * 10 + round(0.01 * kept) * (9 + 16)


def test_wrong_choices():
    with pytest.raises(InputError, match="layer 1: attn_k and attn_q differ in activation and KV bits"):
        mixed = {(1, "attn_q"): QuantisationChoice("rtn"), (1, "attn_k"): QuantisationChoice("rtn", kv_bits=4)}
        quantised_llm(MODEL, mixed, **RUN)
    with pytest.raises(InputError, match=r"layer 2: layers are 0\.\.1"):
        quantised_llm(MODEL, {(2, "attn_q"): QuantisationChoice("rtn")}, **RUN)
    with pytest.raises(InputError, match="matrix type 'attn_w' is unknown: did you mean"):
        quantised_llm(MODEL, {(0, "attn_w"): QuantisationChoice("rtn")}, **RUN)
    with pytest.raises(InputError, match="kv_bits must be one of 4, 8, 16, got 3"):
        QuantisationChoice("rtn", kv_bits=3)


def test_awq_folds_where_it_can():
    """Grouped queries: scales of the output matrix cannot be folded into V. With a KV head a head they can."""
    assert everywhere(CONFIG, "awq")[0, "attn_output"].weights == quantiser("awq:folded=False")
    assert everywhere(CONFIG, "awq")[0, "attn_q"].weights == quantiser("awq")
    assert everywhere(zoo.config("llama2_7b"), "awq")[0, "attn_output"].weights == quantiser("awq")
    assert choices_of(CONFIG, "gptq attn_v=rtn")[3, "attn_v"].weights == quantiser("rtn")


@pytest.fixture
def calibrated(tiny):
    windows = np.random.default_rng(0).integers(0, tiny.config.vocab, (3, 20))
    return tiny, collect(tiny, windows), windows


def test_model_is_its_matrices(calibrated):
    checkpoint, calibration, windows = calibrated
    model = QuantisedModel(checkpoint, everywhere(checkpoint.config, "gwq:bits=8"), calibration)
    nll = token_nll(checkpoint, windows, model.weights)
    method = quantiser("gwq:bits=8")
    alone = method.quantise(checkpoint.matrix(1, "ffn_up"), calibration.hessian(1, "ffn_up"), calibration.tokens)
    np.testing.assert_array_equal(model.weights(1, "ffn_up"), alone.values)
    shapes = [checkpoint.config.matrix_shape(t) for t in MATRIX_TYPES] * 2
    assert model.stored.total == sum(method.storage(*shape).total for shape in shapes)
    assert model.bits_per_weight == model.stored.total / sum(np.prod(shape) for shape in shapes)
    dense = token_nll(checkpoint, windows)
    assert (
        0 < np.abs(nll - dense).mean() < 0.1 * np.abs(token_nll(checkpoint, windows, _zeros(checkpoint)) - dense).mean()
    )


def _zeros(checkpoint):
    return lambda layer, t: np.zeros_like(checkpoint.matrix(layer, t))


def test_awq_scales_are_shared_by_matrices_of_one_input(calibrated):
    checkpoint, calibration, _ = calibrated
    model = QuantisedModel(checkpoint, everywhere(checkpoint.config, "awq:bits=3"), calibration)
    stacked = np.concatenate([checkpoint.matrix(0, t) for t in ("attn_q", "attn_k", "attn_v")])
    together = quantiser("awq:bits=3").quantise(stacked, calibration.hessian(0, "attn_q"), calibration.tokens).values
    np.testing.assert_array_equal(model.weights(0, "attn_k"), together[24:36])
    np.testing.assert_array_equal(model.weights(0, "attn_v"), together[36:])


def test_pruned_then_quantised(calibrated):
    checkpoint, calibration, _ = calibrated
    rng = np.random.default_rng(1)
    masks = {(i, t): rng.random(checkpoint.config.matrix_shape(t)) < 0.5 for i in range(2) for t in MATRIX_TYPES}
    choices = everywhere(checkpoint.config, "gptq")
    model = QuantisedModel(checkpoint, choices, calibration, masks=lambda layer, t: masks[layer, t])
    assert not model.weights(0, "ffn_down")[~masks[0, "ffn_down"]].any()
    assert model.stored.values == masks[0, "ffn_down"].sum() * 4
    some = QuantisedModel(checkpoint, {(0, "ffn_up"): QuantisationChoice("rtn")})
    np.testing.assert_array_equal(some.weights(1, "ffn_up"), checkpoint.matrix(1, "ffn_up"))


def test_table_is_markdown():
    rows = [Row("rtn", "dense", 4.135, 18.08, 8.2), Row("as stored", "dense", 32, 2.2e5, 1)]
    assert list(table(iter(rows)))[2:] == [
        "| `rtn` | dense | 4.135 | 18.08 | 8 |",
        "| `as stored` | dense | float | 2e+05 | 1 |",
    ]


def test_documented_bits_follow_from_shapes():
    """docs/quantisation.md has every row of the command; its bits a weight need no weights."""
    text = (Path(__file__).parents[2] / "docs" / "quantisation.md").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in text.split("table -->")[1].splitlines() if line.startswith("| `")]
    assert [(line[0].strip("| `").replace("as stored", ""), line[1]) for line in lines] == list(ROWS)
    shapes = {t: CONFIG.matrix_shape(t) for t in MATRIX_TYPES}
    for (label, variant), line in zip(ROWS, lines, strict=True):
        if not label:
            continue
        share = 1 if variant == "dense" else 2
        method = {t: choices_of(CONFIG, label)[0, t].weights for t in MATRIX_TYPES}
        bits = sum(method[t].storage(*shape, shape[0] * shape[1] // share).total for t, shape in shapes.items())
        assert float(line[2]) == pytest.approx(bits / sum(np.prod(s) for s in shapes.values()), abs=6e-4)


@pytest.mark.slow
def test_real_model_ranks_as_documented():
    """Two windows: eight bits cost nothing, scaling and outliers beat plain rounding at four."""
    from workloads.calibration import bundled_windows
    from workloads.perplexity import Meter
    from workloads.quantise.__main__ import measure
    from workloads.variants import default_store

    store = default_store()
    meter = Meter(store.checkpoint, bundled_windows()["evaluation"][:2])
    ppl = {label: measure(meter, store, label, "dense").ppl for label in ("", "rtn:bits=8", "rtn", "gwq", "bitmod")}
    assert ppl["rtn:bits=8"] == pytest.approx(ppl[""], rel=0.02)
    assert ppl[""] < min(ppl["gwq"], ppl["bitmod"]) and max(ppl["gwq"], ppl["bitmod"]) < ppl["rtn"]


@pytest.mark.slow
def test_attention_decides_which_values_may_be_wrong():
    """One window, calibrated on two: GPTQ with XᵀX for values loses to rounding, with attention's weights it wins."""
    from workloads.calibration import bundled_windows
    from workloads.perplexity import Meter
    from workloads.quantise.attended import AttendedCalibration, collect_attended
    from workloads.variants import default_store

    checkpoint, windows = default_store().checkpoint, bundled_windows()
    meter, few = Meter(checkpoint, windows["evaluation"][:1]), windows["calibration"][:2]
    plain = collect(checkpoint, few)
    attended = AttendedCalibration(**vars(plain), values=collect_attended(checkpoint, few))
    rest = everywhere(CONFIG, "gptq")
    rounded = rest | everywhere(CONFIG, "rtn", ["attn_v"])
    models = ((rest, plain), (rounded, plain), (rest, attended))
    ppl = [meter.measure("", QuantisedModel(checkpoint, *model).weights, 0.0, "float").ppl for model in models]
    assert ppl[2] < ppl[1] < ppl[0]
