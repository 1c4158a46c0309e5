"""Time of an op whose tiles are loaded, computed and stored through limited buffers over one DRAM bus.

The recurrence is ``physics.md`` §3; :func:`walk` steps it tile by tile, :func:`closed_form` is its solution when all
tiles are alike. All times in cycles, as floats. ``drain`` is the array's pipeline drain (fold alone minus interval,
minus the tail nobody waits for): paid once by an op that keeps the array fed (two buffers), and after every tile when a
single buffer lets the array run empty between tiles. Negative when only the tail is saved (folds that never overlap).
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, inline="always")
def closed_form(tiles, load, compute, store, drain, buffers):
    """Cycles of ``tiles`` equal tiles: exactly what :func:`walk` returns for them (``tests/sim/test_schedule.py``).

    Two buffers: the longest of the paths through the recurrence's graph. The array is the bottleneck
    (first load, all computes, last store), or the bus is, entered after the first compute or left for the last one.
    """
    bus = load + store
    if buffers == 1 or tiles <= 1.0:
        return tiles * (bus + compute + max(drain, 0.0)) + min(drain, 0.0)
    array_bound = bus + tiles * compute + drain
    last_waits = (tiles - 1.0) * bus + compute + drain + max(load, compute)
    bus_bound = (tiles - 1.0) * bus + max(bus, store + compute)
    return max(array_bound, last_waits, bus_bound)


@numba.njit(cache=True, inline="always")
def uneven(tiles, load, compute, store, drain, buffers, ends, bursts, burst_bus):
    """As :func:`closed_form` for tiles that load and store unevenly; ``load`` and ``store`` are then means.

    ``bursts`` of the tiles keep the bus for ``burst_bus`` cycles (those that bring the operand the inner loop reuses,
    or store a finished output), the others share what is left of it. Two buffers smooth over one tile only, so each
    kind of tile takes the longer of its compute and its own bus time. ``ends``: first load and last store, which
    nothing hides; one of the bursts is among them. What that estimate has over the same estimate of equal tiles is
    added to their exact form, so that equal tiles stay exact.
    """
    even = closed_form(tiles, load, compute, store, drain, buffers)
    if buffers == 1 or tiles <= 1.0:
        return even
    bus = load + store
    calm = tiles - bursts
    calm_bus = (tiles * bus - bursts * burst_bus) / calm if calm > 0.0 else 0.0
    uneven_tiles = ends + (bursts - 1.0) * max(compute, burst_bus) + calm * max(compute, calm_bus)
    equal_tiles = bus + (tiles - 1.0) * max(compute, bus)
    return even + max(0.0, uneven_tiles - equal_tiles)


@numba.njit(cache=True)
def walk(
    load: np.ndarray, compute: np.ndarray, store: np.ndarray, drain: float, buffers: int, ahead: float = 0.0
) -> tuple[float, np.ndarray]:
    """End of the last store, and [tiles, 6] start/end of load, compute, store, for arrays of per-tile cycles.

    Bus order is fixed: L0 .. L(B-1), then for each i: L(i+B), S(i). Output buffers = input buffers = ``buffers``.
    ``ahead``: cycles of a load for the next op, which takes the place of the first load that this op no longer has
    and has room of its own.
    """
    tiles = load.shape[0]
    times = np.zeros((tiles, 6))
    bus = 0.0
    for i in range(min(buffers, tiles)):
        times[i, 0] = bus
        bus += load[i]
        times[i, 1] = bus
    for i in range(tiles):
        start = times[i, 1]
        if i > 0:
            start = max(start, times[i - 1, 3])
        if i >= buffers:
            start = max(start, times[i - buffers, 5])
        times[i, 2] = start
        last = i == tiles - 1
        times[i, 3] = start + compute[i] + (drain if last or (buffers == 1 and drain > 0.0) else 0.0)
        next_load = i + buffers
        if next_load < tiles:
            times[next_load, 0] = max(bus, times[i, 3])
            bus = times[next_load, 0] + load[next_load]
            times[next_load, 1] = bus
        elif next_load == max(tiles, buffers):
            bus += ahead
        times[i, 4] = max(bus, times[i, 3])
        bus = times[i, 4] + store[i]
        times[i, 5] = bus
    return bus, times
