"""Time of a DMA whose rate is bounded by what it keeps in flight, and of work bounded by how it is issued.

Little's law twice: bytes (or requests) in flight over latency bound a transfer, instructions in a window over the
time each stays in it bound the issue. Plain arithmetic on numbers, arrays or Numba scalars; everything broadcasts and
nothing is checked. Measured against RTL by ``validation/gemmini.py``.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable


@register_jitable
def effective_bytes_per_cycle(bus_bytes_per_cycle, latency_cycles, in_flight_bytes):
    """Sustained bytes a cycle: the bus, or the bytes in flight over the latency of one request (> 0, cycles)."""
    return np.minimum(bus_bytes_per_cycle, in_flight_bytes / latency_cycles)


@register_jitable
def request_count(moved_bytes, rows, request_bytes):
    """Requests for ``moved_bytes`` in ``rows`` equal rows: a request never spans two rows, nor exceeds its size."""
    return rows * np.ceil(moved_bytes / rows / request_bytes)


@register_jitable
def transfer_cycles(moved_bytes, rows, bus_bytes_per_cycle, request_bytes, latency_cycles, in_flight_requests):
    """Cycles of a long transfer of ``moved_bytes`` (bytes) in ``rows`` (>= 1) equal rows.

    The slower of the bus, where a row that does not fill its last beat wastes the rest of it, and of the requests,
    ``in_flight_requests`` of which overlap during ``latency_cycles``. Steady rate: the first request's latency is not
    added. Rows much shorter than ``request_bytes`` cost what full ones do once latency is the bound.
    """
    beats = rows * np.ceil(moved_bytes / rows / bus_bytes_per_cycle)
    requests = request_count(moved_bytes, rows, request_bytes)
    return np.maximum(beats, requests * latency_cycles / in_flight_requests)


@register_jitable
def issue_bound_cycles(work_cycles, instructions, occupancy_cycles, window_entries):
    """Cycles of ``work_cycles`` of work in ``instructions`` that each hold one of ``window_entries`` for a while.

    An instruction holds its entry for ``occupancy_cycles``, so short ones cannot fill the machine behind the window.
    """
    return np.maximum(work_cycles, instructions * occupancy_cycles / window_entries)


@register_jitable
def evicted_fraction(touched_bytes, capacity_bytes):
    """Part of a cache's lines lost while ``touched_bytes`` pass through it, victims being picked at random.

    Each insertion spares a given line with probability 1 - 1/lines, so what survives is exp(-touched / capacity). Takes
    all that is touched as inserted: pessimistic when much of it hits.
    """
    return 1.0 - np.exp(-touched_bytes / capacity_bytes)
