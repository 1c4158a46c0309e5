"""Prices as the search kernels read them: pJ of a cycle that passes, of a DRAM byte, of a network byte, of levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.cost.energy import leakage_mw, prices
from sim.designs import Designs
from sim.memo import once
from sim.scores import (
    P_CHECK,
    P_CYCLE,
    P_DECODE,
    P_DRAM,
    P_FRONT,
    P_GATED,
    P_LEVEL,
    P_MAC,
    P_MAC_CYCLE,
    P_NETWORK,
    P_SCATTER,
    P_SPECIAL,
    P_VECTOR,
    PRICE_COLUMNS,
)


@once
def price_table(designs: Designs) -> NDArray[np.float64]:
    """[designs, PRICE_COLUMNS]. A cycle costs every PE its idle energy (a MAC comes on top, less the idle cycle that it
    takes the place of), leakage and DRAM background power."""
    found = prices(designs)
    out = np.zeros((len(designs), PRICE_COLUMNS))
    elements = designs["array.rows"] * designs["array.cols"] * designs["array.count"]
    power_mw = leakage_mw(designs) + designs["dram.background_mw"]
    out[:, P_CYCLE] = elements * found["idle_pe_cycles"] + power_mw / designs["clock_ghz"]
    out[:, P_DRAM] = found["dram_read_bytes"]
    out[:, P_NETWORK] = found["network_bytes"]
    out[:, P_MAC], out[:, P_MAC_CYCLE] = found["macs"], found["mac_cycles"] - found["idle_pe_cycles"]
    out[:, P_GATED] = found["gated_mac_cycles"] - found["idle_pe_cycles"]
    out[:, P_DECODE] = found["decodes"]
    out[:, P_FRONT], out[:, P_SCATTER] = found["front_end_ops"], found["scatter_ops"]
    out[:, P_CHECK] = found["intersections"]
    out[:, P_VECTOR], out[:, P_SPECIAL] = found["vector_ops"], found["special_function_ops"]
    for slot in range(len(designs.levels)):
        out[:, P_LEVEL + 2 * slot] = found[f"level{slot}_read_bytes"]
        out[:, P_LEVEL + 2 * slot + 1] = found[f"level{slot}_write_bytes"]
    return out
