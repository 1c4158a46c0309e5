"""Every reference we have, run one after the other: how many rows are equal, how far the rest is apart.

    sparchitect validate

A :class:`Reference` (:mod:`validation.references`) returns :class:`Measure`\\ s: pairs of a value that somebody else
measured, simulated or published, and ours. This module knows nothing of what they are; it counts and formats. A measure
that claims to be exact fails the run when one row differs; the others only report their error.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError, nearest
from sim.version import __version__

if TYPE_CHECKING:
    import pandas as pd

Tick = Callable[[str, int, int], None]
PAIR = ("reference", "ours")
ROUNDING = 1e-12
"""Relative: what two sums of the same float64 numbers in another order may differ by."""


@dataclass(frozen=True)
class Measure:
    """``pairs``: a row a comparison with columns ``reference`` and ``ours`` (numbers or text) beside what names it.
    ``exact``: the claim is that all are equal. ``unit`` of the error: "%" of the reference, or "nats" (a difference).
    """

    what: str
    pairs: pd.DataFrame
    exact: bool = False
    unit: str = "%"

    @property
    def equal(self) -> int:
        """Rows in which both are the same text or number (numbers with a fraction: to :data:`ROUNDING`)."""
        import numpy as np

        ours, reference = (self.pairs[side].to_numpy() for side in ("ours", "reference"))
        if ours.dtype.kind == "f" or reference.dtype.kind == "f":
            same = np.isclose(ours.astype(np.float64), reference.astype(np.float64), rtol=ROUNDING, atol=0.0)
        else:
            same = ours == reference
        return int(np.count_nonzero(same))

    @property
    def holds(self) -> bool:
        return not self.exact or (self.equal == len(self.pairs) > 0)

    def errors(self) -> dict[str, float]:
        """Mean, median, 90th percentile and largest absolute error; nothing for text."""
        import numpy as np

        if any(self.pairs[side].dtype.kind not in "iuf" for side in PAIR):
            return {}
        ours, reference = (self.pairs[side].to_numpy(np.float64) for side in ("ours", "reference"))
        with np.errstate(divide="ignore", invalid="ignore"):  # ours where the reference is 0: infinitely wrong
            if self.unit == "%":
                error = np.where(ours == reference, 0.0, 100.0 * (ours / reference - 1.0))
            else:
                error = ours - reference
            size = np.abs(error)
            found = size.mean(), np.median(size), np.quantile(size, 0.9), size.max()
        return dict(zip(("mean", "median", "p90", "worst"), map(float, found), strict=True))


@dataclass(frozen=True)
class Reference:
    """``run`` returns the measures. ``source``: who made the reference values. ``only_by_name``: why it is not in the
    default run (takes minutes, needs weights or tools); empty if it is."""

    name: str
    what: str
    source: str
    run: Callable[[], Sequence[Measure]]
    only_by_name: str = ""


@dataclass(frozen=True)
class Outcome:
    """One reference, run: its measures and how long they took."""

    reference: Reference
    measures: tuple[Measure, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every exact claim holds."""
        return all(measure.holds for measure in self.measures)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain row a measure."""
        for measure in self.measures:
            errors = measure.errors()
            yield {
                "name": self.reference.name,
                "what": measure.what,
                "rows": len(measure.pairs),
                "equal": measure.equal,
                "exact": measure.exact,
                "holds": measure.holds,
                "unit": measure.unit if errors else "",
                **{key: errors.get(key) for key in ("mean", "median", "p90", "worst")},
                "source": self.reference.source,
            }


@dataclass
class Validation:
    """Outcomes in the order in which they ran."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every exact claim of every reference holds."""
        return all(outcome.holds for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists (JSON-ready)."""
        return {
            "version": __version__,
            "holds": self.holds,
            "measures": [row for outcome in self.outcomes for row in outcome.rows()],
            "seconds": {outcome.reference.name: round(outcome.seconds, 3) for outcome in self.outcomes},
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``validation.json``, ``validation.md`` and the pairs of every measure as ``NAME_N.csv``.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        files = {"validation.json": json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"}
        files["validation.md"] = self.markdown()
        for outcome in self.outcomes:
            for number, measure in enumerate(outcome.measures, 1):
                files[f"{outcome.reference.name}_{number}.csv"] = measure.pairs.to_csv(index=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                temporary = folder / f".{name}.tmp"
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, folder / name)
        except OSError as error:
            raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from None
        return [folder / name for name in files]

    def markdown(self) -> str:
        """A table of one line a measure."""
        lines = [
            f"# Validation, sparchitect {__version__}\n",
            "| reference | what | rows | equal | mean | median | p90 | worst | source |",
            "|---|---|---:|---:|---:|---:|---:|---:|---|",
        ]
        for row in (row for outcome in self.outcomes for row in outcome.rows()):
            shown = [row["name"], row["what"], f"{row['rows']:,}", equal_text(row), *error_texts(row), row["source"]]
            lines.append(f"| {' | '.join(shown)} |")
        return "\n".join(lines) + "\n"


def equal_text(row: dict[str, Any]) -> str:
    """ "all", a count, or what an exact claim is short of."""
    if row["equal"] == row["rows"]:
        return "all"
    return f"{row['equal']:,}" if row["holds"] else f"{row['equal']:,}: FAILS, all were claimed"


def error_texts(row: dict[str, Any]) -> list[str]:
    """Mean, median, p90 and worst with their unit; blank where everything is equal or nothing is a number."""
    if row["mean"] is None or row["equal"] == row["rows"]:
        return [""] * 4
    return [f"{row[key]:.3g} {row['unit']}" for key in ("mean", "median", "p90", "worst")]


def run(names: Sequence[str] = (), progress: Tick = lambda what, done, total: None) -> Validation:
    """Run the references named, or all of the default run.

    Raises:
        InputError: an unknown name, or one that needs something which is not here.
    """
    from validation.references import REFERENCES

    known = {reference.name: reference for reference in REFERENCES}
    for name in names:
        if name not in known:
            raise InputError(f"no reference '{name}', {nearest(name, known)}")
    chosen = [known[name] for name in names] or [r for r in REFERENCES if not r.only_by_name]
    found = Validation()
    for done, reference in enumerate(chosen):
        progress(f"validating: {reference.name}", done, len(chosen))
        began = time.perf_counter()
        measures = tuple(reference.run())
        found.outcomes.append(Outcome(reference, measures, time.perf_counter() - began))
    progress("validating: done", len(chosen), len(chosen))
    return found


def listed() -> dict[str, dict[str, str]]:
    """Name -> what, source, and why it runs by name only ("" if it does not)."""
    from validation.references import REFERENCES

    return {r.name: {"what": r.what, "source": r.source, "only_by_name": r.only_by_name} for r in REFERENCES}
