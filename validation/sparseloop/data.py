"""The reference rows as they are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[1] / "data" / "sparseloop"


def table(name: str) -> pd.DataFrame:
    """One of the CSV files in ``validation/data/sparseloop``; lines that begin with # are notes."""
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")
