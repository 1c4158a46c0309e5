"""Mappings that people fix: tile sizes and loop orders per tier, for ops by name, from a YAML file or a mapping.

::

    mappings:
      "*_proj":                    # op name, shell-style pattern; the first that matches counts
        tiers:                     # from the outside in, as many as the machine has
          - {m: 128, n: 512, k: 576, order: nmk}     # tile sizes of tier 1; loops outermost first
          - {m: 128, n: 128, k: 576, order: mnk}
        buffers: 2                 # tiles in flight in tier 1 (default: 2 if its levels are double buffered)
        sums: held                 # bypass: partial sums pass inner levels that could hold them; or the tiers passed
        single: false              # use double-buffered levels that hold one tile only
        split: {m: 1, n: 1, k: 1}  # arrays along each dimension

A tile size beyond the op's own dimension means the whole dimension. Ops that no pattern names are mapped by the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sim.designs import D_COUNT, D_SPLIT, D_TIERS, Designs, kernel_matrix
from sim.errors import InputError
from sim.fit import most_buffers
from sim.mapping import ORDERS, T_ORDER, TIER_COLUMNS
from sim.memory.keepers import SINGLE_USE
from sim.search import M_BUFFERS, M_BYPASS, M_NEST, M_SCORE, M_SINGLE, M_SPLIT_M, MAPPING_COLUMNS
from sim.spec import MAX_TIERS, describe
from sim.trace import Trace

OrderName = Literal["mnk", "mkn", "nmk", "nkm", "kmn", "knm"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tier(_Part):
    """Tile sizes of one tier and the order of the loops over them, outermost first."""

    m: int = Field(gt=0)
    n: int = Field(gt=0)
    k: int = Field(gt=0)
    order: OrderName = "mnk"


class Split(_Part):
    """Arrays along each dimension."""

    m: int = Field(default=1, gt=0)
    n: int = Field(default=1, gt=0)
    k: int = Field(default=1, gt=0)


class FixedMapping(_Part):
    """One op's mapping."""

    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=MAX_TIERS)
    buffers: Literal[1, 2] | None = None
    sums: Literal["held", "bypass"] | tuple[int, ...] = "held"
    single: bool = False
    split: Split = Split()


@dataclass(frozen=True)
class FixedMappings:
    """Op name pattern to mapping; the first pattern that matches counts."""

    by_name: Mapping[str, FixedMapping]
    where: str = "mapping"

    @classmethod
    def build(cls, raw: Any, where: str = "mapping") -> FixedMappings:
        """From plain data: ``{"mappings": {pattern: {...}}}``, or one mapping (``{"tiers": [...]}``) for every op."""
        if isinstance(raw, FixedMappings):
            return raw
        if not isinstance(raw, Mapping):
            raise InputError(f"{where}: a mapping file holds fields, got {type(raw).__name__}")
        given = {"*": raw} if "tiers" in raw else raw.get("mappings")
        if not isinstance(given, Mapping) or not given or ("tiers" not in raw and len(raw) != 1):
            raise InputError(f"{where}: needs either 'tiers' or 'mappings' (op name pattern to mapping)")
        found = {}
        for pattern, fields in given.items():
            try:
                found[str(pattern)] = FixedMapping.model_validate(fields)
            except ValidationError as error:
                raise InputError(describe(error, f"{where}: {pattern}", model=FixedMapping)) from None
        return cls(found, where)

    def table(self, designs: Designs, trace: Trace) -> NDArray[np.float64]:
        """[ops, MAPPING_COLUMNS]: score 0 where a mapping is fixed, -1 where the search is free.

        Raises:
            InputError: tiers that the machine does not have, tiles that grow inwards or do not divide, a split that is
                more than the arrays or not along the machine's axis, buffers that it does not have, a pattern that
                names
                no op.
        """
        d = kernel_matrix(designs)[0]
        names = [str(n) for n in trace.ops["name"]]
        for pattern in self.by_name:
            if not any(fnmatchcase(n, pattern) for n in names):
                raise InputError(f"{self.where}: '{pattern}' names no op of the trace ({', '.join(names[:5])}, ...)")
        out = np.zeros((len(trace), MAPPING_COLUMNS))
        out[:, M_SCORE] = -1.0
        sizes = trace.ops[["m", "n", "k"]].to_numpy(dtype=np.float64)
        for i, name in enumerate(names):
            chosen = next((m for p, m in self.by_name.items() if fnmatchcase(name, p)), None)
            if chosen is None or trace.ops["kind"].iloc[i] != "gemm":
                continue
            self._fill(out[i], chosen, sizes[i], name, d)
        return out

    def _fill(
        self,
        row: NDArray[np.float64],
        fixed: FixedMapping,
        size: NDArray[np.float64],
        name: str,
        d: NDArray[np.float64],
    ) -> None:
        where = f"{self.where}: op {name}"
        tiers, arrays, only = int(d[D_TIERS]), int(d[D_COUNT]), int(d[D_SPLIT])
        most = int(most_buffers(d))
        if len(fixed.tiers) != tiers:
            raise InputError(f"{where}: the machine has {tiers} tiers of memory, the mapping {len(fixed.tiers)}")
        split = (fixed.split.m, fixed.split.n, fixed.split.k)
        if int(np.prod(split)) > arrays:
            raise InputError(
                f"{where}: split {split} makes {int(np.prod(split))} parts, the machine has {arrays} arrays"
            )
        if only and any(parts > 1 for axis, parts in enumerate(split) if axis != only - 1):
            raise InputError(f"{where}: split {split}, but array.split is {'mnk'[only - 1]}")
        if fixed.buffers is not None and fixed.buffers > most:
            raise InputError(f"{where}: buffers {fixed.buffers}, but tier 1 is not double buffered")
        row[M_SCORE], row[M_BUFFERS], row[M_SINGLE] = 0.0, fixed.buffers or most, float(fixed.single)
        if isinstance(fixed.sums, tuple):
            wrong = [t for t in fixed.sums if not 2 <= t <= tiers]
            if wrong:
                raise InputError(f"{where}: sums bypass tiers 2..{tiers}, got {wrong[0]}")
            row[M_BYPASS] = float(sum(1 << (t - 2) for t in set(fixed.sums)))
        else:
            row[M_BYPASS] = float(SINGLE_USE - 1 if fixed.sums == "bypass" else 0)
        row[M_SPLIT_M : M_SPLIT_M + 3] = split
        parent = size.copy()
        for t, tier in enumerate(fixed.tiers):
            tile = np.minimum((tier.m, tier.n, tier.k), parent if t else size)
            if t == 1:
                parent = np.ceil(parent / split)
                tile = np.minimum(tile, parent)
            for axis, dim in enumerate("mnk"):
                alone = parent[axis] >= size[axis] / (split[axis] if t else 1)
                if t and not alone and parent[axis] % tile[axis]:
                    raise InputError(
                        f"{where}: tier {t + 1} {dim} {tile[axis]:g} must divide {parent[axis]:g}, the tile outside"
                    )
            at = M_NEST + t * TIER_COLUMNS
            row[at : at + 3] = tile
            row[at + T_ORDER] = ORDERS.index(tier.order)
            parent = tile
