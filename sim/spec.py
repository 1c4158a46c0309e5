"""The first input contract: an :class:`Accelerator`, part by part, as a machine file spells it.

A machine is a compute array, an optional sparse front end, on-chip memories from the outside in, DRAM, a vector unit,
a clock and a technology. Every number carries its unit in its name; derived values are properties. ``None`` in a
bandwidth means "never the bottleneck". Nothing here reads files: see ``accel_models``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from sim.compute.precision import ARITHMETICS, cycles_per_vector
from sim.errors import InputError, nearest
from sim.sparsity.level_features import parse
from sim.spec_sparsity import Part, Sparsity

Operand = Literal["weights", "inputs", "outputs"]
OPERANDS: tuple[str, ...] = get_args(Operand)
MAX_LEVELS = 6
MAX_TIERS = 4


class Technology(Part):
    """Process node; ``library`` names the synthesised standard-cell library that prices logic area."""

    node_nm: Literal[7] = 7
    library: Literal["asap7"] = "asap7"


class Array(Part):
    """Compute array. ``systolic``: rows x cols PEs with a dataflow. ``lanes``: rows = sparse lanes (P), cols =
    activation vectors that share one weight nonzero (V). ``outer_product``: each cycle takes ``rows`` nonzeros of a
    column of inputs and ``cols`` of a row of weights, of tiles of ``outer_tile`` rows and features, and skips zeros of
    both (:mod:`sim.compute.dual_sided`). Peak is rows * cols MAC a cycle for all.

    ``weight_bits``, ``activation_bits``: native widths, what a PE is built for. ``arithmetic``: cycles a MAC takes as a
    function of the op's bits (:mod:`sim.compute.precision`). ``count`` equal
    arrays share the outermost on-chip levels and each own a copy of the inner ones; an op is split over them along
    ``split`` ("any": the mapping chooses)."""

    kind: Literal["systolic", "lanes", "outer_product"] = "systolic"
    rows: int = Field(gt=0, le=4096)
    cols: int = Field(gt=0, le=4096)
    dataflow: Literal["os", "ws", "is"] = "ws"
    overlap: Literal["none", "single_buffer", "double_buffer"] = "double_buffer"
    outer_tile: int = Field(default=32, gt=0, le=1024)
    weight_bits: int = Field(default=8, ge=1, le=16)
    activation_bits: int = Field(default=8, ge=1, le=16)
    accumulator_bits: Literal[16, 24, 32, 40, 48] = 32
    arithmetic: Literal["parallel", "composable", "bit_serial_weights", "bit_serial"] = "parallel"
    count: int = Field(default=1, gt=0, le=1024)
    split: Literal["any", "m", "n", "k"] = "any"
    critical_path_ns: float = Field(default=0.7, gt=0, le=100)

    @model_validator(mode="after")
    def _whole_bricks(self) -> Array:
        for name in ("weight_bits", "activation_bits"):
            bits = getattr(self, name)
            if self.arithmetic == "composable" and bits not in (2, 4, 8, 16):
                raise ValueError(f"{name} of composable arithmetic must be 2, 4, 8 or 16 (2-bit bricks), got {bits}")
        return self

    @property
    def peak_macs_per_cycle(self) -> float:
        """MACs of native width a cycle with every PE busy, all arrays; bit-serial PEs take several cycles for one."""
        cycles = cycles_per_vector(
            ARITHMETICS.index(self.arithmetic),
            self.weight_bits,
            self.activation_bits,
            self.weight_bits,
            self.activation_bits,
        )
        return float(self.count * self.rows * self.cols / cycles)


class MemoryLevel(Part):
    """One on-chip SRAM (of each array, if it is an array buffer).

    ``bandwidth_gb_per_s`` is all banks together (1 GB/s = 10^9 byte/s). One port (``ports: 1``): reads plus writes
    share it; two: reads have it, writes have as much again. ``bank_conflicts: random``: accesses fall on banks at
    random, one a bank and cycle, instead of interleaved without conflict. ``access_bytes``: the smallest access; a
    shorter run of a tile's row wastes the rest. ``features``: transfers to the inside that it gates or skips
    (:mod:`sim.sparsity.level_features`), e.g. "skip inputs <-> weights by vector".
    """

    keeps: tuple[Operand, ...]
    capacity_kib: float = Field(gt=0, le=1 << 22)
    bandwidth_gb_per_s: float = Field(gt=0, le=1e6)
    banks: int = Field(default=1, gt=0, le=1024)
    ports: Literal[1, 2] = 1
    bank_conflicts: Literal["none", "random"] = "none"
    access_bytes: int = Field(default=1, gt=0, le=4096)
    double_buffered: bool = True
    features: str = ""

    @field_validator("features")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse(value)
        return value

    @model_validator(mode="after")
    def _keeps_targets(self) -> MemoryLevel:
        for feature in parse(self.features):
            if feature.target not in self.keeps:
                raise ValueError(f"features: {feature.kind} {feature.target}, but the level does not keep them")
        return self

    @field_validator("keeps")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("keeps must name each of weights, inputs, outputs at most once and at least one")
        return tuple(o for o in OPERANDS if o in value)


class Dram(Part):
    """Off-chip memory: a standard from ``sim/memory/data/dram_standards.csv`` and how many channels of it.

    ``bandwidth_gb_per_s`` replaces the standard's peak (all channels together); its efficiency still applies.
    ``features``: weights or inputs that are not fetched where a leader is empty ("skip weights <- inputs by vector":
    :mod:`sim.sparsity.level_features`); a vector of them is a run of its own.
    """

    standard: str = "lpddr4_3200"
    channels: int = Field(default=1, gt=0, le=64)
    bandwidth_gb_per_s: float | None = Field(default=None, gt=0, le=1e6)
    features: str = ""

    @field_validator("features")
    @classmethod
    def _fetches(cls, value: str) -> str:
        for feature in parse(value):
            if feature.kind != "skip" or feature.target == "outputs":
                raise ValueError(f"DRAM can only skip weights or inputs, not {feature.kind} {feature.target}")
        return value

    @field_validator("standard")
    @classmethod
    def _known(cls, value: str) -> str:
        from sim.memory.dram import STANDARDS

        if value not in STANDARDS:
            hint, known = nearest(value, STANDARDS), f"known: {', '.join(sorted(STANDARDS))}"
            raise ValueError(f"unknown {value!r}, {known if hint == known else f'{hint} {known}'}")
        return value


class Dma(Part):
    """How tiles travel between DRAM and the chip. ``in_flight_kib`` a channel bounds its bandwidth by bytes in flight
    over latency (None: no bound). One channel serves loads and stores in turn; two serve them apart, three split
    weights from inputs too; they share DRAM's bandwidth. ``prefetch_weights``: the next op's first weights are loaded
    while this op ends (one channel); ``stream_vector``: vector ops follow the tiles of the GEMM before them. Channels,
    prefetch and streaming are the timeline engine's; the analytic engine leaves them out."""

    channels: Literal[1, 2, 3] = 1
    in_flight_kib: float | None = Field(default=None, gt=0, le=1 << 20)
    prefetch_weights: bool = False
    stream_vector: bool = False


