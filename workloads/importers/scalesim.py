"""SCALE-Sim topologies (``.csv``) as traces: a layer a line, convolutions or GEMMs, in the order of the file.

Convolution: name, IFMAP height and width (padding included), filter height and width, channels, filters, stride, and in
version 3 a ratio n:m of the weights. GEMM: name, M, N, K, and a ratio. Lines may end in a comma. SCALE-Sim rounds a
convolution's outputs *up* (``ceil((IFMAP - filter) / stride) + 1``) and runs layers one after the other from memory; so
do these traces. Written from SCALE-Sim's documentation and examples (github.com/scalesim-project/SCALE-Sim, MIT).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.errors import InputError
from sim.operations import conv2d, depthwise_conv2d, sequence
from sim.trace import Trace, gemm

_CONV = ("IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "num filter", "stride")
_GEMM = ("M", "N", "K")
_RATIO = re.compile(r"(\d{1,9})\s*:\s*(\d{1,9})")
_DEPTHWISE = "DP"  # SCALE-Sim: in a layer's name
LARGEST = 2**31 - 1
"""Of a number in a topology, and of M, N and K of its GEMMs."""
MOST_DRAWN = 2**29
"""Elements of a mask that is drawn; about 17 bytes each while it is."""


@dataclass(frozen=True)
class Topology:
    """``patterns``: n:m ratios below 1 of its layers. ``notices``: what reads differently here, a line each."""

    trace: Trace
    patterns: tuple[str, ...] = ()
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Layer:
    name: str
    sizes: tuple[int, ...]
    ratio: str | None
    where: str


def read_topology(path: str | Path, sparse: bool = False, bits: int = 8) -> Topology:
    """The layers of ``path``; ``sparse``: prune weights to their ratios (masks are drawn), else ratios are told only.

    Raises:
        InputError: no such file, no layer, a line with too few, too many or wrong numbers.
    """
    path = Path(path)
    layers, notices = _layers(path)
    traces = [_trace(layer, sparse, bits, notices) for layer in layers]
    patterns = sorted({layer.ratio for layer in layers if layer.ratio is not None})
    if patterns and not sparse:
        notices.append(f"sparsity ratios ({', '.join(patterns)}): SparsitySupport is off, weights stay dense")
    elif patterns:
        notices.append("sparsity: SCALE-Sim keeps the first n of every m weights; here a mask of that ratio is drawn")
    found = sequence(*traces, chained=False) if len(traces) > 1 else traces[0]
    meta: dict[str, Any] = {"name": path.stem, "model": path.name, "imported": "scalesim", "bits": bits}
    meta |= {"layers": len(layers), "ratios": {x.name: x.ratio for x in layers if sparse and x.ratio is not None}}
    return Topology(replace(found, meta=meta), tuple(patterns) if sparse else (), notices)


def _layers(path: Path) -> tuple[list[_Layer], list[str]]:
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: not a CSV file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    header = [word.strip() for word in lines[0]] if lines else []
    names = _GEMM if len([word for word in header if word]) <= 5 else _CONV
    layers = [
        _layer(row, names, f"{path} line {number}")
        for number, row in enumerate(lines[1:], 2)
        if any(cell.strip() for cell in row)
    ]
    if not layers:
        raise InputError(f"{path}: no layer below the header line")
    notices = []
    if names is _GEMM and [w.upper() for w in header[1:4]] not in ([], list(_GEMM)):
        notices.append(f"header '{','.join(header)}': columns are read as M, N, K, as SCALE-Sim does")
    taken: set[str] = set()
    for layer in layers:
        if layer.name in taken:
            raise InputError(f"{layer.where}: layer '{layer.name}' is there twice")
        taken.add(layer.name)
    return layers, notices


def _layer(row: list[str], names: tuple[str, ...], where: str) -> _Layer:
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    ratio = None
    if len(cells) == len(names) + 2:
        found = _RATIO.fullmatch(cells.pop())
        if found is None:
            raise InputError(f"{where}: sparsity ratio must read n:m, like 2:4, got '{row[len(names) + 1].strip()}'")
        n, m = int(found[1]), int(found[2])
        if not 1 <= n <= m:
            raise InputError(f"{where}: sparsity ratio must have 1 <= n <= m, got '{n}:{m}'")
        ratio = f"{n}:{m}" if n < m else None
    if len(cells) != len(names) + 1 or not cells[0]:
        raise InputError(f"{where}: needs a name, {', '.join(names)} and perhaps a ratio n:m, got {len(cells)} values")
    sizes = []
    for name, cell in zip(names, cells[1:], strict=True):
        if not (cell.isascii() and cell.isdigit() and len(cell) < 20 and 0 < int(cell) <= LARGEST):
            raise InputError(f"{where}: {name} must be a whole number > 0 and at most {LARGEST}, got '{cell[:40]}'")
        sizes.append(int(cell))
    return _Layer(cells[0], tuple(sizes), ratio, where)


def _trace(layer: _Layer, sparse: bool, bits: int, notices: list[str]) -> Trace:
    sparsity = layer.ratio if sparse else None
    if len(layer.sizes) == len(_GEMM):
        m, n, k = layer.sizes
        _check_size(layer, m, n, k, sparsity)
        found = gemm(m=m, n=n, k=k, bits=bits, sparsity=sparsity)
    else:
        height, width, taps_y, taps_x, channels, filters, stride = layer.sizes
        sides = []
        for name, size, taps in (("height", height, taps_y), ("width", width, taps_x)):
            if taps > size:
                raise InputError(f"{layer.where}: filter {name} {taps} is larger than IFMAP {name} {size}")
            sides.append(-(-(size - taps) // stride) * stride + taps)
        if sides != [height, width]:
            notices.append(
                f"{layer.name}: SCALE-Sim rounds outputs up, the input is taken as {sides[0]} x {sides[1]} instead of "
                f"{height} x {width}"
            )
        kernel = (taps_y, taps_x)
        outputs = ((sides[0] - taps_y) // stride + 1) * ((sides[1] - taps_x) // stride + 1)
        _check_size(layer, outputs, filters, channels * taps_y * taps_x, sparsity)
        if _DEPTHWISE in layer.name:
            if sparsity is not None:
                raise InputError(f"{layer.where}: a sparsity ratio of a depthwise layer has no counterpart")
            found = depthwise_conv2d(1, channels, *sides, kernel, stride, multiplier=filters, bits=bits)
        else:
            found = conv2d(1, channels, *sides, filters, kernel, stride, bits=bits, sparsity=sparsity)
    return replace(found, ops=found.ops.assign(name=layer.name))


def _check_size(layer: _Layer, m: int, n: int, k: int, sparsity: str | None) -> None:
    """:class:`InputError` for a GEMM that no table holds, or whose mask no memory does."""
    if max(m, n, k) > LARGEST:
        raise InputError(f"{layer.where}: M x N x K = {m} x {n} x {k}, each must be at most {LARGEST}")
    group = int(sparsity.partition(":")[2]) if sparsity else 1
    if sparsity and n * -(-k // group) * group > MOST_DRAWN:
        raise InputError(
            f"{layer.where}: a mask {sparsity} of {n} x {k} weights is too large to draw, at most {MOST_DRAWN} elements"
        )
