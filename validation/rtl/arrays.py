"""Systolic arrays measured in RTL: which builds, which GEMMs, the table, and what the equations say of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.compute import systolic
from validation.rtl.build import Build, run_all, verilator_version

SIZES = ((4, 4), (4, 8), (8, 4), (8, 8), (2, 16))
DATAFLOWS = {"os": ("os_array", 1), "os24": ("os_array", 4), "ws": ("stationary_array", 1)}
DATAFLOWS |= {"ws24": ("stationary_array", 4), "is": ("stationary_array", 1)}
EDGES = tuple(itertools.product((1, 5, 8, 17), (1, 4, 9, 17), (1, 3, 8, 20)))
LARGER = ((32, 32, 32), (16, 24, 64), (1, 64, 64), (64, 1, 64), (64, 64, 1), (2, 40, 7), (40, 2, 7), (33, 31, 30))
GEMMS = EDGES + LARGER
COLUMNS = ["dataflow", "overlap", "R", "C", "M", "N", "K", "lead", "fold_interval", "cycles", "cycles_padded"]
COLUMNS += ["numeric_ok"]


def builds() -> list[Build]:
    """Every array in every size, with one operand or result register a PE and with two."""
    return [
        Build(
            top,
            "arrays.cpp",
            {"R": rows, "C": cols, "DOUBLE": double, "GROUP": group},
            {"STATIONARY": int(top == "stationary_array"), "ROWS": rows, "COLS": cols, "GROUP": group},
        )
        for top, group in dict.fromkeys(DATAFLOWS.values())
        for rows, cols in SIZES
        for double in (0, 1)
    ]


def cases(build: Build) -> str:
    """What ``build`` measures, one line each: dataflow, overlap, M, N, K, seed of the operands."""
    overlaps = ("double_buffer",) if build.parameters["DOUBLE"] else ("none", "single_buffer")
    flows = [name for name, made_of in DATAFLOWS.items() if made_of == (build.top, build.parameters["GROUP"])]
    lines = [
        f"{flow} {overlap} {m} {n} {k} {seed}"
        for flow in flows
        for overlap in overlaps
        for seed, (m, n, k) in enumerate(GEMMS)
    ]
    return "\n".join(lines) + "\n"


def measure(folder: Path, workers: int | None = None) -> pd.DataFrame:
    """Build and run everything below ``folder``: one row a (dataflow, overlap, size, GEMM).

    Columns: ``lead`` cycles from a stationary operand's first row to the first moving vector; ``fold_interval`` cycles
    between starts of folds; ``cycles`` to the last useful result, ``cycles_padded`` to the last one of the array;
    ``numeric_ok`` 1 when every result equals the reference product.
    """
    made = builds()
    version = verilator_version()
    found = run_all([(build, cases(build)) for build in made], folder, workers)
    rows = [(*row, build.source, version) for build, answer in zip(made, found, strict=True) for row in answer]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "source", "verilator"])
    table[COLUMNS[2:]] = table[COLUMNS[2:]].astype(np.int64)
    order = [list(DATAFLOWS).index(name) for name in table.dataflow]
    return table.assign(order=order).sort_values(["order", "R", "C"], kind="stable").drop(columns="order")


def predicted(rows: pd.DataFrame, full_columns: bool = False) -> NDArray[np.int64]:
    """``sim.compute.systolic.cycles`` of every row.

    ``full_columns``: of the GEMM without its last, partly filled block of columns, where it has others.
    """
    sizes = {name: rows[name].to_numpy() for name in "MNK"}
    sizes["K"] = np.where(rows.dataflow.str.endswith("24"), 2 * -(-sizes["K"] // 4), sizes["K"])
    cols = rows.C.to_numpy()
    if full_columns:
        for name, lies_across in (("M", rows.dataflow == "is"), ("N", rows.dataflow != "is")):
            full = cols * ((sizes[name] - 1) // cols)
            sizes[name] = np.where(lies_across & (full > 0), full, sizes[name])
    overlap = rows.overlap.to_numpy()
    return systolic.cycles(rows.dataflow.str[:2].to_numpy(), rows.R.to_numpy(), cols, *sizes.values(), overlap)


def earlier_block_ends_last(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows in which the last full block of columns ends after the last block's useful columns.

    The blocks of columns are walked slowest. The folds of the last block take ``folds * interval`` cycles, and its
    empty columns save ``tail`` of them: with ``tail`` the larger, nobody may subtract all of it.
    """
    across = np.where(rows.dataflow == "is", rows.M, rows.N)
    compressed = np.where(rows.dataflow.str.endswith("24"), 2 * -(-rows.K // 4), rows.K)
    folds = -(-np.where(rows.dataflow.str.startswith("os"), rows.M, compressed) // rows.R)
    tail = rows.C * -(-across // rows.C) - across
    return np.asarray((across > rows.C) & (tail > folds * rows.fold_interval))
