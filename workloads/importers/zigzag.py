"""ZigZag workloads (a list of layers, YAML, version 3) as traces: the equation says what each loop is.

Of ``O[b][k]+=I[b][c]*W[c][k]``: loops of O and I, not W, are M; of O and W, not I, are N; of I and W, not O, are K;
of all three, independent products. ``dimension_relations`` (``ix=2*ox+1*fx``) make a convolution with stride and
dilation. ``Add`` and pooling go to the vector unit. Precisions: I, W, O (partial sums), O_final (results). Written
from the format that ZigZag's documentation describes (github.com/KULeuven-MICAS/zigzag, MIT).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from sim.errors import InputError, nearest
from sim.operations import conv2d, elementwise, sequence
from sim.trace import Op, Trace, gemm
from sim.vector_ops import operations

PRODUCTS = ("Conv", "Conv_downsample", "Gemm")
POOLS = {"Pooling": "max", "Pool": "max", "MaxPool": "max", "AveragePool": "sum", "GlobalAveragePool": "sum"}
"""Windows: one operation a tap and output."""
KNOWN = (*PRODUCTS, *POOLS, "Add")
_EQUATION = re.compile(r"O((?:\[\w+\])+)\s*\+?\s*=\s*(\w)((?:\[\w+\])+)\s*[*+]\s*(\w)((?:\[\w*\])+)\s*")
_RELATION = re.compile(r"(\w+)\s*=\s*(?:(\d+)\s*\*\s*)?(\w+)\s*\+\s*(?:(\d+)\s*\*\s*)?(\w+)")


@dataclass(frozen=True)
class _Layer:
    where: str
    name: str
    kind: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    sizes: dict[str, int]
    windows: dict[str, tuple[int, str, int, str]]  # ix -> (stride, ox, dilation, fx)
    bits: dict[str, int]


def from_layers(raw: Any, where: str, name: str) -> tuple[Trace, list[str], int]:
    """The trace of a workload's layers as plain data, notices, and the bits of its widest partial sum.

    Raises:
        InputError: not a list of layers, an operator, equation, size or precision that cannot be read.
    """
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{where}: a workload is a list of layers, got {type(raw).__name__}")
    layers = [_read(layer, f"{where}: layer {index}") for index, layer in enumerate(raw)]
    twice = {layer.name for layer in layers if [x.name for x in layers].count(layer.name) > 1}
    traces = []
    for index, layer in enumerate(layers):
        found = _trace(layer)
        traces.append(replace(found, ops=found.ops.assign(name=f"{layer.name}_{index}" if twice else layer.name)))
    found = sequence(*traces, chained=False) if len(traces) > 1 else traces[0]
    notices = ["workload: layers run one after the other from memory; which layer feeds which is left out"]
    if any(isinstance(layer, dict) and layer.get("padding") for layer in raw):
        notices.append("workload: padding counts as input that is fetched")
    meta = {"name": name, "imported": "zigzag", "layers": len(layers)}
    return replace(found, meta=meta), notices, max(layer.bits["O"] for layer in layers)


def _trace(layer: _Layer) -> Trace:
    _check_loops(layer)
    if layer.kind == "Add":
        return elementwise("add", prod(layer.sizes[d] for d in layer.outputs), bits=_width(layer, "O_final"))
    if layer.kind in POOLS:
        return _pool(layer)
    found = _convolution(layer) if layer.windows else _product(layer)
    outputs = found.ops["batch"] * found.ops["m"] * found.ops["n"]
    columns = {
        "weight_bits": layer.bits["W"], "output_bits": layer.bits["O_final"], "accumulator_bits": layer.bits["O"],
        "live_out_bytes": outputs * layer.bits["O_final"] / 8,
    }  # fmt: skip
    return replace(found, ops=found.ops.assign(**columns))


def _check_loops(layer: _Layer) -> None:
    """Every loop longer than 1 has a counterpart here, so that none is dropped; ``ix`` of I stands for its loops."""
    outs, taps = ([w[place] for w in layer.windows.values()] for place in (1, 3))
    operands = {"O": layer.outputs, "I": (*layer.inputs, *outs, *taps), "W": layer.weights}
    for name, size in layer.sizes.items():
        if size == 1:
            continue
        found = "".join(operand for operand, indices in operands.items() if name in indices)
        if name in layer.windows:
            why = f"a loop of loop_dims ({size}), and dimension_relations make it of others"
        elif not found:
            why = f"in no operand, loop_dims has it ({size})"
        elif [*outs, *taps].count(name) > 1 or (name in (*outs, *taps) and name in layer.inputs):
            why = "an index of I in two ways"
        elif name in taps and "O" in found:
            why = "in O, the taps of a window must not be"
        elif layer.kind in POOLS:
            why = "" if name in taps or "OI" in found else f"in {found} only, it must be in O and I, or be a tap"
        elif layer.kind == "Add":
            why = "" if "O" in found and found != "O" else f"in {found}, it must be in O and in what is added"
        elif len(found) == 1:
            why = "in one operand only, it must be in two or all"
        elif name in outs and "W" in found:
            why = "in W, the outputs of a window must not be"
        else:
            why = ""
        if why:
            raise InputError(f"{layer.where}: equation: {name} is {why}")


def _product(layer: _Layer) -> Trace:
    outputs, inputs, weights = set(layer.outputs), set(layer.inputs), set(layer.weights)
    shared = outputs & inputs & weights
    dims = {"m": outputs & inputs, "n": outputs & weights, "k": inputs & weights}
    size = {d: prod(layer.sizes[x] for x in found - shared) for d, found in dims.items()}
    batch = prod(layer.sizes[x] for x in shared)
    return gemm(m=size["m"], n=size["n"], k=size["k"], batch=batch, bits=layer.bits["I"])


def _convolution(layer: _Layer) -> Trace:
    plain = set(layer.inputs) - layer.windows.keys()
    size = layer.sizes.__getitem__
    groups = prod(size(d) for d in plain & set(layer.outputs) & set(layer.weights))
    batch = prod(size(d) for d in plain & set(layer.outputs) - set(layer.weights))
    channels = prod(size(d) for d in plain & set(layer.weights) - set(layer.outputs))
    windows = list(layer.windows.values())
    taken = {name for stride, out, dilation, tap in windows for name in (out, tap)}
    filters = prod(size(d) for d in set(layer.outputs) & set(layer.weights) - plain - taken)
    while len(windows) < 2:
        windows.insert(0, (1, "", 1, ""))
    if len(windows) > 2:
        raise InputError(f"{layer.where}: dimension_relations: {len(windows)} windows, at most two can be read")

    def of(name: str) -> int:
        return layer.sizes[name] if name else 1

    sides = [(of(out) - 1) * stride + (of(tap) - 1) * dilation + 1 for stride, out, dilation, tap in windows]
    return conv2d(
        batch, groups * channels, sides[0], sides[1], groups * filters, tuple(of(w[3]) for w in windows),
        stride=tuple(w[0] for w in windows), dilation=tuple(w[2] for w in windows), groups=groups, bits=layer.bits["I"],
    )  # fmt: skip


def _pool(layer: _Layer) -> Trace:
    written = prod(layer.sizes[d] for d in layer.outputs)
    taps = prod(layer.sizes[tap] for _, _, _, tap in layer.windows.values())
    read = prod(_side(layer, d) if d in layer.windows else layer.sizes[d] for d in layer.inputs)
    work = operations(POOLS[layer.kind], written * taps)
    inputs, outputs = read * layer.bits["I"] / 8, written * layer.bits["O_final"] / 8
    numbers = {"alu_ops": work[0], "special_function_ops": work[1], "read_bytes": inputs, "write_bytes": outputs,
               "live_in_bytes": inputs, "live_out_bytes": outputs}  # fmt: skip
    return Trace.from_ops([Op(layer.name, "vector", numbers=numbers)], {"name": layer.name})


def _side(layer: _Layer, name: str) -> int:
    stride, out, dilation, tap = layer.windows[name]
    return (layer.sizes[out] - 1) * stride + (layer.sizes[tap] - 1) * dilation + 1


def _width(layer: _Layer, operand: str) -> int:
    bits = layer.bits[operand]
    if bits not in (4, 8, 16):
        raise InputError(f"{layer.where}: operand_precision.{operand} must be 4, 8 or 16 for {layer.kind}, got {bits}")
    return bits


def _read(raw: Any, where: str) -> _Layer:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: must be a mapping of fields, got {type(raw).__name__}")
    kind = str(raw.get("operator_type"))
    if kind not in KNOWN:
        raise InputError(f"{where}: operator_type '{kind}' is not known, {nearest(kind, KNOWN)}")
    found = _EQUATION.fullmatch(str(raw.get("equation")))
    if found is None:
        raise InputError(f"{where}: equation must read like O[b][k]+=I[b][c]*W[c][k], got '{raw.get('equation')}'")
    operands = {found[2]: _indices(found[3]), found[4]: _indices(found[5])}
    if set(operands) != {"I", "W"}:
        raise InputError(f"{where}: equation must multiply I and W, got '{raw['equation']}'")
    sizes = _sizes(raw, where)
    outputs = _indices(found[1])
    windows = _windows(raw, where) if kind != "Add" else {}
    loops = (name for w in windows.values() for name in (w[1], w[3]))
    for name in (*outputs, *operands["W"], *(x for x in operands["I"] if x not in windows), *loops):
        if name not in sizes:
            raise InputError(f"{where}: equation uses '{name}', loop_dims has no {name.upper()}")
    return _Layer(
        where=where, name=str(raw.get("name") or f"{kind}_{raw.get('id', '')}".rstrip("_")), kind=kind, outputs=outputs,
        inputs=operands["I"], weights=operands["W"], sizes=sizes,
        windows={name: w for name, w in windows.items() if name in operands["I"]}, bits=_precision(raw, where, kind),
    )  # fmt: skip


def _sizes(raw: dict[str, Any], where: str) -> dict[str, int]:
    names, sizes = raw.get("loop_dims"), raw.get("loop_sizes")
    if not isinstance(names, Sequence) or not isinstance(sizes, Sequence) or len(names) != len(sizes):
        raise InputError(f"{where}: loop_dims and loop_sizes must be lists of equal length")
    for name, size in zip(names, sizes, strict=True):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"{where}: loop_sizes: {name} must be a whole number > 0, got {size!r}")
    lower = [str(name).lower() for name in names]
    for name in names:
        if lower.count(str(name).lower()) > 1:
            raise InputError(f"{where}: loop_dims: {name} is there twice (capitals do not count)")
    return dict(zip(lower, sizes, strict=True))


def _windows(raw: dict[str, Any], where: str) -> dict[str, tuple[int, str, int, str]]:
    windows = {}
    for text in raw.get("dimension_relations") or []:
        found = _RELATION.fullmatch(str(text))
        if found is None:
            raise InputError(f"{where}: dimension_relations must read like ix=2*ox+1*fx, got '{text}'")
        windows[found[1].lower()] = (int(found[2] or 1), found[3].lower(), int(found[4] or 1), found[5].lower())
    return windows


def _precision(raw: dict[str, Any], where: str, kind: str) -> dict[str, int]:
    given = raw.get("operand_precision")
    if not isinstance(given, dict):
        raise InputError(f"{where}: operand_precision must give bits of I, W, O and O_final")
    found = {}
    for operand, most in (("I", 16), ("W", 16), ("O", 64), ("O_final", 32)):
        bits = given.get(operand)
        if operand == "W" and kind not in PRODUCTS:
            continue
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= most:
            raise InputError(f"{where}: operand_precision.{operand} must be a whole number in 1..{most}, got {bits!r}")
        found[operand] = bits
    return found


def _indices(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[(\w+)\]", text.lower()))
