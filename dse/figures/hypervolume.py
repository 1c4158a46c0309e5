"""How the front of one or more explorations grew with their trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dse.explore import front_volume
from dse.figures.base import Figure
from dse.figures.studies import read_study
from dse.figures.style import legend_above, line_look
from dse.study import BATCH
from sim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

POINTS = 20  # points of a line, batches of the sampler


class Hypervolume(Figure):
    """``numbers``: study, trials, hypervolume: the volume that the front of the first so many trials dominates, in
    log10 of all objectives below the study's reference point (``run.json``).

    Raises:
        InputError: no folder, one that holds no study, or studies whose reference points differ.
    """

    def __init__(self, studies: Any):
        folders = list(studies) if isinstance(studies, list | tuple) else [studies]
        if not folders:
            raise InputError("this figure needs the folder of an exploration, or a list of them")
        found = [read_study(folder) for folder in folders]
        references = np.log10([study.run["reference_point"] for study in found])
        for study, reference in zip(found, references, strict=True):
            if not np.allclose(reference, references[0], rtol=1e-9):
                raise InputError(f"{study.folder}: its reference point is not that of {found[0].folder}")
        rows = []
        for name, study in zip(_names([s.folder for s in found]), found, strict=True):
            table = study.trials.sort_values("trial")
            step = max(BATCH, -(-len(table) // POINTS // BATCH) * BATCH)
            for count in [*range(step, len(table), step), len(table)]:
                rows.append((name, count, front_volume(table.iloc[:count], references[0])))
        self.numbers = pd.DataFrame(rows, columns=["study", "trials", "hypervolume"])
        self._objectives = len(references[0])

    def draw(self, canvas: Canvas) -> None:
        axis = canvas.subplots()
        for i, (name, part) in enumerate(self.numbers.groupby("study", sort=False)):
            axis.plot(part["trials"], part["hypervolume"], label=name, **line_look(i))
        axis.set_xlim(0, self.numbers["trials"].max() * 1.03)
        axis.set_ylim(0, max(self.numbers["hypervolume"].max() * 1.08, 1e-12))
        axis.set_xlabel("trials")
        axis.set_ylabel(f"hypervolume (log10, {self._objectives} objectives)")
        legend_above(canvas, *axis.get_legend_handles_labels())


def _names(folders: list[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
