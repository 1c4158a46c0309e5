"""The first input contract: an :class:`Accelerator`, part by part, as a machine file spells it.

A machine is a compute array, an optional sparse front end, on-chip memories from the outside in, DRAM, a vector unit,
a clock and a technology. Every number carries its unit in its name; derived values are properties. ``None`` in a
bandwidth means "never the bottleneck". Nothing here reads files: see ``accel_models``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sim.errors import InputError, nearest

Operand = Literal["weights", "inputs", "outputs"]
OPERANDS: tuple[str, ...] = get_args(Operand)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Technology(_Part):
    """Process node; ``library`` names the synthesised standard-cell library that prices logic area."""

    node_nm: Literal[7] = 7
    library: Literal["asap7"] = "asap7"


class Array(_Part):
    """Compute array. ``systolic``: rows x cols PEs with a dataflow. ``lanes``: rows = sparse lanes (P), cols =
    activation vectors that share one weight nonzero (V); peak is rows * cols MAC a cycle for both."""

    kind: Literal["systolic", "lanes"] = "systolic"
    rows: int = Field(gt=0, le=4096)
    cols: int = Field(gt=0, le=4096)
    dataflow: Literal["os", "ws", "is"] = "ws"
    overlap: Literal["none", "single_buffer", "double_buffer"] = "double_buffer"
    weight_bits: Literal[4, 8, 16] = 8
    activation_bits: Literal[4, 8, 16] = 8
    accumulator_bits: Literal[16, 24, 32, 40, 48] = 32
    critical_path_ns: float = Field(default=0.7, gt=0, le=100)


class Sparsity(_Part):
    """How weight zeros are stored and what they buy.

    ``format``: how weights lie in memory (``n_of_m`` holds only masks that fit it; others are stored dense).
    ``n_of_m``: structured support of a systolic array, e.g. "2:4". Lanes: ``orientation`` (who owns a lane: output or
    input features), ``barrier_depth`` (positions between barriers, or "full"), ``fifo_depth`` (tiles a lane may run
    ahead, 0 = barrier), ``assignment`` of features to lanes, ``empty_tile_cycles`` (cycles an all-zero tile costs).
    """

    format: Literal["dense", "bitmap", "n_of_m"] = "dense"
    n_of_m: str | None = None
    orientation: Literal["output", "input"] = "output"
    barrier_depth: int | Literal["full"] = 64
    fifo_depth: int = Field(default=0, ge=0, le=1024)
    assignment: Literal["contiguous", "interleaved"] = "contiguous"
    empty_tile_cycles: Literal[0, 1] = 1

    @field_validator("n_of_m")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        n, _, m = str(value).partition(":")
        if not (n.isdigit() and m.isdigit() and int(m) in (4, 8, 16, 32) and 0 < int(n) < int(m)):
            raise ValueError("n_of_m must look like '2:4' with 0 < n < m and m one of 4, 8, 16, 32")
        return f"{int(n)}:{int(m)}"

    @field_validator("barrier_depth")
    @classmethod
    def _depth(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 1 << 20:
            raise ValueError("barrier_depth must be between 1 and 1048576, or 'full'")
        return value

    @model_validator(mode="after")
    def _free_drain(self) -> Sparsity:
        if self.empty_tile_cycles == 0 and self.fifo_depth:
            raise ValueError("empty_tile_cycles 0 needs fifo_depth 0 (a FIFO pops one tile a cycle)")
        return self

    @property
    def nm(self) -> tuple[int, int]:
        """(n, m) of the structured pattern, (0, 0) without one."""
        return tuple(int(x) for x in self.n_of_m.split(":")) if self.n_of_m else (0, 0)  # type: ignore[return-value]


class MemoryLevel(_Part):
    """One on-chip SRAM. ``bandwidth_gb_per_s`` is reads plus writes, all banks together (1 GB/s = 10^9 byte/s)."""

    keeps: tuple[Operand, ...]
    capacity_kib: float = Field(gt=0, le=1 << 22)
    bandwidth_gb_per_s: float = Field(gt=0, le=1e6)
    banks: int = Field(default=1, gt=0, le=1024)
    double_buffered: bool = True

    @field_validator("keeps")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("keeps must name each of weights, inputs, outputs at most once and at least one")
        return tuple(o for o in OPERANDS if o in value)


class Dram(_Part):
    """Off-chip memory: a standard from ``sim/memory/data/dram_standards.csv`` and how many channels of it.

    ``bandwidth_gb_per_s`` replaces the standard's peak (all channels together); its efficiency still applies.
    """

    standard: str = "lpddr4_3200"
    channels: int = Field(default=1, gt=0, le=64)
    bandwidth_gb_per_s: float | None = Field(default=None, gt=0, le=1e6)

    @field_validator("standard")
    @classmethod
    def _known(cls, value: str) -> str:
        from sim.memory.dram import STANDARDS

        if value not in STANDARDS:
            raise ValueError(f"standard '{value}' is unknown, {nearest(value, STANDARDS)}")
        return value


class Vector(_Part):
    """Vector unit for norms, softmax, rotary, activation: ALU lanes and slower special-function lanes (exp, div)."""

    lanes: int = Field(gt=0, le=65536)
    special_function_lanes: int = Field(gt=0, le=65536)


class Accelerator(_Part):
    """A machine. Validation errors are raised as one-line :class:`InputError` by :func:`build`."""

    name: str
    summary: str = ""
    technology: Technology = Technology()
    clock_ghz: float = Field(gt=0, le=20)
    array: Array
    sparsity: Sparsity = Sparsity()
    memory: dict[str, MemoryLevel]
    dram: Dram = Dram()
    vector: Vector
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Accelerator:
        levels = list(self.memory.items())
        if not levels or set(levels[0][1].keeps) != set(OPERANDS):
            raise ValueError("memory: the first (outermost) level must keep weights, inputs and outputs")
        taken: dict[str, str] = {}
        for name, level in levels[1:]:
            if len(level.keeps) != 1:
                raise ValueError(f"memory.{name}.keeps: an array buffer keeps exactly one operand")
            if level.keeps[0] in taken:
                raise ValueError(f"memory.{name}.keeps: {level.keeps[0]} is already kept by {taken[level.keeps[0]]}")
            taken[level.keeps[0]] = name
        if self.array.kind == "lanes" and self.sparsity.n_of_m:
            raise ValueError("sparsity.n_of_m is for systolic arrays; lanes skip any zero")
        if (self.sparsity.format == "n_of_m") != (self.sparsity.n_of_m is not None):
            raise ValueError("sparsity.format n_of_m and sparsity.n_of_m ('2:4') go together")
        return self

    @property
    def peak_tops(self) -> float:
        """10^12 operations (two per MAC) a second with every PE busy; zeros that are skipped come on top."""
        return 2e-3 * self.array.rows * self.array.cols * self.clock_ghz

    @property
    def roles(self) -> dict[str, str]:
        """Role (shared, weight_buffer, input_buffer, accumulator) to the level's own name."""
        kept = {"weights": "weight_buffer", "inputs": "input_buffer", "outputs": "accumulator"}
        names = list(self.memory)
        return {"shared": names[0]} | {kept[self.memory[n].keeps[0]]: n for n in names[1:]}

    def override(self, values: dict[str, Any]) -> Accelerator:
        """A copy with field paths (``"array.rows"``, ``"memory.shared.capacity_kib"``) set; :class:`InputError` if
        bad."""
        raw = self.model_dump(mode="json")
        for path, value in values.items():
            _set(raw, path, value, self)
        return build(raw, where=self.name)

    def config_hash(self) -> str:
        """Twelve hex digits that change when any field but the prose does."""
        raw = self.model_dump(mode="json", exclude={"summary", "sources"})
        return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:12]


