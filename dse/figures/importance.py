"""Which parameters of an exploration decide an objective.

PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) by Optuna's evaluator: how much a parameter's distribution among the
best tenth of the trials differs from that among all; shares sum to 1. The trials are those the sampler chose, so a
parameter that it settled early can look unimportant. ``method="fanova"`` (Hutter, Hoos and Leyton-Brown, ICML 2014)
fits a random forest instead and needs scikit-learn.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.figures.base import Figure
from dse.figures.studies import OBJECTIVE, StudyFolder, read_study
from dse.figures.style import bar_look
from dse.study import in_memory
from sim.errors import InputError, nearest

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure as Canvas

METHODS = {"ped_anova": "PED-ANOVA", "fanova": "fANOVA"}
LEAST = 50  # feasible trials: a tenth of fewer says nothing


class Importance(Figure):
    """``numbers``: parameter, importance (share of all), largest first; at most ``top``.

    ``metric``: an objective, or ``"front"``, what decides whether a trial is near the front (PED-ANOVA only).
    Parameters that only one machine has are asked of every trial, and cannot matter where it is another machine's.

    Raises:
        InputError: no study in the folder, too few feasible trials, an unknown metric or method, ``top`` below 1, or
            scikit-learn missing.
    """

    def __init__(self, study: Any, metric: str = "latency", top: int = 12, method: str = "ped_anova"):
        if metric not in (*OBJECTIVE, "front"):
            raise InputError(f"metric '{metric}' is unknown, {nearest(metric, [*OBJECTIVE, 'front'])}")
        if method not in METHODS:
            raise InputError(f"method '{method}' is unknown, {nearest(method, METHODS)}")
        if method == "fanova" and metric == "front":
            raise InputError("method 'fanova' explains one objective, not the front: use ped_anova")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise InputError(f"top must be a whole number >= 1, got {top!r}")
        data = read_study(study)
        shares = _shares(data, metric, method)
        self.numbers = pd.DataFrame(list(shares.items())[:top], columns=["parameter", "importance"])
        self._title = f"{'the front' if metric == 'front' else metric}, {METHODS[method]}"

    def height_in(self, width_in: float) -> float:
        return 0.5 + 0.19 * len(self.numbers)

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        at = np.arange(len(self.numbers))
        axis.barh(at, 100 * self.numbers["importance"], 0.7, **bar_look(0))
        axis.set_yticks(at, [_short(name) for name in self.numbers["parameter"]])
        axis.set_ylim(len(at) - 0.4, -0.6)
        axis.set_xlim(0, None)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("importance (%)")
        axis.set_title(self._title)


def _short(name: str) -> str:
    """A parameter for an axis: without the machine's name, ``memory.`` and the unit of sizes and rates."""
    return re.sub(r"_(kib|gb_per_s)$", "", name.rpartition(":")[2].removeprefix("memory."))


def _shares(data: StudyFolder, metric: str, method: str) -> dict[str, float]:
    """Parameter to its share, largest first."""
    import optuna

    trials = data.trials[data.trials["feasible"]]
    if len(trials) < LEAST:
        raise InputError(f"{data.folder}: {len(trials)} feasible trials, importance needs at least {LEAST}")
    distributions = data.space.distributions()
    study = in_memory(seed=0).memory
    study.add_trials([_trial(row, distributions) for row in trials.to_dict("records")])
    evaluators = optuna.importance.PedAnovaImportanceEvaluator, optuna.importance.FanovaImportanceEvaluator
    at = list(OBJECTIVE).index(metric) if metric != "front" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that lower is better is what we mean; no public name for the warning
            return optuna.importance.get_param_importances(
                study,
                evaluator=evaluators[1](seed=0) if method == "fanova" else evaluators[0](),
                target=None if at is None else lambda trial: trial.values[at],
            )
    except ImportError:
        raise InputError("method 'fanova' needs scikit-learn: pip install scikit-learn") from None


def _trial(row: dict[str, Any], distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    import optuna

    params = {}
    for name in distributions:
        value = row.get(f"param_{name}")
        if value is not None and value == value:
            params[name] = int(value)
    return optuna.trial.create_trial(
        params=params,
        distributions={name: distributions[name] for name in params},
        values=[math.log10(row[o.column]) for o in OBJECTIVE.values()],
    )
