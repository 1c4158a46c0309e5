"""``prune``: a tiny model with random weights by default, the real one in the slow tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import sparchitect as sp
from sim.trace import Trace
from workloads import fetch, prune
from workloads.fetch import SMOLLM2, cache_dir

MACHINES = ("dense_ws", "nm_24", "sparse_lanes")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """The tiny Llama of the workloads tests, under a name that no file should have."""
    pytest.importorskip("gguf")
    path = Path(__file__).parents[1] / "workloads" / "tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama_for_the_command", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.write_gguf(tmp_path_factory.mktemp("models") / "tiny model.gguf", module.random_weights())


def consistent(trace: Trace) -> int:
    """Masks, counts, profiles and columns of every pruned op say the same; returns how many there are."""
    pruned = trace.ops[trace.ops["profile"] >= 0]
    assert trace.masks is not None and trace.counts is not None and trace.profiles is not None
    assert len(pruned) == len(trace.masks) == len(trace.counts) == len(trace.profiles.nonzeros)
    for op in pruned.itertuples():
        at = int(op.profile)
        mask = trace.masks[at]
        assert mask.shape == (op.n, op.k)
        assert mask.sum() == op.nonzeros == trace.profiles.nonzeros[at]
        np.testing.assert_array_equal(trace.counts[at].rows, mask.sum(axis=1))
        np.testing.assert_array_equal(trace.counts[at].columns, mask.sum(axis=0))
        assert op.group4_max == mask.reshape(len(mask), -1, 4).sum(axis=-1).max()
    return len(pruned)


def test_trace_of_a_tiny_model(tiny, one_object, cli, tmp_path):
    words = ("prune", "--model", tiny, "--method", "magnitude", "--pattern", "2:4", "--no-evaluate", "--tokens", "16")
    found = one_object(*words)
    assert found["trace"] == "traces/tiny_model_magnitude_2_4.parquet"
    assert (found["method"], found["pattern"], found["realised_sparsity"]) == ("magnitude", "2:4", 0.5)
    trace = sp.load_trace(found["trace"])
    assert consistent(trace) == 7 * trace.meta["layers"]
    assert {p.name.removeprefix("tiny_model_magnitude_2_4") for p in (tmp_path / "traces").iterdir()} == {
        ".parquet",
        ".profiles.npz",
        ".counts.npz",
        ".masks.npz",
    }
    for machine in MACHINES:
        done = cli("simulate", "-a", machine, "--trace", "traces/tiny_model_magnitude_2_4")
        assert done.code == 0 and "cycles" in done.out


def test_text_says_what_was_done_and_what_is_next(tiny, cli):
    done = cli("prune", "--model", tiny, "--method", "magnitude", "--no-evaluate", "--tokens", "8", "--out", "a b")
    assert done.code == 0 and not done.err
    assert "magnitude 0.5" in done.out and "50.0%" in done.out
    assert "sparchitect simulate -a sparse_lanes --trace 'a b.parquet'" in done.out
    words = ("prune", "--model", tiny, "--method", "magnitude", "--pattern", "2:4", "--no-evaluate", "--tokens", "8")
    assert "sparchitect simulate -a nm_24 --trace" in cli(*words).out


def test_names_tell_prunings_apart(tiny, one_object):
    base = ("prune", "--model", tiny, "--method", "magnitude", "--no-evaluate", "--tokens", "8", "--context", "8")
    names = [
        one_object(*base, *more)["trace"]
        for more in ((), ("--type", "attn"), ("--type", "attn_k"), ("--phase", "decode"), ("--pattern", "0.25"))
    ]
    assert len(set(names)) == len(names)
    assert names[2] == "traces/tiny_model_magnitude_0_5_attn_k.parquet"
    assert sp.load_trace(names[3]).meta["phase"] == "decode"


def test_overwriting_leaves_nothing_of_the_older_trace(tiny, cli, tmp_path):
    """A trace without masks in the place of one with masks."""
    words = ("prune", "--model", tiny, "--method", "magnitude", "--no-evaluate", "--tokens", "8", "--out", "same")
    assert cli(*words).code == 0
    from workloads.traces import save

    save(sp.gemm(8, 8, 8), Path("same"))
    assert [p.name for p in tmp_path.iterdir()] == ["same.parquet"]
    assert sp.load_trace("same").profiles is None


def test_same_words_same_bytes(tiny, cli, tmp_path):
    for name in ("x", "y"):
        words = ("prune", "--model", tiny, "--method", "magnitude", "--no-evaluate", "--tokens", "8", "--out", name)
        assert cli(*words).code == 0
    for kind in ("parquet", "profiles.npz", "counts.npz"):
        assert (tmp_path / f"x.{kind}").read_bytes() == (tmp_path / f"y.{kind}").read_bytes(), kind


@pytest.fixture
def texts(monkeypatch):
    """Random token ids instead of text, which the tiny model cannot read; the tokens asked for are seen."""
    asked = []

    def calibration(checkpoint, tokens, seed):
        asked.append(tokens)
        return np.random.default_rng(seed).integers(0, checkpoint.config.vocab, (4, 24))

    monkeypatch.setattr(prune, "_calibration_windows", calibration)
    monkeypatch.setattr(prune, "_evaluation_windows", lambda checkpoint: calibration(checkpoint, 0, 9))
    return asked


def test_how_it_is_pruned_and_measured(tiny, one_object, texts):
    """Every flag reaches the method and is in the trace's meta."""
    words = ("prune", "--model", tiny, "--method", "wanda", "--tokens", "8")
    flags = ("--allocation", "owl", "--sequential", "--calibration-tokens", "1024", "--arithmetic", "w4a8kv4")
    found = one_object(*words, *flags, "--out", "a")
    assert (found["allocation"], found["sequential"], found["arithmetic"]) == ("owl", True, "w4a8kv4")
    assert 1024 in texts and found["numerics"] == "w4a8kv4" and found["perplexity"] > 0
    ops = sp.load_trace("a").ops
    assert set(ops.loc[ops["weight_source"] == "weights", "weight_bits"][ops["kind"] == "gemm"]) == {4}
    plain = one_object(*words, "--no-sequential", "--arithmetic", "float", "--out", "b")
    assert (plain["allocation"], plain["sequential"], plain["arithmetic"]) == ("uniform", False, "float")
    assert plain["numerics"] == "w8a8kv8"
    one, other = (sp.load_trace(name).masks for name in "ab")
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--allocation", "owls"), "did you mean 'owl'?"),
        (("--allocation", "owl", "--pattern", "2:4"), "pattern '2:4' fixes it"),
        (("--allocation", "owl", "--method", "heads"), "allocation must be uniform, got 'owl'"),
        (("--sequential", "--method", "magnitude"), "sequential must be False"),
        (("--sequential=maybe",), "--sequential"),
        (("--calibration-tokens", "100"), "at least 512, got 100"),
        (("--calibration-tokens", "many"), "--calibration-tokens"),
        (("--arithmetic", "w8a8"), "like 'w8a8kv8'"),
        (("--arithmetic", "w3a8kv8"), "weight_bits must be one of 4, 8, 16, got 3"),
        (("--method", "sevedo"), "rank 32 + 0.5"),
    ],
)
def test_refusals_before_a_model_is_fetched(refused, monkeypatch, words, part):
    monkeypatch.setattr(fetch, "_download", lambda *_: pytest.fail("fetched"))
    assert part in refused("prune", *words)


