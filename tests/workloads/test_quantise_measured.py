"""Priced is measured: the same choices in the trace and in the forward pass; after pruning, too; attended Hessians."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

from accel_models import accelerator
from sim.errors import InputError
from sim.simulate import simulate
from workloads import prune
from workloads.arithmetic import Arithmetic
from workloads.calibration import collect
from workloads.checkpoint import MATRIX_TYPES
from workloads.perplexity import Meter
from workloads.prune import prune_model
from workloads.quantise import fake_quantise, quantiser
from workloads.quantise.__main__ import EIGHT_AT_THE_ENDS, choices_of, widths_table
from workloads.quantise.attended import AttendedCalibration, collect_attended, mixed_inputs
from workloads.quantise.choice import QuantisationChoice, everywhere
from workloads.quantise.measured import arithmetics, measure_choices, measured_llm
from workloads.quantise.model import QuantisedModel
from workloads.quantise.pruned import quantise_pruned
from workloads.quantise.trace import average_bits, model_trace
from workloads.shapes import Numerics
from workloads.transformer import token_nll

DECODE = {"phase": "decode", "context": 16}


@pytest.fixture
def windows(monkeypatch):
    """Random token ids instead of text: the tiny model reads no English."""
    rng = np.random.default_rng(0)
    calibration, evaluation = rng.integers(0, tiny_llama.VOCAB, (8, 24)), rng.integers(0, tiny_llama.VOCAB, (2, 16))
    monkeypatch.setattr(prune, "_calibration_windows", lambda checkpoint, tokens, seed: calibration)
    return calibration, evaluation


@pytest.fixture
def meter(tiny, windows):
    return Meter(tiny, windows[1])


def test_every_layer_is_measured_in_the_bits_it_is_priced_with(tiny, meter):
    """A4 KV4 in one layer: the trace's GEMMs and cache say 4 there and 8 elsewhere, and so does the forward pass, which
    rounds a chosen matrix once and the others as the run's own eight bits do."""
    choices = {(1, "ffn_up"): QuantisationChoice("rtn:group=8", 4, 4)}
    trace, found = measured_llm(meter, QuantisedModel(tiny, choices), **DECODE)
    gemms = trace.ops[(trace.ops["kind"] == "gemm") & (trace.ops["layer"] >= 0)]
    assert (gemms["activation_bits"] == np.where(gemms["layer"] == 1, 4, 8)).all()
    cache = gemms[gemms["weight_source"] == "kv"]
    assert cache.groupby("layer")["weight_bits"].first().tolist() == [8, 4]
    rounded = quantiser("rtn:group=8").quantise(tiny.matrix(1, "ffn_up")).values

    def weights(layer, t):
        return rounded if (layer, t) == (1, "ffn_up") else fake_quantise(tiny.matrix(layer, t))

    nll = token_nll(tiny, meter.windows, weights, ["wxa8kv8", "wxa4kv4", "w8a8kv8"])
    assert found.nll == nll.mean() and trace.meta["perplexity"] == pytest.approx(np.exp(nll.mean()))
    assert trace.meta["arithmetic"] == found.arithmetic == "wxa8kv8,wxa4kv4,w8a8kv8"
    assert trace.meta["quality"] == "measured" and trace.meta["windows_sha256"] == meter.windows_sha256


def test_nothing_chosen_is_the_plain_eight_bit_model(tiny, meter):
    found = measure_choices(meter, QuantisedModel(tiny, {}))
    assert found.nll == pytest.approx(meter.measure("dense", tiny.matrix, 0.0, "w8a8kv8").nll, abs=1e-5)


def test_bits_of_the_run_hold_where_nothing_was_chosen(tiny, meter):
    choices = everywhere(tiny.config, QuantisationChoice("rtn", 16, 4))
    assert arithmetics(tiny.config, choices, Numerics(4, 8, 16)) == (
        *[Arithmetic(None, 16, 4)] * 2,
        Arithmetic(4, 8, 16),
    )
    model = QuantisedModel(tiny, {(0, "ffn_up"): QuantisationChoice("rtn", 16, 16)})
    few, many = (measured_llm(meter, model, weight_bits=b, **DECODE)[1].nll for b in (4, 16))
    assert few != many and abs(many - token_nll(tiny, meter.windows, model.weights).mean()) < 0.01
    with pytest.raises(InputError, match="layers must be left out where perplexity is measured, got 1"):
        measured_llm(meter, model, layers=1, **DECODE)


