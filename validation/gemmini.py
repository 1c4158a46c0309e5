"""Cycles of given mappings on a 16 x 16 Gemmini, against its RTL on FireSim, beside Timeloop's prediction.

    python -m validation.gemmini [--rows]

Rows: ``validation/data/truth/dense_gemmini_firesim_rtl_cycles.csv``, convolutions and matrix products, each with a
Timeloop-like loop nest and the RTL's cycles for it. The model (``docs/gemmini.md``) runs the nest's tiles through two
buffers: first load, then per tile the longer of array and DMA, then the last compute and store.

The array needs no fitting. Three latencies of the memory system are fitted (``Memory``), and judged on layer shapes
that the fit has not seen.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from math import ceil, prod
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from sim.compute import systolic
from sim.errors import InputError
from sim.memory import dma

TRUTH = Path(__file__).parent / "data" / "truth" / "dense_gemmini_firesim_rtl_cycles.csv"
DIMENSIONS = "NKCPQRS"  # batch, output and input channels, output columns and rows, kernel columns and rows
INDEXED_BY = {"weights": "KCRS", "inputs": "NCPQRS", "outputs": "NKPQ"}

# Gemmini's published generator (ucb-bar/gemmini: Configs, ExecuteController, LoopConv, DMA) and FireSim's DDR3 model
ARRAY = 16  # rows and columns; int8 operands, int32 sums
LEAST_ROWS = 4  # an instruction takes at least this many cycles: spacing of writes to one accumulator row
WINDOW_ENTRIES = 16  # reservation-station entries for execute instructions
INSTRUCTIONS_A_BLOCK = 2  # preload and compute
BUS_BYTES = 16  # a cycle
REQUEST_BYTES = 64  # largest DMA request, and a cache line
IN_FLIGHT = 16  # requests; assumed: the fit sees latency / IN_FLIGHT only
CACHE_BYTES = 4 << 20  # last-level cache of FireSim's default memory model
SUM_BYTES = 4


@dataclass(frozen=True)
class Memory:
    """The fitted numbers, cycles: latency of a load that hits the last-level cache, of a store, and a miss on top."""

    load_latency: float = 72.0
    store_latency: float = 34.0
    miss_latency: float = 330.0


@dataclass(frozen=True)
class Nest:
    """One layer and its loops: ``size`` and on-chip ``tile`` by dimension, DRAM ``loops`` from the outermost in."""

    size: dict[str, int]
    tile: dict[str, int]
    loops: tuple[tuple[str, int], ...]
    stride: int

    @property
    def tiles(self) -> int:
        """Times that a new tile is brought on chip."""
        return prod(count for _, count in self.loops)

    def held(self, operand: str) -> int:
        """Consecutive tiles with the same tile of ``operand``: the innermost DRAM loops that do not index it."""
        count = 1
        for dimension, iterations in reversed(self.loops):
            if dimension in INDEXED_BY[operand]:
                break
            count *= iterations
        return count

    @property
    def spills(self) -> int:
        """Visits to one output tile with others in between: its partial sums leave the chip ``spills - 1`` times."""
        inner_outputs, visits = False, 1
        for dimension, count in reversed(self.loops):
            if dimension in INDEXED_BY["outputs"]:
                inner_outputs = True
            elif inner_outputs:
                visits *= count
        return visits


def parse(mapping: str, size: dict[str, int], stride: int) -> Nest:
    """The nest written as ``L3[WIO] K8 - L2[WI] N1 K16X - L1[O] C4 - L0[W] P16``, outermost level first.

    Raises:
        InputError: a level or a loop that cannot be read, or loops that do not multiply to the layer's ``size``.
    """
    levels: dict[str, list[tuple[str, int]]] = {}
    for part in mapping.split(" - "):
        found = re.fullmatch(r"(L\d)\[\w+\]((?: [NKCPQRS][1-9]\d*X?)+)", part)
        if not found:
            raise InputError(f"mapping: level must read like 'L1[O] C4 P8 C16X', got '{part}'")
        levels[found[1]] = [(loop[0], int(loop[1:].rstrip("X"))) for loop in found[2].split()]
    if "L3" not in levels:
        raise InputError(f"mapping: must name level L3 (DRAM), got '{mapping}'")
    loops = tuple((d, n) for d, n in levels.pop("L3") if n > 1)
    tile = {d: prod(n for level in levels.values() for e, n in level if e == d) for d in DIMENSIONS}
    for d in DIMENSIONS:
        product = tile[d] * prod(n for e, n in loops if e == d)
        if product != size[d]:
            raise InputError(f"mapping: loops over {d} must multiply to {size[d]}, got {product} in '{mapping}'")
    return Nest(size, tile, loops, stride)


def array_cycles(nest: Nest) -> float:
    """Cycles of one tile on the weight-stationary array.

    A fold holds 16 x 16 weights and streams the tile's pixels, one row of the image after the other in blocks of up to
    16. The next weights are loaded behind the fold's last block only. Every block is a preload and a compute, which
    stay in the reservation station until the block leaves the array.
    """
    t = nest.tile
    blocks = [ARRAY] * (t["P"] // ARRAY) + ([t["P"] % ARRAY] if t["P"] % ARRAY else [])
    took = [max(block, LEAST_ROWS) for block in blocks]
    count = t["N"] * t["Q"] * len(took)
    last = systolic.fold_interval(systolic.DOUBLE_BUFFER, ARRAY, took[-1], 0)
    fold = t["N"] * t["Q"] * sum(took) - took[-1] + last
    occupancy = systolic.fold_alone(systolic.WS, ARRAY, ARRAY, ARRAY)
    fold = dma.issue_bound_cycles(fold, count * INSTRUCTIONS_A_BLOCK, occupancy, WINDOW_ENTRIES)
    return float(systolic.fold_count(systolic.WS, ARRAY, ARRAY, 1, t["K"], t["C"]) * t["R"] * t["S"] * fold)


def pixels(nest: Nest, extent: dict[str, int]) -> int:
    """Input pixels under a tile of ``extent``; all of a strided patch, as the DMA brings it."""
    columns = (extent["P"] - 1) * nest.stride + extent["R"]
    return extent["N"] * columns * ((extent["Q"] - 1) * nest.stride + extent["S"])


def cache_lines(nest: Nest, extent: dict[str, int]) -> dict[str, float]:
    """Cache lines that a tile of ``extent`` touches, by operand; channels are the innermost dimension in memory."""

    def run(channels: int, of: int, width: int) -> float:
        whole = of * width / REQUEST_BYTES
        return ceil(channels * width / REQUEST_BYTES) if whole >= 1 else whole

    width = SUM_BYTES if nest.spills > 1 else 1
    return {
        "weights": extent["C"] * extent["R"] * extent["S"] * run(extent["K"], nest.size["K"], 1),
        "inputs": pixels(nest, extent) * run(extent["C"], nest.size["C"], 1),
        "outputs": extent["N"] * extent["P"] * extent["Q"] * run(extent["K"], nest.size["K"], width),
    }


def misses(nest: Nest) -> dict[str, float]:
    """Mean lines a tile that the last-level cache does not hold, by operand.

    From the innermost DRAM loop out: where a loop does not index an operand, or its iterations share lines, the lines
    that outlive one iteration (everything it touches passes through the cache) are found again. The layer's data were
    written just before the run, so the same holds for the first touch.
    """
    extent = dict(nest.tile)
    lines = cache_lines(nest, extent)
    missed = dict(lines)
    for dimension, count in reversed(nest.loops):
        lost = dma.evicted_fraction(sum(lines.values()) * REQUEST_BYTES, CACHE_BYTES)
        extent[dimension] *= count
        grown = cache_lines(nest, extent)
        for operand, indexed in INDEXED_BY.items():
            new = grown[operand] / lines[operand] if dimension in indexed else 1.0
            missed[operand] *= lost * count + (1.0 - lost) * new
        lines = grown
    cold = dma.evicted_fraction(sum(lines.values()) * REQUEST_BYTES, CACHE_BYTES)
    return {operand: cold * found / nest.tiles for operand, found in missed.items()}


def describe(nest: Nest) -> dict[str, float]:
    """What one mean tile asks of array and DMA: cycles, and bytes, rows and missed lines of each stream."""
    t, missed = nest.tile, misses(nest)
    reduction = prod(n for d, n in nest.loops if d not in INDEXED_BY["outputs"])
    output_rows = t["N"] * t["P"] * t["Q"] * ceil(t["K"] / ARRAY)
    stored = nest.spills / reduction  # part of the tiles that end with a store
    return {
        "tiles": nest.tiles,
        "array": array_cycles(nest),
        "weight_bytes": t["C"] * t["R"] * t["S"] * t["K"],
        "weight_rows": t["C"] * t["R"] * t["S"],
        "weight_misses": missed["weights"],
        "weight_held": nest.held("weights"),
        "input_bytes": pixels(nest, t) * t["C"],
        "input_rows": pixels(nest, t),
        "input_misses": missed["inputs"],
        "input_held": nest.held("inputs"),
        "sum_requests": output_rows * stored * (nest.spills - 1) / nest.spills,
        "store_bytes": t["N"] * t["P"] * t["Q"] * t["K"] * stored,
        "store_rows": output_rows * stored,
        "output_misses": missed["outputs"],
    }


def stream_cycles(moved_bytes, rows, missed, latency, miss_latency):
    """Cycles of one DMA stream (arrays): the mean latency of its requests grows with the part that misses."""
    requests = dma.request_count(moved_bytes, rows, REQUEST_BYTES)
    mean = latency + miss_latency * missed / requests
    return dma.transfer_cycles(moved_bytes, rows, BUS_BYTES, REQUEST_BYTES, mean, IN_FLIGHT)


def predict(runs: pd.DataFrame, memory: Memory) -> np.ndarray:
    """Cycles of each row of ``runs`` (columns of :func:`describe`).

    Of the tiles that hold an operand's tile, the first alone misses it; every one loads it again.
    """
    d = {name: values.to_numpy(float) for name, values in runs.select_dtypes("number").items()}
    first, again = 0.0, 0.0
    for name in ("weight", "input"):
        stream = d[f"{name}_bytes"], d[f"{name}_rows"]
        held, missed = d[f"{name}_held"], d[f"{name}_misses"]
        first += stream_cycles(*stream, missed * held, memory.load_latency, memory.miss_latency)
        again += stream_cycles(*stream, missed * (held == 1), memory.load_latency, memory.miss_latency)
    # a missed output line is fetched to be written in part, and written back
    lines = 2 * d["output_misses"]
    store = stream_cycles(d["store_bytes"], d["store_rows"], lines, memory.store_latency, memory.miss_latency)
    rest = store + d["sum_requests"] * memory.load_latency / IN_FLIGHT
    held = np.maximum(d["weight_held"], d["input_held"])
    slow, fast = np.maximum(d["array"], first + rest), np.maximum(d["array"], again + rest)
    tile = (slow + (held - 1) * fast) / held
    return first + (d["tiles"] - 1) * tile + d["array"] + store


def load_runs(path: Path = TRUTH) -> pd.DataFrame:
    """The measured rows with their descriptions: layer, mapping, ``rtl`` and ``timeloop`` cycles, :func:`describe`."""
    rows = []
    for row in pd.read_csv(path).itertuples():
        size = {d: int(getattr(row, d)) for d in DIMENSIONS}
        if row.Hstride != row.Wstride:
            raise InputError(f"Hstride must equal Wstride, got {row.Hstride} and {row.Wstride}")
        nest = parse(row.mapping, size, int(row.Wstride))
        layer = " ".join(f"{d}{n}" for d, n in size.items())
        peak = systolic.fold_count(systolic.WS, ARRAY, ARRAY, 1, size["K"], size["C"]) * prod(size[d] for d in "NPQRS")
        measured = {"rtl": row.rtl_cycles_given_mapping, "timeloop": row.timeloop_cycles, "peak": peak}
        rows.append({"layer": layer, "mapping": row.mapping, **measured, **describe(nest)})
    return pd.DataFrame(rows)


def fit(runs: pd.DataFrame) -> Memory:
    """The latencies that minimise the squared logarithm of predicted over measured cycles."""
    start = np.log([getattr(Memory(), f.name) for f in fields(Memory)])
    log_rtl = np.log(runs["rtl"].to_numpy(float))
    found = least_squares(lambda p: np.log(predict(runs, Memory(*np.exp(p)))) - log_rtl, start)
    return Memory(*(float(value) for value in np.exp(found.x)))


def leave_one_shape_out(runs: pd.DataFrame) -> tuple[np.ndarray, list[Memory]]:
    """Predicted cycles of every row by a fit without any row of its layer, and the fits, one a layer."""
    predicted, fits = np.zeros(len(runs)), []
    for layer in runs["layer"].unique():
        held = (runs["layer"] == layer).to_numpy()
        fits.append(fit(runs[~held]))
        predicted[held] = predict(runs[held], fits[-1])
    return predicted, fits


def errors(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Relative errors in per cent (median, mean, 90th percentile, largest) and Spearman's rank correlation."""
    error = 100 * np.abs(np.asarray(predicted, float) / np.asarray(measured, float) - 1)
    rank = pd.Series(predicted).corr(pd.Series(np.asarray(measured)), method="spearman")
    worst = {"p90": np.quantile(error, 0.9), "max": error.max()}
    return {"median": np.median(error), "mean": error.mean(), **worst, "rank": rank}


