"""Work beyond one plain GEMM, each as a :class:`~sim.trace.Trace`: batched GEMM, GEMV, convolution, vector ops, chains.

A convolution is the GEMM of its im2col matrix: ``M = batch P Q`` output pixels, ``K = in_channels/groups R S``,
``N = out_channels/groups``, one batch item a group (Chellapilla et al. 2006; on the fly: Chetlur et al. 2014).
``P = (height + 2 padding - dilation (R - 1) - 1) // stride + 1``, ``Q`` likewise.

What comes from DRAM depends on where the im2col matrix is:

- ``im2col="on_the_fly"``: addresses are generated at the buffer, so DRAM sees every *distinct* input once a pass
  (``input_elements``): halos are shared, padding is never fetched, pixels that a stride or dilation skips are not read.
  The array still consumes M x K. DRAM bursts that hold a skipped pixel are not charged.
- ``im2col="in_memory"``: a vector op reads the distinct inputs and writes all of M x K (padding as zeros), the GEMM
  reads that matrix. Either stays on chip if it fits beside what is needed, as between any two ops.

The first input of a vector op may have been left on chip by the op before; its other inputs always come from DRAM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.compute.arguments import whole
from sim.errors import InputError, nearest
from sim.sparsity.profile import ProfileTable
from sim.trace import SOURCES, Op, Sparsity, Trace, gemm
from sim.vector_ops import operations

MANY_INPUTS = ("add", "mul")
ELEMENTWISE = {"add": 2, "mul": 2, "relu": 1, "sigmoid": 1, "tanh": 1, "silu": 1, "gelu": 1, "swiglu": 2}
"""Elementwise ops and how many tensors each reads; :data:`MANY_INPUTS` may read more."""
REDUCTIONS = {"sum": False, "max": False, "softmax": True, "layernorm": True, "rmsnorm": True}
"""Row-wise ops and whether each writes a whole row (else one number a row)."""
IM2COL = ("on_the_fly", "in_memory")
UNITS = ("array", "vector")
_NEVER_FITS_BYTES = 1e18
Pair = int | tuple[int, int]
Zeros = Sparsity | float | str | NDArray[np.bool_] | None


def batched_gemm(
    batch: int, m: int, k: int, n: int, bits: int = 8, shared_by: int = 1, stationary: str = "activations"
) -> Trace:
    """``batch`` GEMMs ``M x K . K x N`` (heads); each stationary operand ``K x N`` serves ``shared_by`` of them.

    Grouped (``shared_by`` > 1, grouped-query attention: Ainslie et al. 2023): the items that share an operand are
    stacked into one GEMM of ``shared_by * m`` rows, so the operand is fetched once for all of them.
    ``stationary``: what it is, "activations", "kv" or "weights" (only weights can be stored compressed).
    :class:`InputError` unless ``shared_by`` divides ``batch``.
    """
    batch, m, k, n = (_count(name, v) for name, v in (("batch", batch), ("m", m), ("k", k), ("n", n)))
    shared_by = _count("shared_by", shared_by)
    if batch % shared_by:
        raise InputError(f"shared_by must divide batch {batch}, got {shared_by}")
    if stationary not in SOURCES:
        raise InputError(f"stationary must be one of {', '.join(SOURCES)}, got '{stationary}'")
    base = gemm(m * shared_by, k, n, bits, batch=batch // shared_by)
    return _changed(base, f"batched_gemm_{batch}x{m}x{n}x{k}", weight_source=stationary)


def gemv(k: int, n: int, bits: int = 8, sparsity: Zeros = None) -> Trace:
    """One vector of K times a K x N matrix: a GEMM with M = 1 (a decode step of one sequence)."""
    return gemm(m=1, k=_count("k", k), n=_count("n", n), bits=bits, sparsity=sparsity)


def conv2d(
    batch: int,
    in_channels: int,
    height: int,
    width: int,
    out_channels: int,
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    bits: int = 8,
    im2col: str = "on_the_fly",
    sparsity: Zeros = None,
) -> Trace:
    """A 2-D convolution; pairs are (vertical, horizontal), one number serves both.

    ``sparsity`` as in :func:`sim.trace.gemm`, a mask is out_channels x (in_channels R S); for ``groups`` = 1 only.
    :class:`InputError` when a number is out of range, groups do not divide the channels, or the kernel does not fit.
    """
    batch, in_channels, out_channels = (
        _count(name, v) for name, v in (("batch", batch), ("in_channels", in_channels), ("out_channels", out_channels))
    )
    groups = _count("groups", groups)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise InputError(f"groups must divide {name} {channels}, got {groups}")
    if im2col not in IM2COL:
        raise InputError(f"im2col must be one of {', '.join(IM2COL)}, got '{im2col}', {nearest(im2col, IM2COL)}")
    if sparsity is not None and groups > 1:
        raise InputError(f"sparsity needs groups 1, got {groups}: each group would have a mask of its own")
    rows = _window("height", height, kernel, stride, padding, dilation, 0)
    columns = _window("width", width, kernel, stride, padding, dilation, 1)
    m, n = batch * rows.outputs * columns.outputs, out_channels // groups
    k = in_channels // groups * rows.taps * columns.taps
    distinct = batch * in_channels * rows.touched * columns.touched
    name = f"conv_{in_channels}x{height}x{width}_to_{out_channels}x{rows.outputs}x{columns.outputs}"
    product = _changed(gemm(m, k, n, bits, sparsity, batch=groups), name, matrix_type="conv")
    tensor = batch * in_channels * rows.size * columns.size * bits / 8
    if im2col == "on_the_fly":
        return _changed(product, name, input_elements=distinct // groups, live_in_bytes=tensor)
    inflated = groups * m * k
    unfold = _vector(f"{name}.im2col", operations("im2col", inflated), distinct, inflated, bits, live_in_bytes=tensor)
    return sequence(unfold, product, name=name)


def depthwise_conv2d(
    batch: int,
    channels: int,
    height: int,
    width: int,
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    multiplier: int = 1,
    bits: int = 8,
    unit: str = "array",
    im2col: str = "on_the_fly",
) -> Trace:
    """A convolution of each channel by itself with ``multiplier`` filters (Howard et al. 2017, MobileNets).

    ``unit="array"``: one GEMM a channel with K = R S and N = multiplier, which leaves most of an array idle, as it does
    in hardware. ``unit="vector"``: one multiply-add a tap and output on the vector unit, weights from DRAM.
    """
    channels, multiplier = _count("channels", channels), _count("multiplier", multiplier)
    if unit not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}, got '{unit}', {nearest(unit, UNITS)}")
    filters = channels * multiplier
    found = conv2d(batch, channels, height, width, filters, kernel, stride, padding, dilation, channels, bits, im2col)
    if unit == "array":
        return found
    if im2col != "on_the_fly":
        raise InputError(f"im2col must be on_the_fly on the vector unit, got '{im2col}'")
    gemms = found.ops.iloc[0]
    return _vector(
        f"depthwise_{gemms['name']}",
        operations("mac", found.macs),
        channels * gemms["input_elements"],
        filters * gemms["m"],
        bits,
        live_in_bytes=gemms["live_in_bytes"],
        dram_read_bytes=filters * gemms["k"] * bits / 8,
    )


def elementwise(op: str, elements: int, inputs: int | None = None, bits: int = 8) -> Trace:
    """``op`` of :data:`ELEMENTWISE` on ``inputs`` tensors of ``elements`` each (default: as many as the op reads)."""
    if op not in ELEMENTWISE:
        raise InputError(f"op must be one of {', '.join(ELEMENTWISE)}, got '{op}', {nearest(op, ELEMENTWISE)}")
    elements = _count("elements", elements)
    count = ELEMENTWISE[op] if inputs is None else _count("inputs", inputs)
    if count != ELEMENTWISE[op] and not (op in MANY_INPUTS and count >= 2):
        allowed = ">= 2" if op in MANY_INPUTS else str(ELEMENTWISE[op])
        raise InputError(f"inputs of {op} must be {allowed}, got {count}")
    times = count - 1 if op in MANY_INPUTS else 1
    others = (count - 1) * elements * _bits(bits) / 8
    work = operations(op, elements * times)
    return _vector(f"{op}_{elements}", work, elements, elements, bits, dram_read_bytes=others)


def reduction(op: str, rows: int, cols: int, bits: int = 8) -> Trace:
    """``op`` of :data:`REDUCTIONS` over each of ``rows`` rows of ``cols`` numbers; sums and maxima leave one number a
    row, the others a row. Norm gains are not fetched (on chip)."""
    if op not in REDUCTIONS:
        raise InputError(f"op must be one of {', '.join(REDUCTIONS)}, got '{op}', {nearest(op, REDUCTIONS)}")
    rows, cols = _count("rows", rows), _count("cols", cols)
    written = rows * cols if REDUCTIONS[op] else rows
    return _vector(f"{op}_{rows}x{cols}", operations(op, rows * cols, rows), rows * cols, written, bits)


def sequence(*traces: Trace, name: str = "sequence", chained: bool = True) -> Trace:
    """One trace after another, with all their profiles, counts and masks (those only if every sparse part has them).

    Where a trace's first op reads exactly the bytes that the op before leaves, they are taken for the same tensor,
    which may then stay on chip. Everywhere else, and everywhere if not ``chained``, a *fence* is put between them: an
    op without work or bytes over which nothing can stay on chip.
    """
    if not traces or not all(isinstance(t, Trace) and len(t) for t in traces):
        raise InputError("sequence needs at least one trace, each with at least one op")
    tables, profiles = [], 0
    for trace in traces:
        ops = trace.ops.copy()
        ops["profile"] = ops["profile"].where(ops["profile"] < 0, ops["profile"] + profiles)
        profiles += len(trace.profiles) if trace.profiles is not None else 0
        if tables:
            left, taken = float(tables[-1]["live_out_bytes"].iloc[-1]), float(ops["live_in_bytes"].iloc[0])
            if not chained or left != taken:
                tables.append(_fence().ops)
        tables.append(ops)
    sparse = [t for t in traces if t.profiles is not None]
    return Trace(
        pd.concat(tables, ignore_index=True),
        ProfileTable.concatenate([t.profiles for t in sparse if t.profiles is not None]) if sparse else None,
        {"name": name, "parts": [t.name for t in traces]},
        _joined([t.counts for t in sparse]),
        _joined([t.masks for t in sparse]),
    )


def _joined(parts: list[Any]) -> list[Any] | None:
    return [item for part in parts for item in part] if parts and all(p is not None for p in parts) else None


def _fence() -> Trace:
    never = {"live_in_bytes": _NEVER_FITS_BYTES, "live_out_bytes": _NEVER_FITS_BYTES}
    return Trace.from_ops([Op("fence", "vector", numbers=never)])


@dataclass(frozen=True)
class _Window:
    """One dimension of a convolution: its size, the kernel's taps, outputs, and how many distinct inputs are read."""

    size: int
    taps: int
    outputs: int
    touched: int


