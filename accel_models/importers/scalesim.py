"""SCALE-Sim configurations (``.cfg``, versions 2 and 3) as machines.

A configuration describes an array and three double-buffered SRAMs, one an operand, each with an interface of its own to
memory; sizes in KiB, rates in words of one byte a cycle (SCALE-Sim 3.0.0: ``word_size = 1``). It says nothing of the
clock, of widths, energy or area, and its SRAMs always keep the array busy. Written from the format that SCALE-Sim's
documentation and examples describe (github.com/scalesim-project/SCALE-Sim, MIT).
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel_models.importers.draft import Draft, banks_for, file_name, read_clock
from sim.errors import InputError, nearest

WORD_BYTES = 1
SUM_BYTES = 4  # a partial sum here; SCALE-Sim counts words, whatever they hold
DATAFLOWS = ("os", "ws", "is")
MODES = ("CALC", "USER")
_SIZES = {"ifmap": "inputs", "filter": "weights", "ofmap": "outputs"}
_ALWAYS = (
    "run_name", "arrayheight", "arraywidth", "dataflow", "interfacebandwidth", "useramulatortrace", "sparsitysupport",
    "ifmapcustomlayout", "filtercustomlayout",
)  # fmt: skip
"""Keys that are always looked at (lower case, as all here)."""
_KNOWN = (
    "ifmapoffset", "filteroffset", "ofmapoffset", "bandwidth", "readrequestbuffer", "writerequestbuffer", "memorybanks",
    "onchipmemorybanks", "onchipmemorybankports", "topologycsvloc", "sparserep", "optimizedmapping", "blocksize",
    "randomnumbergeneratorseed",
    *(f"{name}srambank{what}" for name in ("ifmap", "filter") for what in ("bandwidth", "num", "port")),
)  # fmt: skip
"""Keys that versions 2 and 3 write and that may change nothing here."""


@dataclass(frozen=True)
class Config:
    """A configuration as it is written: ``values`` by lower-case key, ``spelt`` their spelling in the file."""

    path: Path
    values: dict[str, str]
    spelt: dict[str, str]

    @property
    def sparse(self) -> bool:
        """Whether layers' sparsity ratios count."""
        return self._flag("sparsitysupport")

    def machine(self, pattern: str | None = None, clock_ghz: float = 1.0) -> Draft:
        """The machine; ``pattern``: n:m of the weights it is to run ("2:4"), None for dense.

        Raises:
            InputError: a field that is missing, out of range, or has no counterpart.
        """
        clock, flow = read_clock(clock_ghz), self._one_of("dataflow", DATAFLOWS)
        rows, cols = self._count("arrayheight"), self._count("arraywidth")
        said = self.path.name
        draft = Draft(
            {
                "name": file_name(self.path.stem),
                "summary": f"from SCALE-Sim's {said} ({self.values.get('run_name', 'no run_name')})",
                "clock_ghz": clock,
                "array": {
                    "kind": "systolic", "rows": rows, "cols": cols, "dataflow": flow, "overlap": "none",
                    "weight_bits": 8 * WORD_BYTES, "activation_bits": 8 * WORD_BYTES,
                },
            },
            {
                "clock_ghz": "default: SCALE-Sim counts cycles only",
                "array": f"{said}: ArrayHeight, ArrayWidth, Dataflow; no overlap, since its folds follow each other; "
                "widths: its words are one byte; sums of 32 bits assumed",
            },
            [
                f"clock: not stated, {clock:g} GHz taken; words a cycle become GB/s with it",
                "widths: not stated, 8-bit operands (SCALE-Sim's words are one byte) and 32-bit sums taken",
                "energy and area: not stated, ours at 7 nm are taken",
                "cycles: folds follow each other as in SCALE-Sim; when a fold ends, and memories, are ours",
            ],
        )  # fmt: skip
        if pattern is not None:
            self._sparsity(draft, pattern)
        self._memory(draft, rows, cols, clock)
        self._dram(draft, rows, cols, clock)
        draft.fields["vector"] = {"lanes": cols, "special_function_lanes": max(cols // 8, 1)}
        draft.sources["vector"] = "default: one ALU lane a column, special functions an eighth; SCALE-Sim has none"
        draft.notices.append(f"vector unit: SCALE-Sim has none, {cols} lanes taken")
        self._left_out(draft)
        return draft

    def _memory(self, draft: Draft, rows: int, cols: int, clock: float) -> None:
        """Three SRAMs side by side, each wide enough for what the array takes and as much filled."""
        longest = max(rows, cols)
        levels: dict[str, Any] = {}
        for name, operand in _SIZES.items():
            bytes_per_cycle = longest * (2 * SUM_BYTES if operand == "outputs" else 2 * WORD_BYTES)
            banks, ports, field = banks_for(8 * bytes_per_cycle), 1, f"{name}sramszkb"
            text = f"{self.path.name}: {self.spelt.get(field, field)}; width: never a bottleneck in SCALE-Sim, so "
            text += f"{longest} {'sums read and written' if operand == 'outputs' else 'words read and filled'} a cycle"
            if name != "ofmap" and self._flag(f"{name}customlayout"):
                banks, ports = self._count(f"{name}srambanknum"), min(self._count(f"{name}srambankport"), 2)
                text += f"; banks and ports: {self.spelt[f'{name}srambanknum']}, {self.spelt[f'{name}srambankport']}"
            levels[name] = {
                "keeps": [operand], "capacity_kib": float(self._count(field)),
                "bandwidth_gb_per_s": bytes_per_cycle * clock, "banks": banks, "ports": ports, "double_buffered": True,
            }  # fmt: skip
            draft.sources[f"memory.{name}"] = text
        draft.fields["memory"] = levels
        custom = [name for name in ("ifmap", "filter") if self._flag(f"{name}customlayout")]
        if custom:
            draft.notices.append(
                f"layout: banks and ports of {' and '.join(custom)} are carried; where elements lie in them, and "
                "conflicts that follow from it, have no counterpart"
            )

    def _dram(self, draft: Draft, rows: int, cols: int, clock: float) -> None:
        """One DRAM for what SCALE-Sim gives each SRAM an interface of its own for."""
        mode = self._one_of("interfacebandwidth", MODES)
        if mode == "USER":
            words, text = self._interfaces()
            draft.notices.append(
                f"DRAM: three interfaces of their own in SCALE-Sim, one shared of their sum here, {words:g} words a "
                "cycle; the standard's efficiency and latency apply, SCALE-Sim has neither"
            )
        else:
            words = float(rows + 2 * cols)
            text = "CALC asks for no stalls: what the array could take in a cycle, rows + 2 columns words"
            draft.notices.append(
                f"DRAM: InterfaceBandwidth CALC asks for no stalls, {words:g} words a cycle are taken; area and power "
                "include its PHY"
            )
        draft.fields["dram"] = {
            "standard": "ddr4_3200", "channels": 1, "bandwidth_gb_per_s": words * WORD_BYTES * clock,
        }  # fmt: skip
        draft.sources["dram"] = f"{self.path.name}: InterfaceBandwidth {mode}, {text}; standard assumed"
        if self._flag("useramulatortrace"):
            draft.notices.append("UseRamulatorTrace: no counterpart, DRAM is the bandwidth above times an efficiency")

    def _interfaces(self) -> tuple[float, str]:
        """Words a cycle of the three interfaces together, and how they were read."""
        given = [self._number(text, "bandwidth") for text in self._text("bandwidth").split(",")]
        if len(given) == 3:
            return sum(given), "the sum of the three Bandwidths"
        if len(given) != 1:
            raise InputError(f"{self.path}: Bandwidth must be one number or three, got '{self.values['bandwidth']}'")
        banks = ["ifmapsrambankbandwidth", "filtersrambankbandwidth"]
        if all(name in self.values for name in banks):
            reads = [self._number(self.values[name], name) for name in banks]
            text = "IfmapSRAMBankBandwidth, FilterSRAMBankBandwidth and, for writes, Bandwidth, as SCALE-Sim 3.0.0 does"
            return sum(reads) + given[0], text
        return 3 * given[0], "three interfaces of Bandwidth"

    def _sparsity(self, draft: Draft, pattern: str) -> None:
        if draft.fields["array"]["dataflow"] != "ws":
            raise InputError(f"{self.path}: SparsitySupport with Dataflow {draft.fields['array']['dataflow']}: only ws")
        if self._flag("optimizedmapping"):
            raise InputError(f"{self.path}: OptimizedMapping draws another ratio for every row: it has no counterpart")
        stored = self.values.get("sparserep", "ellpack_block")
        draft.fields["sparsity"] = {"format": "n_of_m", "n_of_m": pattern}
        draft.sources["sparsity"] = f"{self.path.name}: SparsitySupport, SparseRep {stored}; ratio from the topology"
        if stored != "ellpack_block":
            draft.notices.append(f"SparseRep {stored}: weights are stored as n of m with indices (ellpack_block) here")

    def _left_out(self, draft: Draft) -> None:
        """Name every field of the file that changed nothing above."""
        carried = {*_ALWAYS, *(f"{name}sramszkb" for name in _SIZES)}
        if self._one_of("interfacebandwidth", MODES) == "USER":
            carried |= {"bandwidth", "ifmapsrambankbandwidth", "filtersrambankbandwidth"}
        if self.sparse:
            carried |= {"sparserep", "optimizedmapping"}
        for name in ("ifmap", "filter"):
            if self._flag(f"{name}customlayout"):
                carried |= {f"{name}srambanknum", f"{name}srambankport"}
        for what, told in (
            ("without effect here", [self.spelt[k] for k in self.values if k in _KNOWN and k not in carried]),
            ("not known", [self.spelt[k] for k in self.values if k not in _KNOWN and k not in carried]),
        ):
            if told:
                draft.notices.append(f"left out, {what}: {', '.join(told)}")

    def _text(self, key: str) -> str:
        if key not in self.values:
            known = [self.spelt[k] for k in self.values]
            name = next((n for n in _NAMES if n.lower() == key), key)
            raise InputError(f"{self.path}: field '{name}' is missing, {nearest(name, known)}"[:400])
        return self.values[key]

    def _count(self, key: str) -> int:
        text = self._text(key)
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise InputError(f"{self.path}: {self.spelt[key]} must be a whole number > 0, got '{text}'")
        return int(text)

    def _number(self, text: str, key: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e6:
            raise InputError(f"{self.path}: {self.spelt[key]} must be above 0 and below 1000000, got '{text.strip()}'")
        return value

    def _one_of(self, key: str, known: tuple[str, ...]) -> str:
        text = self._text(key)
        found = [name for name in known if name.lower() == text.lower()]
        if not found:
            raise InputError(f"{self.path}: {self.spelt[key]} must be one of {', '.join(known)}, got '{text}'")
        return found[0]

    def _flag(self, key: str) -> bool:
        text = self.values.get(key, "false").lower()
        if text not in ("true", "false"):
            raise InputError(f"{self.path}: {self.spelt[key]} must be true or false, got '{self.values[key]}'")
        return text == "true"


_NAMES = (
    "ArrayHeight", "ArrayWidth", "IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB", "Dataflow", "Bandwidth",
    "InterfaceBandwidth", "IfmapSRAMBankNum", "IfmapSRAMBankPort", "FilterSRAMBankNum", "FilterSRAMBankPort",
)  # fmt: skip


def read_config(path: str | Path) -> Config:
    """The configuration in ``path``; section names are not looked at (versions differ in them), keys in any case.

    Raises:
        InputError: no such file, no text, not a configuration, or a key that is given twice.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except configparser.Error as error:
        raise InputError(f"{path}: not a SCALE-Sim configuration ({' '.join(str(error).split())[:160]})") from None
    values: dict[str, str] = {}
    spelt: dict[str, str] = {}
    for section in parser.sections():
        for key, value in parser.items(section):
            if key.lower() in values:
                raise InputError(f"{path}: {key} is given twice")
            values[key.lower()], spelt[key.lower()] = value.strip().strip("'\""), key
    return Config(path, values, spelt)
