"""Evaluating machines at fixed prices, so that a knob's own cost in area or energy does not blur what it buys."""

from __future__ import annotations

from unittest import mock

import numpy as np

from sim import analytic
from sim.analytic import Totals
from sim.counts import INDEX
from sim.designs import Designs
from sim.price_table import price_table
from sim.scores import P_CYCLE, P_DECODE, P_DRAM, P_FRONT, P_GATED, P_LEVEL, P_MAC, P_MAC_CYCLE, P_NETWORK, P_SCATTER
from sim.spec import MAX_LEVELS, Accelerator
from sim.trace import Trace


def totals(machine: Accelerator, trace: Trace, objective: str = "latency", effort: str = "full") -> Totals:
    """Sums over the trace by engine 1; ``failed`` says whether it fits, nothing is raised."""
    return analytic.run(Designs.from_machines([machine]), trace, objective=objective, effort=effort)


def at_prices(prices: np.ndarray, machine: Accelerator, trace: Trace, objective: str) -> Totals:
    """As :func:`totals`, with the search's prices (:mod:`sim.price_table`) set to ``prices`` [PRICE_COLUMNS]."""
    with mock.patch.object(analytic, "price_table", lambda designs: np.repeat(prices[None], len(designs), axis=0)):
        return totals(machine, trace, objective)


def prices_of(machine: Accelerator) -> np.ndarray:
    """[PRICE_COLUMNS] of one machine."""
    return price_table(Designs.from_machines([machine]))[0]


def decided_energy_pj(prices: np.ndarray, columns: np.ndarray) -> float:
    """pJ of an op's counted actions at ``prices``: cycles, MACs, decodes, front end, DRAM, network and level bytes."""
    spent = prices[P_CYCLE] * columns[INDEX["cycles"]] + prices[P_NETWORK] * columns[INDEX["network_bytes"]]
    spent += prices[P_DRAM] * (columns[INDEX["dram_read_bytes"]] + columns[INDEX["dram_write_bytes"]])
    for price, action in (
        (P_MAC, "macs"),
        (P_MAC_CYCLE, "mac_cycles"),
        (P_GATED, "gated_mac_cycles"),
        (P_DECODE, "decodes"),
        (P_FRONT, "front_end_ops"),
        (P_SCATTER, "scatter_ops"),
    ):
        spent += prices[price] * columns[INDEX[action]]
    for slot in range(MAX_LEVELS):
        spent += prices[P_LEVEL + 2 * slot] * columns[INDEX[f"level{slot}_read_bytes"]]
        spent += prices[P_LEVEL + 2 * slot + 1] * columns[INDEX[f"level{slot}_write_bytes"]]
    return float(spent)
