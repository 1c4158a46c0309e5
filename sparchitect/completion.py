"""Names for the shell's completion. What is a file in a package is listed without importing the package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_MODEL = "smollm2_135m"
_WITHOUT_MASKS = ("dense", "ffn_channels_10", "ffn_channels_20", "ffn_channels_30")
"""Variants of bundled traces that have no file of profiles; the others have one each."""
_METHOD = re.compile(r'^@register\nclass .*?^    name = "(\w+)"', re.MULTILINE | re.DOTALL)


def _files(package: str, pattern: str) -> list[Path]:
    """A package's files that match, in alphabetical order."""
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return sorted(path for folder in folders for path in Path(folder).glob(pattern))


def _stems(package: str, pattern: str) -> list[str]:
    return [path.stem for path in _files(package, pattern)]


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str, *endings: str) -> list[str]:
    """Files with one of the endings, and folders, that begin with what is typed."""
    typed = Path(incomplete)
    folder, begin = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    shown = [path for path in found if path.name.startswith(begin) and (begin or not path.name.startswith("."))]
    return [f"{path}/" if path.is_dir() else str(path) for path in shown if path.is_dir() or path.suffix in endings]


def machines(incomplete: str) -> list[str]:
    """Bundled machines, and machine files."""
    return _starting(_stems("accel_models", "data/*.yaml"), incomplete) + _paths(incomplete, ".yaml", ".yml")


def spaces(incomplete: str) -> list[str]:
    """Bundled search spaces, and space files."""
    return _starting(_stems("dse", "spaces/*.yaml"), incomplete) + _paths(incomplete, ".yaml", ".yml")


def traces(incomplete: str) -> list[str]:
    """Bundled traces, and trace files."""
    variants = [*_WITHOUT_MASKS, *_stems("workloads", f"data/{_MODEL}/profiles/*.npz")]
    names = [f"{_MODEL}_{variant}{phase}" for variant in variants for phase in ("", "_decode")]
    return _starting(names, incomplete) + _paths(incomplete, ".parquet")


def models(incomplete: str) -> list[str]:
    """Models of the zoo, and config files."""
    return _starting(_stems("workloads", "zoo/*.json"), incomplete) + _paths(incomplete, ".json")


def methods(incomplete: str) -> list[str]:
    """Pruning methods."""
    sources = [path.read_text(encoding="utf-8") for path in _files("workloads", "pruning/*.py")]
    return _starting(sorted(name for text in sources for name in _METHOD.findall(text)), incomplete)


def references(incomplete: str) -> list[str]:
    """References of ``validate``."""
    from validation.runner import listed

    return _starting(listed(), incomplete)


def engines(incomplete: str) -> list[str]:
    """Engines of ``simulate``."""
    return _starting(("analytic", "timeline"), incomplete)


def objectives(incomplete: str) -> list[str]:
    """What a mapping may minimise."""
    return _starting(("latency", "energy", "edp", "traffic"), incomplete)
