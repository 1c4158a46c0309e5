"""A pruning plan that differs from layer to layer: one recipe a layer, written as bands of layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from sim.errors import InputError
from workloads.recipe import Recipe

MOST_LAYERS = 1000
_BAND = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?:(.+)")


@dataclass(frozen=True)
class Plan:
    """``recipes[i]`` prunes decoder layer i.

    The key reads ``0-11:wanda_50;12-29:attn_q=sparsegpt_30,ffn=ffn_channels_10``: bands of equal layers, ends included.
    """

    recipes: tuple[Recipe, ...]

    @classmethod
    def of(cls, recipes: Iterable[Recipe]) -> Plan:
        return cls(tuple(recipes))

    @classmethod
    def parse(cls, key: str) -> Plan:
        """The plan a key spells; InputError where bands are broken, overlap or leave a gap."""
        recipes: list[Recipe] = []
        for band in key.split(";"):
            found = _BAND.fullmatch(band)
            if not found:
                raise InputError(f"plan: {band!r} must read LAYERS:RECIPE, like 0-11:wanda_50")
            start, end = int(found[1]), int(found[2] or found[1])
            if start != len(recipes) or not start <= end < MOST_LAYERS:
                raise InputError(
                    f"plan: {band!r} must begin at layer {len(recipes)} and end there or later, before {MOST_LAYERS}"
                )
            recipes += [Recipe.parse(found[3])] * (end - start + 1)
        return cls(tuple(recipes))

    @property
    def key(self) -> str:
        """The canonical string of this plan; ``Plan.parse`` reads it back."""
        bands, start = [], 0
        for recipe, same in groupby(self.recipes):
            end = start + len(list(same)) - 1
            bands.append(f"{start}-{end}:{recipe.key}" if end > start else f"{start}:{recipe.key}")
            start = end + 1
        return ";".join(bands)

    def codes(self) -> list[list[int]]:
        """[layers, 7] places in ``VARIANTS``."""
        return [recipe.codes() for recipe in self.recipes]
