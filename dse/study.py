"""The Optuna loop: ask a batch, evaluate it at once, tell it, log it; survives being killed and goes on.

Storage is a journal file in the output folder. Objectives go to the sampler as log10 (they span decades);
broken constraints go to it as constraint violations, and designs that cannot be built or run are data with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.errors import InputError

if TYPE_CHECKING:
    import optuna

OBJECTIVES = ("latency_s", "energy_per_token_pj", "area_mm2", "perplexity")
"""All minimised."""
INFEASIBLE = 30.0  # log10 objective of a design that cannot run: worse than anything that can
BATCH = 50  # trials asked, evaluated and told together; also NSGA-II's population

Evaluate = Callable[[list[dict[str, Any]]], pd.DataFrame]
"""Parameter sets to one row each: the objectives, ``violation_*`` columns (> 0 breaks it), ``feasible``, ``reason``."""

_ROW = "row"
_CONSTRAINTS = "violations"


def _constraints(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    return trial.user_attrs.get(_CONSTRAINTS, (1.0,))


def open_study(folder: Path, name: str, seed: int, resume: bool, fingerprint: str) -> optuna.Study:
    """Create or load the study of ``folder``.

    Raises:
        InputError: the folder holds a study and ``resume`` is false, holds none and it is true, or holds one of another
            space, seed or code (``fingerprint``).
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = folder / "journal.log"
    if journal.exists() and not resume:
        raise InputError(f"{folder} already holds a study: add --resume to go on with it, or choose another --out")
    if resume and not journal.exists():
        raise InputError(f"{folder} holds no study to resume (no journal.log)")
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage, study_name=name, load_if_exists=True, directions=["minimize"] * len(OBJECTIVES)
    )
    known = study.user_attrs.get("fingerprint")
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
    elif known != fingerprint:
        raise InputError(f"{folder} holds a study of another space, seed or version: choose another --out")
    done = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    study.sampler = sampler(seed + done)
    return study


def sampler(seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-II with constraints: cheap per trial, and every trial of a batch can be asked before any is told."""
    import optuna

    return optuna.samplers.NSGAIISampler(population_size=BATCH, seed=seed, constraints_func=_constraints)


def optimise(
    study: optuna.Study,
    distributions: dict[str, Any],
    evaluate: Evaluate,
    trials: int,
    first: Sequence[dict[str, Any]] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Run until ``trials`` trials are finished (those already in the study count); returns one row a trial.

    ``first``: parameter sets to try before sampling (anchors). Trials that a killed run left unfinished are closed as
    failed and do not count.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    finished = _finished(study)
    if not study.get_trials(deepcopy=False):
        for params in first:
            study.enqueue_trial(params, skip_if_exists=True)
    while len(finished) < trials:
        count = min(BATCH, trials - len(finished))
        asked = [study.ask(distributions) for _ in range(count)]
        table = evaluate([dict(t.params) for t in asked])
        for trial, row in zip(asked, table.to_dict("records"), strict=True):
            trial.set_user_attr(_CONSTRAINTS, _violations(row))
            trial.set_user_attr(_ROW, {k: _plain(v) for k, v in row.items()})
            study.tell(trial, _values(row))
        finished = _finished(study)
        progress(len(finished))
    return frame(study)


def frame(study: optuna.Study) -> pd.DataFrame:
    """One row a finished trial: number, evaluated columns, parameters."""
    rows = [
        {"trial": t.number, **t.user_attrs[_ROW], **{f"param_{k}": v for k, v in t.params.items()}} for t in _finished(study)
    ]
    return pd.DataFrame(rows)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def _violations(row: dict[str, Any]) -> list[float]:
    broken = [float(row[k]) for k in sorted(row) if k.startswith("violation_")]
    return [*[v if math.isfinite(v) else 1.0 for v in broken], 0.0 if row["feasible"] else 1.0]


def _values(row: dict[str, Any]) -> list[float]:
    values = [row[o] for o in OBJECTIVES]
    return [math.log10(v) if row["feasible"] and math.isfinite(v) and v > 0 else INFEASIBLE for v in values]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value

