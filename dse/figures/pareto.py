"""The Pareto front of an exploration: latency against energy and against perplexity, machines by colour and marker."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from accel_models import accelerator
from dse.figures.style import COLUMN_IN, MARKERS, OKABE_ITO, plain_log_ticks, styled, write
from dse.space import Space


def save(front: pd.DataFrame, trials: pd.DataFrame, space: Space, stem: Path) -> list[Path]:
    """Write ``stem``.pdf and .png. Grey: every admissible trial; colour: non-dominated ones; ring: those in the table;
    cross: perplexity measured on the real model, where it was verified."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(COLUMN_IN, 4.6), layout="constrained")
        energy, quality = figure.subplots(2, 1, sharex=True)
        _panel(energy, front, trials, space, "energy_per_token_pj", 1e-9, "energy per token (mJ)")
        _panel(quality, front, trials, space, "perplexity", 1.0, "perplexity")
        energy.set_yscale("log")
        plain_log_ticks(energy.yaxis)
        if "perplexity_measured" in front:
            known = front[front["perplexity_measured"].notna()]
            quality.plot(known["latency_s"] * 1e3, known["perplexity_measured"], "k+", ms=5, mew=0.8, label="measured")
        quality.set_xlabel(
            f"latency (ms): {space.workload.prefill_tokens}-token prefill + {space.workload.decode_tokens} decode steps"
        )
        quality.set_xscale("log")
        plain_log_ticks(quality.xaxis)
        figure.legend(
            *quality.get_legend_handles_labels(),
            loc="outside upper center",
            ncols=2,
            frameon=False,
            handletextpad=0.3,
            columnspacing=1.0,
        )
        return write(figure, stem)


def _panel(
    axis, front: pd.DataFrame, trials: pd.DataFrame, space: Space, column: str, scale: float, label: str
) -> None:
    from dse.objectives import admissible

    others = trials[admissible(trials)] if len(trials) else trials
    axis.plot(others["latency_s"] * 1e3, others[column] * scale, ".", color="0.8", ms=2, zorder=1, label="other trials")
    for i, machine in enumerate(accelerator(source).name for source in space.machines):
        mine = front[front["machine"] == machine]
        if mine.empty:
            continue
        axis.plot(
            mine["latency_s"] * 1e3,
            mine[column] * scale,
            MARKERS[i % len(MARKERS)],
            ms=3.5,
            mew=0.3,
            mec="black",
            color=OKABE_ITO[i % len(OKABE_ITO)],
            zorder=3,
            label=f"Pareto: {machine}",
        )
    if len(front):
        shown = front[front["reported"]]
        axis.plot(
            shown["latency_s"] * 1e3,
            shown[column] * scale,
            "o",
            ms=7,
            mfc="none",
            mec="black",
            mew=0.6,
            zorder=4,
            label="in the table",
        )
    axis.set_ylabel(label)
