"""Timing parameters of DRAM devices as data, and the times of one channel that follow from them.

One row of ``sim/memory/data/dram_timing.csv`` is one device: its counts, its timing parameters in clocks, and where
they are from. Devices that no standard of the product uses (DDR4-2400, LPDDR3, HBM1, GDDR6, ...) are there so that the
models can be held against a simulator on more than the standards they serve.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from sim.errors import InputError, nearest

_TABLE = Path(__file__).parent / "data" / "dram_timing.csv"


@dataclass(frozen=True)
class Timing:
    """One device; every ``_clocks`` is in clocks of ``clock_ns``. JEDEC's names are in the comments."""

    device: str
    ranks: int
    bank_groups: int  # of one rank; 1 where the standard has none
    banks_per_group: int
    request_bytes: int  # one burst: the smallest transfer
    page_bytes: int  # one open row of one bank, over all chips of the rank
    clock_ns: float  # tCK
    burst_clocks: int  # max(BL/2, tCCD_S): between bursts to different bank groups
    same_group_clocks: int  # max(BL/2, tCCD_L): between bursts to the same bank group
    cas_clocks: int  # CL
    write_cas_clocks: int  # CWL
    row_to_column_clocks: int  # tRCD
    precharge_clocks: int  # tRP
    row_active_clocks: int  # tRAS
    activate_gap_clocks: int  # tRRD_S
    activate_gap_same_group_clocks: int  # tRRD_L
    four_activates_clocks: int  # tFAW
    thirtytwo_activates_clocks: int  # t32AW, 0 where the standard has none
    write_to_read_clocks: int  # tWTR_S
    write_to_read_same_group_clocks: int  # tWTR_L
    read_to_precharge_clocks: int  # tRTP
    write_recovery_clocks: int  # tWR
    refresh_clocks: int  # tRFC
    refresh_interval_clocks: int  # tREFI
    rank_switch_clocks: int  # tRTRS
    data_clocks: int  # the data of one burst on the bus, as the configuration's burst length gives it
    dual_command: int  # 1 where row and column commands have a bus each (HBM)
    source: str

    @property
    def peak_gb_per_s(self) -> float:
        """Of one channel."""
        return self.request_bytes / (self.burst_clocks * self.clock_ns)

    @property
    def banks(self) -> int:
        """Of one channel: all banks of all ranks."""
        return self.ranks * self.bank_groups * self.banks_per_group

    @property
    def bursts_per_page(self) -> int:
        return self.page_bytes // self.request_bytes

    @property
    def activate_clocks(self) -> float:
        """Least mean time between two rows opened in one rank."""
        return max(self.activate_gap_clocks, self.four_activates_clocks / 4, self.thirtytwo_activates_clocks / 32)

    @property
    def reopen_clocks(self) -> int:
        """From the precharge of a bank until a column of another row can be read: tRP + tRCD."""
        return self.precharge_clocks + self.row_to_column_clocks

    @property
    def refresh_share(self) -> float:
        """Share of time a rank cannot serve: tRFC, and tRC to close the rows before it and open them after it."""
        row_cycle = self.row_active_clocks + self.precharge_clocks
        return (self.refresh_clocks + row_cycle) / self.refresh_interval_clocks

    @property
    def turn_clocks(self) -> float:
        """Bus clocks lost by one turn from reads to writes and back.

        In one rank: CL + tRPRE + tRTRS + tWTR + 2 BL - 2 tB (read to write CL - CWL + BL + 1 + tRTRS, write to read
        CWL + BL + tWTR, less the two bursts that are not lost); tRPRE is one clock in every configuration here. tWTR is
        the short one where there are bank groups to choose from. Between ranks only the two switches are lost. The next
        burst is as likely in any rank.
        """
        write_to_read = self.write_to_read_same_group_clocks if self.bank_groups == 1 else self.write_to_read_clocks
        same = (
            self.cas_clocks + 1 + self.rank_switch_clocks + write_to_read + 2 * (self.data_clocks - self.burst_clocks)
        )
        other = 2 * self.rank_switch_clocks
        return (same + (self.ranks - 1) * other) / self.ranks

    def unloaded_read_ns(self, row_hit_rate: float = 0.0) -> float:
        """Unloaded read latency of controller and device::

        CL + BL + 1 + (1 - row_hit_rate) (tRCD + tRP) + (tRFC + tRP)^2 / (2 tREFI)
        """
        opened = (1 - row_hit_rate) * self.reopen_clocks
        refresh = (self.refresh_clocks + self.precharge_clocks) ** 2 / (2 * self.refresh_interval_clocks)
        return self.clock_ns * (self.cas_clocks + self.data_clocks + 1 + opened + refresh)


def _read() -> Mapping[str, Timing]:
    kinds = {field.name: {"int": int, "float": float, "str": str}[str(field.type)] for field in fields(Timing)}
    with _TABLE.open(newline="", encoding="utf-8") as file:
        rows = [Timing(**{name: kinds[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]
    return MappingProxyType({row.device: row for row in rows})


TIMINGS: Mapping[str, Timing] = _read()
"""Device to its timing."""


def timing(device: str) -> Timing:
    """The timing of a device; :class:`InputError` for an unknown one."""
    if device not in TIMINGS:
        raise InputError(f"dram device '{device}' is unknown, {nearest(device, TIMINGS)}")
    return TIMINGS[device]
