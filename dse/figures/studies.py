"""Finished explorations as data of figures: what ``sparchitect explore`` left in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dse.space import Space
from dse.study import OBJECTIVES
from sim.errors import InputError, nearest


@dataclass(frozen=True)
class Objective:
    """A column of a study's tables; drawn times ``factor``, as ``label``."""

    column: str
    factor: float
    label: str


OBJECTIVE = {
    "latency": Objective("latency_s", 1e3, "latency (ms)"),
    "energy": Objective("energy_per_token_pj", 1e-9, "energy per token (mJ)"),
    "area": Objective("area_mm2", 1.0, "area (mm²)"),
    "perplexity": Objective("perplexity", 1.0, "perplexity"),
}


@dataclass(frozen=True)
class StudyFolder:
    """``trials``: every trial; ``front``: the admissible, non-dominated ones (``pareto.csv``); ``run``: run.json."""

    folder: Path
    space: Space
    trials: pd.DataFrame
    front: pd.DataFrame
    run: dict[str, Any]


def read_study(data: Any) -> StudyFolder:
    """The study of a folder, or of a result of ``sp.explore``.

    Raises:
        InputError: neither, or a folder whose files are missing, damaged, or of another study.
    """
    folder = getattr(data, "folder", data)
    if not isinstance(folder, str | Path):
        raise InputError(f"this figure needs the folder of an exploration, got {type(data).__name__}")
    folder = Path(folder)
    paths = [folder / name for name in ("run.json", "trials.parquet", "pareto.csv")]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; 'sparchitect explore --out {folder}' writes it when it ends")
    try:
        run = json.loads(paths[0].read_text(encoding="utf-8"))
        space = Space.model_validate(run["space"])
        trials, front = pd.read_parquet(paths[1]), pd.read_csv(paths[2])
        for table, path, extra in ((trials, paths[1], ()), (front, paths[2], ("reported",))):
            missing = {"trial", "machine", "feasible", *OBJECTIVES, *extra} - set(table)
            if missing:
                raise InputError(f"{path}: column '{min(missing)}' is missing")
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{folder}: not a study's folder, or damaged ({str(error).splitlines()[0]})") from None
    return StudyFolder(folder, space, trials, front, run)


def objective_of(name: str, field: str) -> Objective:
    """:class:`InputError` for a name that is not in :data:`OBJECTIVE`."""
    if name not in OBJECTIVE:
        raise InputError(f"{field} '{name}' is unknown, {nearest(name, OBJECTIVE)}")
    return OBJECTIVE[name]
