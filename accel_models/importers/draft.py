"""A machine in the making: fields with a source each, and one notice for everything that another tool does not say, or
says and has no counterpart here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sim.errors import InputError
from sim.spec import Accelerator, build

WORD_BITS = 128
"""Width of an SRAM word where nothing else is said, as in the bundled machines."""
MOST_BANKS = 1024


@dataclass
class Draft:
    """``fields``: a machine file's. ``notices``: a line each, for the user to read once."""

    fields: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def machine(self, where: str) -> Accelerator:
        """The machine; :class:`InputError` that names ``where`` and the field if ours cannot be like that."""
        return build({**self.fields, "sources": self.sources}, where=where)

    def save(self, path: Path) -> Path:
        """Write the machine file, whole or not at all; :class:`InputError` if it cannot be written."""
        self.machine(str(path))
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(self.text(), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
        finally:
            if path.parent.is_dir():
                temporary.unlink(missing_ok=True)
        return path

    def text(self) -> str:
        """The machine file: a section a line, sources last, notices as comments on top."""
        lines = [f"# {_one_line(notice)}" for notice in self.notices]
        for name, value in self.fields.items():
            if name == "memory":
                lines += ["memory:", *(f"  {level}: {_flow(part)}" for level, part in value.items())]
            else:
                lines.append(f"{name}: {_flow(value)}")
        lines += ["sources:", *(f"  {name}: {_flow(text)}" for name, text in self.sources.items())]
        return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """A comment ends at the line; other tools' names may hold line breaks and characters that YAML forbids."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def banks_for(bits_per_cycle: float) -> int:
    """Banks of :data:`WORD_BITS` that move so many bits a cycle."""
    return int(min(max(-(-bits_per_cycle // WORD_BITS), 1), MOST_BANKS))


def file_name(text: str) -> str:
    """``text`` as a name of files and machines: letters, digits, ``_``, ``-`` and dots."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "imported"


def read_clock(clock_ghz: float) -> float:
    """:class:`InputError` for a clock that no machine may have."""
    if not 0 < clock_ghz <= 20:
        raise InputError(f"clock_ghz must be above 0 and at most 20, got {clock_ghz:g}")
    return float(clock_ghz)
