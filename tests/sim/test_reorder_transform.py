"""A reordered trace: what it computes, what it pays, and what its neighbours absorb."""

import json

import numpy as np
import pytest

import sparchitect as sp
from sim.errors import InputError
from sim.sparsity import lanes
from sim.sparsity.reorder.arrangement import INPUT, OUTPUT
from sim.sparsity.reorder.cost import gather, index_bytes
from sim.sparsity.reorder.dimensions import (
    absorbed_by,
    arrangement_of,
    decoder_sides,
    dimension_names,
    layout_of,
)
from sim.sparsity.reorder.transform import METHODS, arrange, reorder
from sim.trace import Op, Sparsity, Trace
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm
from workloads.transformer import attention, rms_norm, rope_tables, rotate, silu

CONFIG = ModelConfig("tiny", 2, 32, 48, 4, 2, 8, 64, 1e4, 1e-5, True)
SMALL = {"lanes": 4, "barrier_depth": 8}
HOW = {
    "balance": SMALL,
    "cluster": {"tile": (4, 4)},
    "n_of_m": {"n_of_m": "2:4"},
}


def skewed(shape, seed):
    """Busy lines and idle ones, as real masks have them."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.random((shape[0], 1)) * rng.random((1, shape[1])) * 2


def decoder(phase="prefill", **size):
    size = size or {"tokens": 6}
    seeds = {t: i for i, t in enumerate(MATRIX_TYPES)}
    return llm(
        CONFIG,
        phase=phase,
        sparsity=lambda layer, t: Sparsity(mask=skewed(CONFIG.matrix_shape(t), 10 * layer + seeds[t])),
        **size,
    )


def one_gemm(m=6, k=40, n=24):
    return sp.gemm(m=m, k=k, n=n, sparsity=skewed((n, k), 3))


@pytest.mark.parametrize("method", METHODS)
def test_the_product_is_the_same_when_activations_come_in_that_order(method):
    trace = one_gemm()
    work = arrange(trace, method, **HOW[method]).work
    rows, columns = work.permutation(0, OUTPUT), work.permutation(0, INPUT)
    assert (columns != np.arange(40)).any()
    rng = np.random.default_rng(1)
    weights, x = rng.normal(size=(24, 40)) * trace.masks[0], rng.normal(size=(6, 40))
    stored = weights[np.ix_(rows, columns)]
    assert ((stored != 0) == work.masks[0]).all()
    assert x[:, columns] @ stored.T == pytest.approx((x @ weights.T)[:, rows])


@pytest.mark.parametrize("paid", [(), "all", ["residual"], ["hidden", "value"]])
@pytest.mark.parametrize("method", METHODS)
def test_counts_are_conserved(method, paid):
    trace = decoder()
    found = reorder(trace, method, paid=paid, **HOW[method])
    for before, after in zip(trace.masks, found.masks, strict=True):
        for axis in range(2):
            assert sorted(before.sum(axis=axis)) == sorted(after.sum(axis=axis))
    gemms = found.ops["kind"] == "gemm"
    same = ["name", "m", "n", "k", "nonzeros", "stored_elements", "profile"]
    kept = trace.ops[trace.ops["kind"] == "gemm"]
    assert (found.ops.loc[gemms, same].to_numpy() == kept[same].to_numpy()).all()
    assert found.macs == trace.macs
    step = found.meta["reorder"][-1]
    better = np.less_equal if METHODS[method] != "empty tiles" else np.greater_equal
    assert better(step["after"], step["before"])
    json.dumps(found.meta)


def test_profiles_are_those_of_the_new_masks():
    found = reorder(decoder(), "balance", lanes=16, barrier_depth=16, orientation="input")
    for i, mask in enumerate(found.masks):
        assert found.profiles[i].cycles(16, 16, "input") == lanes.walk(mask, 16, 16, "input")
        assert (found.counts[i].rows == mask.sum(axis=1)).all() and (found.counts[i].columns == mask.sum(axis=0)).all()
    walked = sum(lanes.walk(mask, 16, 16, "input") for mask in found.masks)
    assert found.meta["reorder"][0]["after"] == walked < found.meta["reorder"][0]["before"]


def test_a_mask_that_fits_after_reordering_runs_as_2_of_4():
    """Three full columns in each eight violate 2:4 as they lie; parted they fit, and the 2:4 array halves K."""
    trace = sp.gemm(m=64, k=64, n=64, sparsity=np.tile(np.arange(64) % 8 < 3, (64, 1)))
    found = reorder(trace, "n_of_m", runtime="indexed")
    assert trace.ops["group4_max"][0] == 3 and found.ops["group4_max"][0] == 2
    before, after = (sp.simulate(sp.accelerator("nm_24"), t).table.iloc[0] for t in (trace, found))
    assert after["macs"] == before["macs"] / 2


def test_what_neighbours_share_costs_nothing():
    trace = decoder()
    found = reorder(trace, "balance", **SMALL)
    assert found.meta["reorder"][0]["pays"] == []
    assert list(found.ops["name"]) == list(trace.ops["name"])
    free = ["alu_ops", "read_bytes", "write_bytes", "dram_read_bytes", "weight_scale_bytes", "live_in_bytes"]
    assert (found.ops[free] == trace.ops[free]).all(axis=None)


def test_what_is_not_absorbed_is_paid_for_in_bytes():
    """6 x 40 inputs gathered, 6 x 24 outputs scattered; index tables of 40 x 6 bits and 24 x 5 bits."""
    trace = one_gemm()
    found = reorder(trace, "balance", **SMALL)
    before, gemm, after = found.ops.to_dict("records")
    assert [before["name"], after["name"]] == [f"{gemm['name']}.gather", f"{gemm['name']}.scatter"]
    assert before["read_bytes"] == before["write_bytes"] == before["alu_ops"] == 240
    assert after["read_bytes"] == after["write_bytes"] == after["alu_ops"] == 144
    assert before["dram_read_bytes"] == 40 * 6 / 8 == index_bytes(40)
    assert after["dram_read_bytes"] == 24 * 5 / 8 == index_bytes(24)
    assert gemm["live_in_bytes"] == 240 and gemm["live_out_bytes"] == 144
    machine = sp.accelerator("sparse_lanes")
    assert sp.simulate(machine, found).energy["vector"] > sp.simulate(machine, trace).energy.get("vector", 0.0)
    indexed = reorder(trace, "balance", runtime="indexed", **SMALL)
    assert len(indexed) == 1 and indexed.ops["weight_scale_bytes"][0] == index_bytes(40) + index_bytes(24)
    fetched = [sp.simulate(machine, t, objective="traffic").dram_bytes for t in (indexed, plain(indexed))]
    assert fetched[0] - fetched[1] == pytest.approx(index_bytes(40) + index_bytes(24))


def plain(trace):
    """The same trace with free index tables."""
    return Trace(trace.ops.assign(weight_scale_bytes=0.0), trace.profiles, {}, trace.counts, trace.masks)


def test_index_entries_have_as_many_bits_as_they_need():
    assert [index_bytes(n) * 8 for n in (1, 2, 3, 4, 5, 576, 1024, 1025)] == [0, 2, 6, 8, 15, 5760, 10240, 11275]


def test_inputs_that_others_still_read_stay_alive_beside_the_copy():
    """Queries, keys and values read one tensor of 6 x 32 bytes; the last of them may have it replaced."""
    ops = decoder().ops.set_index("matrix_type")
    for name, extra in (("attn_q", 6 * 32), ("attn_k", 6 * 32), ("attn_v", 0), ("ffn_gate", 6 * 32), ("ffn_up", 0)):
        row = {"name": name, **ops.loc[name].iloc[0]}
        made, changes = gather(row)
        assert made.numbers["live_in_bytes"] == row["live_in_bytes"]
        assert made.numbers["live_out_bytes"] == changes["live_in_bytes"] == row["live_in_bytes"] + extra


@pytest.mark.parametrize("paid", [(), "all"])
@pytest.mark.parametrize("method", METHODS)
def test_twice_costs_what_once_costs(method, paid):
    trace = decoder()
    once = reorder(trace, method, paid=paid, **HOW[method])
    assert reorder(once, method, paid=paid, **HOW[method]) is once
    other = reorder(once, "balance", lanes=8, barrier_depth=16, orientation="input", paid=paid)
    again = [name for name in other.ops["name"] if name.count(".gather") + name.count(".scatter") > 1]
    assert not again and other.ops["name"].is_unique
    assert len(other.meta["reorder"]) == 2


def test_a_reordered_trace_survives_the_disk(tmp_path):
    found = reorder(one_gemm(), "cluster", tile=(2, 4))
    again = sp.load_trace(found.save(tmp_path / "one"))
    assert again.ops.equals(found.ops) and again.meta["reorder"] == found.meta["reorder"]
    assert reorder(again, "cluster", tile=(2, 4)) is again


def layer(x, weights, gains, tables):
    """One decoder layer in float64, rotary tables [kv_heads, tokens, head / 2] for every KV head of its own."""
    tokens, group = len(x), CONFIG.heads // CONFIG.kv_heads

    def heads(y, count):
        return y.reshape(tokens, count, CONFIG.head_dim).swapaxes(0, 1)

    h = rms_norm(x, gains[0], CONFIG.norm_eps)
    q, k, v = (heads(h @ weights[f"attn_{t}"].T, n) for t, n in (("q", 4), ("k", 2), ("v", 2)))
    q = np.stack([rotate(q[i], *(t[i // group] for t in tables)) for i in range(CONFIG.heads)])
    k = np.stack([rotate(k[i], *(t[i] for t in tables)) for i in range(CONFIG.kv_heads)])
    x = x + attention(q, k, v) @ weights["attn_output"].T
    h = rms_norm(x, gains[1], CONFIG.norm_eps)
    return x + (silu(h @ weights["ffn_gate"].T) * (h @ weights["ffn_up"].T)) @ weights["ffn_down"].T


def test_a_decoder_with_absorbed_orders_computes_the_same():
    """Stored matrices permuted, norm gains and the residual stream in the common order, rotary tables by pair: the same
    result in that order, and no activation is moved in between."""
    trace, rng = decoder(), np.random.default_rng(7)
    work = arrangement_of(trace)
    assert all(axis.absorbed for axis in work.axes)
    assert {axis.name.split()[-1] for axis in work.axes} == set(dimension_names())
    for i in 2 * list(range(len(work.axes))):  # twice, in turn: orders of different dimensions commute
        work.take(i, rng.permuted(work.axes[i].identity, axis=1))
    where = {(row.layer, row.matrix_type): int(row.profile) for row in trace.ops.itertuples() if row.profile >= 0}
    residual = work.permutation(where[0, "attn_q"], INPUT)
    half = CONFIG.head_dim // 2
    x = rng.normal(size=(6, CONFIG.d_model)).astype(np.float32)
    ordered = x[:, residual]
    for at in range(CONFIG.layers):
        dense = {t: rng.normal(size=CONFIG.matrix_shape(t)).astype(np.float32) / 6 for t in MATRIX_TYPES}
        weights = {t: dense[t] * trace.masks[where[at, t]] for t in MATRIX_TYPES}
        stored = {
            t: w[np.ix_(work.permutation(where[at, t], OUTPUT), work.permutation(where[at, t], INPUT))]
            for t, w in weights.items()
        }
        gains = rng.random((2, CONFIG.d_model)).astype(np.float32)
        tables = [np.stack([t] * 2) for t in rope_tables(6, CONFIG.head_dim, CONFIG.rope_theta, None)]
        pairs = work.permutation(where[at, "attn_k"], OUTPUT).reshape(2, CONFIG.head_dim)[:, :half] % CONFIG.head_dim
        turned = [np.stack([t[i][:, pairs[i]] for i in range(2)]) for t in tables]
        x, ordered = layer(x, weights, gains, tables), layer(ordered, stored, gains[:, residual], turned)
        assert ordered == pytest.approx(x[:, residual], rel=1e-3, abs=1e-4)
    assert all((mask == work.masks[i]).all() for i, mask in enumerate(permuted_masks(trace, work)))


def permuted_masks(trace, work):
    """The trace's masks under the whole permutations that an arrangement names."""
    for i, mask in enumerate(trace.masks):
        yield mask[np.ix_(work.permutation(i, OUTPUT), work.permutation(i, INPUT))]


