"""The command line, called in this process from an empty folder, with an empty cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sparchitect import cli as command_line


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_place(request, tmp_path, monkeypatch):
    """Every test runs in its own folder; default tests never see the user's cache."""
    monkeypatch.chdir(tmp_path)
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("SPARCHITECT_CACHE", str(tmp_path.parent / f"{tmp_path.name}_cache"))


@pytest.fixture
def cli(capsys) -> Callable[..., Done]:
    """``cli("simulate", "-a", ...)``: exit code, stdout, stderr."""

    def run(*words: str | Path) -> Done:
        capsys.readouterr()
        code = command_line._guard(lambda: command_line.app([str(w) for w in words], standalone_mode=False))
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(cli, tmp_path) -> Callable[..., str]:
    """Run what must be refused: one line on stderr, exit code 2, nothing on stdout, nothing written. Returns it."""

    def run(*words: str | Path) -> str:
        before = files(tmp_path)
        done = cli(*words)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.startswith("error: ") and done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
        assert "Traceback" not in done.err and len(done.err) < 500
        assert files(tmp_path) == before
        return done.err

    return run


@pytest.fixture
def one_object(cli) -> Callable[..., dict[str, Any]]:
    """Run with ``--json``: stdout is one line, one strict JSON object, and stderr is empty. Returns the object."""

    def run(*words: str | Path) -> dict[str, Any]:
        done = cli(*words, "--json")
        assert (done.code, done.err, done.out.count("\n")) == (0, "", 1), done
        found = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert isinstance(found, dict)
        return found

    return run


def files(folder: Path) -> dict[str, bytes]:
    """Path to content of everything below ``folder``."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}
