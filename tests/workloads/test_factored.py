"""Factored matrices in a trace: shapes, MACs, bytes and what is alive, against formulas written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama

import sparchitect as sp
from sim.errors import InputError
from sim.sparsity.profile import profile
from sim.trace import Sparsity, Trace
from workloads import prune, zoo
from workloads.checkpoint import MATRIX_TYPES
from workloads.factored import Factored, whole_type
from workloads.llm import llm
from workloads.traces import prune_to_trace

MODEL = "smollm2_135m"
SHAPES = {t: zoo.config(MODEL).matrix_shape(t) for t in MATRIX_TYPES}
RANK, TOKENS = 16, 32
HALF = Sparsity(density=0.5)


def of(factored, types=MATRIX_TYPES, **more) -> Trace:
    """One layer of the model with some matrices factored."""
    given = lambda layer, t: factored if t in types else None  # noqa: E731
    return llm(MODEL, "prefill", tokens=TOKENS, layers=1, sparsity=given, **more)


def gemms(trace: Trace):
    return trace.ops[trace.ops["kind"] == "gemm"].set_index("matrix_type")


@pytest.mark.parametrize(("factored", "beside"), [(Factored(RANK, remainder=HALF), True), (Factored(RANK), False)])
def test_macs_and_bytes_by_hand(factored, beside):
    """M·r·(K + N) MACs and r·(K + N) weights, and M·N·K and N·K more with a remainder."""
    dense, trace = of(None), of(factored)
    extra = sum(TOKENS * RANK * (n + k) for n, k in SHAPES.values())
    gone = 0 if beside else sum(TOKENS * n * k for n, k in SHAPES.values())
    assert trace.macs == dense.macs + extra - gone
    weights = lambda t: gemms(t)[gemms(t)["weight_source"] == "weights"]["stored_elements"].sum()  # noqa: E731
    stored = sum(RANK * (n + k) + (n * k if beside else 0) for n, k in SHAPES.values())
    assert weights(trace) == stored and weights(dense) == sum(n * k for n, k in SHAPES.values())
    rows = gemms(trace)
    for t, (n, k) in SHAPES.items():
        assert tuple(rows.loc[f"{t}_right", ["m", "n", "k"]]) == (TOKENS, RANK, k)
        assert tuple(rows.loc[f"{t}_left", ["m", "n", "k"]]) == (TOKENS, n, RANK)
        if beside:
            assert tuple(rows.loc[f"{t}_rest", ["m", "n", "k"]]) == (TOKENS, n, k)
            assert rows.loc[f"{t}_rest", "nonzeros"] == pytest.approx(0.5 * n * k, rel=0.02)
    assert not set(rows.index) & set(MATRIX_TYPES)


def test_vector_ops_by_hand():
    """What lies between the factors is quantised, 16 bits in and 8 out; the two outputs are added, 16 bits each."""
    rows = of(Factored(RANK, remainder=HALF)).ops.set_index("name")
    for t, (n, _) in SHAPES.items():
        between, add = rows.loc[f"layer0.{t}_quantise"], rows.loc[f"layer0.{t}_add"]
        assert (between["read_bytes"], between["write_bytes"]) == (TOKENS * RANK * 2, TOKENS * RANK)
        assert (add["read_bytes"], add["write_bytes"], add["alu_ops"]) == (
            2 * TOKENS * n * 2,
            TOKENS * n * 2,
            TOKENS * n,
        )


def test_alive_bytes_by_hand():
    """attn_output reads a8 last: 8 bits a feature, freed by the remainder; the residual stream stays throughout."""
    rows = of(Factored(RANK, remainder=HALF)).ops.set_index("name")
    n, k = SHAPES["attn_output"]
    x, residual, t16, t8, y = TOKENS * k, TOKENS * n * 2, TOKENS * RANK * 2, TOKENS * RANK, TOKENS * n * 2
    expected = {
        "right": (residual + x, residual + x + t16),
        "quantise": (residual + x + t16, residual + x + t8),
        "left": (residual + x + t8, residual + x + y),
        "rest": (residual + x + y, residual + 2 * y),
        "add": (residual + 2 * y, residual + y),
    }
    for part, alive in expected.items():
        row = rows.loc[f"layer0.attn_output_{part}"]
        assert (row["live_in_bytes"], row["live_out_bytes"]) == alive, part


def test_what_runs_around_a_factored_matrix_is_unchanged():
    """Every other op of the layer is the dense layer's, alive bytes included."""
    dense, trace = of(None).ops.set_index("name"), of(Factored(RANK, remainder=HALF), ["ffn_up"]).ops.set_index("name")
    common = [name for name in dense.index if name in trace.index]
    assert len(common) == len(dense) - 1
    assert (trace.loc[common] == dense.loc[common]).all(axis=None)
    assert trace.loc["layer0.ffn_up_right", "live_in_bytes"] == dense.loc["layer0.ffn_up", "live_in_bytes"]
    assert trace.loc["layer0.ffn_up_add", "live_out_bytes"] == dense.loc["layer0.ffn_up", "live_out_bytes"]


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("machine", ["dense_ws", "sparse_lanes"])
def test_both_engines(machine, engine):
    """Small factors alone are faster than the matrix; a larger rank is never faster; a remainder costs time."""
    on = sp.accelerator(machine)
    cycles = lambda factored: sp.simulate(on, of(factored), engine=engine).cycles  # noqa: E731
    assert cycles(Factored(8)) <= cycles(Factored(64)) < cycles(Factored(64, remainder=HALF))
    assert cycles(Factored(8)) < cycles(None)


