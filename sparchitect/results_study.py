"""An explored folder as a page: the front, the best of each objective, how it grew, what the front chose, what was kept
out, and what identifies the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sparchitect.page import Page, Part

if TYPE_CHECKING:
    import pandas as pd

    from dse.explore import Result

_FILES = ("run.json", "trials.parquet", "pareto.csv")
_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


def study_page(folder: Path) -> Page:
    """The page of an explored folder; :class:`InputError` if it is none, or not finished yet."""
    result = _read(folder)
    run = result.run
    page = Page(
        f"Exploration {folder}: {run['trials']:,} trials, {run['admissible_trials']:,} within constraints, "
        f"{run['pareto_points']} Pareto points"
    )
    page.facts = {"kind": "exploration", "folder": str(folder), "run": run}
    if len(result.pareto):
        _front(page, result)
        _best(page, result)
        _growth(page, result)
        _choices(page, result)
    _kept_out(page, result.trials)
    _where_from(page, run)
    if (folder / "pareto.png").is_file():
        page.figure = folder / "pareto.png"
    return page


def _read(folder: Path) -> Result:
    import pandas as pd

    from dse import space
    from dse.explore import Result

    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        if (folder / "journal.log").is_file():
            raise InputError(f"{folder}: not finished, go on with sparchitect explore --resume --out {folder}")
        raise InputError(f"{folder}: holds no exploration, {missing[0]} is missing")
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        trials = pd.read_parquet(folder / "trials.parquet")
        best = pd.read_csv(folder / "pareto.csv") if run["pareto_points"] else trials.head(0).assign(reported=[])
        searched = space.load(run["space"])
        return Result(searched, trials, best, best[best["reported"].astype(bool)], run, folder)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}: cannot be read ({str(error).splitlines()[0]})") from None


def _front(page: Page, result: Result) -> None:
    from sparchitect.display import pareto_rows

    names, rows = pareto_rows(result)
    page.facts["pareto"] = result.reported.to_dict("records")
    run = result.run
    said = f"perplexity: {run['arithmetic']}, predicted from measurements, dense {run['dense_perplexity']:.2f}"
    if "perplexity_measured" in result.reported:
        apart = (result.reported["perplexity_measured"] / result.reported["perplexity"] - 1).abs()
        said += f"; measured again: {100 * apart.median():.1f} % apart (median), {100 * apart.max():.1f} % at worst"
    lines = (said, "pruning: W Wanda, S SparseGPT, M magnitude, C FFN channels; % removed or n:m kept; others dense")
    page.parts.append(Part("Pareto front", lines, tuple(names), tuple(tuple(row) for row in rows)))


def _best(page: Page, result: Result) -> None:
    """Of each objective the least, and what it is in units of people."""
    units = {
        "latency_s": ("latency", 1e3, "ms"),
        "energy_per_token_pj": ("energy a token", 1e-9, "mJ"),
        "area_mm2": ("area", 1.0, "mm2"),
        "perplexity": ("perplexity", 1.0, ""),
    }
    lines, facts = [], {}
    for column, (name, scale, unit) in units.items():
        row = result.pareto.loc[result.pareto[column].idxmin()]
        others = ", ".join(f"{n} {row[c] * s:.4g} {u}".rstrip() for c, (n, s, u) in units.items() if c != column)
        lines.append(f"least {name}: {row[column] * scale:.4g} {unit}".rstrip() + f" (trial {row['trial']}: {others})")
        facts[column] = row.to_dict()
    page.facts["best"] = facts
    page.parts.append(Part("best of each", tuple(lines)))


def _growth(page: Page, result: Result) -> None:
    """Hypervolume of the first trials: whether more would still help."""
    from dse.explore import front_volume

    reference = np.log10(np.array(result.run["reference_point"], dtype=np.float64))
    trials = result.trials.sort_values("trial")
    total = len(trials)
    counts = sorted({max(1, round(share * total)) for share in _SHARES})
    found = [{"trials": n, "hypervolume_log10": front_volume(trials.head(n), reference)} for n in counts]
    page.facts["growth"] = found
    last = found[-1]["hypervolume_log10"]
    rows = tuple(
        (
            f"{f['trials']:,}",
            f"{f['hypervolume_log10']:.4f}",
            f"{100 * f['hypervolume_log10'] / last:.1f} %" if last else "",
        )
        for f in found
    )
    page.parts.append(Part("how the front grew", (), ("trials", "hypervolume (log10)", "of the last"), rows))


def _choices(page: Page, result: Result) -> None:
    """The values of each knob that the front prefers: their share on it beside their share of all trials."""
    rows, facts = [], []
    for name, values in _knobs(result).items():
        column = f"param_{name}"
        if column not in result.pareto or len(values) < 2:
            continue
        of_all, on_front = (_shares(t[column], len(values)) for t in (result.trials, result.pareto))
        best = int(np.argmax(on_front))
        facts.append({"knob": name, "value": values[best], "on_front": on_front[best], "of_trials": of_all[best]})
        rows.append((name, str(values[best]), f"{100 * on_front[best]:.0f} %", f"{100 * of_all[best]:.0f} %"))
    page.facts["choices"] = facts
    if rows:
        names = ("knob", "most frequent on the front", "of the front", "of all trials")
        page.parts.append(Part("what the front chose", (), names, tuple(rows)))


def _knobs(result: Result) -> dict[str, list[Any]]:
    """Knob to its values, as parameters number them."""
    space = result.space
    knobs: dict[str, list[Any]] = {"machine": list(space.machines)}
    knobs |= {path: list(values) for path, values in space.hardware.items()}
    for machine, fields in space.machines.items():
        knobs |= {f"{machine}:{path}": list(values) for path, values in fields.items()}
    return knobs


def _shares(column: pd.Series, count: int) -> np.ndarray:
    found = np.bincount(column.dropna().astype(int), minlength=count)
    return found / max(found.sum(), 1)


def _kept_out(page: Page, trials: pd.DataFrame) -> None:
    from sparchitect.display import why_none

    said = why_none(trials)
    page.facts["kept_out"] = said
    if said:
        page.parts.append(Part("what was kept out", tuple(said.split("; "))))


def _where_from(page: Page, run: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run["versions"].items()))
    lines = (
        f"space {run['space']['name']} ({run['space_hash']}), seed {run['seed']}, {run['sampler']}",
        versions,
        f"hypervolume (log10) {run['hypervolume_log10']:.4f} below "
        + ", ".join(f"{v:.4g}" for v in run["reference_point"])
        + f" of {', '.join(run['objectives'])}",
    )
    page.parts.append(Part("where from", lines))
