"""Achieved over peak DRAM bandwidth as a closed form of run length, writes, address map and channels.

Every resource of a channel bounds the time of a burst by itself, and the slowest one decides (times in clocks)::

    bus       tB + 2 / (tB x bursts per row): a column command that meets one of the two row commands on a shared
              command bus waits a clock; where a map keeps a page in one bank group, at least its column path
              tL - (tL - tB) (1 - s^max(1, q)) min(1, q), q = Q/m for reads and W/m - 1 for writes
    turns     min(w, 1 - w) / W' x (turn + (tRP + tRCD) exposed), where reads and writes mix
    activate  max(tRRD_S, tFAW/4, t32AW/32) / (bursts per row x ranks)
    bank      row cycle / (bursts per row x banks) x imbalance of the banks
    T = max(bus + turns, activate, bank) x imbalance of the channels
    efficiency = useful bytes x tB / T x (1 - (tRFC + tRC) / tREFI x share not hidden by other ranks)

m: bursts of a run in one channel; s: chance that the next run meets the same bank group; w: share of writes; Q: read
queue + a bank's queue in each bank group; W' = max(W, (W + m) / 2) with the write buffer W, as long runs are drained
together. ``exposed`` is the share of rows that a turn leaves to be opened with nothing to hide it: of unrelated runs,
the share of time the activates are busy anyway; of streams, the chance that two meet in one bank. The ``imbalance`` is
counted: bursts go in order into a queue of each channel, and a full queue stops them all (:func:`imbalance`); the same
count says how evenly random rows fall on the banks.

Nothing is fitted: the sizes are those of the simulator's controller (:class:`Controller`), the rest is timing. The form
itself was found looking at the rows it is held against (``python -m validation.dram``).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike

from sim.errors import InputError, nearest
from sim.memory.dram_address import bursts_per_interleave, check_map, places
from sim.memory.dram_timing import Timing

LOCALITIES = ("random", "sequential", "mix", "copy")
STREAMS = {"sequential": 1, "copy": 2, "mix": 3}
_COUNTED_BURSTS = 1 << 14  # of a stride
_COUNTED_PER_SERVER = 1 << 12


class Controller(NamedTuple):
    """Sizes of one channel's controller in requests (bursts); the defaults are those DRAMsim3 was run with."""

    fifo: int = 64  # in order, before the controller
    read_queue: int = 32
    write_buffer: int = 32  # drained at once when full
    bank_queue: int = 8  # commands waiting at one bank

    def channel_depth(self, per_row: float, banks: int) -> int:
        """Requests a channel takes before it stops the stream, of rows of ``per_row`` bursts.

        FIFO, read queue, and the queues of the banks that the read queue reaches past full ones (half of all at most).
        """
        seen = min(banks / 2, self.read_queue / max(1.0, per_row - self.bank_queue))
        return self.fifo + self.read_queue + round(self.bank_queue * max(1.0, seen))

    @property
    def bank_depth(self) -> int:
        """Requests of one bank, or of a rank in refresh, before they stop the others."""
        return self.read_queue + self.bank_queue

    def reorder_depth(self, bank_groups: int) -> int:
        """Bursts among which another bank group is found: the read queue, and a bank's queue in each group."""
        return self.read_queue + bank_groups * self.bank_queue


DEFAULT_CONTROLLER = Controller()


class _Layout(NamedTuple):
    """What the address map makes of a pattern."""

    bursts: float  # of one run
    in_channel: float  # of one run in one channel
    per_row: float  # bursts between two activates of a bank
    imbalance: float
    bank_share: float  # busiest bank's share of rows, x banks
    in_group: float  # bursts one after the other in one bank group; 0 where the map alternates or there is one group
    same_group: float  # chance that those after them meet the same bank group
    streams: int  # 0: unrelated runs


def efficiency(
    timing: Timing,
    run_bytes: ArrayLike,
    write_fraction: ArrayLike = 0.0,
    address_map: str = "page",
    channels: ArrayLike = 1,
    locality: str | int = "random",
    controller: Controller = DEFAULT_CONTROLLER,
) -> np.ndarray:
    """Useful bytes over peak bytes of saturated accesses, in (0, 1]; the numeric arguments broadcast.

    ``run_bytes``: contiguous bytes of one run, aligned to their length. ``write_fraction``: share of runs that are
    written, in [0, 1]. ``locality``: where the next run starts: ``"random"``; ``"sequential"`` one stream, ``"copy"``
    two and ``"mix"`` three interleaved every ``run_bytes``; or an int, bytes from the start of one run to the next.

    Raises :class:`InputError` for an unknown map or locality and for numbers out of range.
    """
    check_map(address_map)
    stride = None if isinstance(locality, str) else int(locality)
    if isinstance(locality, str) and locality not in LOCALITIES:
        raise InputError(f"dram locality '{locality}' is unknown, {nearest(locality, LOCALITIES)} or a stride in bytes")
    if stride is not None and stride < 1:
        raise InputError(f"dram stride must be >= 1 byte, got {stride}")
    run, writes, count = np.broadcast_arrays(
        np.asarray(run_bytes, float), np.asarray(write_fraction, float), np.asarray(channels)
    )
    for name, bad, allowed in (
        ("run_bytes", run < 1, ">= 1"),
        ("write_fraction", (writes < 0) | (writes > 1), "in [0, 1]"),
        ("channels", count < 1, ">= 1"),
    ):
        if bad.any():
            value = {"run_bytes": run, "write_fraction": writes, "channels": count}[name][bad].flat[0]
            raise InputError(f"dram {name} must be {allowed}, got {value:g}")
    found = [
        _one(timing, float(b), float(w), address_map, int(c), locality if stride is None else stride, controller)
        for b, w, c in zip(run.flat, writes.flat, count.flat, strict=True)
    ]
    return np.array(found).reshape(run.shape)


