"""``sparchitect explore``: from a space to a Pareto table and a figure, in one folder.

Writes ``journal.log`` (Optuna), ``trials.parquet`` (every trial, infeasible ones with their reason), ``pareto.csv``,
``pareto.pdf`` / ``pareto.png`` and ``run.json`` (versions, seed, hashes, reference point, hypervolume). Each file
appears whole or not at all; without one design within constraints there is no figure.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dse.figures import pareto as figure
from dse.objectives import Objectives, admissible
from dse.pareto import hypervolume, non_dominated, representatives
from dse.space import Space, load
from dse.study import OBJECTIVES, open_study, optimise
from sim.errors import InputError
from sim.version import __version__
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint

DEFAULT_SPACE = "edge_codesign"
DEFAULT_TRIALS = 1000
REPORTED = 12  # Pareto points in the table, and re-measured by --verify


@dataclass
class Result:
    """A finished exploration: all trials, the front, the reported points of it, and what identifies the run."""

    space: Space
    trials: pd.DataFrame
    pareto: pd.DataFrame
    reported: pd.DataFrame
    run: dict[str, Any]
    folder: Path


def reference_point(space: Space, objectives: Objectives) -> np.ndarray:
    """log10 of the worst corner that counts: the dense model on the first machine's file as it stands, ten times its
    latency and energy; the area budget (or ten times its area); the perplexity limit (or ten times dense)."""
    from accel_models import accelerator
    from workloads.recipe import Recipe

    row = objectives.of([accelerator(next(iter(space.machines)))], [Recipe.uniform("dense")]).iloc[0]
    limits = space.constraints
    area = limits.area_mm2 or 10 * row["area_mm2"]
    perplexity = math.exp(objectives.quality.dense_nll) * (limits.perplexity_over_dense or 10.0)
    return np.log10([10 * row["latency_s"], 10 * row["energy_per_token_pj"], area, perplexity])


def front(trials: pd.DataFrame) -> pd.DataFrame:
    """Admissible, non-dominated trials, sorted by latency; ``reported`` marks a spanning subset."""
    good = trials[admissible(trials)]
    if good.empty:
        return good.assign(reported=[])
    logs = np.log10(good[list(OBJECTIVES)].to_numpy(dtype=np.float64))
    best = (
        good[non_dominated(np.ascontiguousarray(logs))].sort_values("latency_s", kind="stable").reset_index(drop=True)
    )
    chosen = representatives(np.log10(best[list(OBJECTIVES)].to_numpy(dtype=np.float64)), REPORTED)
    return best.assign(reported=np.isin(np.arange(len(best)), chosen))


def front_volume(trials: pd.DataFrame, reference: np.ndarray) -> float:
    """Hypervolume of a table of trials in log10 objectives below ``reference``."""
    best = front(trials)
    if best.empty:
        return 0.0
    return hypervolume(np.log10(best[list(OBJECTIVES)].to_numpy(dtype=np.float64)), reference)


def explore(
    space: str | Path | dict[str, Any] | Space = DEFAULT_SPACE,
    trials: int = DEFAULT_TRIALS,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    verify: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Result:
    """Explore a space and write its folder (default: the next free ``results/<space>_NNN``).

    ``progress(what, done, total)`` is called as work goes on. ``verify`` re-measures the reported points' perplexity on
    the real model (column ``perplexity_measured``; needs the ``[llm]`` extra and, the first time, a download).

    Raises:
        InputError: bad space, trials < 1, a folder that holds another study, or one without a study to resume.
    """
    if trials < 1:
        raise InputError(f"trials must be >= 1, got {trials}")
    space = space if isinstance(space, Space) else load(space)
    if resume and out is None:
        raise InputError("--resume needs --out DIR: the folder of the study to go on with")
    folder = Path(out) if out is not None else free_folder(space.name)
    if verify:
        open_checkpoint()  # refuses now what would otherwise be refused after the exploration
    objectives = Objectives(space)
    reference = reference_point(space, objectives)
    fingerprint = f"{space.config_hash()}-{seed}-{__version__}"
    study = open_study(folder, space.name, seed, resume, fingerprint)
    try:
        table = optimise(
            study, space.distributions(), objectives, trials, anchors(space), lambda n: progress("exploring", n, trials)
        )
    finally:
        study.close()
    best = front(table)
    run = {
        "space": json.loads(space.model_dump_json()),
        "space_hash": space.config_hash(),
        "seed": seed,
        "trials": len(table),
        "feasible_trials": int(table["feasible"].sum()),
        "admissible_trials": int(admissible(table).sum()),
        "pareto_points": len(best),
        "objectives": list(OBJECTIVES),
        "objective_scale": "log10",
        "reference_point": [float(10**r) for r in reference],
        "hypervolume_log10": front_volume(table, reference),
        "dense_perplexity": math.exp(objectives.quality.dense_nll),
        "arithmetic": "w8a8kv8",
        "sampler": "optuna NSGAIISampler",
        "versions": {p: version(p) for p in ("optuna", "numpy", "numba", "pandas")}
        | {"sparchitect": __version__, "python": platform.python_version()},
    }
    _write(folder, table, best, run, space)
    if verify and len(best):
        from dse.verify import measured

        best = measured(best, space, progress)
        _write(folder, table, best, run, space)
    return Result(space, table, best, best[best["reported"]] if len(best) else best, run, folder)


def anchors(space: Space) -> list[dict[str, Any]]:
    """Where sampling starts: every machine with the dense model, and with each method's first and middle pattern."""
    found = []
    patterns = space.pruning.patterns
    middle = [i for i, p in enumerate(patterns) if p in ("2:4", "50")]
    for machine in range(len(space.machines)):
        base = {"machine": machine} if len(space.machines) > 1 else {}
        sizes = {path: len(values) // 2 for path, values in space.hardware.items() if len(values) > 1}
        for pattern in (0, *middle):
            pruned = {f"pattern.{t}": pattern for t in MATRIX_TYPES} if len(patterns) > 1 else {}
            methods = (
                {f"method.{t}": len(space.pruning.methods) - 1 for t in MATRIX_TYPES}
                if len(space.pruning.methods) > 1
                else {}
            )
            channels = {"ffn_channels": 0} if len(space.pruning.ffn_channels) > 1 else {}
            found.append({**base, **sizes, **pruned, **methods, **channels})
    return found


def free_folder(name: str) -> Path:
    """``results/<name>_NNN``, the first that does not exist."""
    for number in range(1, 10000):
        folder = Path("results") / f"{name}_{number:03d}"
        if not folder.exists():
            return folder
    raise InputError("results/ is full: choose a folder with --out")


def _write(folder: Path, table: pd.DataFrame, best: pd.DataFrame, run: dict[str, Any], space: Space) -> None:
    def whole(name: str, write: Callable[[Path], Any]) -> None:
        temporary = folder / f".{name}.tmp"
        try:
            write(temporary)
            os.replace(temporary, folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    shown = best.drop(columns=[c for c in best if c.startswith("param_") and best[c].isna().all()])
    try:
        whole("trials.parquet", lambda p: table.to_parquet(p, index=False))
        whole("pareto.csv", lambda p: shown.to_csv(p, index=False))
        if len(best):
            figure.save(best, table, space, folder / "pareto")
        whole("run.json", lambda p: p.write_text(json.dumps(run, indent=2, sort_keys=True) + "\n"))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); the trials are kept, --resume") from None
