"""Address maps of DRAM: from byte addresses to channel, bank and row.

``bank_group``
    from the lowest bit: bank group, (column up to 256 B), channel, column, bank, rank, row. Neighbouring bursts
    alternate between bank groups and every 256 B change the channel: sequential streams run at full rate, but a short
    run opens a row in every bank group and channel it touches.
``page``
    a run stays in one row until its page ends: column, channel, bank group, bank, rank, row (HBM: bank before bank
    group).
``page_plain``
    the same without the XOR below; what the simulator's configurations ship with.

In the first two, bank, bank group and rank are XORed with bits of the row, and the channel with all that lies above it
(``page``: with the row), so that power-of-two strides do not fall on one bank. Counts that are no powers of two take
the place of the bits (sum modulo the count instead of XOR).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.errors import InputError, nearest
from sim.memory.dram_timing import Timing

MAPS = ("bank_group", "page", "page_plain")
INTERLEAVE_BYTES = 256
"""``bank_group``: bytes before the next channel."""


class Places(NamedTuple):
    """Where the bursts of a stream live; int64 arrays of the stream's length."""

    channel: np.ndarray
    bank: np.ndarray  # of the channel: (rank * bank_groups + bank_group) * banks_per_group + bank
    row: np.ndarray


def check_map(address_map: str) -> None:
    """:class:`InputError` for an unknown map."""
    if address_map not in MAPS:
        raise InputError(f"dram.address_map '{address_map}' is unknown, {nearest(address_map, MAPS)}")


def places(timing: Timing, address_map: str, channels: int, address: np.ndarray) -> Places:
    """Channel, bank and row of byte addresses (int64, any shape)."""
    check_map(address_map)
    rest = np.asarray(address, dtype=np.int64) // timing.request_bytes
    if address_map == "bank_group":
        near = bursts_per_interleave(timing, channels) // timing.bank_groups
        rest, group = np.divmod(rest, timing.bank_groups)
        above, channel = np.divmod(rest // near, channels)
        rest = above // (timing.bursts_per_page // near)
        rest, bank = np.divmod(rest, timing.banks_per_group)
        row, rank = np.divmod(rest, timing.ranks)
    else:
        rest, channel = np.divmod(rest // timing.bursts_per_page, channels)
        if timing.dual_command:
            rest, bank = np.divmod(rest, timing.banks_per_group)
            rest, group = np.divmod(rest, timing.bank_groups)
        else:
            rest, group = np.divmod(rest, timing.bank_groups)
            rest, bank = np.divmod(rest, timing.banks_per_group)
        row, rank = np.divmod(rest, timing.ranks)
        above = row
    if address_map != "page_plain":
        mixed = row
        group, mixed = _mix(group, mixed, timing.bank_groups), mixed // timing.bank_groups
        bank, mixed = _mix(bank, mixed, timing.banks_per_group), mixed // timing.banks_per_group
        rank = _mix(rank, mixed, timing.ranks)
        channel = _fold(channel, above, channels)
    return Places(channel, (rank * timing.bank_groups + group) * timing.banks_per_group + bank, row)


def bursts_per_interleave(timing: Timing, channels: int) -> int:
    """``bank_group``: bursts in one channel before the next one follows, at least one in each bank group."""
    return max(timing.bank_groups, INTERLEAVE_BYTES // timing.request_bytes) if channels > 1 else timing.bank_groups


def _mix(field: np.ndarray, bits: np.ndarray, count: int) -> np.ndarray:
    return field ^ (bits % count) if count & (count - 1) == 0 else (field + bits) % count


def _fold(field: np.ndarray, bits: np.ndarray, count: int) -> np.ndarray:
    while count > 1 and np.any(bits > 0):
        field, bits = _mix(field, bits, count), bits // count
    return field
