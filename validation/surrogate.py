"""Predicted against measured ΔNLL of held-out recipes and plans, a figure: ``python -m validation.surrogate``.

Everything comes from the bundle; bars are the 90 % intervals of ``workloads.quality``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dse.figures.style import COLUMN_IN, MARKERS, OKABE_ITO, plain_log_ticks, styled, write
from workloads.quality import bundled_surrogate
from workloads.quality.evaluate import errors, held_out_mixes, held_out_plans


def save(stem: Path) -> list[Path]:
    """Write ``stem``.pdf and .png."""
    from matplotlib.figure import Figure

    surrogate = bundled_surrogate()
    series = (
        ("recipes", held_out_mixes(), surrogate.of_recipes),
        ("plans, by layer", held_out_plans(), surrogate.of_plans),
    )
    with styled():
        figure = Figure(figsize=(COLUMN_IN, 3.3), layout="constrained")
        axis = figure.subplots()
        axis.set_xscale("log")
        axis.set_yscale("log")
        for i, (name, held_out, interval) in enumerate(series):
            axis.errorbar(
                held_out["measured"],
                held_out["predicted"],
                yerr=interval.half_width(held_out["predicted"].to_numpy()),
                fmt=MARKERS[i],
                ms=3,
                lw=0.5,
                color=OKABE_ITO[i],
                label=f"{name}: {len(held_out)}, rank correlation {errors(held_out)['spearman']:.3f}",
            )
        ends = (0.03, 5)
        axis.plot(ends, ends, color="0.5", lw=0.8, zorder=1)
        axis.set(xlim=ends, ylim=ends, xlabel="measured ΔNLL (nats)", ylabel="predicted ΔNLL (nats)")
        plain_log_ticks(axis.xaxis)
        plain_log_ticks(axis.yaxis)
        axis.legend(loc="lower right", frameon=False, handletextpad=0.3)
        return write(figure, stem)


def main() -> None:
    """Write the figure beside the caller, or where ``--to`` says."""
    parser = argparse.ArgumentParser(prog="python -m validation.surrogate", description=__doc__.split("\n")[0])
    parser.add_argument("--to", type=Path, default=Path("surrogate"), help="file name without its ending")
    for path in save(parser.parse_args().to):
        print(path)


if __name__ == "__main__":
    main()
