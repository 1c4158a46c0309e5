"""The closed forms of sim/memory/dma.py against small machines that step request by request."""

from collections import OrderedDict
from heapq import heappop, heappush

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.memory import dma


def stepped_transfer(rows, row_bytes, bus, request_bytes, latency, in_flight):
    """End of the last request: each waits for a free slot and the bus, and gives its slot back after ``latency``."""
    slots, bus_free, end = [0.0] * in_flight, 0.0, 0.0
    for _ in range(rows):
        left = row_bytes
        while left > 0:
            size = min(left, request_bytes)
            start = max(heappop(slots), bus_free)
            bus_free = start + -(-size // bus)
            end = max(bus_free, start + latency)
            heappush(slots, end)
            left -= size
    return end


@pytest.mark.parametrize("latency", [3, 40, 72, 400])
@pytest.mark.parametrize("row_bytes", [1, 16, 24, 48, 64, 128])
def test_a_transfer_runs_at_the_rate_of_one_stepped_request_by_request(row_bytes, latency):
    rows, bus, request_bytes, in_flight = 4000, 16, 64, 16
    expected = stepped_transfer(rows, row_bytes, bus, request_bytes, latency, in_flight)
    got = dma.transfer_cycles(rows * row_bytes, rows, bus, request_bytes, latency, in_flight)
    assert got == pytest.approx(expected, rel=0.01)
    assert got <= expected


def test_the_rate_has_its_knee_where_the_bytes_in_flight_cover_the_latency():
    bus, latency = 16.0, 50.0
    assert dma.effective_bytes_per_cycle(bus, latency, bus * latency) == bus
    assert dma.effective_bytes_per_cycle(bus, latency, bus * latency - 1) < bus
    assert dma.effective_bytes_per_cycle(bus, latency, bus * latency + 1) == bus


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 600), st.integers(1, 64))
def test_full_requests_move_at_the_effective_rate(rows, blocks, latency, in_flight):
    moved = rows * blocks * 64
    rate = dma.effective_bytes_per_cycle(16, latency, in_flight * 64)
    assert dma.transfer_cycles(moved, rows, 16, 64, latency, in_flight) == pytest.approx(moved / rate)


@given(
    st.integers(1, 3000),
    st.integers(1, 300),
    st.integers(1, 600),
    st.integers(1, 64),
    st.integers(1, 5),
)
def test_more_in_flight_a_wider_bus_and_less_latency_never_cost_cycles(rows, row_bytes, latency, in_flight, more):
    def cycles(bus=16, request=64, latency=latency, in_flight=in_flight):
        return dma.transfer_cycles(rows * row_bytes, rows, bus, request, latency, in_flight)

    assert cycles(in_flight=in_flight + more) <= cycles()
    assert cycles(bus=16 * more) <= cycles()
    assert cycles(request=64 * more) <= cycles()
    assert cycles(latency=latency + more) >= cycles()
    least = rows * row_bytes / dma.effective_bytes_per_cycle(16, latency, in_flight * 64)
    assert cycles() >= least * (1 - 1e-12)  # a quotient of quotients


def test_short_rows_waste_beats_and_requests():
    assert dma.transfer_cycles(640, 10, 16, 64, 1, 16) == 40
    assert dma.transfer_cycles(640, 40, 16, 64, 1, 16) == 40
    assert dma.transfer_cycles(640, 80, 16, 64, 1, 16) == 80
    assert dma.request_count(640, 10, 64) == 10
    assert dma.request_count(650, 10, 64) == 20
    assert list(dma.request_count(np.array([64, 65, 128]), 1, 64)) == [1, 2, 2]


@pytest.mark.parametrize("work", [1, 4, 8, 9, 30])
def test_a_window_of_instructions_issues_as_one_stepped_in_order(work):
    """Instruction i starts when the unit is free and instruction i - entries has left (``occupancy`` on)."""
    entries, occupancy, count = 8, 63, 5000
    entered = OrderedDict()
    unit = 0
    for i in range(count):
        start = max(unit, entered.pop(i - entries) + occupancy if i >= entries else 0)
        entered[i] = start
        unit = start + work
    assert dma.issue_bound_cycles(count * work, count, occupancy, entries) == pytest.approx(unit, rel=0.005)


@pytest.mark.parametrize("touched", [100, 500, 1000, 3000])
def test_random_victims_leave_what_the_exponential_says(touched):
    rng, lines, survivors, trials = np.random.default_rng(1), 1000, 0, 30
    for _ in range(trials):
        cache = np.ones(lines, bool)
        cache[rng.integers(0, lines, touched)] = False
        survivors += cache.sum()
    lost = 1 - survivors / (trials * lines)
    assert dma.evicted_fraction(64.0 * touched, 64.0 * lines) == pytest.approx(lost, abs=0.01)


def test_compiled_code_gives_what_python_gives():
    @numba.njit
    def compiled(moved, rows, latency):
        cycles = dma.transfer_cycles(moved, rows, 16, 64, latency, 16)
        return dma.issue_bound_cycles(cycles, rows, latency, 8) * (1 - dma.evicted_fraction(moved, 1 << 20))

    for moved, rows, latency in ((4096, 64, 72), (4096, 256, 400), (99, 9, 3)):
        assert compiled(moved, rows, latency) == pytest.approx(compiled.py_func(moved, rows, latency))
