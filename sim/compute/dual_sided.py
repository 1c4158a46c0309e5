"""Cycles of an outer-product array that skips zeros of both operands: only whole granules of nonzeros are skipped.

For each k, ``lanes`` rows of the inputs and ``lanes`` output features are packed and multiplied, ``input_granule`` x
``weight_granule`` nonzeros a cycle: a column of a nonzeros and a row of b take ceil(a / input_granule) x
ceil(b / weight_granule) cycles. The model of the dual-side sparse tensor core (Wang et al., ISCA 2021: 32 lanes, 8 and
16), without fill, bank conflicts of the accumulators or memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InputError
from sim.nest.parts import settle, whole
from sim.sparsity.density import Actual, DensityModel


@dataclass(frozen=True)
class DualSided:
    """lanes: rows and output features of a tile. input_granule, weight_granule: nonzeros that one cycle takes.

    Raises InputError for sides that are not whole numbers >= 1.
    """

    lanes: int = 32
    input_granule: int = 8
    weight_granule: int = 16

    def __post_init__(self) -> None:
        settle(
            self, **{name: whole(getattr(self, name), name) for name in ("lanes", "input_granule", "weight_granule")}
        )

    def cycles(self, inputs: DensityModel, weights: DensityModel) -> float:
        """Expected cycles of one array for inputs m x k and weights n x k, taken as independent of each other.

        With short last tiles the granules of a k are the tiles times their mean. Raises InputError if k differs.
        """
        self._same_k(inputs, weights)
        return self.input_granules(inputs) * self.weight_granules(weights)

    def input_granules(self, inputs: DensityModel) -> float:
        """Expected granules of one position of K, all tiles of m together; ``inputs``: m x k."""
        return self._granules(inputs, self.input_granule)

    def weight_granules(self, weights: DensityModel) -> float:
        """Expected granules of all positions of K, all tiles of n together; ``weights``: n x k."""
        return weights.shape[1] * self._granules(weights, self.weight_granule)

    def walk(self, inputs: ArrayLike, weights: ArrayLike) -> int:
        """Exact cycles for masks m x k and n x k: what meets at each k is multiplied.

        Raises InputError if k differs.
        """
        pairs = ((Actual(inputs), self.input_granule), (Actual(weights), self.weight_granule))
        self._same_k(*(model for model, _ in pairs))
        down, across = (_whole_granules(model.nonzeros(self.lanes, 1), granule).sum(axis=0) for model, granule in pairs)
        return int(down @ across)

    @staticmethod
    def _same_k(inputs: DensityModel, weights: DensityModel) -> None:
        if inputs.shape[1] != weights.shape[1]:
            raise InputError(f"inputs have k = {inputs.shape[1]}, weights k = {weights.shape[1]}: they must be equal")

    def _granules(self, model: DensityModel, granule: int) -> float:
        """Expected granules of one k, all tiles of lanes together."""
        counts, chances = model.occupancy(self.lanes, 1)
        tiles = -(-model.shape[0] // self.lanes)
        return float(tiles * (_whole_granules(counts, granule) @ chances))


def _whole_granules(nonzeros: NDArray[np.int64], granule: int) -> NDArray[np.int64]:
    return -(-nonzeros // granule)
