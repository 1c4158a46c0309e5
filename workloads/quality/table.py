"""The measured rows that the surrogate is built from and judged on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sim.errors import InputError
from workloads.calibration import BUNDLE

MEASURED = BUNDLE / "measured.csv"
LAYERED = BUNDLE / "layered.csv"
ARITHMETIC = "w8a8kv8"


def read_measured(path: Path = MEASURED) -> pd.DataFrame:
    """The measured rows; InputError when the file is missing or lacks columns."""
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run python -m workloads.measure_bundle") from None
    if lacking := {"key", "kind", "arithmetic", "nll"} - set(table.columns):
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}; run python -m workloads.measure_bundle")
    return table
