"""A recipe: which pruned variant each of the seven matrix types uses, the same in every layer.

A variant is named by one string, used everywhere (recipes, tables, masks, search spaces): ``dense``,
``{magnitude,wanda,sparsegpt}_{10,…,70}`` (per cent removed), ``{method}_2_4``, ``{method}_4_8``, and
``ffn_channels_{10,20,30}``, which holds for gate, up and down together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sim.errors import InputError, nearest
from workloads.checkpoint import MATRIX_TYPES
from workloads.pruning.pattern import Channels, NofM, Pattern, Unstructured

METHODS = ("magnitude", "wanda", "sparsegpt")
LEVELS = (10, 20, 30, 40, 50, 60, 70)
GROUPS = ((2, 4), (4, 8))
FFN_TYPES = ("ffn_gate", "ffn_up", "ffn_down")
DENSE = "dense"
#: name -> (method, pattern), for every variant that prunes matrix by matrix.
MATRIX_VARIANTS: dict[str, tuple[str, Pattern]] = {
    f"{method}_{level}": (method, Unstructured(level / 100)) for method in METHODS for level in LEVELS
} | {f"{method}_{n}_{m}": (method, NofM(n, m)) for method in METHODS for n, m in GROUPS}
CHANNEL_VARIANTS: dict[str, Channels] = {f"ffn_channels_{level}": Channels(level / 100) for level in (10, 20, 30)}
#: All variant names; an integer that stands for a variant is its place here.
VARIANTS: tuple[str, ...] = (DENSE, *MATRIX_VARIANTS, *CHANNEL_VARIANTS)


@dataclass(frozen=True)
class Recipe:
    """``variants[i]`` is the variant of ``MATRIX_TYPES[i]``.

    Raises InputError for unknown variants and for FFN channels that do not hold for gate, up and down alike.
    """

    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.variants) != len(MATRIX_TYPES):
            raise InputError(f"a recipe is {len(MATRIX_TYPES)} variants, one a matrix type; got {len(self.variants)}")
        for matrix_type, variant in zip(MATRIX_TYPES, self.variants, strict=True):
            if variant not in VARIANTS:
                raise InputError(f"{matrix_type}: variant {variant!r} is unknown: {nearest(variant, VARIANTS)}")
            if variant in CHANNEL_VARIANTS and matrix_type not in FFN_TYPES:
                raise InputError(f"{matrix_type}: {variant} fits only ffn_gate, ffn_up and ffn_down")
        ffn = {self[t] for t in FFN_TYPES}
        if len(ffn) > 1 and ffn & CHANNEL_VARIANTS.keys():
            raise InputError(f"FFN channels must hold for gate, up and down together, got {', '.join(sorted(ffn))}")

    @classmethod
    def of(cls, choice: Mapping[str, str] | None = None, **types: str) -> Recipe:
        """A recipe from {matrix type: variant}; types not named stay dense; ``ffn`` names all three FFN types."""
        given = {**(choice or {}), **types}
        if "ffn" in given:
            given |= dict.fromkeys(FFN_TYPES, given.pop("ffn"))
        for name in given:
            if name not in MATRIX_TYPES:
                raise InputError(f"matrix type {name!r} is unknown: {nearest(name, MATRIX_TYPES)}")
        return cls(tuple(given.get(t, DENSE) for t in MATRIX_TYPES))

    @classmethod
    def uniform(cls, variant: str) -> Recipe:
        """One variant for every matrix; FFN channels leave the attention matrices dense."""
        if variant in CHANNEL_VARIANTS:
            return cls.of(ffn=variant)
        return cls((variant,) * len(MATRIX_TYPES))

    @classmethod
    def single(cls, matrix_type: str, variant: str) -> Recipe:
        """Only one matrix type pruned."""
        return cls.of({matrix_type: variant})

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """A recipe from its ``key``: ``wanda_50`` (every matrix) or ``attn_q=wanda_50,ffn=ffn_channels_10``."""
        if "=" not in text:
            return cls.uniform(text.strip())
        parts = [part.partition("=") for part in text.split(",") if part.strip()]
        return cls.of({name.strip(): variant.strip() for name, _, variant in parts})

    def __getitem__(self, matrix_type: str) -> str:
        return self.variants[MATRIX_TYPES.index(matrix_type)]

    @property
    def key(self) -> str:
        """The canonical string of this recipe; ``Recipe.parse`` reads it back."""
        for variant in set(self.variants):
            if self == Recipe.uniform(variant):
                return variant
        return self._explicit()

    def _explicit(self) -> str:
        choice = {t: v for t, v in zip(MATRIX_TYPES, self.variants, strict=True) if v != DENSE}
        if self["ffn_gate"] in CHANNEL_VARIANTS:
            choice = {t: v for t, v in choice.items() if t not in FFN_TYPES} | {"ffn": self["ffn_gate"]}
        return ",".join(f"{t}={v}" for t, v in choice.items())

    @property
    def short(self) -> str:
        """For tables: ``q W50, o S2:4, ffn C10``; W Wanda, S SparseGPT, M magnitude, C FFN channels removed; per
        cent."""
        chosen = dict(part.split("=") for part in self._explicit().split(",") if part)
        names = {t: t.removeprefix("attn_").removeprefix("ffn_").replace("output", "o") for t in MATRIX_TYPES}
        return ", ".join(f"{names.get(t, t)} {_short(v)}" for t, v in chosen.items()) or DENSE

    def to_json(self) -> str:
        """{matrix type: variant} as one line of JSON."""
        return json.dumps(dict(zip(MATRIX_TYPES, self.variants, strict=True)), separators=(",", ":"))

    def codes(self) -> list[int]:
        """The seven variants as places in ``VARIANTS``."""
        return [VARIANTS.index(v) for v in self.variants]


def _short(variant: str) -> str:
    """``wanda_2_4`` -> ``W2:4``, ``ffn_channels_10`` -> ``C10``."""
    if variant in CHANNEL_VARIANTS:
        return f"C{CHANNEL_VARIANTS[variant].sparsity * 100:.0f}"
    method, _, level = variant.partition("_")
    return {"magnitude": "M", "wanda": "W", "sparsegpt": "S"}[method] + level.replace("_", ":")
