"""The same counts as Sparseloop, and beside the machines that it was validated against.

    python -m validation.sparseloop

``validation/data/sparseloop`` holds Sparseloop's results for its exercises, for Eyeriss' DRAM compression and for the
processing element of Eyeriss v2, and the latencies of a dual-side sparse tensor core. Nothing is fitted.
"""

from validation.sparseloop.data import table

__all__ = ["table"]