@pytest.mark.parametrize(("method", "pattern"), [("magnitude", "0.5"), ("wanda", "2:4"), ("sparsegpt", "0.5")])
@pytest.mark.parametrize("label", ["rtn:group=8", "gptq:group=8", "awq"])
def test_pruned_then_quantised_in_one_go(tiny, tiny_path, meter, windows, method, pattern, label):
    """Zeros, profiles, codes and scales in one trace; what runs is what is measured."""
    pruned = prune_model(tiny_path, method, pattern)
    model = quantise_pruned(pruned, tiny, everywhere(tiny.config, label), collect(tiny, windows[0]))
    trace, found = measured_llm(meter, model, **DECODE)
    gemms = trace.ops[trace.ops["matrix_type"].isin(MATRIX_TYPES)]
    assert (gemms["profile"] >= 0).all() and (gemms["weight_bits"] == 4).all()
    for op in gemms.itertuples():
        mask = pruned.masks[op.layer, op.matrix_type]
        choice = model.choices[op.layer, op.matrix_type]
        assert op.nonzeros == mask.sum() and np.array_equal(trace.masks[int(op.profile)], mask)
        assert op.weight_scale_bytes * 8 == choice.weights.storage(*mask.shape, int(mask.sum())).side
        assert not model.weights(op.layer, op.matrix_type)[~mask].any()
    assert found.realised_sparsity == pytest.approx(pruned.realised_sparsity) == trace.meta["realised_sparsity"]
    assert found.nll == token_nll(tiny, meter.windows, model.weights, ["wxa8kv8", "wxa8kv8", "w8a8kv8"]).mean()
    assert model.bits_per_weight == pytest.approx(average_bits(trace))
    machine = accelerator("sparse_lanes")
    dense = model_trace(QuantisedModel(tiny, everywhere(tiny.config, label), collect(tiny, windows[0])), **DECODE)
    assert simulate(machine, trace).dram_bytes < simulate(machine, dense).dram_bytes


def test_gptq_makes_up_for_pruned_weights_once(tiny, tiny_path, windows):
    """Wanda leaves the kept weights as they were, so GPTQ sees the dense ones; SparseGPT made up for them itself."""
    calibration = collect(tiny, windows[0])
    method, hessian = quantiser("gptq:group=8"), calibration.hessian(0, "ffn_down")
    for name, given in (("wanda", tiny.matrix(0, "ffn_down")), ("sparsegpt", None)):
        pruned = prune_model(tiny_path, name, "0.5")
        given = pruned.weights[0, "ffn_down"] if given is None else given
        model = quantise_pruned(pruned, tiny, everywhere(tiny.config, method), calibration)
        wanted = method.quantise(given, hessian, calibration.tokens, pruned.masks[0, "ffn_down"]).values
        np.testing.assert_array_equal(model.weights(0, "ffn_down"), wanted)


def test_masks_stay_with_their_matrices_where_some_are_looked_up(tiny, tiny_path):
    pruned = prune_model(tiny_path, "magnitude", "0.5")
    choices = everywhere(tiny.config, "ternary") | {(0, "attn_k"): QuantisationChoice("ternary", lookup_span=4)}
    trace = model_trace(quantise_pruned(pruned, tiny, choices), **DECODE)
    op = trace.ops[trace.ops["name"] == "layer1.ffn_down"].iloc[0]
    assert len(trace.masks) == len(trace.profiles)
    np.testing.assert_array_equal(trace.masks[int(op["profile"])], pruned.masks[1, "ffn_down"])


