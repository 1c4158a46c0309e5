"""``trace``: build, import, show, validate and diff, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sparchitect as sp
from sim.trace import Trace

TINY = ("trace", "build", "smollm2_135m", "--layers", "1", "--tokens", "8", "--out")
MODEL = "smollm2_135m"


@pytest.fixture
def tiny(cli) -> str:
    assert cli(*TINY, "tiny").code == 0
    return "tiny.parquet"


def config_file(folder: Path) -> Path:
    fields = {
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": True, "hidden_act": "silu",
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (("--tokens", "8"), {"tokens": 8}),
        (("--tokens", "8", "--batch", "2", "--context", "4"), {"tokens": 8, "batch": 2, "context": 4}),
        (("--phase", "decode", "--context", "16", "--kv-kept", "0.5"),
         {"phase": "decode", "context": 16, "kv_kept": 0.5}),
        (("--tokens", "8", "--bits", "4"), {"tokens": 8, "weight_bits": 4, "activation_bits": 4, "kv_bits": 4}),
        (("--tokens", "8", "--weight-bits", "4", "--kv-bits", "16"), {"tokens": 8, "weight_bits": 4, "kv_bits": 16}),
        (("--tokens", "8", "--layers", "1"), {"tokens": 8, "layers": 1}),
        (("--tokens", "8", "--chunk", "4"), {"tokens": 8, "chunk": 4}),
        (("--phase", "request", "--tokens", "4", "--new-tokens", "3"),
         {"phase": "request", "tokens": 4, "new_tokens": 3}),
        (("--phase", "mixed", "--mix", "2x1@9", "--mix", "1x4"), {"phase": "mixed", "mix": [(2, 1, 9), (1, 4, 0)]}),
        (("--phase", "diffusion", "--tokens", "8", "--steps", "2", "--block", "4"),
         {"phase": "diffusion", "tokens": 8, "steps": 2, "block": 4}),
        (("--phase", "speculative", "--context", "8", "--draft", MODEL, "--gamma", "2", "--acceptance", "0.5"),
         {"phase": "speculative", "context": 8, "draft": MODEL, "gamma": 2, "acceptance": 0.5}),
    ],
)  # fmt: skip
def test_build_passes_everything_on(one_object, cli, tmp_path, words, run):
    """The file holds what ``sp.llm`` returns."""
    model = config_file(tmp_path)
    found = one_object("trace", "build", model, *words, "--out", "made")
    assert found["trace"] == "made.parquet"
    wanted = sp.llm(model, **run)
    assert found["total"]["macs"] == wanted.macs
    wanted.save("wanted")
    done = cli("trace", "diff", "made", "wanted")
    assert (done.code, done.out) == (0, "made and wanted are the same\n")


def test_build_of_a_mixture_of_experts(one_object):
    words = ("trace", "build", "mixtral_8x7b", "--layers", "1", "--phase", "decode", "--context", "8", "--batch", "4")
    even = one_object(*words, "--out", "even")
    skewed = one_object(*words, "--routing", "skew=2", "--routing", "seed=1", "--out", "skewed")
    assert skewed["meta"]["experts_hit"] != even["meta"]["experts_hit"]


def test_random_zeros_where_there_is_no_checkpoint(one_object, cli, tmp_path):
    """Random 2:4 masks are labelled as such, valid, reproducible, and what an n:m array runs faster."""
    model = config_file(tmp_path)
    words = ("trace", "build", model, "--tokens", "64", "--out")
    one_object(*words, "dense")
    found = one_object(*words, "zeros", "--pattern", "2:4", "--seed", "3")
    said = found["meta"]["random_zeros"]
    assert (said["pattern"], said["seed"], said["note"]) == ("2:4", 3, "random masks, not a pruned model's")
    assert cli("trace", "validate", "zeros").code == 0
    shown = cli("trace", "show", "zeros").out
    assert "random masks, not a pruned model's: pattern 2:4, seed 3" in shown and "50.0%" in shown
    assert "random masks" in cli("trace", "show", "zeros", "--summary").out
    ops = Trace.load("zeros").ops.set_index("name")
    assert ops.loc["layer0.attn_q", "sparsity_label"] == "random 2:4 mask, seed 3"
    assert ops.loc["layer1.ffn_up", "group4_max"] == 2 and ops.loc["lm_head", "sparsity_label"] == "dense"
    run = {name: one_object("simulate", "-a", "nm_24", "--trace", name) for name in ("dense", "zeros")}
    assert run["zeros"]["cycles"] < run["dense"]["cycles"]
    assert "weights: random 2:4 mask, seed 3" in run["zeros"]["notes"]
    for name, seed in (("again", "3"), ("other", "4")):
        one_object(*words, name, "--pattern", "2:4", "--seed", seed)
    for part in (".parquet", ".profiles.npz", ".counts.npz"):
        first, again, other = ((tmp_path / f"{name}{part}").read_bytes() for name in ("zeros", "again", "other"))
        assert first == again and (first != other)
    share = one_object(*words, "share", "--pattern", "0.75")
    assert share["total"]["density"] < 1 and Trace.load("share").masks is None
    one = Trace.load("share").ops.set_index("name").loc["layer0.ffn_gate"]
    assert one["nonzeros"] / (one["n"] * one["k"]) == pytest.approx(0.25, abs=0.05)


def test_build_says_what_is_next_and_it_works(cli):
    done = cli(*TINY, "a b")
    assert done.code == 0 and not done.err and "'a b.parquet'" in done.out
    assert cli("simulate", "-a", "dense_ws", "--trace", "a b.parquet").code == 0


def test_same_words_same_bytes(cli, tmp_path):
    for name in ("x", "y"):
        assert cli(*TINY, name).code == 0
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()


def test_show_is_all_of_the_trace_as_json(one_object, tiny):
    found = one_object("trace", "show", tiny)
    ops = Trace.load(tiny).ops
    assert found["ops"] == ops.to_dict("records") and found["meta"]["layers"] == 1
    only = one_object("trace", "show", tiny, "--op", "layer0.attn_q")
    assert [op["name"] for op in only["ops"]] == ["layer0.attn_q"]


def test_show_as_text(cli, tiny):
    shown = cli("trace", "show", tiny).out
    assert "18 ops" in shown and "layer0.attn_q" in shown and "\x1b" not in shown
    one = cli("trace", "show", tiny, "--op", "layer0.attn_q").out
    assert all(name in one for name in Trace.load(tiny).ops.columns)
    long = cli("trace", "show", "smollm2_135m_dense").out
    assert "the first 60 of 544 ops" in long


def test_summary(one_object, cli):
    found = one_object("trace", "show", "smollm2_135m_wanda_50", "--summary")
    assert found["groups"]["attn_q"]["density"] == 0.5 and found["total"]["gemm_ops"] == 271
    done = cli("trace", "show", "smollm2_135m_wanda_50", "--summary")
    lines = done.out.splitlines()
    assert "14,184,087,552 MACs" in lines[0] and "at least 137,576,448 bytes" in lines[1]
    assert max(map(len, lines)) <= 160 and "\x1b" not in done.out
    for label in found["groups"]:
        assert sum(line.startswith(f"{label} ") for line in lines) == 1


def test_validate(cli, one_object, tiny):
    done = cli("trace", "validate", tiny)
    assert (done.code, done.out, done.err) == (0, "tiny.parquet: valid, 18 ops\n", "")
    assert one_object("trace", "validate", tiny)["valid"] is True
    assert one_object("trace", "validate", "smollm2_135m_magnitude_50")["valid"] is True


def test_validate_says_every_violation_on_a_line(cli, tiny):
    trace = Trace.load(tiny)
    trace.ops.loc[1, ["m", "weight_bits"]] = [0, 99]
    trace.save("bad")
    done = cli("trace", "validate", "bad")
    assert done.code == 1 and not done.err
    assert done.out.splitlines() == [
        "op layer0.attn_q: m must be a whole number >= 1, got 0",
        "op layer0.attn_q: weight_bits must be a whole number in 1..16, got 99",
    ]
    done = cli("trace", "validate", "bad", "--json")
    found = json.loads(done.out)
    assert done.code == 1 and not done.err and not found["valid"] and len(found["violations"]) == 2


def test_diff_of_traces_that_differ(cli):
    words = ("trace", "diff", "smollm2_135m_dense", "smollm2_135m_wanda_50")
    done = cli(*words)
    assert done.code == 1 and not done.err
    assert "nonzeros: 210 ops, layer0.attn_q 331,776 -> 165,888" in done.out and "meta recipe" in done.out
    assert "meta" not in cli(*words, "--no-meta").out
    done = cli(*words, "--json")
    found = json.loads(done.out)
    assert done.code == 1 and not found["same"] and found["macs"][0] == found["macs"][1]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("build", "llama9", "--out", "x"), ("llama9", "did you mean")),
        (("build", MODEL, "--out", "x"), ("needs tokens",)),
        (("build", MODEL, "--tokens", "0", "--out", "x"), ("tokens", ">= 1", "got 0")),
        (("build", MODEL, "--tokens", "4", "--bits", "5", "--out", "x"), ("weight_bits", "4, 8, 16", "got 5")),
        (("build", MODEL, "--tokens", "4", "--bits", "4", "--kv-bits", "8", "--out", "x"), ("--bits sets all three",)),
        (("build", MODEL, "--phase", "prefil", "--tokens", "4", "--out", "x"), ("did you mean 'prefill'?",)),
        (("build", MODEL, "--phase", "mixed", "--mix", "2-1", "--out", "x"), ("COUNTxTOKENS@CACHED", "'2-1'")),
        (("build", MODEL, "--tokens", "4"), ("--out",)),
        (("build", MODEL, "--tokens", "4", "--routing", "skw=1", "--out", "x"), ("routing.skw", "skew")),
        (("build", MODEL, "--tokens", "4", "--pattern", "heads 0.5", "--out", "x"), ("'0.5' or '2:4'", "heads")),
        (("build", MODEL, "--tokens", "4", "--pattern", "4:2", "--out", "x"), ("0 < n < m",)),
        (("build", MODEL, "--tokens", "4", "--pattern", "0.5", "--seed", "-1", "--out", "x"), ("seed", ">= 0", "-1")),
        (("build", MODEL, "--tokens", "4", "--seed", "1", "--out", "x"), ("--pattern",)),
        (("show", "smollm2_135m_wanda_5"), ("did you mean",)),
        (("show", "smollm2_135m_dense", "--op", "layer0.attn_z"), ("--op", "did you mean 'layer0.attn_")),
        (("show", "smollm2_135m_dense", "--op", "embedding", "--summary"), ("leave out --op",)),
        (("validate", "nothing.parquet"), ("nothing.parquet", "no such file")),
        (("diff", "smollm2_135m_dense", "nothing"), ("nothing",)),
        (("import", "nothing.onnx", "--out", "x"), ("nothing.onnx",)),
        (("buil",), ("did you mean 'build'",)),
    ],
)  # fmt: skip
def test_refusals(refused, words, parts):
    message = refused("trace", *words)
    for part in parts:
        assert part.lower() in message.lower()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 and no table PAR1", b"\x00" * 200])
@pytest.mark.parametrize("verb", ["show", "validate"])
def test_files_that_are_no_traces(refused, tmp_path, verb, content):
    (tmp_path / "bad.parquet").write_bytes(content)
    assert "bad.parquet" in refused("trace", verb, "bad.parquet")


def test_broken_profiles_are_refused(refused, tmp_path):
    sp.gemm(m=2, n=8, k=64, sparsity=np.eye(8, 64) > 0).save("t")
    path = tmp_path / "t.profiles.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert "t.profiles.npz cannot be read" in refused("trace", "validate", "t")
    assert "t.profiles.npz cannot be read" in refused("trace", "diff", "t", "t")


def test_out_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "--out" in refused(*TINY, "file/below")


def test_import(one_object, cli, refused, tmp_path):
    """A pruned linear layer from an ONNX file, its dimension given by name."""
    onnx = pytest.importorskip("onnx")
    weights = np.tile(np.array([[1, 0], [0, 2], [0, 0]], np.float32), (4, 8))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "linear"), onnx.helper.make_node("Det", ["y"], ["z"])], "g",
        [onnx.helper.make_tensor_value_info("x", kind, ["rows", 12])],
        [onnx.helper.make_tensor_value_info("z", kind, [])], [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), "m.onnx")
    words = ("trace", "import", "m.onnx", "--out", "t")
    assert "not known: Det (1)" in refused(*words, "--dim", "rows=16")
    assert "dimension 'rows' of input x needs a size" in refused(*words)
    assert "--dim rows must be a whole number" in refused(*words, "--dim", "rows=many")
    found = one_object(*words, "--dim", "rows=16", "--unknown", "skip", "--weight-bits", "4")
    assert found["total"]["density"] == pytest.approx(1 / 3) and found["total"]["macs"] == 16 * 16 * 12
    assert found["total"]["dense_bits_per_weight"] == 4.0 and found["meta"]["skipped_ops"] == {"Det": 1}
    assert "not charged: Det" in cli(*words, "--dim", "rows=16", "--unknown", "skip").out
    assert cli("trace", "validate", "t").code == 0
    assert cli("simulate", "-a", "sparse_lanes", "--trace", "t").code == 0


@pytest.mark.parametrize("verb", ["build", "import", "show", "validate", "diff"])
def test_help_keeps_examples_on_their_lines(cli, verb):
    done = cli("trace", verb, "--help")
    assert done.code == 0 and "\b" not in done.out
    assert any(line.strip().startswith(f"sparchitect trace {verb} ") for line in done.out.splitlines())