def test_layouts_hold_every_position_once_and_keep_what_belongs_together():
    for layout, shape in (("inner", (2, 8, 3)), ("inner_pair", (2, 4, 6)), ("copy", (2, 3, 8))):
        found = layout_of(layout, 48, 8, 16)
        assert found.shape == shape and sorted(found.ravel()) == list(range(48))
        assert (found // 24 == np.arange(2)[:, None, None]).all(), "units stay in their block"
    channels = layout_of("inner", 48, 8, 16)
    assert (channels % 8 == np.arange(8)[:, None]).all(), "one channel of every copy"
    pairs = np.sort(layout_of("inner_pair", 48, 8, 16) % 8, axis=2)
    assert (pairs[:, :, :3] + 4 == pairs[:, :, 3:]).all() and (pairs[:, :, 0] == np.arange(4)).all()
    with pytest.raises(InputError, match="no whole number of blocks"):
        layout_of("inner", 48, 7, 16)


def test_the_table_names_every_side_of_a_decoder():
    sides = {(row.matrix_type, row.side) for row in decoder_sides()}
    assert sides == {(t, side) for t in MATRIX_TYPES for side in ("output", "input")}
    assert absorbed_by("ffn_up", "output") == {"hidden": [("ffn_gate", "output"), ("ffn_down", "input")]}
    assert set(absorbed_by("attn_output", "input")) == {"value", "query_heads"}
    assert len(absorbed_by("attn_q", "input")["residual"]) == 6
    assert absorbed_by("lm_head", "output") == {}
    assert all(row.source for row in decoder_sides())


def test_an_order_is_absorbed_only_by_neighbours_that_are_there():
    trace = decoder()
    less = trace.ops[trace.ops["matrix_type"] != "ffn_gate"].reset_index(drop=True)
    alone = Trace(less, trace.profiles, {"name": "no gate"}, trace.counts, trace.masks)
    free = {axis.name.split()[-1] for axis in arrangement_of(alone).axes if axis.absorbed}
    assert free == set(dimension_names()) - {"hidden", "residual"}


def test_dense_neighbours_take_any_order():
    trace = decoder()
    only = {"ffn_up"}
    ops = trace.ops.assign(profile=trace.ops["profile"].where(trace.ops["matrix_type"].isin(only), -1))
    for place, row in enumerate(ops.index[ops["profile"] >= 0]):
        ops.loc[row, "profile"] = place
    masks = [trace.masks[int(i)] for i in trace.ops.loc[ops["profile"] >= 0, "profile"]]
    sparse = Trace.from_ops([Op(f"u{i}", sparsity=Sparsity(mask=m), numbers={"m": 1, "n": 48, "k": 32})
                             for i, m in enumerate(masks)])  # fmt: skip
    found = reorder(Trace(ops, sparse.profiles, {"name": "up"}, sparse.counts, masks), "balance", **SMALL)
    assert found.meta["reorder"][0]["pays"] == []
    assert found.meta["reorder"][0]["after"] < found.meta["reorder"][0]["before"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reorder(sp.load_trace("smollm2_135m_wanda_50")), "reordering needs masks, this trace has profiles of"),
        (lambda: reorder(sp.gemm(m=4, k=4, n=4)), "reordering needs masks, this trace has no sparse op"),
        (
            lambda: reorder(one_gemm(), "balanced"),
            "method must be one of balance, cluster, n_of_m, got 'balanced', did",
        ),
        (lambda: reorder(one_gemm(), runtime="vectr"), "did you mean 'vector'?"),
        (lambda: reorder(one_gemm(), lanes=0), "lanes must be a whole number >= 1, got 0"),
        (lambda: reorder(one_gemm(), orientation="outputs"), "did you mean 'output'?"),
        (lambda: reorder(one_gemm(), "n_of_m", n_of_m="4:2"), "n_of_m must look like '2:4'"),
        (lambda: reorder(one_gemm(), "cluster", tile=(0, 1)), "tile must be a whole number >= 1, got 0"),
        (lambda: reorder(decoder(), paid=["hiden"]), "paid must name dimensions (hidden, value, rotary"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)
