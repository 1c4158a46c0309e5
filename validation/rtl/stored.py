"""Rows of RTL measured once and kept in ``validation/data/rtl``, with what the equations say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.compute import systolic
from sim.sparsity import lanes as lane_model
from validation.rtl import arrays as own_arrays

FOLDER = Path(__file__).parents[1] / "data" / "rtl"


def arrays() -> pd.DataFrame:
    """``arrays_cycles.csv`` (systolic arrays, dense and 2:4) with ``ours``."""
    rows = pd.read_csv(FOLDER / "arrays_cycles.csv")
    rows["overlap"] = rows["overlap"].replace("single_chase", "single_buffer")
    return rows.assign(ours=own_arrays.predicted(rows))


def axis() -> pd.DataFrame:
    """The output-stationary rows of ``external_rtl_cycles.csv`` with ``ours``."""
    rows = _external("axis_sa_OS")
    ours = systolic.cycles("os", rows.R, rows.C, rows.R * rows.folds, rows.C, rows.stream, convention="axis")
    return rows.assign(ours=ours)


def weight_stationary() -> pd.DataFrame:
    """The weight-stationary rows of ``external_rtl_cycles.csv`` with ``ours``."""
    rows = _external("cameronshinn_WS")
    return rows.assign(ours=systolic.cycles("ws", rows.R, rows.C, rows.stream, rows.C, rows.R * rows.folds, "none"))


def _external(design: str) -> pd.DataFrame:
    rows = pd.read_csv(FOLDER / "external_rtl_cycles.csv")
    return rows[rows.design == design].rename(columns={"stream_len(K for OS; M for WS)": "stream"})


def lanes() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cycles of ``zero_skip_cycles.csv``, measured and ours."""
    rows = pd.read_csv(FOLDER / "zero_skip_cycles.csv")
    with np.load(FOLDER / "zero_skip_masks.npz") as masks:
        work = {
            (key, depth): lane_model.tile_counts(
                np.unpackbits(masks[f"{key}_w"], axis=1) & np.unpackbits(masks[f"{key}_a"]), depth
            )
            for key, depth in rows[["mask_key", "T"]].drop_duplicates().itertuples(index=False)
        }
    ours = [lane_model.cycles(work[row.mask_key, row.T], row.fifo_depth) for row in rows.itertuples()]
    return rows.cycles.to_numpy(), np.array(ours, np.int64)


def own(name: str) -> pd.DataFrame:
    """``own_NAME.csv``: what ``python -m validation.rtl`` wrote."""
    texts = {"bits": str, "mask_key": str} if name == "zero_skip_masks" else {"verilator": str}
    return pd.read_csv(FOLDER / f"own_{name}.csv", dtype=texts)