def _window(name: str, size: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, axis: int) -> _Window:
    size, taps, step = _count(name, size), _pair("kernel", kernel)[axis], _pair("stride", stride)[axis]
    pad, spread = _pair("padding", padding, 0)[axis], _pair("dilation", dilation)[axis]
    reach = spread * (taps - 1) + 1
    if reach > size + 2 * pad:
        raise InputError(f"kernel reaches over {reach} positions, {name} with padding has only {size + 2 * pad}")
    outputs = (size + 2 * pad - reach) // step + 1
    read = np.unique(step * np.arange(outputs)[:, None] + spread * np.arange(taps) - pad)
    return _Window(size, taps, outputs, int(np.count_nonzero((read >= 0) & (read < size))))


def _pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    found = whole(name, value, least)
    if found.shape not in ((), (2,)):
        raise InputError(f"{name} must be one whole number or a pair, got {value!r}")
    vertical, horizontal = np.broadcast_to(found, 2).tolist()
    return vertical, horizontal


def _count(name: str, value: Any, least: int = 1) -> int:
    found = whole(name, value, least)
    if found.shape:
        raise InputError(f"{name} must be one whole number, got {value!r}")
    return int(found)


def _bits(bits: int) -> int:
    if bits not in (4, 8, 16):
        raise InputError(f"bits must be 4, 8 or 16, got {bits}")
    return bits


def _changed(trace: Trace, name: str, **columns: float | str) -> Trace:
    """A one-op trace under another name, with columns of its op set."""
    return replace(trace, ops=trace.ops.assign(name=name, **columns), meta={"name": name})


def _vector(name: str, work: tuple[float, float], read: int, written: int, bits: int, **numbers: float) -> Trace:
    """A vector op that reads and writes so many elements; ``work``: (ALU, special-function) operations."""
    read_bytes, write_bytes = read * _bits(bits) / 8, written * bits / 8
    base = {
        "alu_ops": work[0], "special_function_ops": work[1], "read_bytes": read_bytes, "write_bytes": write_bytes,
        "live_in_bytes": read_bytes, "live_out_bytes": write_bytes,
    }  # fmt: skip
    return Trace.from_ops([Op(name, "vector", numbers=base | numbers)], {"name": name})
