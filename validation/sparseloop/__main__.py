"""``python -m validation.sparseloop``: every comparison as text."""

from __future__ import annotations

import textwrap

import pandas as pd

from validation.sparseloop import dstc, eyeriss, eyeriss_v2
from validation.sparseloop.cases import CASES
from validation.sparseloop.exercises import agreement, compare_cases, compare_rest


def differences() -> pd.DataFrame:
    """The counts of the exercises that are not equal."""
    both = pd.concat([compare_cases(), compare_rest()])
    return both[both.sparseloop.astype(str) != both.ours.astype(str)]


def mean_error(found: pd.DataFrame, who: str) -> float:
    """Mean absolute error in per cent."""
    return float(found[f"{who}_error_percent"].abs().mean())


def show(title: str, found: pd.DataFrame) -> None:
    """One table of text under its title."""
    print(f"\n{title}\n")
    print(found.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def main() -> None:
    """Print what agrees and how far the rest is apart."""
    found = agreement()
    show("exercises: counts equal to Sparseloop's", found.drop(columns="why"))
    print()
    for row in found.itertuples():
        why = CASES[row.design].why if row.design in CASES else row.why
        print(textwrap.fill(f"{row.design}: {why}", 120, subsequent_indent="    ", break_on_hyphens=False))
    show("exercises: counts that differ", differences())
    chip = eyeriss.compare()
    show("Eyeriss, DRAM compression (x): chip, Sparseloop, ours", chip)
    print(f"mean |error|: Sparseloop {mean_error(chip, 'sparseloop'):.2f} %, ours {mean_error(chip, 'ours'):.2f} %")
    element = eyeriss_v2.compare()
    show("Eyeriss v2, cycles of one processing element", element)
    means = [mean_error(element, who) for who in ("sparseloop", "ours")]
    print(f"mean |error|: Sparseloop {means[0]:.2f} %, ours {means[1]:.2f} %")
    core = dstc.compare()
    show("dual-side sparse tensor core, latency over dense", core)
    points = core[(core.A_density < 1) | (core.B_density < 1)]
    print(
        f"mean |error| over {len(points)} sparse points: ours {mean_error(points, 'ours'):.2f} %, product of densities "
        f"{mean_error(points, 'product'):.2f} %; Sparseloop, as stated, {dstc.SPARSELOOP_MEAN_ERROR_PERCENT} %"
    )


if __name__ == "__main__":
    main()
