"""Density models: how many nonzeros a tile of a matrix holds (:class:`~sim.sparsity.density.base.DensityModel`)."""

from sim.sparsity.density.actual import Actual
from sim.sparsity.density.banded import Banded
from sim.sparsity.density.base import DensityModel, Occupancy, SpreadAlike
from sim.sparsity.density.bernoulli import Bernoulli
from sim.sparsity.density.fixed_structured import FixedStructured
from sim.sparsity.density.hypergeometric import Hypergeometric
from sim.sparsity.density.maximum_entropy import MaximumEntropy

__all__ = [
    "Actual",
    "Banded",
    "Bernoulli",
    "DensityModel",
    "FixedStructured",
    "Hypergeometric",
    "MaximumEntropy",
    "Occupancy",
    "SpreadAlike",
]
