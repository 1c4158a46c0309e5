"""Engine 2: tile by tile, in order, with every tile at its true size and its own nonzeros; the reference for engine 1.

It takes the mappings that engine 1 chose and walks them: which operand tiles change, what each tile loads, computes and
stores, limited buffers, DMA channels that share DRAM (:func:`sim.memory.schedule.walk`, :mod:`sim.memory.channels`).
On uniform work (all tiles alike, all loading the same) both engines agree exactly; elsewhere the difference is what
averaging over tiles hides. What only this engine does, where the machine asks for it (``dma``): several channels, the
next op's first weights loaded while an op ends, vector ops that follow the tiles of the GEMM before them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.account import (
    C_COMPUTE,
    C_DEPENDENCY,
    C_DRAM,
    C_FILL,
    C_LATENCY,
    C_VECTOR,
    around,
    vector_cycles,
)
from sim.analytic import Detail, slow_of
from sim.counts import CAUSES, INDEX
from sim.designs import D_COLS, D_COUNT, D_LEVELS, D_ROWS, L_BYTES, L_KEEPS, L_TIER, LEVEL_COLUMNS, Designs
from sim.fit import reserved_bytes
from sim.mapping import T_K, T_M, T_N
from sim.memory.channels import walk_channels
from sim.memory.keepers import level_room
from sim.memory.operands import WEIGHTS, tile_bytes
from sim.memory.schedule import walk
from sim.search import M_BUFFERS, M_NEST
from sim.sparse_ops import configuration
from sim.spec import MAX_LEVELS, MAX_TIERS, Dma
from sim.tile_weights import tile_weights
from sim.tiles import COMPUTE, LOAD_INPUTS, LOAD_WEIGHTS, STORE, tile_times
from sim.trace import Trace, position

_KIND, _REPEATS, _N, _K = (position(c) for c in ("kind", "repeats", "n", "k"))
_CAUSE_COLUMNS = [INDEX[c] for c in CAUSES]


@dataclass(frozen=True)
class Events:
    """When each tile of an op's first repetition loads, computes and stores, for drawing.

    ``start``: cycle at which the op starts; ``times`` [tiles, 6] start/end of load, compute, store after that (a vector
    op: one row, its time in the compute columns)."""

    op: str
    kind: str
    start: float
    times: NDArray[np.float64]


@dataclass
class Timeline:
    """``columns`` [ops, N_COLUMNS] as engine 1's, with walked cycles; ``events`` an op."""

    columns: NDArray[np.float64]
    events: list[Events]


def run_detailed(designs: Designs, trace: Trace, detail: Detail, dma: Dma) -> Timeline:
    """Engine 1's columns with every op's cycles walked; causes still add up to the cycles of each op."""
    d, ops, config = detail.kernel, trace.numeric(), configuration(designs)
    out = detail.columns.copy()
    walked = [_Walk(d, ops[i], trace, i, detail, config) if ops[i, _KIND] == 0.0 else None for i in range(len(trace))]
    clock, events = 0.0, []
    given = np.zeros(len(trace))  # cycles of an op's first weights that were loaded before it started
    for i, name in enumerate(trace.ops["name"]):
        repeats, state = ops[i, _REPEATS], int(detail.states[i])
        found = walked[i]
        if found is None:
            row = out[i] / repeats
            if dma.stream_vector and i and walked[i - 1] is not None and ops[i - 1, _REPEATS] == repeats:
                _stream(d, ops[i], state, walked[i - 1], row)
            _set_causes(out[i], row, repeats)
            events.append(Events(name, "vector", clock, np.array([[0.0, 0.0, 0.0, row[0], row[0], row[0]]])))
        else:
            ahead = 0.0
            if dma.prefetch_weights and dma.channels == 1 and repeats == 1.0:
                after = next((j for j in range(i + 1, len(trace)) if walked[j] is not None), None)
                ahead = 0.0 if after is None else _can_prefetch(d, ops, detail, walked, out, i, after, given)
            row = found.account(d, given[i], ahead, dma.channels)
            extra, _, _ = around(d, ops[i], state, found.dram)
            row[C_LATENCY] = out[i, C_LATENCY] / repeats
            row[C_DRAM] += extra - row[C_LATENCY]
            row[0] += extra
            _set_causes(out[i], row, repeats)
            events.append(Events(name, "gemm", clock, found.times))
        elements = d[D_ROWS] * d[D_COLS] * d[D_COUNT]
        working = out[i, INDEX["mac_cycles"]] + out[i, INDEX["gated_mac_cycles"]]
        out[i, INDEX["idle_pe_cycles"]] = max(0.0, out[i, 0] * elements - working)
        clock += out[i, 0]
    return Timeline(out, events)


def _set_causes(into: NDArray[np.float64], row: NDArray[np.float64], repeats: float) -> None:
    into[0] = row[0] * repeats
    into[_CAUSE_COLUMNS] = row[_CAUSE_COLUMNS] * repeats


