"""Trace tools: every trace the house makes keeps the rules, every rule can be broken, summaries are checked by hand."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparchitect as sp
from sim.errors import InputError
from sim.sparsity.lanes import walk
from sim.sparsity.profile import Counts
from sim.trace import NUMBERS, TEXTS, Sparsity, Trace
from sim.trace_tools.columns import COLUMNS, markdown
from sim.trace_tools.diff import diff
from sim.trace_tools.reading import read
from sim.trace_tools.summary import summary
from sim.trace_tools.validate import violations
from workloads import zoo
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.quantise.base import quantisers
from workloads.quantise.choice import QuantisationChoice
from workloads.quantise.trace import quantised
from workloads.traces import bundled_traces

DOCS = Path(__file__).parents[2] / "docs" / "traces.md"
TINY = ModelConfig("tiny", 2, 32, 48, 4, 2, 8, 64, 1e4, 1e-5, True)
quick = settings(max_examples=30, deadline=None, derandomize=True)


def pruned(seed: int = 0, share: float = 0.5) -> Trace:
    """Two layers with masks, some of whose rows and columns are all zero."""
    rng = np.random.default_rng(seed)

    def mask(layer: int, matrix_type: str) -> Sparsity | None:
        if matrix_type not in MATRIX_TYPES:
            return None
        found = rng.random(TINY.matrix_shape(matrix_type)) < share
        found[rng.random(len(found)) < 0.2] = False
        return Sparsity(mask=found)

    return sp.llm(TINY, tokens=6, sparsity=mask)


# every trace that is made keeps the rules


@pytest.mark.parametrize("name", [*bundled_traces()][::7])
def test_bundled_traces_are_valid(name):
    assert violations(sp.load_trace(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [*bundled_traces()])
def test_all_bundled_traces_are_valid(name):
    assert violations(sp.load_trace(name)) == []


@pytest.mark.parametrize("name", zoo.names())
def test_models_are_valid(name):
    model = zoo.architecture(name)
    runs = [{"phase": "encode", "tokens": model.positions if model.patches else 24}]
    if not model.encoder:
        runs = [{"tokens": 24}, {"phase": "decode", "context": 40, "batch": 3}]
    for run in runs:
        assert violations(sp.llm(model, layers=min(2, model.layers), ends=True, **run)) == []


@given(
    m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 70), bits=st.integers(1, 16),
    sparsity=st.sampled_from([None, 0.0, 0.3, 1.0, "2:4", "1:8"]), group=st.sampled_from([None, 1, 32]),
)  # fmt: skip
@quick
def test_gemms_are_valid(m, n, k, bits, sparsity, group):
    assert violations(sp.gemm(m=m, n=n, k=k, bits=bits, sparsity=sparsity, group=group)) == []


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.sampled_from(["on_the_fly", "in_memory"]))
@quick
def test_operations_are_valid(kernel, stride, padding, im2col):
    conv = sp.conv2d(2, 4, 9, 7, 8, kernel, stride, padding, groups=2, im2col=im2col)
    grouped = sp.depthwise_conv2d(1, 6, 8, 8, kernel, stride, padding, im2col=im2col)
    sparse = sp.conv2d(1, 4, 9, 7, 8, kernel, stride, padding, sparsity=0.4)
    parts = [conv, grouped, sparse, sp.batched_gemm(6, 4, 8, 8, shared_by=3), sp.gemv(9, 7)]
    parts += [sp.elementwise("add", 64), sp.reduction("softmax", 4, 16)]
    assert violations(sp.sequence(*parts)) == []


@pytest.mark.parametrize("change", ["remove", "indexed", "reorder", "n_of_m", "activations", *quantisers()])
def test_changed_traces_are_valid(change):
    trace = pruned(3)
    if change in ("remove", "indexed"):
        trace = sp.remove(trace, runtime="vector" if change == "remove" else "indexed")
    elif change == "reorder":
        trace = sp.reorder(trace, "balance", lanes=8, paid="all")
    elif change == "n_of_m":
        trace = sp.reorder(trace, "n_of_m", n_of_m="2:4", runtime="indexed", paid="all")
    elif change == "activations":
        trace = sp.with_activation_zeros(sp.load_trace("smollm2_135m_wanda_50"), 0.5)
    else:
        trace = quantised(trace, dict.fromkeys(((0, "attn_q"), (1, "ffn_up")), QuantisationChoice(change)))
    assert violations(trace) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_file_keeps_everything(tmp_path, seed):
    trace = pruned(seed)
    found = read(trace.save(tmp_path / "t"))
    assert violations(found) == [] and diff(trace, found)["same"]


# every rule can be broken


def broken(column: str, value: float | str, row: str = "layer0.attn_q") -> list[str]:
    trace = pruned()
    trace.ops[column] = trace.ops[column].astype(object if isinstance(value, str) else float)
    trace.ops.loc[trace.ops["name"] == row, column] = value
    return violations(trace)


def edges():
    """A value just outside of every bound."""
    for name, column in COLUMNS.items():
        if column.least is None:
            continue
        row = "layer0.attn_norm" if column.of == "vector" else "layer0.attn_q"
        yield name, column.least - 1, row
        yield name, float("nan"), row
        if column.whole:
            yield name, column.least + 0.5, row
        if column.most:
            yield name, 1e6, row


@pytest.mark.parametrize(("column", "value", "row"), [*edges()])
def test_every_range_is_checked(column, value, row):
    found = broken(column, value, row)
    assert any(line.startswith(f"op {row}: {column} must be") and f"got {value:g}" in line for line in found), found
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(
    ("column", "value", "row", "part"),
    [
        ("kind", "gem", "layer0.attn_q", "kind must be one of gemm, vector, got 'gem'"),
        ("weight_source", "disk", "layer0.attn_q", "weight_source must be one of weights, kv, activations"),
        ("n", 33, "layer0.attn_q", "must be out x in = 33 x 32, got 32 x 32"),
        ("nonzeros", 3, "layer0.attn_q", "nonzeros must be profile 0's"),
        ("group4_max", 1, "layer0.attn_q", "nonzeros must be <= n x ceil(k/4) x group4_max = 256"),
        ("group8_max", 1, "layer0.attn_q", "group8_max must be from group4_max = 4 to 8, got 1"),
        ("profile", 99, "layer0.attn_q", "profile must be < 14"),
        ("alu_ops", 5, "layer0.attn_q", "alu_ops must be 0 in a gemm op, got 5"),
        ("nonzeros", 5, "layer0.attn_norm", "nonzeros must be 0 in a vector op, got 5"),
    ],
)
def test_rules_between_columns(column, value, row, part):
    assert any(part in line for line in broken(column, value, row)), broken(column, value, row)


def changed_profiles(**arrays) -> Trace:
    trace = pruned()
    assert trace.profiles is not None
    return replace(trace, profiles=replace(trace.profiles, **arrays))


def test_masks_and_counts_must_agree_with_profiles():
    trace = pruned()
    assert trace.masks is not None and trace.counts is not None and trace.profiles is not None
    less = [trace.masks[0] & False, *trace.masks[1:]]
    assert any("mask 0: must have profile 0's" in v for v in violations(replace(trace, masks=less)))
    turned = [trace.masks[0], trace.masks[1].T, *trace.masks[2:]]
    assert any("mask 1: must be out x in = 16 x 32, got 32 x 16" in v for v in violations(replace(trace, masks=turned)))
    assert violations(replace(trace, masks=trace.masks[1:])) == ["masks: must be one a profile, 14, got 13"]
    first = trace.counts[0]
    more = [Counts(first.rows + 1, first.columns), *trace.counts[1:]]
    assert any("counts 0: rows must add up" in v for v in violations(replace(trace, counts=more)))
    assert any("come with profiles" in v for v in violations(replace(sp.gemm(2, 2, 2), masks=[np.ones((2, 2), bool)])))


def test_profiles_must_be_possible():
    table = pruned().profiles
    assert table is not None
    for field, change, part in (
        ("cycles_grid", lambda a: a * 0, "cycles of 8 lanes must be >= nonzeros / lanes"),
        ("empty_blocks", lambda a: a + 10**6, "empty_blocks of 2 x 2 must be in"),
        ("empty_runs", lambda a: a * 0 - 1, "empty_runs of 1 x 4 must be in"),
        ("group_max", lambda a: a + 40, "group_max of 4 must be in"),
        ("empty_barriers", lambda a: a - 10**6, "empty_barriers must be in"),
        ("nonzeros", lambda a: a * 0 + 10**6, "nonzeros must be in 0..1024"),
        ("shapes", lambda a: a * 0, "shape must be at least 1 x 1"),
        ("nonzeros", lambda a: a[:-1], "every array must have a row a mask"),
    ):
        found = violations(changed_profiles(**{field: change(getattr(table, field))}))
        assert any(part in line for line in found), (field, found[:3])


def test_tables_that_are_no_op_tables():
    trace = sp.gemm(2, 2, 2)
    assert violations(Trace(trace.ops.drop(columns="m"))) == ["column m: missing"]
    assert "did you mean 'nonzeros'?" in violations(Trace(trace.ops.assign(nonzero=1)))[0]
    assert violations(Trace(trace.ops.assign(m="two")))[0].startswith("column m: must hold numbers, got ")
    assert violations(Trace(trace.ops.iloc[:0])) == ["table: must have at least one op, got 0"]
    assert violations(replace(trace, meta={"name": 3})) == ["meta: name must be text, got 3"]


# files from anyone


def written(folder: Path) -> Path:
    return pruned().save(folder / "t")


@pytest.mark.parametrize("what", ["parquet", "profiles.npz", "counts.npz", "masks.npz"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_damaged_files_are_one_line(tmp_path, what, damage):
    """Damage that is not refused must be found by the rules or change nothing."""
    whole = written(tmp_path)
    trace = read(whole)
    part = tmp_path / f"t.{what}"
    data = part.read_bytes()
    ways = {
        "cut": [data[: len(data) * i // 7] for i in range(1, 7)],
        "flipped": [data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :] for i in range(0, len(data), len(data) // 23)],
        "empty": [b""],
        "text": [b"not a trace\n" * 100],
    }
    for changed in ways[damage]:
        part.write_bytes(changed)
        try:
            found = read(whole)
        except InputError as error:
            assert "\n" not in str(error) and "t" in str(error)
        else:
            assert violations(found) or (damage == "flipped" and len(found) == len(trace))


@pytest.mark.parametrize("what", ["parquet", "profiles.npz", "counts.npz", "masks.npz"])
def test_altered_files_never_end_in_another_error(tmp_path, what):
    whole, rng = written(tmp_path), np.random.default_rng(0)
    part = tmp_path / f"t.{what}"
    data = part.read_bytes()
    for _ in range(40):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 5):
            changed[at] = rng.integers(0, 256)
        part.write_bytes(changed)
        try:
            assert all("\n" not in line for line in violations(read(whole)))
        except InputError as error:
            assert "\n" not in str(error)


def test_arrays_that_lie_about_their_size(tmp_path):
    """A header that promises terabytes is refused before anything is allocated."""
    path = written(tmp_path)
    with zipfile.ZipFile(tmp_path / "t.profiles.npz", "w") as archive:
        header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
        archive.writestr("shapes.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"shapes.npy says 8000000000000 bytes, holds 0"):
        read(path)


def test_pickles_are_not_read(tmp_path):
    path = written(tmp_path)
    np.savez(tmp_path / "t.masks.npz", shapes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="must hold whole numbers"):
        read(path)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda ops, meta: (ops.drop(columns="k"), meta), "column 'k' is missing"),
        (lambda ops, meta: (ops.assign(q=1), meta), "column 'q' is unknown"),
        (lambda ops, meta: (ops.assign(m="x"), meta), "column 'm' must hold numbers"),
        (lambda ops, meta: (ops.assign(name=1), meta), "column 'name' must hold text"),
        (lambda ops, meta: (ops, meta | {"format_version": 2}), "format_version must be 1, got 2"),
        (lambda ops, meta: (ops, [1]), "format_version must be 1, got None"),
        (lambda ops, meta: (ops, None), "not a trace"),
    ],
)
def test_tables_of_others(tmp_path, change, part):
    import pyarrow as pa
    import pyarrow.parquet as pq

    ops, meta = change(sp.gemm(2, 2, 2).ops, {"format_version": 1})
    table = pa.Table.from_pandas(ops, preserve_index=False)
    stored = {} if meta is None else {b"sparchitect": json.dumps(meta).encode()}
    pq.write_table(table.replace_schema_metadata(stored), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=part):
        read(tmp_path / "t")


def test_files_of_the_first_version_lack_columns(tmp_path):
    import pyarrow.parquet as pq

    path = sp.gemm(2, 2, 2).save(tmp_path / "t")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["input_union", "weight_scale_bytes"]), path)
    found = read(path)
    assert violations(found) == [] and found.ops["weight_scale_bytes"].tolist() == [0]


# summaries by hand


def test_summary_of_one_gemm_by_hand():
    """3 x 8 . 8 x 4 at 8 bits, half of the weights gone: 96 MACs; 16 nonzeros; bitmap (16 x 8 + 32) / 32 bits."""
    mask = np.zeros((4, 8), dtype=bool)
    mask[:, ::2] = True
    found = summary(sp.gemm(m=3, n=4, k=8, sparsity=mask))["total"]
    assert (found["gemm_ops"], found["vector_ops"], found["executions"]) == (1, 0, 1)
    assert (found["macs"], found["useful_macs"]) == (96, 48)
    assert (found["weight_bytes"], found["dram_bytes_at_least"], found["density"]) == (32, 32, 0.5)
    assert (found["dense_bits_per_weight"], found["bitmap_bits_per_weight"]) == (8.0, 5.0)


def test_summary_counts_batch_repeats_scales_and_sources():
    """Two runs of 3 heads 2 x 4 . 4 x 5 from the KV cache: 6 x 40 MACs, 6 x 20 bytes; and a scaled matrix."""
    heads = sp.batched_gemm(3, 2, 4, 5, stationary="kv")
    heads.ops["repeats"] = 2
    scaled = sp.gemm(m=2, n=4, k=64, bits=8, weight_bits=4, group=32, scale_bits=16)
    both = summary(sp.sequence(heads, scaled, sp.elementwise("add", 10, inputs=3)))["total"]
    assert both["kv_bytes"] == 6 * 20 and both["weight_bytes"] == 4 * 64 / 2 + 4 * 2 * 2
    assert both["macs"] == 6 * 40 + 2 * 4 * 64
    assert both["vector_bytes"] == 2 * 10  # the second and third operand
    assert both["dense_bits_per_weight"] == 4.5 and both["density"] == 1.0
    assert both["dram_bytes_at_least"] == 120 + 144 + 20


def test_imbalance_is_that_of_the_lanes():
    """One output has all nonzeros: with 16 output lanes one lane works, 16 times as long as even ones; both by walking
    the mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((16, 64), dtype=bool)
    mask[3] = True
    found = summary(sp.gemm(m=1, n=16, k=64, sparsity=mask))["total"]
    assert found["imbalance_output_16"] == pytest.approx(16, rel=0.02)
    mask = rng.random((48, 80)) < 0.3
    found = summary(sp.gemm(m=1, n=48, k=80, sparsity=mask))["total"]
    for lanes in (16, 32):
        for orientation in ("output", "input"):
            cycles = walk(mask, lanes, "full", orientation=orientation)
            assert found[f"imbalance_{orientation}_{lanes}"] == pytest.approx(cycles * lanes / mask.sum())


