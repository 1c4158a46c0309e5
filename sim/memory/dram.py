"""DRAM standards as numbers: bandwidth, efficiency, energy, background power, PHY area and latency of any count of
channels.

Every number is a row of ``sim/memory/data/dram_standards.csv`` (standard, field, value, source), for *one* channel, or
a timing parameter of :mod:`sim.memory.dram_timing`. Efficiency is the closed form of
:mod:`sim.memory.dram_efficiency`, which follows a cycle-accurate simulator (DRAMsim3; ``python -m validation.dram``).
One simulator is not silicon. ``energy_pj_per_bit`` may already hold a part of the background power; both are charged.

Latency covers controller and device, not the PHY or the network on chip.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from sim.errors import InputError, nearest
from sim.memory.dram_efficiency import efficiency
from sim.memory.dram_timing import TIMINGS, Timing

_DATA = Path(__file__).parent / "data"

RUN_BYTES = 2 ** np.arange(5, 17)
"""Run lengths of :func:`efficiency_table`, bytes."""
WRITE_FRACTIONS = (0.0, 1 / 3)
"""Columns of :func:`efficiency_table`."""
DEFAULT_PATTERN = {"run_bytes": 1024, "write_fraction": 1 / 3, "locality": "mix"}
"""Pattern of the one number ``efficiency`` of :func:`parameters`: two streams of 1 KiB runs read, one written."""
SATURATED_REQUESTS = 87
"""Requests a saturated channel holds, median of DRAMsim3's rows by Little's law (p10 to p90: 52 to 134)."""

Row = Mapping[str, float | str]


def _read() -> Mapping[str, Row]:
    standards: dict[str, dict[str, float | str]] = {}
    with (_DATA / "dram_standards.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = standards.setdefault(line["standard"], {})
            row[line["field"]] = float(line["value"])
            row[f"{line['field']}_source"] = line["source"]
    for name, row in standards.items():
        row["clock_ns"], row["clock_ns_source"] = TIMINGS[name].clock_ns, TIMINGS[name].source
        row["efficiency_source"] = TIMINGS[name].source
    return MappingProxyType({name: MappingProxyType(row) for name, row in standards.items()})


STANDARDS: Mapping[str, Row] = _read()
"""Standard to the row of one channel: ``row["background_mw"]`` is a number, ``row["background_mw_source"]`` its
origin."""


def parameters(standard: str, channels: int, bandwidth_gb_per_s: float | None = None) -> dict[str, float]:
    """What the simulator needs to know of ``channels`` channels of a standard, all channels together.

    ``efficiency`` is that of :data:`DEFAULT_PATTERN`; :func:`efficiency_table` has it by run length.
    ``bandwidth_gb_per_s`` replaces the peak. It is read as an interface of the same kind with that many more or fewer
    pins, so PHY area and background power scale with it: bandwidth is never free. :class:`InputError` for an unknown
    standard, and for channels or a bandwidth that are not positive.
    """
    row = _row(standard)
    _check(channels)
    if bandwidth_gb_per_s is not None and not bandwidth_gb_per_s > 0:
        raise InputError(f"dram.bandwidth_gb_per_s must be > 0, got {bandwidth_gb_per_s!r}")
    own = float(row["peak_gb_per_s"])
    peak = channels * own if bandwidth_gb_per_s is None else float(bandwidth_gb_per_s)
    units = peak / own
    streaming = efficiency(
        TIMINGS[standard], address_map=address_map(standard, channels), channels=channels, **DEFAULT_PATTERN
    )
    return {
        "peak_gb_per_s": peak,
        "efficiency": float(streaming),
        "energy_pj_per_bit": float(row["energy_pj_per_bit"]),
        "background_mw": units * float(row["background_mw"]),
        "phy_area_mm2": units * float(row["phy_area_mm2"]),
        "latency_ns": latency_ns(standard),
    }


@functools.cache
def efficiency_table(standard: str, channels: int) -> np.ndarray:
    """Achieved over peak bandwidth, float64[len(RUN_BYTES), 2], read-only, of runs at unrelated places.

    Row i: runs of ``RUN_BYTES[i]`` contiguous bytes; column 0: reads only, column 1: one third of the runs are writes.
    The address map is :func:`address_map`. Non-decreasing in the run length: the raw closed form dips where a run
    fills one channel's queue and leaves the others idle, and there a requester that has several runs in flight
    interleaves their pieces, so the running maximum is taken. Cached. :class:`InputError` for an unknown standard or
    channels < 1.
    """
    _row(standard)
    _check(channels)
    table = np.maximum.accumulate(_runs(TIMINGS[standard], channels, address_map(standard, channels)), axis=0)
    table.flags.writeable = False
    return table


@functools.cache
def address_map(standard: str, channels: int) -> str:
    """The map a machine of this standard uses, ``"bank_group"`` or ``"page"``.

    The one with the larger product of the efficiency of :data:`DEFAULT_PATTERN` and the mean efficiency of unrelated
    runs of :data:`RUN_BYTES`.
    """
    _row(standard)
    _check(channels)

    def merit(name: str) -> float:
        streams = efficiency(TIMINGS[standard], address_map=name, channels=channels, **DEFAULT_PATTERN)
        return float(streams * _runs(TIMINGS[standard], channels, name).mean())

    return max(("bank_group", "page"), key=merit)


def latency_ns(standard: str) -> float:
    """Unloaded read latency of the controller and the device, see :meth:`Timing.unloaded_read_ns`."""
    hit_rate = float(_row(standard)["row_hit_rate"])
    return TIMINGS[standard].unloaded_read_ns(hit_rate)


def loaded_latency_ns(standard: str, load_fraction: ArrayLike) -> np.ndarray:
    """Mean read latency where ``load_fraction`` (in [0, 1]; any shape) of the achievable bandwidth is asked for, ns.

    :func:`latency_ns` times the measured ratio (``sim/memory/data/dram_loaded_latency.csv``, linear between the
    middles of its bins, 1 at no load). At full load the queue sets it: :data:`SATURATED_REQUESTS` by Little's law, at
    the efficiency of :data:`DEFAULT_PATTERN`. :class:`InputError` for an unknown standard and loads outside [0, 1].
    """
    ratio = load_ratio(load_fraction)
    unloaded = latency_ns(standard)
    own = parameters(standard, 1)
    queued_ns = SATURATED_REQUESTS * TIMINGS[standard].request_bytes / (own["peak_gb_per_s"] * own["efficiency"])
    last = np.mean(_load_bins()[-1][:2])
    towards_full = np.clip((np.asarray(load_fraction, dtype=float) - last) / (1 - last), 0, 1)
    return unloaded * (ratio + towards_full * np.maximum(0, queued_ns / unloaded - ratio))


def load_ratio(load_fraction: ArrayLike) -> np.ndarray:
    """Mean read latency over the unloaded one, median over devices, maps and patterns; constant past the last bin."""
    load = np.asarray(load_fraction, dtype=float)
    if not ((load >= 0) & (load <= 1)).all():
        raise InputError(f"dram load_fraction must be in [0, 1], got {load[~((load >= 0) & (load <= 1))].flat[0]:g}")
    bins = np.array(_load_bins())
    return np.interp(load, np.append(0.0, bins[:, :2].mean(1)), np.append(1.0, bins[:, 2]))


@functools.cache
def _load_bins() -> tuple[tuple[float, ...], ...]:
    with (_DATA / "dram_loaded_latency.csv").open(newline="", encoding="utf-8") as file:
        names = ("load_from", "load_to", "latency_ratio_median")
        return tuple(tuple(float(line[name]) for name in names) for line in csv.DictReader(file))


def _runs(timing: Timing, channels: int, name: str) -> np.ndarray:
    return efficiency(timing, RUN_BYTES[:, None], np.array(WRITE_FRACTIONS), name, channels)


def _check(channels: int) -> None:
    if channels < 1:
        raise InputError(f"dram.channels must be >= 1, got {channels!r}")


def _row(standard: str) -> Row:
    if standard not in STANDARDS:
        raise InputError(f"dram.standard '{standard}' is unknown, {nearest(standard, STANDARDS)}")
    return STANDARDS[standard]
