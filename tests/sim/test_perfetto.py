"""Traces for Perfetto: the format, no overlap in a thread, the same cycles as the report."""

from __future__ import annotations

import gzip
import json
import math
from itertools import pairwise

import pytest

from accel_models import accelerator
from sim.errors import InputError
from sim.operations import elementwise, sequence
from sim.simulate import simulate
from sim.trace import gemm


def trace():
    return sequence(gemm(m=256, k=576, n=1536), elementwise("silu", 256 * 1536), gemm(m=256, k=1536, n=576))


def machine(**fields):
    return accelerator("dense_ws").override({"memory.shared.capacity_kib": 64.0, **fields})


def read(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return json.load(file, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("name", ["run.json", "new/run.json.gz"])
def test_the_format(tmp_path, name):
    report = simulate(machine(), trace(), "timeline")
    path = report.save_perfetto(tmp_path / name)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    events = read(path)["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert set(names.values()) == {"ops", "DRAM load", "array", "DRAM store", "vector unit"}
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == [f"dense_ws: {report.trace}"]
    assert {e["ph"] for e in events} == {"X", "M"} and {e["pid"] for e in events} == {1}
    for event in events:
        if event["ph"] == "X":
            assert event["dur"] > 0 and event["ts"] >= 0 and event["tid"] in names
    assert path.read_bytes() == report.save_perfetto(tmp_path / name).read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_no_overlap_and_the_same_cycles(tmp_path, channels):
    report = simulate(machine(**{"dma.channels": channels}), trace(), "timeline")
    found = [e for e in read(report.save_perfetto(tmp_path / "run.json"))["traceEvents"] if e["ph"] == "X"]
    threads = {e["tid"] for e in found}
    for thread in threads:
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in found if e["tid"] == thread)
        assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(spans))
    last = max(e["ts"] + e["dur"] for e in found)
    assert math.ceil(last * report.clock_ghz * 1e3 - 1e-3) == report.cycles
    ops = {e["name"]: e for e in found if e["cat"] == "ops"}
    assert list(ops) == list(report.work.ops["name"])
    for op, cycles, events in zip(ops.values(), report.table["cycles"], report.events, strict=True):
        assert op["dur"] * report.clock_ghz * 1e3 == pytest.approx(cycles, abs=1e-3)
        tiles = [e for e in found if e["name"].startswith(f"{op['name']} tile ") and e["cat"] == "array"]
        assert len(tiles) == (len(events.times) if events.kind == "gemm" else 0)
        busy = sum(e["dur"] for e in tiles) * report.clock_ghz * 1e3
        if events.kind == "gemm":
            assert busy == pytest.approx((events.times[:, 3] - events.times[:, 2]).sum(), abs=1e-2)
        for e in tiles:
            assert op["ts"] - 1e-9 <= e["ts"] and e["ts"] + e["dur"] <= op["ts"] + op["dur"] + 1e-9


def test_two_loads_at_once_are_two_threads(tmp_path):
    from sim.perfetto import LOAD, THREADS, slices

    report = simulate(machine(**{"dma.channels": 3}), trace(), "timeline")
    lanes = {e["tid"] // len(THREADS) for e in slices(report) if e["tid"] % len(THREADS) == LOAD}
    spans = sorted(tuple(row[:2]) for row in report.events[0].times)
    overlap = any(a[1] > b[0] + 1e-6 for a, b in pairwise(spans))
    assert (len(lanes) > 1) == overlap


def test_repeats_draw_one_and_span_all():
    from sim.perfetto import slices

    one, many = trace(), trace()
    many.ops["repeats"] = 4.0
    a, b = (simulate(machine(), t, "timeline") for t in (one, many))
    spans = [[e for e in slices(r) if e["cat"] == "ops"] for r in (a, b)]
    for short, long in zip(*spans, strict=True):
        assert long["dur"] == pytest.approx(4 * short["dur"], abs=1e-5) and long["args"]["repeats"] == 4
    assert len(list(slices(a))) == len(list(slices(b)))


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="use the timeline engine"):
        simulate(machine(), trace()).save_perfetto(tmp_path / "run.json")
    report = simulate(machine(), trace(), "timeline")
    with pytest.raises(InputError, match=r"ends in .json or .json.gz"):
        report.save_perfetto(tmp_path / "run.pftrace")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        report.save_perfetto(tmp_path / "file" / "run.json")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
