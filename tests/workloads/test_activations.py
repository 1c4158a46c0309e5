"""Measured activation zeros: the bundled table beside an independent measurement, and what any union obeys."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparchitect as sp
from sim.errors import InputError
from workloads.activation_sparsity.table import densities
from workloads.activation_sparsity.table import measured as measured_perplexity
from workloads.activations import (
    NEIGHBOURS,
    SPARSITIES,
    TEXTS,
    by_tensor,
    measured,
    union_density,
    with_activation_zeros,
)
from workloads.checkpoint import INPUTS, MATRIX_INPUT, MATRIX_TYPES

REFERENCE = pd.read_csv(Path(__file__).parent / "data" / "activation_stats.csv")


def test_every_tensor_is_there():
    table = measured()
    assert len(table) == 30 * len(INPUTS) * len(SPARSITIES)
    assert not table.duplicated(["layer", "tensor", "sparsity"]).any()
    assert table["density"].between(0, 1).all() and table["energy_lost"].between(0, 1).all()


@pytest.mark.parametrize(("sparsity", "quantile"), [(0.5, "p50"), (0.9, "p90")])
def test_thresholds_agree_with_the_reference(sparsity, quantile):
    """Quantiles of |x| on other tokens of the same texts."""
    ours = measured().query("sparsity == @sparsity").merge(REFERENCE, on=["layer", "tensor"])
    assert len(ours) == 30 * len(INPUTS)
    ratio = ours["threshold"] / ours[quantile]
    assert ratio.median() == pytest.approx(1, abs=0.05)
    assert ratio.between(0.75, 1.35).mean() > 0.95


@pytest.mark.parametrize("share", [50, 70, 90])
def test_one_threshold_loses_no_more_than_as_many_values_of_each_token(share):
    """The reference drops the smallest values token by token, so quiet tokens lose as much as loud ones."""
    ours = measured().query("sparsity == @share / 100").merge(REFERENCE, on=["layer", "tensor"])
    ratio = ours["energy_lost"] / ours[f"energy_lost_drop{share}"]
    assert ratio.max() < 1.05 and 0.8 < ratio.median() < 1


def test_a_union_is_denser_with_every_token_and_no_denser_than_the_sum():
    table = measured()
    for names in ([f"tokens_{v}" for v in NEIGHBOURS], [f"texts_{v}" for v in TEXTS]):
        steps = table[["density", *names]].to_numpy()
        assert (np.diff(steps, axis=1) >= -0.02).all()  # the last, short group is left out
        bound = steps[:, :1] * np.array([1, *(int(n.split("_")[1]) for n in names)])
        assert (steps <= bound * 1.02 + 1e-9).all()
    mean = by_tensor(table)
    dense = mean["tokens_8"].xs(0.5, level="sparsity")
    assert (dense > 0.8).all() and (dense.drop("attn_o_in") > 0.95).all()  # eight tokens need nearly every column


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_the_union_of_groups(texts, length, features, density, seed):
    kept = np.random.default_rng(seed).random((texts, length, features)) < density
    assert union_density(kept, 1) == pytest.approx(kept.mean())
    assert union_density(kept, length) == pytest.approx(kept.any(axis=1).mean())
    assert union_density(kept, texts, across=True) == pytest.approx(kept.any(axis=0).mean())


def decode(batch=1, layers=2, model="smollm2_135m"):
    return sp.llm(model, phase="decode", context=64, batch=batch, layers=layers)


def prefill(tokens, batch=1):
    return sp.llm("smollm2_135m", tokens=tokens, batch=batch, layers=2)


def matrices(trace, column="input_union"):
    """A column by (layer, matrix type) of the matrices whose inputs are measured."""
    ops = trace.ops[trace.ops["matrix_type"].isin(MATRIX_TYPES)]
    return ops.set_index(["layer", "matrix_type"])[column]


@pytest.mark.parametrize(
    ("trace", "column"),
    [(decode(1), "density"), (decode(4), "texts_4"), (prefill(4), "tokens_4"), (prefill(128), "tokens_128")],
    ids=["one", "texts", "tokens", "prompt"],
)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_a_trace_gets_the_union_over_its_rows_as_measured(trace, column, sparsity):
    """On the grid: the measured number of the op's own layer and tensor; everywhere else the column is as it was."""
    found = with_activation_zeros(trace, f"threshold_{sparsity * 100:.0f}")
    rows = measured().query("sparsity == @sparsity").set_index(["layer", "tensor"])
    for ours, theirs in (("input_union", column), ("input_density", "density")):
        for (layer, matrix_type), density in matrices(found, ours).items():
            assert density == pytest.approx(rows.loc[(layer, MATRIX_INPUT[matrix_type]), theirs], rel=1e-12)
    others, columns = ~found.ops["matrix_type"].isin(MATRIX_TYPES), ["input_density", "input_union"]
    assert found.ops.loc[others, columns].equals(trace.ops.loc[others, columns].astype(float))
    assert found.ops.drop(columns=columns).equals(trace.ops.drop(columns=columns))
    assert (trace.ops["input_density"] == 1).all(), "the trace given is left alone"


@settings(deadline=None, derandomize=True, max_examples=12)
@given(st.floats(0.3, 0.9), st.integers(1, 300))
def test_densities_between_measured_ones_lie_between_them(share, tokens):
    """More dropped: never denser. More tokens: denser, up to what the measurement's short last groups blur."""
    found = matrices(with_activation_zeros(prefill(tokens), share))
    below = max(s for s in SPARSITIES if s <= share)
    above = min(s for s in SPARSITIES if s >= share)
    sparser, denser = (matrices(with_activation_zeros(prefill(tokens), s)) for s in (above, below))
    assert (sparser <= found + 1e-9).all() and (found <= denser + 1e-9).all()
    more = matrices(with_activation_zeros(prefill(tokens + 1), share))
    assert (more >= found - 0.005).all() and (more <= 1).all()


