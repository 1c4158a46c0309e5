"""The same loop nests as ZigZag 3.9.1: words moved at every memory, cycles and energy, row by row.

    python -m validation.zigzag

``validation/data/peers/zigzag_reference.csv`` holds 48 runs of ZigZag on two of its own machines. Every row's mapping
is built as a :class:`sim.nest.Nest` and counted here. Nothing is fitted to a total: the bits of a memory word and the
energy of a word are read off the reference's own columns, and the test is that they explain all rows at once.

Compared: words, occupancy, ideal cycles, first load, last store, energy at the same loop order. Not compared: ZigZag's
stalls; in their place stands what the one DRAM port needs to move the words, which no latency can undercut.
"""

from validation.zigzag.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
