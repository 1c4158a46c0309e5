"""Virtual environments of the peers, one each, made once by pip under a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "scalesim": ("scalesim==3.0.0", "numpy<2.4"),
    "zigzag": ("zigzag-dse==3.9.1", "six"),
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparchitect" / "peers"


def python_of(peer: str, cache: Path) -> Path:
    """Interpreter of the peer's environment; creates it where the wanted version is not there yet.

    Raises:
        SystemExit: pip cannot install the peer (says what pip said).
    """
    folder = cache / peer
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not _has(python, REQUIREMENTS[peer][0]):
        print(f"installing {' '.join(REQUIREMENTS[peer])} into {folder}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]])
    return python


def _has(python: Path, requirement: str) -> bool:
    package, _, wanted = requirement.partition("==")
    if not python.exists():
        return False
    asked = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() == wanted


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
