"""DRAM compression of Eyeriss: 16-bit values, each with a 5-bit run of zeros before it, three and a flag in 64 bits."""

from __future__ import annotations

import pandas as pd

from sim.sparsity import formats
from validation.sparseloop.data import table

VALUE_BITS = 16
PAIRS_BITS, WORD_BITS = 63, 64
"""Three pairs of 21 bits in each word; the last bit says whether it ends the layer."""
DENSE_ABOVE = 0.9
"""Inputs denser than this come raw (the first layer: an image), as in the reference's own evaluation."""


def bits_per_element(density: pd.Series) -> pd.Series:
    """Expected bits an element; a run of more than 31 zeros needs a pair of its own, zeros spread at random."""
    elements = 1e6
    stored = 8.0 * formats.bytes_of("run_length", 1, elements, density * elements, VALUE_BITS) / elements
    return pd.Series(stored * WORD_BITS / PAIRS_BITS, density.index)


def compare() -> pd.DataFrame:
    """A row a layer: DRAM bits without compression over those with it, by Sparseloop, here, and of the chip.

    Weights go raw; inputs and outputs are as many values as the reference reads and writes.
    """
    rows = table("eyeriss_dram_compression").merge(table("eyeriss_chip_dram_compression"), on="layer")
    outputs = rows.sparse_outputs / rows.density_outputs
    inputs = rows.dense_dram_accesses - rows.sparse_weights - outputs
    raw = rows.density_inputs > DENSE_ABOVE
    per_input = bits_per_element(rows.density_inputs).where(~raw, VALUE_BITS)
    bits = rows.sparse_weights * VALUE_BITS + inputs * per_input + outputs * bits_per_element(rows.density_outputs)
    found = rows[["layer", "density_inputs", "density_outputs"]].assign(
        chip=rows.chip_dram_compression_ratio,
        sparseloop=rows.sparseloop_dram_compression_ratio,
        ours=rows.dense_dram_accesses * VALUE_BITS / bits,
    )
    for who in ("sparseloop", "ours"):
        found[f"{who}_error_percent"] = 100.0 * (found[who] / found.chip - 1.0)
    return found
