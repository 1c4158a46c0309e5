"""What holds for every verb: --json, examples in the help, completion, quiet pipes, exit codes, quick starts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
import typer.main

from sparchitect import completion
from sparchitect.cli import app
from sparchitect.display import progress

PROGRAM = [sys.executable, "-m", "sparchitect"]


def verbs() -> dict[str, object]:
    """ "trace show" -> its command, of every verb and verb of a verb."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        for below, child in getattr(command, "commands", {"": command}).items():
            found[f"{name} {below}".strip()] = child
    return found


def test_the_verbs():
    assert {"simulate", "sweep", "explore", "prune", "list", "validate", "report", "import scalesim", "import zigzag",
            "trace build", "trace import", "trace show", "trace validate", "trace diff"} <= set(verbs())  # fmt: skip


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_speaks_json_and_shows_an_example(cli, verb):
    options = {word for option in verbs()[verb].params for word in option.opts}
    assert "--json" in options
    done = cli(*verb.split(), "--help")
    assert done.code == 0 and not done.err
    if verb.startswith("figure "):  # a line each in the help of figure itself
        done = cli("figure", "--help")
        assert any(line.split()[:1] == [verb.split()[1]] for line in done.out.partition("Options:")[0].splitlines())
        return
    assert any(line.strip().startswith(f"sparchitect {verb}") for line in done.out.splitlines())


@pytest.mark.parametrize("verb", verbs())
def test_a_summary_is_one_whole_line(verb):
    first = (verbs()[verb].help or "").strip().splitlines()[0]
    assert first.endswith(".") and len(first) <= 70


def test_exit_codes_are_in_the_help(cli):
    text = " ".join(cli("--help").out.split())
    for code in ("0 done", "1 checked", "2 bad input", "130 Ctrl-C", "141 the reader of a pipe left"):
        assert code in text


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("simulat",), "simulate"),
        (("validte",), "validate"),
        (("trace", "shw"), "show"),
        (("import", "zigzg"), "zigzag"),
    ],
)
def test_an_unknown_verb_names_the_nearest(refused, words, nearest):
    assert f"did you mean '{nearest}'" in refused(*words).lower()


def test_ctrl_c_anywhere(cli, monkeypatch):
    import validation.runner

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(validation.runner, "run", interrupted)
    done = cli("validate")
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves(tmp_path, buffered):
    """Whether it is noticed when the verb prints or at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | (
        {} if buffered else {"PYTHONUNBUFFERED": "1"}
    )
    done = subprocess.run(
        [*PROGRAM, "validate", "--list"], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False, env=env
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def completed(words: str, tmp_path) -> list[str]:
    """What bash is offered behind ``words``."""
    env = {
        **os.environ, "_SPARCHITECT_COMPLETE": "complete_bash", "COMP_WORDS": f"sparchitect {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }  # fmt: skip
    code = "import sys; sys.argv[0] = 'sparchitect'; from sparchitect.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout.split()


def test_completion_in_bash(tmp_path):
    (tmp_path / "dense_mine.yaml").write_text("")
    assert completed("val", tmp_path) == ["validate"]
    assert completed("simulate -a dense", tmp_path) == ["dense_ws", "dense_mine.yaml"]


def test_completion_script(tmp_path):
    env = {**os.environ, "SHELL": "/bin/bash"}
    code = (
        "import sys; sys.argv = ['sparchitect', '--show-completion', 'bash']; from sparchitect.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "complete_bash" in done.stdout and "-F _sparchitect_completion" in done.stdout


def test_names_offered_are_the_names_there_are():
    from accel_models import names as machines
    from dse.space import names as spaces
    from sim.analytic import OBJECTIVES
    from sim.simulate import ENGINES
    from validation.runner import listed
    from workloads.pruning import methods
    from workloads.traces import bundled_traces
    from workloads.zoo import names as models

    for offered, known in (
        (completion.machines, machines()),
        (completion.spaces, spaces()),
        (completion.traces, bundled_traces()),
        (completion.models, models()),
        (completion.methods, methods()),
        (completion.references, listed()),
        (completion.engines, ENGINES),
        (completion.objectives, OBJECTIVES),
    ):
        assert set(offered("")) == set(known), offered.__name__
        first = min(known)
        assert first in offered(first[:3]) and all(name.startswith(first[:3]) for name in offered(first[:3]))


def test_files_are_offered(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("mine.yaml", "mine.txt", "sub/other.yml", ".hidden.yaml"):
        (tmp_path / name).write_text("")
    assert [name for name in completion.machines("") if "/" in name or "mine" in name] == ["mine.yaml", "sub/"]
    assert completion.machines("sub/") == ["sub/other.yml"] and completion.machines("nowhere/x") == []


def test_progress_says_what_and_how_long(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(rate=True) as tick:
        tick("validating: gemmini", 0, 4)
        tick("validating: dram", 3, 4)
    found = capsys.readouterr()
    assert not found.out and "validating: dram" in found.err and "3/4" in found.err and "to go" in found.err
    assert found.err.count("gemmini") == 0 or "dram" in found.err.rpartition("gemmini")[2], "one bar, renamed"


def test_no_color(capsys, monkeypatch):
    """Of a terminal that wants none, only movements of the cursor are left."""
    import re

    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress() as tick:
        tick("a", 1, 2)
    coloured = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-9]|38|9[0-7])[;m]")
    assert coloured.search(capsys.readouterr().err)
    monkeypatch.setenv("NO_COLOR", "1")
    with progress() as tick:
        tick("a", 1, 2)
    assert not coloured.search(capsys.readouterr().err)


def test_quiet_when_piped(cli):
    done = cli("validate", "scalesim")
    assert done.code == 0 and not done.err and "\x1b" not in done.out
    done = cli("sweep", "-a", "dense_ws", "--gemm", "8x16x16", "--vary", "array.rows=8,16")
    assert done.code == 0 and not done.err and "\x1b" not in done.out


@pytest.mark.parametrize("words", [["-c", "import sparchitect"], ["-m", "sparchitect", "--help"]])
def test_quick_start(tmp_path, words):
    """Processor seconds: the wall clock of a busy machine says nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7
