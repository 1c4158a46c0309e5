"""What moves data: cell area of the on-chip network and of the DMA, and the SRAM that holds bytes in flight.

A network is there when several arrays share the outer levels or a hop has a length; a single array next to its buffer
is wired to the buffer's own registers. Delivering ``w`` bits a cycle over ``hops`` hops takes links of ``w x hops``
bits in all, each with a router's input and output register and one more register every ``wire_mm_per_register``;
multicast adds a fork register for every delivered bit, so that a branch can wait for the others. Wires run over logic
and take no area. A network or DMA without a bound is as wide as what feeds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.cost import units
from sim.cost.technology import Floats, constant, node, sram
from sim.designs import Designs


def networked(designs: Designs) -> NDArray[np.bool_]:
    """Designs with a network between the outermost levels and the arrays."""
    return (designs["array.count"] > 1) | (designs["network.hop_mm"] > 0)


def delivered_bits(designs: Designs) -> Floats:
    """Bits a cycle that the network delivers at most; without a bound, all that every array could be sent at once."""
    clock, count = designs["clock_ghz"], designs["array.count"]
    sent = sum(
        (designs[f"{level}.tier"] == 1) * designs[f"{level}.bandwidth_gb_per_s"] for level in designs.levels
    )  # GB/s
    asked = designs["network.bandwidth_gb_per_s"]
    return 8 * np.where(np.isfinite(asked), asked, count * sent) / clock


def network_um2(designs: Designs) -> Floats:
    """Cell area of routers, registered wires, forks and each array's port control."""
    bits, hops = delivered_bits(designs), np.maximum(designs["network.hops"], 1)
    wires = designs["network.hop_mm"] / constant("wire_mm_per_register")
    stages = hops * (2 + wires) + designs["network.multicast"]
    control = designs["array.count"] * constant("network_port_bits")
    return np.where(networked(designs), units.registers(bits * stages + control), 0.0)


def in_flight_bytes(designs: Designs) -> Floats:
    """Bytes in flight that one DMA channel has room for: as asked, or what keeps DRAM's peak busy for its latency."""
    asked = designs["dma.in_flight_bytes"] / designs["dma.channels"]
    return np.where(np.isfinite(asked), asked, designs["dram.peak_gb_per_s"] * designs["dram.latency_ns"])


def dma_logic_um2(designs: Designs) -> Floats:
    """Cell area of all channels' control: descriptors (a second set to run ahead into the next op), one tracker for
    each request in flight, and counters that hand tiles to the vector unit."""
    requests = in_flight_bytes(designs) / constant("dma_request_bytes")
    bits = constant("dma_channel_bits") * (1 + designs["dma.prefetch_weights"])
    bits = bits + requests * constant("dma_request_bits")
    return units.registers(designs["dma.channels"] * bits + designs["dma.stream_vector"] * constant("dma_stream_bits"))


def dma_buffer_um2(designs: Designs) -> Floats:
    """SRAM area of the bytes in flight, a macro a channel, as wide as DRAM's peak is a cycle (within the SRAM grid)."""
    table = sram(node(designs["technology.node_nm"]))
    width = np.clip(8 * designs["dram.peak_gb_per_s"] / designs["clock_ghz"], table.narrowest_bits, table.widest_bits)
    (um2,) = table.at(in_flight_bytes(designs) / 1024, width, np.ones(len(designs)), "area_um2")
    return designs["dma.channels"] * um2