class _Walk:
    """One GEMM's tiles and, once accounted, when each ran."""

    def __init__(self, d, o, trace: Trace, i: int, detail: Detail, config: dict[str, float]):
        mapping, sparse = detail.mappings[i], detail.sparse[i]
        tile_n, tile_k = int(mapping[M_NEST + T_N]), int(mapping[M_NEST + T_K])
        weights = tile_weights(config, trace, i, sparse, tile_n, tile_k)
        read, write = detail.columns[i, INDEX["dram_read_bytes"]], detail.columns[i, INDEX["dram_write_bytes"]]
        self.dram = read + write
        self.causes = np.zeros(detail.columns.shape[1])
        share = write / max(self.dram, 1e-30)
        slow = slow_of(d, o)
        self.tiles, self.drain = tile_times(
            d, o, sparse, slow, mapping, int(detail.states[i]), weights, share, self.causes
        )
        self.buffers = int(mapping[M_BUFFERS])
        self.times = np.zeros((len(self.tiles), 6))

    def account(self, d, given: float, ahead: float, channels: int) -> NDArray[np.float64]:
        """Cycles and causes of one repetition; ``given``: cycles of the first weights loaded before it started."""
        tiles = self.tiles.copy()
        tiles[0, LOAD_WEIGHTS] = max(0.0, tiles[0, LOAD_WEIGHTS] - given)
        load = tiles[:, LOAD_WEIGHTS] + tiles[:, LOAD_INPUTS]
        if channels == 1:
            end, self.times = walk(load, tiles[:, COMPUTE], tiles[:, STORE], self.drain, self.buffers, ahead)
        else:
            end, self.times = walk_channels(tiles, self.drain, self.buffers, channels)
        row = self.causes.copy()
        drains = len(tiles) if self.buffers == 1 else 1
        drain = max(self.drain, 0.0) * drains + min(self.drain, 0.0)
        row[C_FILL] += drain
        busy = tiles[:, COMPUTE].sum() + drain
        waiting = end - busy
        bus = min(waiting, max(0.0, load.sum() + tiles[:, STORE].sum() + ahead - busy))
        row[C_DRAM] += bus
        row[C_DEPENDENCY] += waiting - bus
        row[0] = end
        return row


def _can_prefetch(d, ops, detail: Detail, walked, out, i: int, after: int, given) -> float:
    """Cycles of op ``after``'s first weights to load while op ``i`` ends, 0 if they have no room or gain nothing; what
    vector ops in between leave of DRAM's time is used first. Notes in ``given`` how much of the load is done."""
    wanted = walked[after].tiles[0, LOAD_WEIGHTS]
    if wanted <= 0.0 or ops[after, _REPEATS] != 1.0 or not _room_ahead(d, ops, detail, i, after):
        return 0.0
    idle = 0.0
    for j in range(i + 1, after):
        idle += max(0.0, out[j, 0] - out[j, C_DRAM] - vector_cycles(d, ops[j], int(detail.states[j]))[2])
    hidden = min(wanted, idle)
    rest = wanted - hidden
    found = walked[i]
    load = found.tiles[:, LOAD_WEIGHTS] + found.tiles[:, LOAD_INPUTS]
    plain, _ = walk(load, found.tiles[:, COMPUTE], found.tiles[:, STORE], found.drain, found.buffers)
    longer, _ = walk(load, found.tiles[:, COMPUTE], found.tiles[:, STORE], found.drain, found.buffers, rest)
    if longer - plain >= rest:
        rest = 0.0
    given[after] = hidden + rest
    return rest


def _room_ahead(d, ops, detail: Detail, i: int, after: int) -> bool:
    """Whether the level that keeps weights has room for the next op's first tile beside this op's tiles."""
    nest = np.zeros((MAX_TIERS + 1, 3))
    nest[1] = detail.mappings[i, M_NEST : M_NEST + 3]
    state, buffers = int(detail.states[i]), int(detail.mappings[i, M_BUFFERS])
    m, n, k = detail.mappings[after, [M_NEST + T_M, M_NEST + T_N, M_NEST + T_K]]
    wanted = tile_bytes(ops[after], detail.sparse[after], WEIGHTS, m, n, k)
    for slot in range(MAX_LEVELS):
        at = D_LEVELS + slot * LEVEL_COLUMNS
        if d[at + L_BYTES] > 0.0 and d[at + L_TIER] == 1.0 and (int(d[at + L_KEEPS]) >> WEIGHTS) & 1:
            reserved = reserved_bytes(ops[i], state)
            used = level_room(d, ops[i], detail.sparse[i], slot, nest, buffers, False, True, state & 1, state > 1)
            return used + wanted + reserved <= d[at + L_BYTES]
    return False


def _stream(d, o, state: int, before: _Walk, row: NDArray[np.float64]) -> None:
    """Shorten a vector op that follows the tiles of the GEMM before it: each tile's share starts once the tile is done
    (row statistics are taken as rows pass). What hides behind the GEMM leaves every cause in proportion."""
    alone = max(vector_cycles(d, o, state)[:3])
    if alone <= 0.0 or len(before.times) < 2:
        return
    share, done = alone / len(before.times), 0.0
    for end in before.times[:, 3]:
        done = max(done, end) + share
    tiles, last = before.tiles, before.times[-1, 5]
    idle = last - (tiles[:, LOAD_WEIGHTS] + tiles[:, LOAD_INPUTS] + tiles[:, STORE]).sum()
    moving = vector_cycles(d, o, state)[2]  # DRAM serves both: only its idle time hides the vector op's bytes
    left = max(0.0, min(alone, max(done - last, moving - idle)))
    rest = row[0] - alone
    keep = left / alone
    for cause in (C_COMPUTE, C_VECTOR, *(INDEX[c] for c in CAUSES if c.endswith("bandwidth"))):
        row[cause] *= keep
    row[C_DRAM] += max(0.0, rest - row[C_LATENCY]) * (1.0 - keep)
    row[0] = row[_CAUSE_COLUMNS].sum()
