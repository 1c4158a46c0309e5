"""Profiles that come with the package: one table a variant, 210 masks each, layer by layer in MATRIX_TYPES order.

``workloads/data/<model>/profiles/<variant>.npz`` holds the exact lane cycles, ``counts/<variant>.npz`` the row and
column counts. :func:`write` makes them from masks; ``python -m workloads.measure_bundle`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError, nearest
from sim.sparsity.profile import GROUPS, Counts, Profile, ProfileTable, profile
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import MATRIX_VARIANTS

_DATA = Path(str(resources.files("workloads").joinpath("data")))


@dataclass(frozen=True)
class ProfileTables:
    """Tables of all variants in MATRIX_VARIANTS order, each of the same number of masks."""

    tables: tuple[ProfileTable, ...]

    def index(self, variant: str) -> ProfileTable:
        """The table of one variant."""
        names = list(MATRIX_VARIANTS)
        if variant not in names:
            raise InputError(f"variant '{variant}' has no bundled masks, {nearest(variant, names)}")
        return self.tables[names.index(variant)]

    def all(self) -> ProfileTable:
        """Every variant after another."""
        return ProfileTable.concatenate(self.tables)


def models() -> list[str]:
    """Models whose profiles are bundled."""
    return sorted(p.parent.name for p in _DATA.glob("*/profiles"))


@lru_cache(maxsize=2)
def profile_tables(model: str) -> ProfileTables:
    """The bundled tables of ``model``; InputError if it has none."""
    folder = _DATA / model / "profiles"
    if not folder.is_dir():
        raise InputError(f"model '{model}' has no bundled profiles, {nearest(model, models())}")
    return ProfileTables(tuple(ProfileTable.load(folder / f"{variant}.npz") for variant in MATRIX_VARIANTS))


@lru_cache(maxsize=32)
def counts(model: str, variant: str) -> list[Counts]:
    """Row and column counts of a variant's masks, in the order of its profiles."""
    path = _DATA / model / "counts" / f"{variant}.npz"
    if not path.is_file():
        raise InputError(f"model '{model}' has no bundled counts of '{variant}'")
    return Counts.load_many(path)


def matrix_columns(table: ProfileTable) -> dict[str, NDArray[np.float64]]:
    """The op columns that masks decide, one value a mask: nonzeros and which n:m patterns they fit."""
    groups = {f"group{g}_max": table.group_max[:, i].astype(np.float64) for i, g in enumerate(GROUPS)}
    return {"nonzeros": table.nonzeros.astype(np.float64), **groups}


def write(
    model: str,
    layers: int,
    mask: Callable[[str, int, str], NDArray[np.bool_]],
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> None:
    """Profile every variant's masks, ``mask(variant, layer, matrix type)`` out x in, and write both files of each."""
    for folder in ("profiles", "counts"):
        (_DATA / model / folder).mkdir(parents=True, exist_ok=True)
    for done, variant in enumerate(MATRIX_VARIANTS):
        progress(done, len(MATRIX_VARIANTS), f"profiling {variant}")
        found: list[Profile] = [profile(mask(variant, layer, t)) for layer in range(layers) for t in MATRIX_TYPES]
        ProfileTable.from_profiles(found).save(_DATA / model / "profiles" / f"{variant}.npz")
        Counts.save_many([p.counts for p in found if p.counts is not None], _DATA / model / "counts" / f"{variant}.npz")