def _set(raw: dict[str, Any], path: str, value: Any, machine: Accelerator) -> None:
    *parents, leaf = path.split(".")
    node: Any = raw
    for depth, key in enumerate(parents):
        if not isinstance(node, dict) or key not in node or node[key] is None:
            known = node if isinstance(node, dict) else {}
            raise InputError(f"{machine.name}: no field '{path}', {nearest('.'.join(parents[: depth + 1]), known)}")
        node = node[key]
    if not isinstance(node, dict) or (leaf not in node):
        known = [".".join([*parents, k]) for k in node] if isinstance(node, dict) else []
        raise InputError(f"{machine.name}: no field '{path}', {nearest(path, known)}")
    node[leaf] = value


def _fields(path: tuple[Any, ...]) -> list[str]:
    """Known field names of the part that the parent of ``path`` is, for the nearest-name hint."""
    model: Any = Accelerator
    for key in path[:-1]:
        if model is MemoryLevel or not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        field = model.model_fields.get(str(key))
        if field is None:
            return []
        model = MemoryLevel if str(key) == "memory" else field.annotation
    if model is MemoryLevel and len(path) == 2:
        return []
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def describe(error: ValidationError, where: str, line_of: dict[tuple[str, ...], int] | None = None) -> str:
    """One line for the first problem of a pydantic error: field path, what is allowed, what was given, where."""
    problems = error.errors()
    # a typo in a required field is also a missing field: the typo says more
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = tuple(
        str(p) for p in first["loc"] if not str(p).startswith(("function-", "literal[", "int", "float", "constrained"))
    )
    dotted = ".".join(path)
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        text = f"unknown field '{dotted}', {nearest(path[-1], _fields(path))}"
    elif first["type"] == "missing":
        text = f"field '{dotted}' is missing"
    elif first["type"] == "value_error":
        text = f"{dotted}: {first['ctx']['error']}" if dotted else str(first["ctx"]["error"])
        if not isinstance(given, dict | BaseModel) and dotted:
            text += f", got {given!r}"
    else:
        rule = first["msg"].replace("Input should be", "must be")
        rule = rule[0].lower() + rule[1:]
        text = f"{dotted} {rule}, got {given!r}"
    line = (line_of or {}).get(path)
    return f"{where}{f' line {line}' if line else ''}: {text}"


def build(raw: Any, where: str = "machine", line_of: dict[tuple[str, ...], int] | None = None) -> Accelerator:
    """Validate a plain dict into an :class:`Accelerator`; :class:`InputError` names ``where``, field, value and
    range."""
    if not isinstance(raw, dict):
        raise InputError(f"{where}: a machine is a mapping of fields, got {type(raw).__name__}")
    try:
        return Accelerator.model_validate(raw)
    except ValidationError as error:
        raise InputError(describe(error, where, line_of)) from None