def test_interpolation_is_close_to_a_measured_size_that_is_left_out():
    """tokens_4 and tokens_32 from their neighbours: the union is concave in the logarithm, so it is a little low."""
    table = measured().drop(columns=["tokens_4", "tokens_32"])
    for tokens in (4, 32):
        for share in SPARSITIES:
            whole = matrices(with_activation_zeros(prefill(tokens), share))
            guess = matrices(with_activation_zeros(prefill(tokens), share, table=table))
            assert (guess - whole).abs().max() < 0.07


def test_each_token_has_its_own_zeros_however_many_there_are():
    """Whatever the batch; without a union, that is left unknown."""
    alone = matrices(with_activation_zeros(decode(), 0.5), "input_density").to_numpy()
    for trace in (decode(16), prefill(4096), prefill(64, batch=8)):
        found = with_activation_zeros(trace, 0.5, union="none")
        assert matrices(found, "input_density").to_numpy() == pytest.approx(alone, rel=1e-12)
        assert (matrices(found) == 0).all()
    both = with_activation_zeros(decode(8), 0.5)
    assert (matrices(both) >= matrices(both, "input_density")).all()
    assert (matrices(both) <= 8 * matrices(both, "input_density") + 1e-9).all()


def test_gating_saves_what_is_dropped():
    """Dropped inputs switch nothing: the array's energy falls with every share more."""
    machine = sp.accelerator("dense_ws").override({"sparsity.gating": "inputs"})
    traces = [decode(4), *(with_activation_zeros(decode(4), share) for share in (0.3, 0.5, 0.9))]
    energy = [sp.simulate(machine, trace).energy["array"] for trace in traces]
    assert energy == sorted(energy, reverse=True) and energy[0] > energy[-1] > 0


def test_a_perplexity_measured_with_all_inputs_does_not_stay():
    trace = sp.load_trace("smollm2_135m_wanda_50_decode")
    assert "perplexity" in trace.meta
    found = sp.with_activation_zeros(trace, 0.5)
    assert "perplexity" not in found.meta and found.meta["quality"].startswith("not measured")
    about = {"method": "teal", "dropped": 0.5, "union": "tokens", "of": "smollm2_135m"}
    assert found.meta["activation_zeros"] == about


@pytest.mark.parametrize("method", ["teal", "wina"])
def test_the_perplexity_of_exactly_this_method_and_level(method):
    """By hand: the row of the table."""
    found = with_activation_zeros(sp.llm("smollm2_135m", phase="decode", context=64), 0.5, method=method).meta
    row = measured_perplexity(method, 0.5)
    assert found["quality"] == "measured" and found["perplexity"] == row["ppl"] > 12.187
    assert found["perplexity_interval"] == [row["ppl_low"], row["ppl_high"]]
    assert (found["arithmetic"], found["windows_sha256"]) == ("w8a8kv8", row["windows_sha256"])


@pytest.mark.parametrize(
    ("run", "level"),
    [({}, 0.45), ({"weight_bits": 4}, 0.5), ({"kv_kept": 0.5}, 0.5), ({"layers": 2}, 0.5), ({"ends": False}, 0.5)],
    ids=str,
)
def test_anything_else_has_no_measured_perplexity(run, level):
    trace = sp.llm("smollm2_135m", phase="decode", context=64, **run)
    found = with_activation_zeros(trace, level)
    assert "perplexity" not in found.meta and found.meta["quality"].startswith("not measured")


def test_a_method_brings_its_own_densities():
    """WINA's of every matrix, as counted in the pass whose perplexity is told; by hand, one number of the file."""
    found = with_activation_zeros(decode(4), 0.5, method="wina")
    rows = densities("wina").query("sparsity == 0.5").set_index(["layer", "tensor"])
    for (layer, matrix_type), union in matrices(found).items():
        assert union == pytest.approx(rows.loc[(layer, matrix_type), "texts_4"], rel=1e-12)
    assert found.meta["activation_zeros"]["method"] == "wina"
    alone = matrices(found, "input_density")
    assert alone.to_numpy() == pytest.approx(0.5, abs=1e-3)
    assert alone[0, "attn_q"] <= matrices(found)[0, "attn_q"] != matrices(found)[0, "attn_v"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: with_activation_zeros(decode(), 0.2), "level must be within 0.3..0.9, what is measured, got 0.2"),
        (lambda: with_activation_zeros(decode(), "threshold_95"), "got 0.95"),
        (lambda: with_activation_zeros(decode(), "50"), "look like 'threshold_50', got '50'"),
        (lambda: with_activation_zeros(decode(), float("nan")), "got nan"),
        (lambda: with_activation_zeros(decode(16), 0.5), "a union over 16 texts is not measured, only over up to 8"),
        (lambda: with_activation_zeros(prefill(1024), 0.5), "a union over 1024 tokens is not measured"),
        (lambda: with_activation_zeros(prefill(8, batch=2), 0.5), "8 tokens of each of 2 texts (prefill) is not"),
        (lambda: with_activation_zeros(decode(), 0.5, union="text"), "did you mean 'texts'?"),
        (lambda: with_activation_zeros(decode(model="llama2_7b"), 0.5), "for smollm2_135m, not for 'llama2_7b'"),
        (lambda: with_activation_zeros(sp.gemm(1, 8, 8), 0.5, table=measured()), "no matrix of a decoder layer"),
        (
            lambda: with_activation_zeros(decode(), 0.5, table=measured().query("layer > 0")),
            "attn_in of layer 0 is not in the table",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)
