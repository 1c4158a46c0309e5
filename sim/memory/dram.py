"""DRAM standards as numbers: bandwidth, energy, background power, PHY area and latency of any count of channels.

Every number is a row of ``sim/memory/data/dram_standards.csv`` (standard, field, value, source), for *one* channel.
Efficiency is achieved over peak bandwidth of tile streaming as a cycle-accurate simulator (DRAMsim3) measured it: three
interleaved streams of 1 KiB runs, two read and one written, with a bank-group-interleaved address map. One simulator is
not silicon. ``energy_pj_per_bit`` may already hold a part of the background power; both are charged.

Unloaded read latency in clocks is a closed form that follows the simulator within 2 % (median)::

    CL + BL + 1 + (1 - row_hit_rate) (tRCD + tRP) + (tRFC + tRP)^2 / (2 tREFI)

It covers controller and device, not the PHY or the network on chip.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sim.errors import InputError, nearest

_TABLE = Path(__file__).parent / "data" / "dram_standards.csv"

Row = Mapping[str, float | str]


def _read() -> Mapping[str, Row]:
    standards: dict[str, dict[str, float | str]] = {}
    with _TABLE.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = standards.setdefault(line["standard"], {})
            row[line["field"]] = float(line["value"])
            row[f"{line['field']}_source"] = line["source"]
    return MappingProxyType({name: MappingProxyType(row) for name, row in standards.items()})


STANDARDS: Mapping[str, Row] = _read()
"""Standard to the row of one channel: ``row["efficiency"]`` is a number, ``row["efficiency_source"]`` its origin."""


def latency_ns(standard: str) -> float:
    """Unloaded read latency of the controller and the device, from the standard's timing parameters."""
    row = {key: value for key, value in _row(standard).items() if isinstance(value, float)}
    precharge = row["precharge_clocks"]
    opened = (1 - row["row_hit_rate"]) * (row["row_to_column_clocks"] + precharge)
    refresh = (row["refresh_clocks"] + precharge) ** 2 / (2 * row["refresh_interval_clocks"])
    return row["clock_ns"] * (row["cas_clocks"] + row["burst_clocks"] + 1 + opened + refresh)


def parameters(standard: str, channels: int, bandwidth_gb_per_s: float | None = None) -> dict[str, float]:
    """What the simulator needs to know of ``channels`` channels of a standard, all channels together.

    ``bandwidth_gb_per_s`` replaces the peak. It is read as an interface of the same kind with that many more or fewer
    pins, so PHY area and background power scale with it: bandwidth is never free. :class:`InputError` for an unknown
    standard, and for channels or a bandwidth that are not positive.
    """
    row = _row(standard)
    if channels < 1:
        raise InputError(f"dram.channels must be >= 1, got {channels!r}")
    if bandwidth_gb_per_s is not None and not bandwidth_gb_per_s > 0:
        raise InputError(f"dram.bandwidth_gb_per_s must be > 0, got {bandwidth_gb_per_s!r}")
    own = float(row["peak_gb_per_s"])
    peak = channels * own if bandwidth_gb_per_s is None else float(bandwidth_gb_per_s)
    units = peak / own
    return {
        "peak_gb_per_s": peak,
        "efficiency": float(row["efficiency"]),
        "energy_pj_per_bit": float(row["energy_pj_per_bit"]),
        "background_mw": units * float(row["background_mw"]),
        "phy_area_mm2": units * float(row["phy_area_mm2"]),
        "latency_ns": latency_ns(standard),
    }


def _row(standard: str) -> Row:
    if standard not in STANDARDS:
        raise InputError(f"dram.standard '{standard}' is unknown, {nearest(standard, STANDARDS)}")
    return STANDARDS[standard]
