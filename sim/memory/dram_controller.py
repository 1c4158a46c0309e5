"""A DRAM controller, command by command: the counted model beside the closed form, with nothing fitted.

Each clock, every channel takes one request from its FIFO into the read queue or write buffer, moves one request on to
the queue of its bank (reads as they come; writes all together once the buffer is full), and issues one command that the
timing parameters allow, taking the banks in turn: a column of the open row, an activate, or a precharge once no request
waits for the open row (or four were served). Ranks refresh whole, one after the other. HBM has a second command bus.
The organisation is that of DRAMsim3 (Li et al., CAL 2020; open page, first ready), written anew from its description.

It knows any address map, stride, count of channels and load, at some 20 ms for each 20,000 requests.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from sim.errors import InputError
from sim.memory.dram_address import places
from sim.memory.dram_efficiency import DEFAULT_CONTROLLER, STREAMS, Controller
from sim.memory.dram_timing import Timing

_SPACE_BYTES = 1 << 30
_WARM = 0.05  # share of the requests that are not counted
_ROW_HITS = 4  # columns of an open row after which a precharge may pass over those still waiting
_IDLE_WRITES = 8  # more writes than these are drained when nothing else is left to do
READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, NONE = range(6)


class Achieved(NamedTuple):
    """What the scheduler measured after the warm-up."""

    efficiency: float  # useful bytes over peak bytes
    activates_per_request: float
    read_latency_ns: float  # mean, from the controller's queue to the data; 0 without reads


def achieved(
    timing: Timing,
    run_bytes: float,
    write_fraction: float = 0.0,
    address_map: str = "page",
    channels: int = 1,
    locality: str | int = "random",
    controller: Controller = DEFAULT_CONTROLLER,
    requests: int = 10_000,
    load: float | None = None,
    seed: int = 0,
) -> Achieved:
    """Run ``requests`` bursts a channel through the controllers; arguments as of :func:`dram_efficiency.efficiency`.

    ``load``: offered share of the peak, evenly spaced; None offers a request a clock and channel. The base addresses of
    streams and the places of random runs come from ``seed``. Raises :class:`InputError` for numbers out of range.
    """
    if load is not None and not 0 < load <= 1:
        raise InputError(f"dram load must be in (0, 1], got {load!r}")
    count = requests * channels
    address, written = stream(timing, run_bytes, write_fraction, locality, count, seed)
    at = places(timing, address_map, channels, address)
    spacing = 0.0 if load is None else timing.burst_clocks / (load * channels)
    clocks, served, activates, waited, reads = _run(
        at.channel,
        at.bank,
        at.row,
        written,
        channels,
        _limits(timing),
        _gaps(timing),
        controller,
        int(_WARM * count),
        spacing,
    )
    useful = 1.0 if locality in STREAMS else min(1.0, run_bytes / timing.request_bytes)
    return Achieved(
        useful * served * timing.burst_clocks / (clocks * channels),
        activates / served,
        timing.clock_ns * waited / max(1, reads),
    )


def stream(
    timing: Timing, run_bytes: float, write_fraction: float, locality: str | int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Byte address (int64[count]) of each burst of a pattern and whether it is written (bool[count])."""
    size = timing.request_bytes
    bursts = max(1, int(np.ceil(run_bytes / size)))
    index = np.arange(count)
    run, inside = np.divmod(index, bursts)
    random = np.random.default_rng(seed)
    if locality in STREAMS:
        streams = STREAMS[locality]
        base = random.integers(0, _SPACE_BYTES // timing.page_bytes, streams) * timing.page_bytes
        address = base[run % streams] + ((run // streams) * bursts + inside) * size
    elif locality == "random":
        start = random.integers(0, max(1, _SPACE_BYTES // (bursts * size)), run[-1] + 1) * bursts
        address = (start[run] + inside) * size
    else:
        address = (run * int(locality) // size + inside) * size
    written = np.floor((run + 1) * write_fraction + 1e-9) > np.floor(run * write_fraction + 1e-9)
    return address, written


class _Limits(NamedTuple):
    """Integers the kernel needs, in clocks."""

    groups: int
    group_banks: int
    ranks: int
    to_column: int
    precharge: int
    active: int
    gap: int
    gap_same_group: int
    four: int
    thirtytwo: int
    read_to_precharge: int
    write_to_precharge: int
    read_latency: int
    refresh: int
    refresh_interval: int
    dual: bool


def _limits(t: Timing) -> _Limits:
    return _Limits(
        t.bank_groups,
        t.banks_per_group,
        t.ranks,
        t.row_to_column_clocks,
        t.precharge_clocks,
        t.row_active_clocks,
        t.activate_gap_clocks,
        t.activate_gap_same_group_clocks,
        t.four_activates_clocks,
        t.thirtytwo_activates_clocks,
        t.read_to_precharge_clocks,
        t.write_cas_clocks + t.data_clocks + t.write_recovery_clocks,
        t.cas_clocks + t.data_clocks,
        t.refresh_clocks,
        t.refresh_interval_clocks // t.ranks,
        bool(t.dual_command),
    )


def _gaps(t: Timing) -> np.ndarray:
    """int64[2, 2, 3]: least clocks from a column command to the next: [first, second (READ, WRITE), relation].

    Relation: same bank group, other group of the rank, other rank.
    """
    near, far, data = t.same_group_clocks, t.burst_clocks, t.data_clocks
    read_to_write = t.cas_clocks + data - t.write_cas_clocks + 1 + t.rank_switch_clocks
    write_done = t.write_cas_clocks + data
    between = data + t.rank_switch_clocks
    return np.array(
        [
            [[near, far, between], [read_to_write, read_to_write, t.cas_clocks - t.write_cas_clocks + between]],
            [
                [
                    write_done + t.write_to_read_same_group_clocks,
                    write_done + t.write_to_read_clocks,
                    max(0, t.write_cas_clocks - t.cas_clocks + between),
                ],
                [near, far, data + 1],
            ],
        ],
        dtype=np.int64,
    )


@numba.njit(cache=True)
def _choose(c, clock, limits, open_row, hits, ready, recent, queued, waiting, row, written, turn, refreshing, last32):
    """Next command of channel ``c``: (kind, bank, place in the bank's queue)."""
    rank_banks = limits.groups * limits.group_banks
    banks = rank_banks * limits.ranks
    for _ in range(banks):
        turn[c] = (turn[c] + 1) % banks
        b = turn[c]
        n = waiting[c, b]
        rank = b // rank_banks
        if n == 0 or refreshing[c] == rank:
            continue
        if open_row[c, b] < 0:
            if (
                clock >= ready[c, b, ACTIVATE]
                and clock >= recent[c, rank, 0] + limits.four
                and (limits.thirtytwo == 0 or clock >= last32[c, rank, 0] + limits.thirtytwo)
            ):
                return ACTIVATE, b, 0
            continue
        for j in range(n):
            e = queued[c, b, j]
            if row[e] == open_row[c, b]:
                kind = WRITE if written[e] else READ
                if clock >= ready[c, b, kind]:
                    return kind, b, j
            elif j == 0 and clock >= ready[c, b, PRECHARGE]:
                wanted = False
                for k in range(1, n):
                    wanted = wanted or row[queued[c, b, k]] == open_row[c, b]
                if not wanted or hits[c, b] >= _ROW_HITS:
                    return PRECHARGE, b, 0
    return NONE, 0, 0


@numba.njit(cache=True)
def _refresh(c, clock, limits, open_row, ready, refreshing):
    """Towards the refresh that channel ``c`` waits for: a precharge, the refresh itself, or nothing yet."""
    rank_banks = limits.groups * limits.group_banks
    first = refreshing[c] * rank_banks
    closed = True
    for b in range(first, first + rank_banks):
        if open_row[c, b] >= 0:
            if clock >= ready[c, b, PRECHARGE]:
                return PRECHARGE, b
            closed = False
        elif clock < ready[c, b, ACTIVATE]:
            closed = False
    return (REFRESH, first) if closed else (NONE, 0)


@numba.njit(cache=True)
def _issue(c, clock, kind, bank, new_row, limits, gaps, open_row, hits, ready, recent, last32):
    """Change the state of channel ``c`` as the command does."""
    rank_banks = limits.groups * limits.group_banks
    rank = bank // rank_banks
    first, last = rank * rank_banks, (rank + 1) * rank_banks
    if kind == ACTIVATE:
        open_row[c, bank] = new_row
        hits[c, bank] = 0
        for b in range(first, last):
            gap = limits.gap_same_group if b // limits.group_banks == bank // limits.group_banks else limits.gap
            ready[c, b, ACTIVATE] = max(ready[c, b, ACTIVATE], clock + gap)
        ready[c, bank, ACTIVATE] = max(ready[c, bank, ACTIVATE], clock + limits.active + limits.precharge)
        ready[c, bank, PRECHARGE] = max(ready[c, bank, PRECHARGE], clock + limits.active)
        ready[c, bank, READ] = max(ready[c, bank, READ], clock + limits.to_column)
        ready[c, bank, WRITE] = max(ready[c, bank, WRITE], clock + limits.to_column)
        recent[c, rank, :3] = recent[c, rank, 1:]
        recent[c, rank, 3] = clock
        if limits.thirtytwo > 0:
            last32[c, rank, :31] = last32[c, rank, 1:]
            last32[c, rank, 31] = clock
    elif kind == PRECHARGE:
        open_row[c, bank] = -1
        ready[c, bank, ACTIVATE] = max(ready[c, bank, ACTIVATE], clock + limits.precharge)
    elif kind == REFRESH:
        for b in range(first, last):
            ready[c, b, ACTIVATE] = max(ready[c, b, ACTIVATE], clock + limits.refresh)
    else:
        hits[c, bank] += 1
        for b in range(rank_banks * limits.ranks):
            relation = 2 if b // rank_banks != rank else int(b // limits.group_banks != bank // limits.group_banks)
            ready[c, b, READ] = max(ready[c, b, READ], clock + gaps[kind, READ, relation])
            ready[c, b, WRITE] = max(ready[c, b, WRITE], clock + gaps[kind, WRITE, relation])
        closing = limits.read_to_precharge if kind == READ else limits.write_to_precharge
        ready[c, bank, PRECHARGE] = max(ready[c, bank, PRECHARGE], clock + closing)


@numba.njit(cache=True)
def _move(pool, count, c, depth, bank, queued, waiting):
    """Move the first request of a pool whose bank has room to that bank's queue; whether there was one."""
    for j in range(count[c]):
        e = pool[c, j]
        b = bank[e]
        if waiting[c, b] < depth:
            queued[c, b, waiting[c, b]] = e
            waiting[c, b] += 1
            pool[c, j : count[c] - 1] = pool[c, j + 1 : count[c]]
            count[c] -= 1
            return True
    return False


@numba.njit(cache=True)
def _run(channel, bank, row, written, channels, limits, gaps, size, warm, spacing):
    """Clocks, requests, activates, clocks waited by reads and reads, all after ``warm`` requests were served."""
    total = len(channel)
    banks = limits.groups * limits.group_banks * limits.ranks
    fifo = np.zeros((channels, size.fifo), np.int64)
    fifo_first, fifo_count = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    reads, read_count = np.zeros((channels, size.read_queue), np.int64), np.zeros(channels, np.int64)
    writes, write_count = np.zeros((channels, size.write_buffer), np.int64), np.zeros(channels, np.int64)
    draining = np.zeros(channels, np.int64)
    queued = np.zeros((channels, banks, size.bank_queue), np.int64)
    waiting, in_banks = np.zeros((channels, banks), np.int64), np.zeros(channels, np.int64)
    open_row, hits = np.full((channels, banks), -1, np.int64), np.zeros((channels, banks), np.int64)
    ready = np.zeros((channels, banks, 4), np.int64)
    recent = np.full((channels, limits.ranks, 4), -(1 << 40), np.int64)
    last32 = np.full((channels, limits.ranks, 32), -(1 << 40), np.int64)
    turn = np.zeros(channels, np.int64)
    refreshing, refresh_rank = np.full(channels, -1, np.int64), np.zeros(channels, np.int64)
    refresh_due = np.full(channels, limits.refresh_interval, np.int64)
    entered = np.zeros(total, np.int64)
    clock, given, served, start, activates, waited, read_total = 0, 0, 0, 0, 0, 0, 0
    # saturated runs end with the last request offered, so that no channel is seen running empty
    while served < total and (spacing > 0 or given < total):
        offered = 0
        while given < total and fifo_count[channel[given]] < size.fifo:
            if (spacing > 0 and given * spacing > clock) or (spacing == 0 and offered == channels):
                break
            c = channel[given]
            fifo[c, (fifo_first[c] + fifo_count[c]) % size.fifo] = given
            fifo_count[c] += 1
            given += 1
            offered += 1
        for c in range(channels):
            if fifo_count[c] > 0:
                e = fifo[c, fifo_first[c]]
                taken = True
                if written[e] and write_count[c] < size.write_buffer:
                    writes[c, write_count[c]] = e
                    write_count[c] += 1
                elif not written[e] and read_count[c] < size.read_queue:
                    reads[c, read_count[c]] = e
                    read_count[c] += 1
                else:
                    taken = False
                if taken:
                    entered[e] = clock
                    fifo_first[c] = (fifo_first[c] + 1) % size.fifo
                    fifo_count[c] -= 1
            if clock >= refresh_due[c]:
                refresh_due[c] += limits.refresh_interval
                if refreshing[c] < 0:
                    refreshing[c] = refresh_rank[c]
                    refresh_rank[c] = (refresh_rank[c] + 1) % limits.ranks
            before = NONE
            for bus in range(2 if limits.dual else 1):
                kind, b, place = NONE, 0, 0
                if bus == 0 and refreshing[c] >= 0:
                    kind, b = _refresh(c, clock, limits, open_row, ready, refreshing)
                if kind == NONE and in_banks[c] > 0:
                    kind, b, place = _choose(
                        c,
                        clock,
                        limits,
                        open_row,
                        hits,
                        ready,
                        recent,
                        queued,
                        waiting,
                        row,
                        written,
                        turn,
                        refreshing,
                        last32,
                    )
                if kind == NONE or (bus == 1 and (kind <= WRITE) == (before <= WRITE)):
                    break
                before = kind
                e = queued[c, b, place]
                _issue(c, clock, kind, b, row[e], limits, gaps, open_row, hits, ready, recent, last32)
                if kind == REFRESH:
                    refreshing[c] = -1
                elif kind == ACTIVATE:
                    activates += 1
                elif kind <= WRITE:
                    queued[c, b, place : waiting[c, b] - 1] = queued[c, b, place + 1 : waiting[c, b]]
                    waiting[c, b] -= 1
                    in_banks[c] -= 1
                    served += 1
                    if kind == READ and served > warm:
                        waited += clock + limits.read_latency - entered[e]
                        read_total += 1
                    if served == warm:
                        start, activates = clock, 0
            full = write_count[c] >= size.write_buffer
            if draining[c] == 0 and (full or (write_count[c] > _IDLE_WRITES and in_banks[c] == 0)):
                draining[c] = write_count[c]
            if draining[c] > 0:
                if _move(writes, write_count, c, size.bank_queue, bank, queued, waiting):
                    draining[c] -= 1
                    in_banks[c] += 1
            elif _move(reads, read_count, c, size.bank_queue, bank, queued, waiting):
                in_banks[c] += 1
        clock += 1
    return clock - start, served - warm, activates, waited, read_total
