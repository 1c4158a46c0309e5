"""What both engines count for every op: the columns that cost and reports read, in the order the kernels write them.

Memory levels have slots (0 is the outermost) in the kernels and their machine's own names outside: :func:`named`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from sim.spec import MAX_LEVELS

_Value = TypeVar("_Value")

CAUSES = (
    "compute",  # nonzero MACs at full use of the array
    "edge",  # PEs idle because a dimension does not fill the array
    "imbalance",  # lanes waiting at barriers or for the FIFO
    "fill_drain",  # pipeline fill, drain, weight loading between folds, lane-group restarts
    *(f"level{i}_bandwidth" for i in range(MAX_LEVELS)),
    "network_bandwidth",
    "decode",  # decoders of the weight format, fewer than keep up
    "dram_bandwidth",
    "dram_latency",
    "vector",
    "dependency",  # first load and last store of an op, which nothing can hide
)
"""Causes of a cycle; every cycle of an op has exactly one, so they sum to the op's cycles."""

ACTIONS = (
    "macs",  # multiply-accumulates performed (zeros included where the machine neither skips nor gates them)
    "mac_cycles",  # PE-cycles that MACs take at the op's bits: one each where PEs have a fixed width
    "gated_mac_cycles",  # PE-cycles of MACs that a zero operand gates: they pass, but nothing switches
    "skipped_macs",  # MACs of the dense GEMM that are never started: n:m, lanes, empty blocks
    "idle_pe_cycles",  # PE-cycles without a MAC
    "decodes",  # stored values, or elements, that decoders of the weight format turn into operands
    "front_end_ops",  # nonzeros picked by the zero-skipping front end (priority encoder + FIFO), one per lane pop
    "scatter_ops",  # partial sums sent through the input-lane crossbar into shared accumulators
    "vector_ops",
    "special_function_ops",
    *(f"level{i}_{way}_bytes" for i in range(MAX_LEVELS) for way in ("read", "write")),
    "network_bytes",  # delivered to (or collected from) the arrays
    "dram_read_bytes",
    "dram_write_bytes",
    "intersections",  # look-ups of leaders' tiles by levels that gate or skip
    *(f"level{i}_{how}_bytes" for i in range(MAX_LEVELS) for how in ("gated", "skipped")),
    "dram_skipped_bytes",
)
"""Actions that cost energy; pJ for each comes from ``sim/cost``."""

COLUMNS = ("cycles", *CAUSES, *ACTIONS)
INDEX = {name: i for i, name in enumerate(COLUMNS)}


def named(columns: Sequence[str], levels: Sequence[str]) -> dict[str, str]:
    """Column to the name people see: slots become level names, slots without a level are left out."""
    found = {}
    for column in columns:
        slot, _, rest = column.partition("_")
        if slot.startswith("level"):
            at = int(slot.removeprefix("level"))
            if at < len(levels):
                found[column] = f"{levels[at]}_{rest}"
        else:
            found[column] = column
    return found


def rename(counts: Mapping[str, _Value], levels: Sequence[str]) -> dict[str, _Value]:
    """``counts`` by kernel column under their own names."""
    return {new: counts[old] for old, new in named(list(counts), levels).items()}
