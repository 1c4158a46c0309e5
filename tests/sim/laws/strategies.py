"""Hypothesis strategies: random machines of every shape that ``sim.spec`` allows, and work for them.

Numbers are drawn from short ladders with odd values in them, so that sizes divide badly as often as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from sim.compute.precision import ARITHMETICS
from sim.memory.dram import STANDARDS
from sim.spec import OPERANDS, Accelerator, build
from sim.trace import Op, Sparsity, Trace, gemm

OUTER_KIB = (32, 48, 64, 100, 256, 1024)
INNER_KIB = (8, 10, 16, 24, 48, 100)
BANDWIDTHS_GB_PER_S = (4, 10, 25.6, 51.2, 102.4, 300)
PARTITIONS = (  # of one tier: who shares a level
    (("weights", "inputs", "outputs"),),
    (("weights",), ("inputs", "outputs")),
    (("weights", "inputs"), ("outputs",)),
    (("weights",), ("inputs",), ("outputs",)),
)
PARTIAL = (*PARTITIONS, (("weights",),), (("outputs",),), (("inputs",), ("outputs",)), (("weights", "outputs"),))
CLOCKS_GHZ = (0.2, 0.5, 1.0)


@st.composite
def levels(draw: Any, clock_ghz: float, tiers: int) -> dict[str, dict[str, Any]]:
    """``memory`` of a machine: ``tiers`` tiers, at most six levels; the first holds every operand. The first level of a
    tier repeats an operand of the tier before, which is what makes it another tier."""
    found: dict[str, dict[str, Any]] = {}
    before: tuple[str, ...] = ()
    for tier in range(tiers):
        left = 6 - len(found) - (tiers - 1 - tier)
        options = [p for p in (PARTIAL if tier else PARTITIONS) if len(p) <= left]
        options = [p for p in options if not tier or set(p[0]) & set(before)]
        parts = draw(st.sampled_from(options))
        before = tuple(o for o in OPERANDS if any(o in keeps for keeps in parts))
        for i, keeps in enumerate(parts):
            capacity = draw(st.sampled_from(OUTER_KIB if tier == 0 else INNER_KIB))
            bandwidth = draw(st.sampled_from(BANDWIDTHS_GB_PER_S))
            found[f"t{tier + 1}_{i}"] = {
                "keeps": list(keeps),
                "capacity_kib": capacity,
                "bandwidth_gb_per_s": bandwidth,
                "banks": draw(st.sampled_from((32, 33, 64))),
                "ports": draw(st.sampled_from((1, 2))),
                "bank_conflicts": draw(st.sampled_from(("none", "random"))),
                "access_bytes": draw(st.sampled_from((1, 1, 8, 64))),
                "double_buffered": draw(st.booleans()),
            }
    return found


@st.composite
def machines(
    draw: Any,
    kinds: tuple[str, ...] = ("systolic", "lanes"),
    most_tiers: int = 3,
    counts: tuple[int, ...] = (1, 1, 2, 3, 4, 6),
    arithmetics: tuple[str, ...] = ("parallel", "parallel", *ARITHMETICS),
    dma: bool = False,
) -> Accelerator:
    """A machine of 16-bit operands. ``dma``: also several DMA channels, prefetching and streaming (timeline only)."""
    clock = draw(st.sampled_from(CLOCKS_GHZ))
    kind = draw(st.sampled_from(kinds))
    nm = draw(st.sampled_from((None, None, "2:4", "1:8"))) if kind == "systolic" else None
    array = {
        "kind": kind,
        "rows": draw(st.sampled_from((4, 8, 13, 32))),
        "cols": draw(st.sampled_from((1, 4, 7, 16))),
        "dataflow": draw(st.sampled_from(("os", "ws", "is"))),
        "overlap": draw(st.sampled_from(("none", "single_buffer", "double_buffer"))),
        "weight_bits": 16,
        "activation_bits": 16,
        "arithmetic": draw(st.sampled_from(arithmetics)),
        "count": draw(st.sampled_from(counts)),
        "split": draw(st.sampled_from(("any", "m", "n", "k"))),
    }
    fifo = draw(st.sampled_from((0, 0, 2)))
    sparsity = {
        "format": "n_of_m" if nm else draw(st.sampled_from(("dense", "bitmap"))),
        "n_of_m": nm,
        "orientation": draw(st.sampled_from(("output", "input"))),
        "barrier_depth": draw(st.sampled_from((16, 64, "full", 37))),
        "fifo_depth": fifo,
        "assignment": draw(st.sampled_from(("contiguous", "interleaved"))),
        "empty_tile_cycles": 1 if fifo else draw(st.sampled_from((0, 1))),
    }
    dram = {
        "standard": draw(st.sampled_from(tuple(STANDARDS))),
        "channels": draw(st.sampled_from((1, 2, 4))),
        "bandwidth_gb_per_s": draw(st.sampled_from((None, 1.0, 8.0, 200.0))),
    }
    network = {
        "bandwidth_gb_per_s": draw(st.sampled_from((None, None, 8.0, 60.0))),
        "hops": 2,
        "hop_mm": 0.5,
        "multicast": draw(st.booleans()),
    }
    engine2 = {"in_flight_kib": draw(st.sampled_from((None, None, 0.25, 4.0)))}
    if dma:
        engine2 |= {
            "channels": draw(st.sampled_from((1, 2, 3))),
            "prefetch_weights": draw(st.booleans()),
            "stream_vector": draw(st.booleans()),
        }
    return build(
        {
            "name": "random",
            "clock_ghz": clock,
            "array": array,
            "sparsity": sparsity,
            "memory": draw(levels(clock, draw(st.integers(1, most_tiers)))),
            "dram": dram,
            "network": network,
            "dma": engine2,
            "vector": {"lanes": 16, "special_function_lanes": 2},
        }
    )


ENTRIES = {  # features by target; double-sided ones are both
    "weights": ("skip weights <- inputs", "gate weights <- inputs by vector", "skip weights <- inputs by vector"),
    "inputs": ("skip inputs <- weights", "gate inputs <- weights", "skip inputs <- weights by vector"),
    "outputs": ("skip outputs <- weights & inputs", "gate outputs <- inputs by vector", "skip outputs <- weights"),
}


@st.composite
def featured(draw: Any, machine: Accelerator) -> Accelerator:
    """``machine`` with gating and skipping at some of its levels, at DRAM, and in its array."""
    fields: dict[str, Any] = {"sparsity.position_skipping": draw(st.booleans())}
    for name, level in machine.memory.items():
        entries = [draw(st.sampled_from(("", "", *ENTRIES[operand]))) for operand in level.keeps]
        fields[f"memory.{name}.features"] = ", ".join(filter(None, entries))
    fields["dram.features"] = draw(
        st.sampled_from(("", "skip weights <- inputs by vector", "skip weights <-> inputs", "skip inputs <- weights"))
    )
    fields["sparsity.gating"] = draw(st.sampled_from(("none", "weights", "inputs", "both")))
    if machine.array.kind == "systolic" and not machine.sparsity.n_of_m and machine.array.arithmetic != "composable":
        fields["sparsity.block_skipping"] = draw(st.booleans())
    return machine.override(fields)


dims = st.one_of(st.integers(1, 48), st.integers(49, 700), st.sampled_from((64, 97, 255, 300, 512, 576)))
large = st.one_of(st.integers(1, 64), st.sampled_from((1, 97, 300, 576, 1009, 1536, 4096)))
densities = st.sampled_from((None, None, 0.0, 0.1, 0.5, 0.9, 1.0))


@st.composite
def gemms(draw: Any, sizes: Any = dims, bits: tuple[int, ...] = (4, 8, 16), dense: bool = False) -> Trace:
    """One GEMM, dense, of a drawn mask, or n:m; sometimes a convolution's (patches overlap in the input)."""
    m, k, n = draw(sizes), draw(sizes), draw(sizes)
    batch, width = draw(st.sampled_from((1, 1, 1, 2, 5))), draw(st.sampled_from(bits))
    zeros = None
    if not dense:
        zeros = draw(st.sampled_from((None, None, "2:4", "density")))
        if zeros == "density":
            zeros = Sparsity(density=draw(densities.filter(lambda d: d is not None)), seed=draw(st.integers(0, 9)))
    trace = gemm(m=m, k=k, n=n, bits=width, batch=batch, sparsity=zeros)
    if draw(st.integers(0, 3)) == 0:
        trace.ops["input_elements"] = float(max(m, m * k // 9))
    return trace


@st.composite
def chains(draw: Any, sizes: Any = dims) -> Trace:
    """GEMMs whose output feeds the next, vector ops between, a residual stream alive around some of them."""
    m, width, bits = draw(sizes), draw(sizes), 8
    ops: list[Op] = []
    for i in range(draw(st.integers(1, 3))):
        n = draw(sizes)
        residual = float(m * width * bits // 8) if draw(st.booleans()) else 0.0
        live = {"live_in_bytes": m * width + residual, "live_out_bytes": m * n + residual}
        shape = {"m": m, "k": width, "n": n, "weight_bits": bits, "activation_bits": bits, "output_bits": bits}
        density = draw(densities)
        ops.append(
            Op(
                f"gemm{i}",
                sparsity=None if density is None else Sparsity(density=density, seed=i),
                numbers=shape | live,
            )
        )
        if draw(st.booleans()):
            work = {"alu_ops": 4 * m * n, "special_function_ops": m * n, "read_bytes": m * n, "write_bytes": m * n}
            live = {"live_in_bytes": m * n + residual, "live_out_bytes": m * n + residual}
            always = {"dram_read_bytes": float(draw(st.sampled_from((0, 0, 4096))))}
            ops.append(Op(f"vector{i}", kind="vector", numbers=work | live | always))
        width = n
    return Trace.from_ops(ops, {"name": "chain"})


def as_dense(trace: Trace) -> Trace:
    """The same shapes without zeros."""
    ops = trace.ops.copy()
    ops["nonzeros"] = ops["n"] * ops["k"]
    ops["profile"] = -1.0
    return Trace(ops, None, dict(trace.meta))


def with_ops(trace: Trace, **columns: Any) -> Trace:
    """``trace`` with some of its numbers replaced."""
    ops: pd.DataFrame = trace.ops.assign(**{name: np.asarray(value, dtype=float) for name, value in columns.items()})
    return Trace(ops, trace.profiles, dict(trace.meta), trace.counts, trace.masks)