def test_groups_add_up():
    found = summary(sp.load_trace("smollm2_135m_wanda_50"))
    for name in ("gemm_ops", "vector_ops", "macs", "useful_macs", "dram_bytes_at_least", "weights"):
        assert sum(g[name] for g in found["groups"].values()) == pytest.approx(found["total"][name])
    assert found["groups"]["attn_q"]["density"] == 0.5 and found["groups"]["vector ops"]["density"] is None


@pytest.mark.parametrize("name", ["smollm2_135m_dense", "smollm2_135m_dense_decode"])
def test_no_machine_moves_fewer_bytes(name):
    trace = sp.load_trace(name)
    least = summary(trace)["total"]["dram_bytes_at_least"]
    machine = sp.accelerator("dense_ws")
    roomy = machine.override({"memory.shared.capacity_kib": 2**16})
    assert least <= sp.simulate(roomy, trace).dram_bytes <= sp.simulate(machine, trace).dram_bytes
    if name.endswith("decode"):  # everything fits, every weight is used once
        assert sp.simulate(roomy, trace).dram_bytes == pytest.approx(least, rel=1e-3)


# differences


def test_a_trace_does_not_differ_from_itself():
    assert diff(pruned(1), pruned(1))["same"]


def test_what_differs_is_named():
    a, b = pruned(1), pruned(1)
    b.ops.loc[b.ops["name"] == "layer1.ffn_up", "weight_bits"] = 4
    found = diff(a, b)
    assert found["changed"] == [{"op": "layer1.ffn_up", "column": "weight_bits", "a": 8, "b": 4}] and not found["same"]
    b.ops = b.ops.iloc[::-1].reset_index(drop=True)
    assert diff(a, b)["reordered"]
    c = replace(a, ops=a.ops.drop(index=0).reset_index(drop=True))
    assert diff(a, c)["only_in_a"] == ["embedding"] and diff(c, a)["only_in_b"] == ["embedding"]


