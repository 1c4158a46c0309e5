"""ZigZag accelerators (YAML, version 3) as machines: one digital array, memories from the registers out to DRAM.

ZigZag's ``operational_array`` is a grid of up to four axes; a memory that *serves* an axis is shared along it. Which
axis reduces, which one shares weights and which one shares inputs, follows from the innermost memory of each operand:

- along an axis that its outputs' memory serves sums are added up: that is K;
- along an axis that its weights' registers serve, weights are shared: that is M;
- along the others outputs and weights differ: that is N.

K and N become the rows and columns of a weight-stationary array, M arrays of that side by side; without K the array is
output stationary, M x N. A memory that serves all axes becomes a level; one that does not is in every PE: a level of
their sum if it holds more than a word, else a register of the array. Written from ZigZag's documentation and
the machines in zigzag-dse 3.9.1 (MIT).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import yaml

from accel_models.importers.draft import Draft, banks_for, file_name, read_clock
from accel_models.loader import plain_fields
from sim.errors import InputError, nearest
from sim.spec import MAX_TIERS

OPERANDS = {"I1": "inputs", "I2": "weights", "O": "outputs"}
"""By ZigZag's usual ``memory_operand_links``."""
BITS = 8
SUM_BITS = (16, 24, 32, 40, 48)
DEFAULT_SUM_BITS = 32
_PORTS = {"read": ("read",), "write": ("write",), "read_write": ("read", "write")}


@dataclass(frozen=True)
class Memory:
    """One memory. ``serves``: axes along which it is shared; ``bits``: of one copy, of ``copies``; ``read``, ``write``:
    bits a cycle of one copy; ``shared``: whether reads and writes share a port."""

    name: str
    operands: tuple[str, ...]
    serves: tuple[str, ...]
    bits: int
    copies: int
    read: int
    write: int
    shared: bool
    double: bool


def zigzag_machine(path: str | Path, clock_ghz: float = 1.0, sum_bits: int | None = None) -> Draft:
    """The machine in ``path``; ``sum_bits``: of partial sums, which ZigZag's workloads say and its machines do not.

    Raises:
        InputError: no such file, not a ZigZag machine, or one with a part that has no counterpart here (named).
    """
    path, clock = Path(path), read_clock(clock_ghz)
    raw, twice = _fields(path)
    draft = _Reader(path, raw, clock, sum_bits or DEFAULT_SUM_BITS).draft()
    draft.notices += twice
    return draft


def _fields(path: Path) -> tuple[Any, list[str]]:
    """What the file holds, and a notice where a field is given twice (as in one of ZigZag's own): the last counts."""
    try:
        return plain_fields(path)[0], []
    except InputError as error:
        if "is given twice" not in str(error):
            raise
        notice = f"{str(error).removeprefix(f'{path} ')}: the last counts, as in ZigZag"
        return yaml.safe_load(path.read_text(encoding="utf-8")), [notice]  # aliases and depth were looked at before