@functools.lru_cache(maxsize=1 << 14)
def _one(
    timing: Timing, run: float, writes: float, address_map: str, channels: int, locality: str | int, size: Controller
) -> float:
    if isinstance(locality, int):
        layout = _strided(timing, run, writes, address_map, channels, locality, size)
    elif locality == "random":
        layout = _random(timing, run, address_map, channels, size)
    else:
        layout = _streamed(timing, run, address_map, channels, STREAMS[locality])
    activate = timing.activate_clocks / (layout.per_row * timing.ranks)
    clocks = max(_bus_clocks(timing, layout, writes, activate, size), activate, _bank_clocks(timing, layout, writes))
    useful = 1.0 if layout.streams else run / (layout.bursts * timing.request_bytes)
    refresh = timing.refresh_share * (1 - _refresh_hidden(timing, layout, clocks, size))
    return useful * timing.burst_clocks / (clocks * layout.imbalance) * (1 - refresh)


def _refresh_hidden(timing: Timing, layout: _Layout, clocks: float, size: Controller) -> float:
    """Share of a rank's refresh during which the other ranks keep the bus busy."""
    if timing.ranks == 1:
        return 0.0
    if layout.streams == 1:  # the stream is in one rank; the others refresh unseen
        return 1 - 1 / timing.ranks
    if layout.streams:
        return 0.0
    # until the blocked rank's requests fill the queue, as many of the other ranks are served
    served = size.bank_depth * (timing.ranks - 1) * min(1.0, size.bank_depth / (timing.ranks * layout.in_channel))
    return min(1.0, served * clocks / (timing.refresh_share * timing.refresh_interval_clocks))


def _bus_clocks(timing: Timing, layout: _Layout, writes: float, activate: float, size: Controller) -> float:
    """Data bus and column path of a burst, with the share of the turns it pays."""
    bus = float(timing.burst_clocks)
    if not timing.dual_command:
        bus += 2 / layout.per_row / timing.burst_clocks
    reads = max(bus, _group_clocks(timing, layout, size.reorder_depth(timing.bank_groups), 0))
    if writes in (0, 1):
        return reads
    batch = max(size.write_buffer, (size.write_buffer + layout.in_channel) / 2)
    path = (1 - writes) * reads + writes * max(bus, _group_clocks(timing, layout, size.write_buffer, 1))
    if layout.streams:
        exposed = 2 * (1 - (1 - 1 / timing.banks) ** (layout.streams - 1))
    else:
        exposed = min(1.0, activate / bus)
    return path + min(writes, 1 - writes) / batch * (timing.turn_clocks + timing.reopen_clocks * exposed)


def _group_clocks(timing: Timing, layout: _Layout, window: float, own: int) -> float:
    """A burst on the column path of its bank group, where the map keeps a page of bursts in one group (else 0).

    ``window`` bursts are seen beside it, or (``own`` = 1) with it: a drained batch of writes sees nothing after itself.
    """
    if layout.in_group == 0:
        return 0.0
    if layout.streams == STREAMS["mix"] and not own:
        hidden = 1 - layout.same_group  # two streams are read, each in a bank group of its own choice
    else:
        others = max(0.0, window / layout.in_group - own)
        hidden = (1 - layout.same_group ** max(1 - own, others)) * min(1.0, others)
    return timing.same_group_clocks - (timing.same_group_clocks - timing.burst_clocks) * hidden


def _bank_clocks(timing: Timing, layout: _Layout, writes: float) -> float:
    """A burst's share of the cycle of its row; the columns of a row are the bus's time."""
    written = timing.write_cas_clocks + timing.data_clocks + timing.write_recovery_clocks
    read = max(timing.row_active_clocks, timing.row_to_column_clocks + timing.read_to_precharge_clocks)
    write = max(timing.row_active_clocks, timing.row_to_column_clocks + written)
    row = (1 - writes) * read + writes * write + timing.precharge_clocks
    return row * layout.bank_share / (layout.per_row * timing.banks)