def test_cut_channels_are_quantised_as_they_are_left(tiny, tiny_path, meter, windows):
    pruned = prune_model(tiny_path, "ffn_channels", "ffn 25%")
    model = quantise_pruned(pruned, tiny, everywhere(tiny.config, "gptq"), collect(tiny, windows[0]))
    trace, found = measured_llm(meter, model, **DECODE)
    assert model.weights(0, "ffn_down").shape == (24, 24)
    down = trace.ops[trace.ops["name"] == "layer0.ffn_down"].iloc[0]
    assert (down["k"], down["nonzeros"], down["weight_scale_bytes"]) == (24, 24 * 24, 24 * 2)
    assert found.realised_sparsity == pytest.approx(pruned.realised_sparsity)


def test_bits_that_pruning_stored_itself_are_kept(tiny, tiny_path, meter):
    pruned = prune_model(tiny_path, "hwpq", "0.5", types="ffn")
    own = pruned.details[0, "ffn_up"].quantised
    model = quantise_pruned(pruned, tiny, everywhere(tiny.config, QuantisationChoice("rtn:bits=8", 4, 4), ["attn_q"]))
    np.testing.assert_array_equal(model.weights(0, "ffn_up"), pruned.weights[0, "ffn_up"])
    trace, _ = measured_llm(meter, model, **DECODE)
    up = trace.ops[trace.ops["name"] == "layer0.ffn_up"].iloc[0]
    assert (up["weight_bits"], up["activation_bits"]) == (own.method.code_bits, 4)
    assert up["weight_scale_bytes"] * 8 == own.stored.side
    with pytest.raises(InputError, match="layer 0: ffn_gate is stored by hwpq as rtn:"):
        quantise_pruned(pruned, tiny, everywhere(tiny.config, "nvfp4"))


def test_what_cannot_be_quantised_after_pruning(tiny, tiny_path):
    pruned = prune_model(tiny_path, "magnitude", "0.5", keep="masks")
    with pytest.raises(InputError, match="needs their weights: prune with keep='all'"):
        quantise_pruned(pruned, tiny, {})


def test_attended_hessian_is_that_of_the_attention_output(tiny, windows):
    """On its own data: tr(E H Eᵀ) over heads is the squared change of what leaves attention, up to the heads that read
    another part of V; and a token that all queries rest on weighs as much as they do."""
    x = {}
    token_nll(tiny, windows[0][:1], hook=lambda layer, name, found: x.setdefault((layer, name), found.copy()))
    mixed = mixed_inputs(tiny, 0, x[0, "attn_in"])
    c = tiny.config
    values = tiny.matrix(0, "attn_v").reshape(c.kv_heads, c.head_dim, c.d_model)
    by_head = [mixed[:, h] @ values[h * c.kv_heads // c.heads].T for h in range(c.heads)]
    np.testing.assert_allclose(np.concatenate(by_head, axis=1), x[0, "attn_o_in"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(mixed[0], np.repeat(x[0, "attn_in"][:1], c.heads, axis=0), rtol=1e-5, atol=1e-6)
    whole = collect_attended(tiny, windows[0][:1])[0]
    np.testing.assert_allclose(whole, np.einsum("thi,thj->ij", mixed, mixed) / c.heads, rtol=1e-4, atol=1e-4)


def test_attended_calibration_is_for_values_only(tiny, windows):
    plain = collect(tiny, windows[0])
    attended = AttendedCalibration(**vars(plain), values=collect_attended(tiny, windows[0]))
    for t in MATRIX_TYPES:
        assert np.array_equal(attended.hessian(1, t), plain.hessian(1, t)) is (t != "attn_v")


def test_mixed_choices_as_the_command_writes_them(tiny):
    choices = choices_of(tiny.config, EIGHT_AT_THE_ENDS.format("rtn").replace("layer29", "layer1") + " +attended", 4, 4)
    assert choices[0, "attn_q"] == QuantisationChoice("rtn:bits=8") == choices[1, "ffn_down"]
    some = choices_of(tiny.config, "rtn ffn_down=rtn:bits=8", 4, 16)
    assert some[1, "ffn_down"] == QuantisationChoice("rtn:bits=8", 4, 16)
    assert some[0, "ffn_up"] == QuantisationChoice("rtn", 4, 16)
    assert list(widths_table(iter([("", (32, [1, 2.5, 3, 2e4]))])))[2] == (
        "| `as stored` | float | 1.00 | 2.50 | 3.00 | 2e+04 |"
    )
