"""What a finished run left behind, read again as a page: an explored folder, a sweep's table, the JSON of a verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sim.errors import InputError
from sparchitect.page import Page


def read(path: Path) -> Page:
    """The page of ``path``, whatever it is.

    Raises:
        InputError: nothing there, or not a result of this program; says what would be one.
    """
    if path.is_dir():
        from sparchitect.results_study import study_page

        return study_page(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix in (".csv", ".parquet"):
        from sparchitect.results_sweep import sweep_page

        return sweep_page(path, *_table(path))
    if path.suffix == ".json":
        return _of_json(path)
    raise InputError(f"{path}: must be an explored folder, a sweep's .csv or .parquet, or a .json of --json")


def _of_json(path: Path) -> Page:
    """By what the object holds: ``simulate``, ``sweep``, ``explore`` or ``validate``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{path}: not JSON of ours (nested too deep)") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error).splitlines()[0]})") from None
    keys = set(found) if isinstance(found, dict) else set()
    if {"cycles", "stall_cycles", "ops", "provenance"} <= keys:
        from sparchitect.results_run import run_page

        return run_page(path, found)
    if "designs" in keys:
        import pandas as pd

        from sparchitect.results_sweep import sweep_page

        designs = found["designs"]
        if not isinstance(designs, list) or not all(isinstance(design, dict) for design in designs):
            raise InputError(f"{path}: designs must be a list of objects, a design each")
        return sweep_page(path, pd.DataFrame(designs), {})
    if {"folder", "run", "pareto"} <= keys:
        from sparchitect.results_study import study_page

        folder = Path(str(found["folder"]))
        if not folder.is_dir():
            raise InputError(f"{path}: its folder '{str(folder)[:200]}' is no folder here")
        return study_page(folder)
    if {"measures", "holds"} <= keys:
        from sparchitect.results_run import validation_page

        return validation_page(path, found)
    raise InputError(f"{path}: is no output of simulate, sweep, explore or validate --json")


def _table(path: Path) -> tuple[Any, dict[str, Any]]:
    """A sweep's table, and what its file says of the sweep (a CSV says nothing)."""
    import pandas as pd

    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, keep_default_na=False, na_values=["", "nan"]), {}
        import pyarrow.parquet as pq

        stated = (pq.read_schema(path).metadata or {}).get(b"sparchitect_sweep")
        about = json.loads(stated) if stated else {}
        if not isinstance(about, dict):
            raise InputError(f"{path}: what it says of its sweep is no object")
        return pd.read_parquet(path), about
    except InputError:
        raise
    except (OSError, ValueError) as error:  # what pandas and pyarrow raise for files that are none
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
