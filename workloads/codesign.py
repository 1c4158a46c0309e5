"""All pruned variants of a bundled model in one trace, so that any recipe is a selection of its rows.

The trace holds the dense ops, the ops of every narrower FFN, and one row per (matrix, variant) with that mask's
profile. :meth:`Codesign.select` turns recipes (variant codes per matrix type) into row numbers, so that thousands of
(machine, recipe) pairs are one call of the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.trace import Trace
from workloads.bundled import counts, matrix_columns, profile_tables
from workloads.checkpoint import MATRIX_TYPES
from workloads.llm import llm
from workloads.pruning.select import removed_count
from workloads.recipe import CHANNEL_VARIANTS, MATRIX_VARIANTS, VARIANTS, Recipe
from workloads.zoo import config


@dataclass
class Codesign:
    """``trace``: rows of all variants. ``rows`` [slots, variants]: which row a slot uses under a variant of the matrix
    type that decides it, ``decider`` [slots] (position in MATRIX_TYPES); ``model``: whose profiles they are."""

    trace: Trace
    rows: NDArray[np.int64]
    decider: NDArray[np.int64]
    model: str

    @classmethod
    def bundled(cls, model: str, **phase: Any) -> Codesign:
        """From the package's own profiles; ``phase`` as :func:`workloads.llm.llm` takes it."""
        dense = llm(model, **phase)
        tables = [dense.ops]
        slots = len(dense.ops)
        rows = np.repeat(np.arange(slots, dtype=np.int64)[:, None], len(VARIANTS), axis=1)
        types = dense.ops["matrix_type"].to_numpy()
        decider = np.full(slots, MATRIX_TYPES.index("ffn_gate"), dtype=np.int64)
        for position, matrix_type in enumerate(MATRIX_TYPES):
            decider[types == matrix_type] = position
        width = config(model).ffn
        for variant, pattern in CHANNEL_VARIANTS.items():
            kept = width - removed_count(pattern.sparsity, width)
            narrow = llm(model, ffn_width=lambda layer, kept=kept: kept, **phase).ops
            changed = np.flatnonzero(
                (narrow.drop(columns="name") != dense.ops.drop(columns="name")).any(axis=1).to_numpy()
            )
            rows[changed, VARIANTS.index(variant)] = sum(map(len, tables)) + np.arange(len(changed))
            tables.append(narrow.iloc[changed])
        profiles = profile_tables(model)
        matrices = [np.flatnonzero(types == t) for t in MATRIX_TYPES]
        order = np.stack(matrices, axis=1).reshape(-1)  # layer-major, MATRIX_TYPES within a layer, as the profiles are
        first = 0
        for variant in MATRIX_VARIANTS:
            found = profiles.index(variant)
            pruned = dense.ops.iloc[order].assign(**matrix_columns(found), sparsity_label="mask")
            pruned["profile"] = first + np.arange(len(order))
            first += len(order)
            rows[order, VARIANTS.index(variant)] = sum(map(len, tables)) + np.arange(len(order))
            tables.append(pruned)
        ops = pd.concat(tables, ignore_index=True)
        return cls(Trace(ops, profiles.all(), dict(dense.meta)), rows, decider, model)

    def select(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """[designs, 7] variant codes (:meth:`Recipe.codes`) -> [designs, slots] rows of the trace, in execution
        order."""
        slot = np.arange(len(self.decider))
        return np.ascontiguousarray(self.rows[slot[None, :], codes[:, self.decider]])

    def trace_of(self, recipe: Recipe, name: str | None = None) -> Trace:
        """The plain trace of one recipe."""
        chosen = self.select(np.array([recipe.codes()]))[0]
        ops = self.trace.ops.iloc[chosen].reset_index(drop=True)
        used = ops["profile"].to_numpy(dtype=np.int64, copy=True)
        kept = np.flatnonzero(used >= 0)
        profiles = self.trace.profiles.take(used[kept]) if len(kept) else None
        ops.loc[kept, "profile"] = np.arange(len(kept))
        meta = {**self.trace.meta, "name": name or recipe.key, "recipe": recipe.key}
        each = len(MATRIX_TYPES) * config(self.model).layers
        names = list(MATRIX_VARIANTS)
        known = [counts(self.model, names[p // each])[p % each] for p in used[kept]]
        return Trace(ops, profiles, meta, known or None)