def test_masks_differ_where_all_numbers_agree():
    a = sp.gemm(m=2, n=8, k=64, sparsity=0.5)
    assert a.masks is not None
    b = sp.gemm(m=2, n=8, k=64, sparsity=a.masks[0][:, np.random.default_rng(1).permutation(64)])
    b.ops["sparsity_label"] = a.ops["sparsity_label"]
    for column in NUMBERS:
        b.ops[column] = a.ops[column]
    assert [c["column"] for c in diff(a, b)["changed"]] == ["mask"]
    assert not diff(a, replace(a, masks=None))["same"]
    assert diff(replace(a, masks=None), replace(b, masks=None))["changed"][0]["b"] == "another mask, by its profile"


def test_meta_may_be_left_out():
    a = pruned()
    b = replace(a, meta={**a.meta, "seed": 2})
    assert diff(a, b)["meta"] == {"seed": [None, 2]} and diff(a, b, with_meta=False)["same"]


# the format's document


def test_every_column_is_documented():
    assert list(COLUMNS) == [*TEXTS, *NUMBERS]
    assert markdown() in DOCS.read_text(encoding="utf-8")


def test_defaults_are_allowed():
    for name, default in NUMBERS.items():
        column = COLUMNS[name]
        assert column.least is not None
        assert default >= column.least or (column.of == "gemm" and column.least == 1)
        assert not column.whole or default == int(default)
