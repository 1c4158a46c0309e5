"""How wrong the surrogate is on measured recipes that it had not seen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError
from workloads.calibration import BUNDLE
from workloads.quality.interval import Interval, scores
from workloads.quality.layers import bundled_shares
from workloads.quality.model import FORMS, QualityModel
from workloads.quality.plan import Plan
from workloads.quality.table import ARITHMETIC, LAYERED, read_measured
from workloads.recipe import Recipe

SURROGATE_ERRORS = BUNDLE / "surrogate_errors.csv"
#: Bounds of ΔNLL, nats: up to twice the dense perplexity (a useful model), up to five times, and beyond.
RANGES = (0.0, np.log(2), np.log(5), np.inf)


def held_out_mixes(measured: pd.DataFrame | None = None, form: str = "learned") -> pd.DataFrame:
    """ΔNLL of every measured mix, ``measured`` and ``predicted`` by a model fitted without that mix; by ``key``.

    Only ``learned`` fits anything on mixes; the other forms predict as they are. InputError without a measured mix.
    """
    table = read_measured() if measured is None else measured
    rows = table[table["arithmetic"] == ARITHMETIC]
    mixes = rows[rows["kind"] == "mix"]
    if mixes.empty:
        raise InputError("no random mix has been measured; run python -m workloads.measure_bundle")
    whole = QualityModel.fit(table, form)
    codes = np.array([Recipe.parse(key).codes() for key in mixes["key"]])
    if form == "learned":
        predicted = [
            whole.relearned(rows[rows["key"] != key]).nll(own[None])[0]
            for key, own in zip(mixes["key"], codes, strict=True)
        ]
    else:
        predicted = whole.nll(codes)
    return pd.DataFrame(
        {
            "key": mixes["key"].to_numpy(),
            "measured": mixes["nll"].to_numpy(float) - whole.dense_nll,
            "predicted": np.asarray(predicted) - whole.dense_nll,
        }
    )


def held_out_plans(model: QualityModel | None = None, path: Path = LAYERED) -> pd.DataFrame:
    """ΔNLL of every measured plan that differs from layer to layer; no plan is ever fitted. Columns as of mixes."""
    model = QualityModel.from_bundle() if model is None else model
    rows = read_measured(path)
    codes = np.array([Plan.parse(key).codes() for key in rows["key"]])
    return pd.DataFrame(
        {
            "key": rows["key"].to_numpy(),
            "measured": rows["nll"].to_numpy(float) - model.dense_nll,
            "predicted": model.plan_nll(codes, bundled_shares()) - model.dense_nll,
        }
    )


def calibrated(held_out: pd.DataFrame) -> Interval:
    """The interval that held-out predictions support, up to the largest ΔNLL among them."""
    found = scores(held_out["predicted"].to_numpy(), held_out["measured"].to_numpy())
    return Interval(found, float(held_out["measured"].max()))


def covered(held_out: pd.DataFrame, level: float = 0.9) -> np.ndarray:
    """Whether each measured ΔNLL lies in the interval calibrated on all the others, bool [n]."""
    own = scores(held_out["predicted"].to_numpy(), held_out["measured"].to_numpy())
    return np.array([s <= Interval(np.delete(own, i), np.inf).factor(level) for i, s in enumerate(own)])


def errors(held_out: pd.DataFrame) -> dict[str, float]:
    """Mean / median / p90 / worst |error| and mean error of held-out ΔNLL in nats, and Spearman correlation."""
    from scipy.stats import spearmanr

    error = (held_out["predicted"] - held_out["measured"]).to_numpy()
    size = np.abs(error)
    return {
        "mean_abs_error": size.mean(),
        "median_abs_error": np.median(size),
        "p90_abs_error": np.quantile(size, 0.9),
        "worst_abs_error": size.max(),
        "mean_error": error.mean(),
        "spearman": spearmanr(held_out["predicted"], held_out["measured"]).statistic,
    }


def by_range(held_out: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """``errors`` and the share covered at ``level`` for each of ``RANGES`` of measured ΔNLL, and for all."""
    inside = covered(held_out, level)
    rows = []
    for low, high in [*pairwise(RANGES), (-np.inf, np.inf)]:
        chosen = ((held_out["measured"] >= low) & (held_out["measured"] < high)).to_numpy()
        if chosen.sum() > 1:
            found = {"from": low, "to": high, "n": int(chosen.sum()), **errors(held_out[chosen])}
            rows.append(found | {"coverage": inside[chosen].mean()})
    return pd.DataFrame(rows)


def compare_forms(measured: pd.DataFrame | None = None, nll_below: float = np.inf) -> pd.DataFrame:
    """Errors of each form on the measured random mixes with NLL < ``nll_below``, each mix held out of the fit.

    One row a form: mixes and ``errors``. InputError without a measured mix below.
    """
    rows = []
    for form in FORMS:
        found = held_out_mixes(measured, form)
        dense = QualityModel.fit(read_measured() if measured is None else measured, "sum").dense_nll
        found = found[found["measured"] + dense < nll_below]
        if found.empty:
            raise InputError(f"no random mix with NLL below {nll_below} has been measured")
        rows.append({"form": form, "mixes": len(found), "nll_below": nll_below, **errors(found)})
    return pd.DataFrame(rows)


def write_surrogate_errors(target: Path = SURROGATE_ERRORS) -> pd.DataFrame:
    """Write ``compare_forms`` over all mixes and over those that stay useful models (NLL < 5) as CSV; returns it."""
    table = pd.concat([compare_forms(nll_below=limit) for limit in (np.inf, 5.0)], ignore_index=True)
    table.to_csv(target, index=False, float_format="%.4f", lineterminator="\n")
    return table