def test_sparse_left_factor():
    """A dictionary K x K and sparse codes: both are fetched, the codes with their zeros."""
    n, k = SHAPES["attn_k"]
    mask = np.random.default_rng(0).random((n, k)) < 0.25
    rows = gemms(of(Factored(k, left=profile(mask)), ["attn_k"]))
    assert rows.loc["attn_k_right", "stored_elements"] == k * k == rows.loc["attn_k_right", "nonzeros"]
    assert rows.loc["attn_k_left", "nonzeros"] == mask.sum() and "attn_k_rest" not in rows.index


def test_experts():
    """What is said of an expert's matrix stands for all experts: as many small GEMMs as there are experts."""
    given = lambda layer, t: Factored(RANK) if t == "expert_up" else None  # noqa: E731
    dense, trace = (llm("mixtral_8x7b", "decode", context=8, layers=1, sparsity=s) for s in (None, given))
    old, new = gemms(dense).loc[["expert_up"]], gemms(trace)
    assert new.loc[["expert_up_right"], "batch"].tolist() == new.loc[["expert_up_left"], "batch"].tolist()
    assert new.loc[["expert_up_left"], "batch"].sum() == old["batch"].sum()


@pytest.mark.parametrize(
    ("factored", "message"),
    [
        (lambda: Factored(0), "rank of a factored matrix must be >= 1, got 0"),
        (lambda: Factored(4, left=profile(np.ones((8, 8)))), r"attn_q: zeros of the left factor must be 576 x 4"),
        (
            lambda: Factored(4, remainder=Sparsity(mask=np.ones((8, 8), bool))),
            "of the remainder must be 576 x 576, got 8 x 8",
        ),
    ],
)
def test_what_does_not_fit(factored, message):
    with pytest.raises(InputError, match=message):
        of(factored(), ["attn_q"])


def test_other_tools_take_it():
    """Tensor parallelism and the removal of dead features know no such matrices: they say so or leave them."""
    trace = of(Factored(RANK, remainder=HALF))
    assert sp.remove(trace).ops["name"].tolist() == trace.ops["name"].tolist()
    assert {whole_type(t) for t in gemms(trace).index} == {*MATRIX_TYPES, "attn_scores", "attn_values"}


@pytest.mark.parametrize(("method", "pattern"), [("sevedo", "rank 4 + 0.5"), ("trex", "0.5")])
def test_from_a_pruned_model(tiny_path, tmp_path, monkeypatch, method, pattern):
    """The written trace has the masks of the sparse parts, on the GEMMs of the sparse parts."""
    text = np.random.default_rng(0).integers(0, tiny_llama.VOCAB, (4, 24))
    monkeypatch.setattr(prune, "_calibration_windows", lambda checkpoint, tokens, seed: text)
    path, _ = prune_to_trace(tiny_path, method, pattern, out=tmp_path / "t", tokens=8, evaluate=False)
    pruned = prune.prune_model(tiny_path, method, pattern)
    trace = sp.load_trace(path)
    sparse = trace.ops[trace.ops["profile"] >= 0]
    assert len(sparse) == len(pruned.masks) == len(trace.masks)
    ending = {"sevedo": "_rest", "trex": "_left"}[method]
    for op in sparse.itertuples():
        mask = pruned.masks[op.layer, whole_type(op.matrix_type)]
        assert op.matrix_type.endswith(ending) and (op.n, op.k) == mask.shape
        assert np.array_equal(trace.masks[int(op.profile)], mask) and op.nonzeros == mask.sum()
    factors = pruned.details[1, "ffn_down"].factors
    rows = trace.ops.set_index("name")
    assert tuple(rows.loc["layer1.ffn_down_right", ["n", "k"]]) == factors.right.shape
    assert tuple(rows.loc["layer1.ffn_down_left", ["n", "k"]]) == factors.left.shape
    for engine in ("analytic", "timeline"):
        assert sp.simulate(sp.accelerator("sparse_lanes"), trace, engine=engine).cycles > 0
