"""Technology tables and how to read between their rows. Every row of every table has a source; nothing is made up here.

- ``sram_grid.csv``: log-log interpolation in capacity, word width and banks. Read and write energy pass through every
  row. Area and leakage of the raw grid fall by up to 19 % where the word gets wider (CACTI picks another organisation),
  so they are made non-decreasing in capacity and width first: the mean of the running maximum and the running minimum,
  in logarithms. That moves a row by 1 % on average, 11 % at worst; an optimiser is no longer paid for bandwidth.
  A row left out is predicted from its neighbours in capacity, twice as far apart as in use, with a median error of 5 %
  read, 4 % write, 5 % area, 3 % leakage. Cycle times are in the table but not used: they do not interpolate (50 %).
- ``area_synthesis.csv``: cells of synthesised units, before placement.
- ``hw_components.csv``: energy and leakage of integer units; multiplies scale with the product of the widths, adders
  and registers with their width, as the source does.
- ``constants.csv``: everything else, nearly all of it assumed, with the reason.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError

DATA = Path(__file__).parent / "data"
Floats = NDArray[np.float64]

SRAM_FIELDS = ("read_pJ", "write_pJ", "area_um2", "leak_mW")
_SMOOTHED = ("area_um2", "leak_mW")


def _rows(table: str) -> list[dict[str, str]]:
    with (DATA / table).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def _constants() -> dict[str, float]:
    return {row["name"]: float(row["value"]) for row in _rows("constants.csv")}


def constant(name: str) -> float:
    """A number of ``constants.csv``."""
    return _constants()[name]


@cache
def _areas() -> dict[tuple[str, str, str], float]:
    return {(r["library"], r["unit"], r["params"]): float(r["area_um2"]) for r in _rows("area_synthesis.csv")}


def cells_um2(unit: str, params: str, library: str = "asap7") -> float:
    """Cell area of a synthesised unit, e.g. ``cells_um2("mac", "W=8;A=32")``."""
    return _areas()[library, unit, params]


@cache
def _components() -> dict[tuple[int, str], dict[str, float]]:
    numbers = ("energy_pJ", "area_um2", "leak_uW", "latency_ns")
    return {(int(r["tech_nm"]), r["component"]): {n: float(r[n]) for n in numbers} for r in _rows("hw_components.csv")}


def component(name: str, field: str, node_nm: int) -> float:
    """A number of ``hw_components.csv``, e.g. ``component("int8 mul", "energy_pJ", 7)``."""
    return _components()[node_nm, name][field]


def loglog(x: ArrayLike, xs: ArrayLike, ys: ArrayLike) -> Floats:
    """``y(x)``: straight lines between the points in logarithms, the end slopes outside. All numbers > 0."""
    lx, ly = np.log(np.asarray(xs, dtype=np.float64)), np.log(np.asarray(ys, dtype=np.float64))
    x = np.asarray(x, dtype=np.float64)
    low, part = _bracket(np.log(_once(x)), lx)
    return np.broadcast_to(np.exp(ly[low] + part * (ly[low + 1] - ly[low])), x.shape)


def _once(x: Floats) -> Floats:
    """``x`` as one number when all of it is the same: most columns of a sweep are constant, and logarithms dear."""
    return x.flat[0] if x.size and np.all(x == x.flat[0]) else x


def _bracket(x: Floats, xs: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Index of the point below ``x`` and how far ``x`` is towards the next (below 0 or above 1 outside the points)."""
    low = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    return low, (x - xs[low]) / (xs[low + 1] - xs[low])


def non_decreasing(grid: Floats, axes: tuple[int, ...]) -> Floats:
    """The mean of the tightest non-decreasing grids above and below ``grid`` along ``axes``."""
    above, below = grid, grid
    for axis in axes:
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return (above + below) / 2


class SramTable:
    """SRAM macros of one node as a function of capacity, word width and banks (``capacity_kib`` is of all banks)."""

    def __init__(self, rows: list[dict[str, str]]):
        points = [[float(r[k]) for k in ("capacity_KiB", "width_bits", "n_banks")] for r in rows]
        axes = [np.unique(column) for column in zip(*points, strict=True)]
        self.capacities_kib, self.widths_bits, self.banks = axes
        self._axes = [np.log(axis) for axis in axes]
        where = tuple(np.searchsorted(a, column) for a, column in zip(axes, zip(*points, strict=True), strict=True))
        self._grids: dict[str, Floats] = {}
        self._slopes: dict[str, tuple[float, float]] = {}
        for field in SRAM_FIELDS:
            grid = np.full([len(axis) for axis in axes], np.nan)
            grid[where] = np.log([float(r[field]) for r in rows])
            self._grids[field] = non_decreasing(grid, (0, 1)) if field in _SMOOTHED else grid
            steps = np.diff(grid, axis=0) / np.diff(self._axes[0])[:, None, None]
            self._slopes[field] = float(np.median(steps[0])), float(np.median(steps[-1]))

    @property
    def narrowest_bits(self) -> float:
        return float(self.widths_bits[0])

    @property
    def widest_bits(self) -> float:
        return float(self.widths_bits[-1])

    def at(self, capacity_kib: ArrayLike, width_bits: ArrayLike, banks: ArrayLike, *fields: str) -> list[Floats]:
        """Arrays of ``fields`` (names of :data:`SRAM_FIELDS`); energies are per access of one word.

        Widths and banks outside the grid cost what its edge does. Capacities outside it go on with one slope for all
        widths and banks, the median of the end slopes, so that nothing that costs more inside costs less outside.
        """
        wanted = [np.asarray(x, dtype=np.float64) for x in (capacity_kib, width_bits, banks)]
        shape = np.broadcast_shapes(*(x.shape for x in wanted))
        logs = [np.log(_once(x)) for x in wanted]
        inside = [np.clip(x, axis[0], axis[-1]) for x, axis in zip(logs, self._axes, strict=True)]
        (i, u), (j, v), (k, w) = (_bracket(x, axis) for x, axis in zip(inside, self._axes, strict=True))
        below, above = np.minimum(logs[0] - inside[0], 0), np.maximum(logs[0] - inside[0], 0)
        found = [low * below + high * above for low, high in (self._slopes[field] for field in fields)]
        for a, pa in ((0, 1 - u), (1, u)):
            for b, pb in ((0, 1 - v), (1, v)):
                for c, pc in ((0, 1 - w), (1, w)):
                    part = pa * pb * pc
                    for n, field in enumerate(fields):
                        found[n] = found[n] + part * self._grids[field][i + a, j + b, k + c]
        return [np.broadcast_to(np.exp(log), shape) for log in found]


@cache
def sram(node_nm: int) -> SramTable:
    """The SRAM table of a node."""
    return SramTable([r for r in _rows("sram_grid.csv") if int(r["tech_nm"]) == node_nm])


def node(nodes_nm: Floats) -> int:
    """The one node of all designs; :class:`InputError` when they differ, since such designs do not compare."""
    distinct = np.unique(nodes_nm)
    if len(distinct) != 1:
        shown = ", ".join(f"{n:g}" for n in distinct)
        raise InputError(f"technology.node_nm must be the same in all designs of a comparison, got {shown}")
    return int(distinct[0])


def leakage_mw_per_mm2(node_nm: int) -> float:
    """Leakage of logic per area: that of an int8 multiply-accumulate (uW / um2 = W / mm2)."""
    name = "int8 mac acc32"
    return 1e3 * component(name, "leak_uW", node_nm) / component(name, "area_um2", node_nm)