class _Reader:
    """One file: ``axes`` by name to size, ``memories`` from the array outward."""

    def __init__(self, path: Path, raw: Any, clock: float, sum_bits: int):
        self.path, self.clock, self.sum_bits = path, clock, sum_bits
        self.raw = self._mapping(raw, "the file")
        self.array = self._mapping(self.raw.get("operational_array"), "operational_array")
        self.axes = self._axes()
        memories = self._mapping(self.raw.get("memories"), "memories")
        self.memories = [self._memory(str(name), self._mapping(m, f"memories.{name}")) for name, m in memories.items()]
        self.bits = self._precision()

    def draft(self) -> Draft:
        dram = self._dram()
        dram_bits = max(dram.read, dram.write)
        on_chip = [m for m in self.memories if m is not dram]
        array, count, roles = self._array(on_chip)
        levels, in_array = self._levels(on_chip, count)
        shape = " x ".join(f"{size}" for size in self.axes.values())
        name = file_name(str(self.raw.get("name") or self.path.stem))
        file = self.path.name
        fields: dict[str, Any] = {
            "name": name, "summary": f"from ZigZag's {file}", "clock_ghz": self.clock, "array": array,
            "memory": {m.name: self._level(m) for m in levels},
            "dram": {
                "standard": "lpddr4_3200", "channels": 1, "bandwidth_gb_per_s": self._gb_per_s(dram_bits),
            },
            "vector": {"lanes": array["cols"], "special_function_lanes": max(array["cols"] // 8, 1)},
        }  # fmt: skip
        sources = {
            "clock_ghz": "default: ZigZag counts cycles only",
            "array": f"{file}: operational_array {shape}, {roles}; weights change behind the array's back: assumed",
            **{f"memory.{m.name}": self._level_source(m) for m in levels},
            "dram": f"{file}: {dram.name}, {dram_bits} bits a cycle; standard assumed",
            "vector": "default: one ALU lane a column, special functions an eighth; ZigZag's machines have none",
        }
        notices = [
            f"clock: not stated, {self.clock:g} GHz taken; bits a cycle become GB/s with it",
            f"array: {roles}",
            *self._widths(),
            "energy and area: r_cost, w_cost, area, unit_energy and unit_area are left out, ours at 7 nm are taken",
            f"DRAM: {dram.name} is taken for it; its size is left out; the standard's efficiency and latency apply, "
            "ZigZag has no efficiency",
            f"vector unit: ZigZag's machines have none, {array['cols']} lanes taken",
            "left out: bandwidth_min and latency of memories; which ports serve which operand",
        ]
        if in_array:
            notices.append(f"registers of a word are part of the array: {', '.join(in_array)}")
        left = [key for key in self.raw if key not in ("name", "memories", "operational_array")]
        if left:
            notices.append(f"left out: {', '.join(left)}: mappings are searched here")
        return Draft(fields, sources, notices)

    def _array(self, on_chip: list[Memory]) -> tuple[dict[str, Any], int, str]:
        """The array's section, how many arrays, and in words which axis became what."""
        inner = {o: next((m for m in on_chip if o in m.operands), None) for o in OPERANDS.values()}
        every = set(self.axes)
        shared = {o: set(m.serves) if m is not None and set(m.serves) != every else set() for o, m in inner.items()}
        k, m = shared["outputs"], shared["weights"]
        if k & m:
            raise self._refused("operational_array.dimensions", f"{', '.join(sorted(k & m))} shares sums and weights")
        n = every - k - m
        guessed = ""
        if not k and not m:
            if len(self.axes) != 2:
                why = f"{len(self.axes)} axes, and no memory tells what they stand for"
                raise self._refused("operational_array.dimensions", why)
            first, second = self.axes
            k, n, guessed = {first}, {second}, " (assumed: no memory tells)"
        elif k and not m and len(n) > 1:
            why = (
                f"{', '.join(sorted(k))} adds up and sums stay in {inner['outputs'].name}: an output-stationary array "
            )
            raise self._refused("operational_array.dimensions", f"{why}of dot products has no counterpart")
        sizes = {role: prod(self.axes[a] for a in axes) for role, axes in (("k", k), ("m", m), ("n", n))}
        if k:
            side = {"rows": sizes["k"], "cols": sizes["n"], "dataflow": "ws"}
            count = sizes["m"]
        else:
            side, count = {"rows": sizes["m"], "cols": sizes["n"], "dataflow": "os"}, 1
        array: dict[str, Any] = {"kind": "systolic", **side, "overlap": "double_buffer"}
        if count > 1:
            array |= {"count": count, "split": "m"}
        array |= {"weight_bits": self.bits["weights"], "activation_bits": self.bits["inputs"]}
        if self.sum_bits not in SUM_BITS:
            known = ", ".join(map(str, SUM_BITS))
            raise InputError(f"{self.path}: partial sums must have {known} bits, got {self.sum_bits}")
        array["accumulator_bits"] = self.sum_bits
        told = [f"{' x '.join(sorted(axes))} is {role}" for role, axes in (("K", k), ("M", m), ("N", n)) if axes]
        shape = f"{side['rows']} x {side['cols']}, {side['dataflow']}" + (
            f", {count} of them over M" if count > 1 else ""
        )
        return array, count, f"{', '.join(told)}{guessed}: {shape}"

    def _levels(self, on_chip: list[Memory], count: int) -> tuple[list[Memory], list[str]]:
        """Levels from the outside in, and registers that are part of the array."""
        levels: list[tuple[int, Memory]] = []
        in_array = []
        depth = dict.fromkeys(OPERANDS.values(), 0)
        for memory in reversed(on_chip):
            word = max(self.sum_bits if o == "outputs" else self.bits[o] for o in memory.operands)
            if memory.copies > 1 and memory.bits <= word * len(memory.operands):
                in_array.append(memory.name)
                continue
            tier = max(depth[o] for o in memory.operands)
            depth |= dict.fromkeys(memory.operands, tier + 1)
            levels.append((tier, memory))
        if not levels:
            raise self._refused("memories", "none on the chip holds more than a word")
        first = {o for tier, m in levels if tier == 0 for o in m.operands}
        for letter, operand in OPERANDS.items():
            if operand not in first:
                raise self._refused(
                    "memories", f"{letter} comes from DRAM directly: none on the chip keeps it outermost"
                )
        tiers = max(tier for tier, _ in levels) + 1
        if tiers > MAX_TIERS:
            raise self._refused("memories", f"{tiers} hold one operand in turn, {MAX_TIERS} may")
        inner = [m.name for tier, m in levels if tier]
        if count > 1 and inner:
            raise self._refused(f"memories.{inner[0]}", f"{count} arrays share it inside the outermost memories")
        return [memory for _, memory in sorted(levels, key=lambda found: found[0])], in_array

    def _level(self, memory: Memory) -> dict[str, Any]:
        rate = memory.read if memory.shared else min(memory.read, memory.write)
        return {
            "keeps": [o for o in OPERANDS.values() if o in memory.operands],
            "capacity_kib": memory.bits * memory.copies / 8192,
            "bandwidth_gb_per_s": self._gb_per_s(rate * memory.copies),
            "banks": banks_for(rate * memory.copies), "ports": 1 if memory.shared else 2, "double_buffered": True,
        }  # fmt: skip

    def _level_source(self, memory: Memory) -> str:
        text = f"{self.path.name}: {memory.name}, size {memory.bits} bits"
        text += f" in each of {memory.copies} places" if memory.copies > 1 else ""
        text += f", {memory.read} bits a cycle read, {memory.write} written"
        text += " on one port" if memory.shared else ""
        if not memory.shared and memory.read != memory.write:
            text += ", the smaller taken for both"
        return f"{text}; banks of 128-bit words assumed; double buffering {'stated' if memory.double else 'assumed'}"

    def _widths(self) -> list[str]:
        found = []
        if "input_precision" not in self.array:
            found.append(f"widths: not stated, {BITS}-bit operands taken")
        found.append(f"sums: {self.sum_bits} bits taken, ZigZag's workloads state them (O of operand_precision)")
        return found

    def _dram(self) -> Memory:
        outer = self.memories[-1]
        if set(outer.operands) != set(OPERANDS.values()):
            raise self._refused(f"memories.{outer.name}", "the outermost must keep I1, I2 and O, as DRAM does")
        if len(self.memories) == 1:
            raise self._refused(f"memories.{outer.name}", "it is the only one: a memory on the chip is needed too")
        return outer

    def _memory(self, name: str, raw: dict[str, Any]) -> Memory:
        where = f"memories.{name}"
        operands = self._names(raw.get("operands"), f"{where}.operands", OPERANDS)
        serves = self._names(raw.get("served_dimensions"), f"{where}.served_dimensions", self.axes, empty=True)
        rates = {"read": 0, "write": 0}
        ports = raw.get("ports")
        if not isinstance(ports, list) or not ports:
            raise self._refused(f"{where}.ports", "must be a list of at least one port")
        for index, port in enumerate(ports):
            port = self._mapping(port, f"{where}.ports.{index}")
            kind = port.get("type")
            if kind not in _PORTS:
                known = nearest(str(kind), _PORTS)
                raise self._refused(f"{where}.ports.{index}.type", f"must be one of {', '.join(_PORTS)}, {known}")
            rate = self._whole(port.get("bandwidth_max"), f"{where}.ports.{index}.bandwidth_max")
            for way in _PORTS[kind]:
                rates[way] += rate
        if not all(rates.values()):
            raise self._refused(f"{where}.ports", "must read and write")
        return Memory(
            name=name,
            operands=tuple(OPERANDS[o] for o in operands),
            serves=tuple(serves),
            bits=self._whole(raw.get("size"), f"{where}.size"),
            copies=prod(size for axis, size in self.axes.items() if axis not in serves),
            read=rates["read"],
            write=rates["write"],
            shared=any(p["type"] == "read_write" for p in ports),
            double=bool(raw.get("force_double_buffering")),
        )

    def _axes(self) -> dict[str, int]:
        if self.array.get("is_imc") or self.array.get("imc_type"):
            raise self._refused("operational_array.is_imc", "in-memory computing has no counterpart")
        names, sizes = self.array.get("dimensions"), self.array.get("sizes")
        if not isinstance(names, list) or not isinstance(sizes, list) or not names or len(names) != len(sizes):
            raise self._refused("operational_array", "dimensions and sizes must be lists of equal length")
        found = [self._whole(size, f"operational_array.sizes.{i}") for i, size in enumerate(sizes)]
        return dict(zip(map(str, names), found, strict=True))

    def _precision(self) -> dict[str, int]:
        given = self.array.get("input_precision", [BITS, BITS])
        if not isinstance(given, list) or len(given) != 2:
            raise self._refused("operational_array.input_precision", "must be two numbers of bits")
        inputs, weights = (self._whole(v, "operational_array.input_precision") for v in given)
        return {"inputs": inputs, "weights": weights}

    def _gb_per_s(self, bits: float) -> float:
        return bits / 8 * self.clock

    def _names(self, value: Any, field: str, known: Any, empty: bool = False) -> list[str]:
        if not isinstance(value, list) or (not value and not empty):
            raise self._refused(field, "must be a list of names")
        for name in value:
            if name not in known:
                raise self._refused(field, f"'{name}' is unknown, {nearest(str(name), known)}")
        return value

    def _whole(self, value: Any, field: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refused(field, f"must be a whole number > 0, got {value!r}")
        return value

    def _mapping(self, value: Any, field: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise self._refused(field, f"must be a mapping of fields, got {type(value).__name__}")
        return value

    def _refused(self, field: str, why: str) -> InputError:
        return InputError(f"{self.path}: {field}: {why}")
