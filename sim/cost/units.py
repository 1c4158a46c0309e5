"""Cell areas (um2, before placement) of the units an array is made of, for any operand widths; all broadcast.

Synthesised rows exist for 4-, 8- and 16-bit multiply-accumulates and for 4- and 8-bit PEs. Other widths: the multiply-
accumulate is interpolated log-log in the geometric mean of the operand widths and linearly in accumulator bits; what a
PE adds to it (registers, control) grows linearly with its state bits, through the two synthesised PEs, and is no less
than its flip-flops.

Other arithmetic (:mod:`sim.compute.precision`) is assembled from these units. Composable: the fixed multiply-accumulate
times ``composable_area``. Bit-serial: a row of AND gates (priced as 2:1 multiplexers), a share of an adder tree over
``serial_products`` products (a tree of n operands of b bits takes about n (b + 1) full adders), and a share of the
accumulator's adder behind it, as in the inner-product units of Stripes and Loom.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.compute.precision import COMPOSABLE, PARALLEL, SERIAL
from sim.cost.technology import Floats, cells_um2, constant, loglog

_MAC_POINTS = ((4, 24), (8, 32), (16, 48))  # operand and accumulator bits of the synthesised rows


def mac(weight_bits: Any, activation_bits: Any, accumulator_bits: Any) -> Floats:
    """Multiply-accumulate, no registers."""
    width = np.sqrt(np.asarray(weight_bits, dtype=np.float64) * activation_bits)
    operand, accumulator = zip(*_MAC_POINTS, strict=True)
    area = loglog(width, operand, [cells_um2("mac", f"W={w};A={a}") for w, a in _MAC_POINTS])
    per_bit = (cells_um2("mac", "W=8;A=32") - cells_um2("mac", "W=8;A=24")) / 8
    return area + per_bit * (accumulator_bits - loglog(width, operand, accumulator))


def multiply_accumulate(arithmetic: Any, weight_bits: Any, activation_bits: Any, accumulator_bits: Any) -> Floats:
    """What computes in a PE of native widths, no registers; ``arithmetic``: codes of :mod:`sim.compute.precision`."""
    arithmetic = np.asarray(arithmetic)
    fixed = mac(weight_bits, activation_bits, accumulator_bits)
    side = np.where(arithmetic == SERIAL, 1, activation_bits)  # bits that meet one weight bit in a cycle
    serial = multiplexer(2, side) + adder(side + 1) + adder(accumulator_bits) / constant("serial_products")
    parallel = fixed * np.where(arithmetic == COMPOSABLE, constant("composable_area"), 1.0)
    return np.where((arithmetic == PARALLEL) | (arithmetic == COMPOSABLE), parallel, serial)


def _pe(
    mac_um2: Floats, bits: Any, unit: str, base: tuple[str, float], wide: tuple[str, float], narrow: tuple[str, float]
) -> Floats:
    """A PE: its multiply-accumulate plus what the synthesised PE ``base`` adds, corrected for other state bits.

    ``base``, ``wide`` and ``narrow`` are (parameters, state bits) of synthesised rows: 8, 8 and 4 bit operands.
    """
    extra = {p: cells_um2(unit, p) - cells_um2("mac", ";".join(p.split(";")[:2])) for p, _ in (base, wide, narrow)}
    per_bit = (extra[wide[0]] - extra[narrow[0]]) / (wide[1] - narrow[1])
    return mac_um2 + np.maximum(extra[base[0]] + per_bit * (bits - base[1]), registers(bits))


def stationary_pe(area: Floats, held_bits: Any, moving_bits: Any, accumulator_bits: Any, shadow: Any) -> Floats:
    """Weight- (or input-) stationary PE around a multiply-accumulate of ``area``, with registers of the bits given;
    ``shadow``: a second register for the held operand (double buffer)."""
    rows = (("W=8;A=32;DB=1", 56.0), ("W=4;A=24;DB=1", 36.0))
    bits = moving_bits + held_bits + accumulator_bits
    single = _pe(area, bits, "pe_ws", ("W=8;A=32;DB=0", 48.0), *rows)
    double = _pe(area, bits + held_bits, "pe_ws", rows[0], *rows)
    return np.where(shadow, double, single)


def output_pe(area: Floats, weight_bits: Any, activation_bits: Any, accumulator_bits: Any, shadow: Any) -> Floats:
    """Output-stationary PE, arguments alike; ``shadow``: a second accumulator that drains while the next fold runs."""
    rows = (("W=8;A=32;SH=1", 80.0), ("W=4;A=24;SH=1", 56.0))
    bits = weight_bits + activation_bits + accumulator_bits
    single = _pe(area, bits, "pe_os", ("W=8;A=32;SH=0", 48.0), *rows)
    double = _pe(area, bits + accumulator_bits, "pe_os", rows[0], *rows)
    return np.where(shadow, double, single)


def lane_pe(area: Floats, accumulator_bits: Any) -> Floats:
    """A multiply-accumulate of ``area`` with its accumulator: one lane and one activation vector."""
    rows = (("W=8;A=32", 32.0), ("W=4;A=24", 24.0))
    return _pe(area, accumulator_bits, "macreg", rows[0], *rows)


def structured_extra(output_stationary: Any, m: Any, operand_bits: Any) -> Floats:
    """What n:m support adds to a PE: the synthesised 2:4 difference, scaled by select inputs (m - 1) and width."""
    of_four = np.where(
        output_stationary,
        cells_um2("pe_os24", "W=8;A=32") - cells_um2("pe_os", "W=8;A=32;SH=1"),
        cells_um2("pe_ws24", "W=8;A=32") - cells_um2("pe_ws", "W=8;A=32;DB=1"),
    )
    return np.where(np.asarray(m) > 0, of_four * (np.asarray(m) - 1) / 3 * operand_bits / 8, 0.0)


def registers(bits: Any) -> Floats:
    """Flip-flops with enable."""
    return np.asarray(bits, dtype=np.float64) * cells_um2("regs", "W=32") / 32


def encoder(positions: Any) -> Floats:
    """Priority encoder; deeper tiles than the widest synthesised are scanned in windows, with a position counter."""
    widest = constant("encoder_widest")
    positions = np.asarray(positions, dtype=np.float64)
    widths = (16, 64, 128)
    scan = loglog(np.minimum(positions, widest), widths, [cells_um2("prienc", f"T={t}") for t in widths])
    return scan + registers(np.log2(np.maximum(positions, widest) / widest))


def multiplexer(inputs: Any, bits: Any) -> Floats:
    """``inputs``:1 of ``bits`` wide words as a tree of 4:1 multiplexers."""
    return np.maximum(np.asarray(inputs, dtype=np.float64) - 1, 0) / 3 * cells_um2("mux4", "W=8") * bits / 8


def crossbar(ports: Any, bits: Any) -> Floats:
    """``ports`` x ``ports`` crossbar of ``bits`` wide words; nothing for a single port."""
    ports = np.asarray(ports, dtype=np.float64)
    area = loglog(np.maximum(ports, 1), (8, 16), [cells_um2("xbar", f"N={n};W=8") for n in (8, 16)])
    return np.where(ports > 1, area * bits / constant("crossbar_payload_bits_per_row"), 0.0)


def adder(bits: Any) -> Floats:
    """Ripple-to-prefix adder as synthesised."""
    widths = (16, 24, 32)
    return loglog(bits, widths, [cells_um2("add", f"W={w}") for w in widths])


def fp16_mac() -> float:
    """Half-precision multiply, single-precision accumulate, with its register."""
    return cells_um2("fpmac", "E=5;M=10;OE=8;OM=23") + float(registers(32))
