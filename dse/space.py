"""A search space: which fields of which machines, and which pruning of which matrices, may be chosen together.

One YAML file (``dse/spaces/``) states it; :class:`Space` turns it into Optuna distributions and a trial's parameters
back into a machine and a recipe. Every parameter is categorical or an ordered list of values; those of a machine carry
its name (``sparse_lanes:sparsity.fifo_depth``), because Optuna parameters need one distribution each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from accel_models import accelerator
from sim.errors import InputError, nearest
from sim.spec import Accelerator
from workloads.bundled import models as bundled_models
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import CHANNEL_VARIANTS, FFN_TYPES, MATRIX_VARIANTS, METHODS, Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Params = Mapping[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workload(_Part):
    """Batch 1: one prefill, then ``decode_tokens`` steps at ``decode_context`` cached positions."""

    prefill_tokens: int = Field(default=128, ge=1, le=1 << 20)
    decode_context: int = Field(default=512, ge=1, le=1 << 20)
    decode_tokens: int = Field(default=64, ge=0, le=1 << 20)


class Constraints(_Part):
    """``area_mm2``: budget of the whole chip with DRAM PHY. ``perplexity_over_dense``: 2.0 allows twice the dense
    one."""

    area_mm2: float | None = Field(default=None, gt=0)
    perplexity_over_dense: float | None = Field(default=2.0, gt=0)


class Pruning(_Part):
    """Choices per matrix type: a method and a pattern; and FFN channels (per cent) for gate, up and down jointly."""

    methods: tuple[str, ...] = METHODS
    patterns: tuple[str, ...] = ("dense",)
    ffn_channels: tuple[int, ...] = (0,)

    @field_validator("patterns", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if any(isinstance(v, int) and v >= 60 and v % 60 and v != 70 for v in value):
            raise ValueError('write n:m patterns in quotes, like "2:4": without them YAML reads base 60')
        return [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value]


class Space(_Part):
    """A search space as its YAML file spells it; the name also names folders."""

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    summary: str = ""
    model: str = "smollm2_135m"
    workload: Workload = Workload()
    constraints: Constraints = Constraints()
    machines: dict[str, dict[str, list[Any]]]
    hardware: dict[str, list[Any]] = Field(default_factory=dict)
    pruning: Pruning = Pruning()

    def config_hash(self) -> str:
        """Twelve hex digits over everything but the prose, the machines' own hashes included."""
        raw = self.model_dump(mode="json", exclude={"summary"})
        raw["machine_hashes"] = {name: accelerator(name).config_hash() for name in self.machines}
        return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:12]

    def distributions(
        self, machine: str | None = None, prune: bool = True, hardware: bool = True
    ) -> dict[str, BaseDistribution]:
        """Name to distribution. ``machine`` fixes the machine; ``prune`` / ``hardware`` drop one half of the space."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}

        def add(name: str, values: list[Any]) -> None:
            if len(values) > 1:
                ordered = all(isinstance(v, int | float) or v == "full" for v in values)
                found[name] = (
                    IntDistribution(0, len(values) - 1) if ordered else CategoricalDistribution(range(len(values)))
                )

        machines = [machine] if machine else list(self.machines)
        if hardware:
            add("machine", machines)
            for path, values in self.hardware.items():
                add(path, values)
            for name in machines:
                for path, values in self.machines[name].items():
                    add(f"{name}:{path}", values)
        if prune:
            add("ffn_channels", list(self.pruning.ffn_channels))
            for matrix_type in MATRIX_TYPES:
                add(f"method.{matrix_type}", list(self.pruning.methods))
                add(f"pattern.{matrix_type}", list(self.pruning.patterns))
        return found

    def decode(self, params: Params) -> tuple[Accelerator, Recipe]:
        """The machine and the recipe of a trial's parameters (positions in the value lists; missing = first)."""
        return self.machine(params), self.recipe(params)

    def machine(self, params: Params) -> Accelerator:
        names = list(self.machines)
        name = names[int(params.get("machine", 0))]
        base = _machine(name)
        chosen: dict[str, Any] = {}
        for path, values in self.hardware.items():
            chosen |= _assign(path, values[int(params.get(path, 0))])
        for path, values in self.machines[name].items():
            chosen |= _assign(path, values[int(params.get(f"{name}:{path}", 0))])
        return base.override(chosen)

    def recipe(self, params: Params) -> Recipe:
        channels = self.pruning.ffn_channels[int(params.get("ffn_channels", 0))]
        choice = {}
        for matrix_type in MATRIX_TYPES:
            pattern = self.pruning.patterns[int(params.get(f"pattern.{matrix_type}", 0))]
            method = self.pruning.methods[int(params.get(f"method.{matrix_type}", 0))]
            choice[matrix_type] = "dense" if pattern == "dense" else f"{method}_{pattern.replace(':', '_')}"
        if channels:
            choice |= dict.fromkeys(FFN_TYPES, f"ffn_channels_{channels}")
        return Recipe.of(choice)


