"""Sparse acceleration features: what becomes of the accesses and computes of a loop nest when operands have zeros."""

from sim.sparsity.features.count import count
from sim.sparsity.features.leader import leader_tile
from sim.sparsity.features.ranks import Rank
from sim.sparsity.features.spec import Features, Saf
from sim.sparsity.features.tally import Accesses, Computes, Counts, Metadata, Tally
from sim.sparsity.features.walk import walk

__all__ = [
    "Accesses",
    "Computes",
    "Counts",
    "Features",
    "Metadata",
    "Rank",
    "Saf",
    "Tally",
    "count",
    "leader_tile",
    "walk",
]