def repeats(runs: pd.DataFrame) -> dict[str, float]:
    """Errors if each mapping measured more than once is predicted by the mean of its other measurements.

    Such rows differ in the sizes of the hardware's buffers. A floor for any model told the layer and the mapping only.
    """
    by_mapping = runs.groupby(["layer", "mapping"])["rtl"]
    count, total = by_mapping.transform("size"), by_mapping.transform("sum")
    again = count > 1
    others = (total - runs["rtl"])[again] / (count[again] - 1)
    return {"rows": int(again.sum()), **errors(others.to_numpy(), runs.loc[again, "rtl"].to_numpy())}


def table(runs: pd.DataFrame, left_out: np.ndarray) -> pd.DataFrame:
    """Errors of each way to predict ``runs``, the most naive first."""
    ways = {
        "MACs / peak, edges padded": runs["peak"],
        "Timeloop": runs["timeloop"],
        "array alone (nothing fitted)": runs["tiles"] * runs["array"],
        "array and DMA, shape left out": left_out,
        "array and DMA, fitted on all": predict(runs, fit(runs)),
    }
    return pd.DataFrame({name: errors(np.asarray(p), runs["rtl"].to_numpy()) for name, p in ways.items()}).T


def main() -> None:
    """Print the errors, the fitted latencies with their spread over the folds and, on request, every row."""
    arguments = argparse.ArgumentParser(
        prog="python -m validation.gemmini", description="Gemmini RTL against the model"
    )
    arguments.add_argument("--rows", action="store_true", help="print every row, worst first")
    asked = arguments.parse_args()
    runs = load_runs()
    left_out, fits = leave_one_shape_out(runs)
    print(f"{len(runs)} rows, {len(fits)} layer shapes; relative error of cycles, per cent\n")
    print(table(runs, left_out).round({"median": 1, "mean": 1, "p90": 1, "max": 1, "rank": 4}).to_string())
    floor = repeats(runs)
    print(
        f"\nthe same layer and mapping measured again ({floor['rows']} rows): "
        + ", ".join(f"{name} {floor[name]:.1f}" for name in ("median", "mean", "p90", "max"))
    )
    print(f"\nfitted latency, cycles, {IN_FLIGHT} requests in flight (range over the folds)")
    everywhere = fit(runs)
    for field in fields(Memory):
        values = [getattr(f, field.name) for f in fits]
        name, value = field.name.replace("_", " "), getattr(everywhere, field.name)
        print(f"  {name:14s} {value:6.1f}  ({min(values):.1f} to {max(values):.1f})")
    in_flight = IN_FLIGHT * REQUEST_BYTES
    for name, latency in (
        ("hits", everywhere.load_latency),
        ("misses", everywhere.load_latency + everywhere.miss_latency),
    ):
        rate = dma.effective_bytes_per_cycle(BUS_BYTES, latency, in_flight)
        print(f"  loads that are {name}: {rate:.1f} of {BUS_BYTES} bytes a cycle")
    if asked.rows:
        shown = runs[["layer", "mapping", "rtl", "timeloop"]].assign(model=left_out.round())
        shown["error %"] = (100 * (left_out / runs["rtl"] - 1)).round(1)
        shown = shown.sort_values("error %", key=abs, ascending=False)
        print("\n" + shown.to_string(index=False))


if __name__ == "__main__":
    main()