@lru_cache(maxsize=32)
def _machine(name: str) -> Accelerator:
    """A machine file, read once a process: trials ask for it thousands of times."""
    return accelerator(name)


def _assign(path: str, value: Any) -> dict[str, Any]:
    """Field values for one chosen value; ``dram`` takes "STANDARD xCHANNELS"."""
    if path != "dram":
        return {path: value}
    standard, _, channels = str(value).partition(" x")
    if not channels.isdecimal():
        raise InputError(f"hardware.dram: '{value}' must read 'STANDARD xCHANNELS', like 'hbm2 x1'")
    return {"dram.standard": standard, "dram.channels": int(channels)}


def names() -> list[str]:
    """Bundled spaces."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in resources.files("dse").joinpath("spaces").iterdir()
        if p.name.endswith(".yaml")
    )


def load(source: str | Path | dict[str, Any]) -> Space:
    """A :class:`Space` from a bundled name, a YAML path or a dict, every value of it checked against its machines.

    Raises:
        InputError: file missing or broken, unknown field, machine, method or pattern, or a value a machine refuses.
    """
    raw, where = _read(source)
    if not isinstance(raw, dict):
        raise InputError(f"{where}: a space is a mapping of fields")
    try:
        space = Space.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{where}: {_told(error)}") from None
    _check(space, where)
    return space


def _told(error: ValidationError) -> str:
    """The first problem in one line; a typo in a required field is also a missing field, and the typo says more."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        parts = {"workload": Workload, "constraints": Constraints, "pruning": Pruning}
        part: type[BaseModel] = parts.get(str(first["loc"][0]), Space) if len(first["loc"]) > 1 else Space
        return f"unknown field '{path}', {nearest(str(first['loc'][-1]), part.model_fields)}"
    if first["type"] == "missing":
        return f"field '{path}' is missing"
    if first["type"] == "string_pattern_mismatch":
        return f"{path} must be letters, digits, '_', '-' and '.', got {first['input']!r}"
    if first["type"] == "value_error":
        return f"{path}: {first['ctx']['error']}"
    rule = first["msg"].replace("Input should be", "must be")
    return f"{path} {rule[0].lower()}{rule[1:]}, got {first['input']!r}"


def _read(source: str | Path | dict[str, Any]) -> tuple[Any, str]:
    if isinstance(source, dict):
        return source, "space"
    path = Path(source)
    if str(source) in names():
        path = Path(str(resources.files("dse").joinpath("spaces", f"{source}.yaml")))
    elif path.is_dir():
        raise InputError(f"space '{source}': is a folder")
    elif not path.is_file():
        bundled = path.name.removesuffix(".yaml")
        if bundled not in names():
            raise InputError(f"space '{source}': no such file or bundled space, {nearest(bundled, names())}")
        path = Path(str(resources.files("dse").joinpath("spaces", f"{bundled}.yaml")))
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")), str(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{source}{line}: not valid YAML ({getattr(error, 'problem', None) or 'cannot be read'})"
        ) from None


def _check(space: Space, where: str) -> None:
    """Try every value once on every machine that takes it."""
    if not space.machines:
        raise InputError(f"{where}: machines: at least one is needed")
    for kind, known, given in (
        ("pruning.methods", METHODS, space.pruning.methods),
        ("pruning.patterns", ("dense", *{_pattern(v) for v in MATRIX_VARIANTS}), space.pruning.patterns),
        ("pruning.ffn_channels", ("0", *(v.rsplit("_", 1)[1] for v in CHANNEL_VARIANTS)), space.pruning.ffn_channels),
    ):
        for value in given:
            if str(value) not in known:
                raise InputError(f"{where}: {kind}: '{value}' is not bundled, {nearest(str(value), known)}")
    if space.model not in bundled_models():
        known = nearest(space.model, bundled_models())
        raise InputError(f"{where}: model: '{space.model}' has no bundled masks and perplexities, {known}")
    for name, own in space.machines.items():
        try:
            machine = accelerator(name)
        except InputError as error:
            raise InputError(f"{where}: machines: {error}") from None
        for path, values in (*space.hardware.items(), *own.items()):
            if not values:
                raise InputError(f"{where}: {path}: needs at least one value")
            for value in values:
                try:
                    machine.override(_assign(path, value))
                except InputError as error:
                    raise InputError(f"{where}: {error}") from None


def _pattern(variant: str) -> str:
    return variant.partition("_")[2].replace("_", ":")
