"""Energy of logic that has an area but no energy row: that of an int8 MAC, by area."""

from __future__ import annotations

from typing import Any

from sim.cost.technology import Floats, cells_um2, component, constant


def from_area(cell_um2: Any, node_nm: int) -> Floats:
    """pJ of a cycle of arithmetic: (area / area of an int8 MAC) x energy of an int8 MAC."""
    return component("int8 mac acc32", "energy_pJ", node_nm) * cell_um2 / cells_um2("mac", "W=8;A=32")


def quiet_from_area(cell_um2: Any, node_nm: int) -> Floats:
    """The same of encoders, multiplexers and crossbars, of which only ``estimated_activity`` switches."""
    return constant("estimated_activity") * from_area(cell_um2, node_nm)
