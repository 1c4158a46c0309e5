"""Round to nearest (RTN): every weight to the nearest level of its group. The baseline of all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.quantise.base import Streams, register
from workloads.quantise.uniform import UniformQuantiser


@register
@dataclass(frozen=True)
class Rtn(UniformQuantiser):
    """Nearest level, no calibration."""

    name = "rtn"

    def _encode(
        self, weight: np.ndarray, kept: np.ndarray, hessian: np.ndarray | None, tokens: int
    ) -> tuple[np.ndarray, Streams]:
        return self.grouped_streams(weight)
