"""A run of the timeline engine as a trace that ui.perfetto.dev and chrome://tracing open.

Trace event format (Google, "Trace Event Format", JSON object form): the machine is a process, what works side by side
in it are threads, every tile is a complete event ("X") of its load, its compute and its store, every op one that spans
its tiles in a thread of its own. Times are microseconds of simulated time, on a grid of picoseconds.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.report import Report

THREADS = ("ops", "DRAM load", "array", "DRAM store", "vector unit")
OPS, LOAD, ARRAY, STORE, VECTOR = range(len(THREADS))
_PROCESS = 1
_PS_PER_US = 1e6


def save(report: Report, path: str | Path) -> Path:
    """Write ``report`` to ``path`` (``.json``, or ``.json.gz`` compressed), whole or not at all; returns the path.

    Of an op with repeats the tiles of the first one are drawn, its own slice spans all of them. Slices that overlap
    (loads of two DMA channels) are drawn in a second thread of the same name.

    Raises:
        InputError: a report without events (only the timeline engine has them), another suffix, no way to write there.
    """
    path = Path(path)
    if not path.name.endswith((".json", ".json.gz")):
        raise InputError(f"{path}: a Perfetto trace ends in .json or .json.gz")
    if not report.events:
        raise InputError(f"a report of the {report.engine} engine has no events to draw, use the timeline engine")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                    packed.writelines(_lines(report))
            else:
                file.writelines(_lines(report))
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if temporary.is_file():
            temporary.unlink()
    return path


def _lines(report: Report) -> Iterator[bytes]:
    about = {"machine": report.machine, "trace": report.trace, "engine": report.engine, "cycles": report.cycles}
    yield f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(about)}, "traceEvents": [\n'.encode()
    found = list(slices(report))
    for meta in _names(report, found):
        yield (json.dumps(meta) + ",\n").encode()
    for i, event in enumerate(found):
        yield (json.dumps(event) + (",\n" if i + 1 < len(found) else "\n")).encode()
    yield b"]}\n"


def _names(report: Report, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Metadata: what the process and its threads are called, and in which order they are shown."""
    yield {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": f"{report.machine}: {report.trace}"}}
    for thread in sorted({event["tid"] for event in found}):
        lane, kind = divmod(thread, len(THREADS))
        name = THREADS[kind] + (f" {lane + 1}" if lane else "")
        yield {"ph": "M", "pid": _PROCESS, "tid": thread, "name": "thread_name", "args": {"name": name}}
        order = kind * 100 + lane
        yield {"ph": "M", "pid": _PROCESS, "tid": thread, "name": "thread_sort_index", "args": {"sort_index": order}}


def slices(report: Report) -> Iterator[dict[str, Any]]:
    """The complete events of a report, one thread's never overlapping."""
    ps_per_cycle = 1e3 / report.clock_ghz
    free = [[0] for _ in THREADS]  # picosecond from which each lane of each thread is free

    def event(kind: int, name: str, start: float, end: float, **args: Any) -> Iterator[dict[str, Any]]:
        first, last = round(start * ps_per_cycle), round(end * ps_per_cycle)
        if last <= first:
            return
        lanes = free[kind]
        lane = next((i for i, since in enumerate(lanes) if since <= first), len(lanes))
        if lane == len(lanes):
            lanes.append(0)
        lanes[lane] = last
        yield {
            "ph": "X",
            "pid": _PROCESS,
            "tid": lane * len(THREADS) + kind,
            "name": name,
            "cat": THREADS[kind],
            "ts": first / _PS_PER_US,
            "dur": (last - first) / _PS_PER_US,
            "args": {"cycles": round(end - start, 6), **args},
        }

    cycles, repeats = report.columns[:, 0], report.work.ops["repeats"].to_numpy()
    for op, total, times in zip(report.events, cycles, repeats, strict=True):
        yield from event(OPS, op.op, op.start, op.start + float(total), repeats=int(times), tiles=len(op.times))
        if op.kind == "vector":
            yield from event(VECTOR, op.op, op.start, op.start + float(op.times[0, 3]))
            continue
        for kind, column in ((LOAD, 0), (ARRAY, 2), (STORE, 4)):
            for tile, (start, end) in enumerate(op.times[:, column : column + 2].tolist(), 1):
                yield from event(kind, f"{op.op} tile {tile}", op.start + start, op.start + end, tile=tile)