def test_a_factored_model(tiny, one_object, cli, texts):
    """Two multiplications beside a sparse one, in a trace that both engines run."""
    words = (
        "prune",
        "--model",
        tiny,
        "--method",
        "sevedo",
        "--pattern",
        "rank 4 + 0.5",
        "--no-evaluate",
        "--tokens",
        "8",
    )
    found = one_object(*words)
    assert found["trace"] == "traces/tiny_model_sevedo_rank_4_0_5.parquet"
    trace = sp.load_trace(found["trace"])
    assert consistent(trace) == 7 * trace.meta["layers"]
    for engine in ("analytic", "timeline"):
        assert cli("simulate", "-a", "sparse_lanes", "--trace", found["trace"], "--engine", engine).code == 0


@pytest.mark.parametrize(
    ("arithmetic", "of"),
    [("w8a8kv8", "the product of the factors, rounded as one matrix"), ("float", "the product of the factors")],
)
def test_the_perplexity_of_factors_is_of_their_product(tiny, cli, texts, arithmetic, of):
    words = ("prune", "--model", tiny, "--method", "sevedo", "--pattern", "rank 4 + 0.5", "--tokens", "8", "--out", "t")
    shown = cli(*words, "--arithmetic", arithmetic).out
    assert sp.load_trace("t").meta["perplexity_of"] == of
    assert f"perplexity is of {of}; the trace has the factors apart" in shown


