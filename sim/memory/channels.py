"""Tiles through several DMA channels that share DRAM's bandwidth, event by event.

Each channel serves its own transfers in order and one at a time: loads and stores apart (two channels), weights and
other loads apart (three). Channels that transfer at the same time share the bandwidth equally; a transfer's length is
what it takes alone. Buffers bound how far loads run ahead and how far stores lag behind, as in
:func:`sim.memory.schedule.walk`.
"""

from __future__ import annotations

import numba
import numpy as np

from sim.tiles import COMPUTE, LOAD_INPUTS, LOAD_WEIGHTS, STORE


@numba.njit(cache=True)
def walk_channels(times: np.ndarray, drain: float, buffers: int, channels: int) -> tuple[float, np.ndarray]:
    """End of the last store, and [tiles, 6] start/end of load, compute, store; ``times`` [tiles, 4] as
    :func:`sim.tiles.tile_times` returns them."""
    tiles = len(times)
    out = np.zeros((tiles, 6))
    lanes = 3 if channels >= 3 else 2
    head, left, began = np.zeros(3, dtype=np.int64), np.zeros(3), np.full(3, -1.0)
    computed, now = 0, 0.0
    computing_until = np.inf
    while True:
        for lane in range(lanes):
            i = head[lane]
            if i >= tiles or began[lane] >= 0.0 or not _ready(lane, i, buffers, computed):
                continue
            began[lane] = now
            left[lane] = _length(times, lane, i, lanes)
        if computed < tiles and np.isinf(computing_until):
            loads = min(head[0], head[2]) if lanes == 3 else head[0]
            if loads > computed and (computed < buffers or head[1] > computed - buffers):
                i = computed
                out[i, 2] = now
                last = i == tiles - 1
                length = times[i, COMPUTE] + (drain if last or (buffers == 1 and drain > 0.0) else 0.0)
                computing_until = now + length
        active = 0
        for lane in range(lanes):
            active += began[lane] >= 0.0
        if active == 0 and np.isinf(computing_until):
            return now, out
        step = computing_until - now
        for lane in range(lanes):
            if began[lane] >= 0.0:
                step = min(step, left[lane] * active)
        now += step
        for lane in range(lanes):
            if began[lane] < 0.0:
                continue
            left[lane] -= step / active
            if left[lane] <= 1e-9:
                i = head[lane]
                if lane == 1:
                    out[i, 4], out[i, 5] = began[lane], now
                else:
                    out[i, 0] = began[lane] if lanes == 2 or out[i, 1] == 0.0 else min(out[i, 0], began[lane])
                    out[i, 1] = max(out[i, 1], now)
                head[lane] += 1
                began[lane] = -1.0
        if computing_until <= now + 1e-12:
            out[computed, 3] = now
            computed += 1
            computing_until = np.inf


@numba.njit(cache=True)
def _ready(lane, i, buffers, computed):
    """Whether transfer ``i`` of a lane may start: loads once their buffer is free, stores once their tile is done."""
    return computed > i if lane == 1 else i < buffers or computed > i - buffers


@numba.njit(cache=True)
def _length(times, lane, i, lanes):
    if lane == 1:
        return times[i, STORE]
    if lane == 2:
        return times[i, LOAD_INPUTS]
    return times[i, LOAD_WEIGHTS] + (0.0 if lanes == 3 else times[i, LOAD_INPUTS])