def _random(timing: Timing, run: float, address_map: str, channels: int, size: Controller) -> _Layout:
    bursts = max(1, int(np.ceil(run / timing.request_bytes)))
    page = timing.bursts_per_page
    if address_map == "bank_group":
        piece = bursts_per_interleave(timing, channels) if channels > 1 else bursts
    else:
        piece = page if channels > 1 else bursts
    pieces = int(np.ceil(bursts / piece))
    touched = min(channels, pieces)
    in_channel = bursts / touched
    spread = min(in_channel, timing.bank_groups) if address_map == "bank_group" else 1
    per_row = in_channel / max(spread, in_channel / page)
    return _Layout(
        bursts,
        in_channel,
        per_row,
        imbalance(channels, pieces, min(bursts, piece), size.channel_depth(per_row, timing.banks)),
        imbalance(timing.banks, 1, max(1, round(per_row)), size.bank_depth),
        min(in_channel, page) if _stays(timing, address_map) else 0.0,
        1 / (timing.bank_groups * timing.ranks),
        0,
    )


def _stays(timing: Timing, address_map: str) -> bool:
    """Whether a run stays in a bank group while there are others."""
    return address_map != "bank_group" and timing.bank_groups > 1


def _streamed(timing: Timing, run: float, address_map: str, channels: int, streams: int) -> _Layout:
    page = timing.bursts_per_page
    in_channel = max(1.0, run / timing.request_bytes / channels)
    in_group = page if _stays(timing, address_map) else 0
    same = 1 / (timing.bank_groups * timing.ranks) if streams > 2 else 0.0
    return _Layout(max(1.0, run / timing.request_bytes), in_channel, page, 1.0, 0.0, in_group, same, streams)


def _strided(
    timing: Timing, run: float, writes: float, address_map: str, channels: int, stride: int, size: Controller
) -> _Layout:
    """Counted over the addresses themselves: rows opened, banks and channels visited."""
    bursts = max(1, int(np.ceil(run / timing.request_bytes)))
    runs = max(16, _COUNTED_BURSTS // bursts)
    start = np.arange(runs, dtype=np.int64) * stride // timing.request_bytes
    burst = (start[:, None] + np.arange(bursts)).ravel()
    at = places(timing, address_map, channels, burst * timing.request_bytes)
    bank = at.channel * timing.banks + at.bank
    # writes are drained by themselves, so reads and writes meet rows apart
    written = np.repeat(np.diff(np.floor(np.arange(runs + 1) * writes + 1e-9)).astype(np.int64), bursts)
    order = np.lexsort((np.arange(burst.size), written, bank))
    opened = np.ones(burst.size, bool)
    opened[order[1:]] = (np.diff(bank[order]) != 0) | (np.diff(at.row[order]) != 0) | (np.diff(written[order]) != 0)
    per_row = burst.size / opened.sum()
    channel_load = _queued(at.channel, channels, size.channel_depth(per_row, timing.banks)) * channels / burst.size
    rows_at = bank[np.flatnonzero(opened)]
    rows_load = _queued(rows_at, channels * timing.banks, max(1, round(size.bank_depth / per_row)))
    by_channel = np.argsort(at.channel, kind="stable")
    changes = np.flatnonzero(np.diff((bank // timing.banks_per_group)[by_channel], prepend=-1, append=-1))
    stays = np.diff(changes)
    in_channel = min(float(bursts), burst.size / max(1, np.count_nonzero(np.diff(at.channel)) + 1))
    return _Layout(
        bursts,
        in_channel,
        per_row,
        max(1.0, channel_load),
        max(1.0, rows_load * channels * timing.banks / rows_at.size) / max(1.0, channel_load),
        (stays**2).sum() / stays.sum() if _stays(timing, address_map) else 0.0,
        0.0,
        0,
    )


@functools.lru_cache(maxsize=4096)
def imbalance(servers: int, pieces: int, bursts: int, queue: int) -> float:
    """Time that unrelated runs take over the time they would take spread evenly; >= 1.

    A run puts ``pieces`` of ``bursts`` each on consecutive servers (channels or banks) from a random multiple of
    ``pieces`` on. Each server takes one burst a unit of time and holds ``queue`` of them; bursts come in order, and one
    that finds its queue full stops those behind it. Counted over a fixed random sequence.
    """
    if servers == 1:
        return 1.0
    runs = max(64, _COUNTED_PER_SERVER * servers // (pieces * bursts))
    first = (np.random.default_rng(0).random(runs) * servers).astype(np.int64) * pieces
    server = (first[:, None, None] + np.arange(pieces)[:, None]) + np.zeros(bursts, np.int64)
    total = runs * pieces * bursts
    return max(1.0, _queued(server.ravel() % servers, servers, queue) * servers / total)


@numba.njit(cache=True)
def _queued(server, servers, queue):
    """Time until the stream of bursts ``server`` (int64[n]) has entered, one burst a unit of time and server."""
    last = np.zeros(servers)
    left = np.zeros((servers, queue))
    taken = np.zeros(servers, np.int64)
    now = 0.0
    for s in server:
        slot = taken[s] % queue
        now = max(now, left[s, slot])
        last[s] = max(last[s], now) + 1.0
        left[s, slot] = last[s]
        taken[s] += 1
    return max(now, last.mean())
