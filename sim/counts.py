"""What both engines count for every op: the columns that cost and reports read, in the order the kernels write them."""

from __future__ import annotations

CAUSES = (
    "compute",  # nonzero MACs at full use of the array
    "edge",  # PEs idle because a dimension does not fill the array
    "imbalance",  # lanes waiting at barriers or for the FIFO
    "fill_drain",  # pipeline fill, drain, weight loading between folds, lane-group restarts
    "shared_bandwidth",
    "weight_buffer_bandwidth",
    "input_buffer_bandwidth",
    "accumulator_bandwidth",
    "dram_bandwidth",
    "dram_latency",
    "vector",
    "dependency",  # first load and last store of an op, which nothing can hide
)
"""Causes of a cycle; every cycle of an op has exactly one, so they sum to the op's cycles."""

ACTIONS = (
    "macs",  # multiply-accumulates performed (zeros included where the machine does not skip them)
    "idle_pe_cycles",  # PE-cycles without a MAC
    "front_end_ops",  # nonzeros picked by the zero-skipping front end (priority encoder + FIFO), one per lane pop
    "scatter_ops",  # partial sums sent through the input-lane crossbar into shared accumulators
    "vector_ops",
    "special_function_ops",
    "shared_read_bytes",
    "shared_write_bytes",
    "weight_buffer_read_bytes",
    "weight_buffer_write_bytes",
    "input_buffer_read_bytes",
    "input_buffer_write_bytes",
    "accumulator_read_bytes",
    "accumulator_write_bytes",
    "dram_read_bytes",
    "dram_write_bytes",
)
"""Actions that cost energy; pJ for each comes from ``sim/cost``."""

COLUMNS = ("cycles", *CAUSES, *ACTIONS)
INDEX = {name: i for i, name in enumerate(COLUMNS)}