@pytest.mark.parametrize(
    ("out", "part"),
    [
        ("/proc/none/t", "cannot be written"),  # where even a superuser makes no folder
        ("file/t", "cannot be written"),
        ("x" * 250, "File name too long"),
        (".", "must end in a file's name"),
        ("taken", "taken.parquet is a folder"),
    ],
)
def test_a_place_without_writing_is_refused_before_the_work(tiny, refused, tmp_path, monkeypatch, out, part):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.parquet").mkdir()
    monkeypatch.setattr(prune, "prune_model", lambda *_, **__: pytest.fail("worked"))
    message = refused("prune", "--model", tiny, "--method", "magnitude", "--no-evaluate", "--out", out)
    assert part in message


def test_a_model_where_one_stands_has_its_folders_name(tiny, one_object, tmp_path, monkeypatch):
    folder = sys.modules["tiny_llama_for_the_command"]
    model = folder.write_hf(tmp_path / "my-model", folder.hf_tensors(folder.random_weights()))
    monkeypatch.chdir(model)
    found = one_object("prune", "--model", ".", "--method", "magnitude", "--no-evaluate", "--tokens", "8")
    assert found["model_file"] == "my-model" and found["trace"] == "traces/my-model_magnitude_0_5.parquet"


def test_token_ids_from_files(tiny, one_object, cli, refused, tmp_path):
    """A folder without tokenizer is calibrated and measured on the user's own ids; what is no array is refused."""
    made = sys.modules["tiny_llama_for_the_command"]
    made.write_hf(tmp_path / "mini", made.hf_tensors(made.random_weights()))
    ids = np.random.default_rng(0).integers(0, made.VOCAB, (4, 24))
    np.save("ids.npy", ids)
    np.save("pickled.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    Path("text.npy").write_text("some text")
    np.save("wrong.npy", ids + 1000)
    base = ("prune", "--model", "mini", "--tokens", "8")
    found = one_object(*base, "--windows", "ids.npy", "--evaluation", "ids.npy")
    assert found["calibration_tokens"] == ids.size and found["perplexity_tokens"] == 4 * 23
    assert "give token ids (--windows FILE.npy" in refused(*base)
    assert "--evaluation FILE.npy" in refused(*base, "--windows", "ids.npy")
    assert "pickled.npy: not a .npy file of numbers" in refused(*base, "--windows", "pickled.npy")
    assert "text.npy: not a .npy file of numbers" in refused(*base, "--windows", "text.npy")
    assert "none.npy: cannot be read" in refused(*base, "--windows", "none.npy")
    assert "windows: token ids must be in 0..255" in refused(*base, "--windows", "wrong.npy")


@pytest.mark.slow
class TestRealModel:
    @pytest.fixture(autouse=True)
    def cached(self):
        pytest.importorskip("gguf")
        path = cache_dir("files") / SMOLLM2.name
        if not path.is_file():
            pytest.skip(f"{SMOLLM2.name} is not in the cache: run 'sparchitect prune' once with a network")

    def test_one_matrix_type(self, one_object, cli):
        found = one_object("prune", "--method", "wanda", "--pattern", "2:4", "--type", "attn_k", "--no-evaluate")
        assert found["trace"] == "traces/smollm2_135m_wanda_2_4_attn_k.parquet"
        trace = sp.load_trace(found["trace"])
        assert consistent(trace) == 30
        pruned = trace.ops[trace.ops["profile"] >= 0]
        assert set(pruned["matrix_type"]) == {"attn_k"} and (pruned["group4_max"] == 2).all()
        # the same masks as those that come with the package
        bundled = sp.load_trace("smollm2_135m_wanda_2_4")
        there = bundled.ops[bundled.ops["matrix_type"] == "attn_k"]
        assert trace.profiles is not None and bundled.profiles is not None
        np.testing.assert_array_equal(
            trace.profiles.cycles_grid, bundled.profiles.cycles_grid[there["profile"].to_numpy(dtype=int)]
        )
        cycles = {m: one_object("simulate", "-a", m, "--trace", found["trace"])["cycles"] for m in MACHINES}
        assert cycles["nm_24"] < cycles["dense_ws"]

    def test_ffn_channels(self, one_object):
        found = one_object("prune", "--method", "ffn_channels", "--pattern", "0.2", "--no-evaluate")
        assert found["trace"] == "traces/smollm2_135m_ffn_channels_0_2.parquet"
        assert found["pruned_types"] == ["ffn_gate", "ffn_up", "ffn_down"]
        trace, bundled = sp.load_trace(found["trace"]), sp.load_trace("smollm2_135m_ffn_channels_20")
        assert trace.masks is None and trace.profiles is None
        for machine in MACHINES:
            ours, theirs = (sp.simulate(sp.accelerator(machine), t).cycles for t in (trace, bundled))
            assert ours == theirs