class Network(Part):
    """On-chip network between the outermost levels and the arrays: a delivered byte travels ``hops`` hops of
    ``hop_mm``; ``bandwidth_gb_per_s`` is what it delivers in all. ``multicast``: an operand that several arrays share
    is read once and delivered to all of them; without, it is read once for each."""

    bandwidth_gb_per_s: float | None = Field(default=None, gt=0, le=1e6)
    hops: float = Field(default=1, ge=0, le=1024)
    hop_mm: float = Field(default=0.0, ge=0, le=100)
    energy_pj_per_bit_mm: float = Field(default=0.049, ge=0, le=100)
    multicast: bool = True


class Vector(Part):
    """Vector unit for norms, softmax, rotary, activation: ALU lanes and slower special-function lanes (exp, div)."""

    lanes: int = Field(gt=0, le=65536)
    special_function_lanes: int = Field(gt=0, le=65536)


class Accelerator(Part):
    """A machine. Validation errors are raised as one-line :class:`InputError` by :func:`build`."""

    name: str
    summary: str = ""
    technology: Technology = Technology()
    clock_ghz: float = Field(gt=0, le=20)
    array: Array
    sparsity: Sparsity = Sparsity()
    memory: dict[str, MemoryLevel]
    dram: Dram = Dram()
    dma: Dma = Dma()
    network: Network = Network()
    vector: Vector
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Accelerator:
        if not self.memory:
            raise ValueError("memory: at least one level is needed")
        if len(self.memory) > MAX_LEVELS:
            raise ValueError(f"memory: at most {MAX_LEVELS} levels, got {len(self.memory)}")
        if len(self.tiers) > MAX_TIERS:
            raise ValueError(f"memory: at most {MAX_TIERS} levels may hold one operand in turn, got {len(self.tiers)}")
        missing = [o for o in OPERANDS if not any(o in self.memory[n].keeps for n in self.tiers[0])]
        if missing:
            raise ValueError(f"memory: the outermost levels ({', '.join(self.tiers[0])}) must keep {missing[0]} too")
        if self.array.kind != "systolic":
            for field in ("n_of_m", "block_skipping"):
                if getattr(self.sparsity, field):
                    raise ValueError(f"sparsity.{field} is for systolic arrays; {self.array.kind} skip any zero")
        if self.array.arithmetic == "composable" and self.sparsity.block_skipping:
            raise ValueError("sparsity.block_skipping: composable arrays pack narrow operands, blocks are not theirs")
        if self.array.kind == "outer_product" and self.sparsity.position_skipping:
            raise ValueError("sparsity.position_skipping: outer_product arrays skip zeros of inputs anyway")
        return self

    @property
    def peak_tops(self) -> float:
        """10^12 operations (two per MAC of native width) a second with every PE busy; zeros that are skipped and
        operands narrower than native come on top."""
        return 2e-3 * self.array.peak_macs_per_cycle * self.clock_ghz

    @property
    def tiers(self) -> list[list[str]]:
        """Levels from the outside in, grouped: neighbours that keep different operands stand side by side (separate
        partitions, or the buffers of one array) and share their tile sizes and loop order."""
        tiers: list[list[str]] = [[]]
        kept: set[str] = set()
        for name, level in self.memory.items():
            if kept & set(level.keeps):
                tiers.append([])
                kept = set()
            tiers[-1].append(name)
            kept |= set(level.keeps)
        return tiers

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


def _fields(path: tuple[Any, ...], model: Any) -> list[str]:
    """Known field names of the part that the parent of ``path`` is, for the nearest-name hint."""
    for key in path[:-1]:
        if get_origin(model) is dict:  # parts by name, as the levels of ``memory`` are
            model = get_args(model)[1]
        elif str(key).isdigit() and get_args(model):  # a place in a tuple of parts
            model = get_args(model)[0]
        elif isinstance(model, type) and issubclass(model, BaseModel) and str(key) in model.model_fields:
            model = model.model_fields[str(key)].annotation
        else:
            return []
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def describe(
    error: ValidationError, where: str, line_of: dict[tuple[str, ...], int] | None = None, model: Any = None
) -> str:
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
        text = f"unknown field '{dotted}', {nearest(path[-1], _fields(path, model or Accelerator))}"
    elif first["type"] == "missing":
        text = f"field '{dotted}' is missing"
    elif first["type"] == "value_error":
        text = f"{dotted}: {first['ctx']['error']}" if dotted else str(first["ctx"]["error"])
        if not isinstance(given, dict | BaseModel) and dotted and repr(given) not in text:
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
