"""Reference pages of what people write in YAML: machines and search spaces, field by field, from the pydantic specs.

Types, defaults and ranges are the specs' own. Units and meanings stand in ``machine_fields.csv`` and
``space_fields.csv``, since the specs say them in prose only; a field without a meaning, or a meaning without a field,
raises :class:`ValueError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from prose import cell, markdown
from pydantic import BaseModel
from tables import Row, fields, meanings, table

from dse.space import Space, load, names
from sim.memory.dram import STANDARDS
from sim.sparsity.formats.n_of_m import LARGEST_GROUP
from sim.sparsity.formats.registry import FORMATS
from sim.spec import MAX_LEVELS, MAX_TIERS, Accelerator, MemoryLevel
from workloads.bundled import models
from workloads.recipe import CHANNEL_VARIANTS, MATRIX_VARIANTS, METHODS

HERE = Path(__file__).parent
HEADER = ("field", "unit", "default", "allowed", "meaning")
LEVELS = {"memory": ("level", MemoryLevel)}


def _listed(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _written(variant: str) -> str:
    """The pattern of a bundled variant as a space spells it: ``wanda_2_4`` is ``2:4``."""
    return variant.partition("_")[2].replace("_", ":")


#: What the types alone do not say: checked by validators of the specs.
MACHINE_RANGES = {
    "sparsity.format": _listed(FORMATS),
    "sparsity.n_of_m": f"`n:m`, 1 <= n < m <= {LARGEST_GROUP}",
    "sparsity.block": "`4x4`, `1x8`: whole numbers >= 1",
    "sparsity.barrier_depth": "whole number, 1 to 1,048,576, or `full`",
    "dram.standard": _listed(STANDARDS),
    "memory.<level>.features": "`KIND TARGET <- LEADER [& LEADER] [by vector], ...`",
    "dram.features": "as a level's; `skip` of weights or inputs only",
}
SPACE_RANGES = {
    "model": _listed(models()),
    "machines": "name or file: {field path: [values]}",
    "hardware": "field path: [values]",
    "pruning.methods": f"list of: {_listed(METHODS)}",
    "pruning.patterns": f"list of: `dense`, {_listed(dict.fromkeys(_written(v) for v in MATRIX_VARIANTS))}",
    "pruning.ffn_channels": f"list of: `0`, {_listed(v.rsplit('_', 1)[1] for v in CHANNEL_VARIANTS)}",
}


def paths(model: type[BaseModel], below: Mapping[str, tuple[str, type[BaseModel]]]) -> list[str]:
    """Field paths as the reference pages spell them."""
    return [row.path for row in fields(model, below)]


def machine_page() -> str:
    """Every field of a machine file, part by part, each under its class's docstring."""
    told = _told(list(fields(Accelerator, LEVELS)), HERE / "machine_fields.csv")
    text = [
        "# Machine fields",
        "Every field of a machine file, generated from the specs (`sim/spec.py`, `sim/spec_sparsity.py`). Paths are "
        "the same in YAML, `machine.override({...})`, `sp.sweep`, `--set`, `--vary` and spaces; `<level>` is the name "
        f"that a machine gives a level of its memory (at most {MAX_LEVELS} levels in {MAX_TIERS} tiers). A value out "
        "of range is refused in one line that names file, line, field, value and range. What every knob costs: "
        "[machines](../machines.md#every-knob-has-a-price).",
    ]
    parts: dict[type[BaseModel], list[Row]] = {}
    for row in told:
        parts.setdefault(row.part, []).append(row)
    for part, rows in parts.items():
        head = rows[0].path.rpartition(".")[0] if part is not Accelerator else "The machine itself"
        about = markdown(inspect.getdoc(part) or "")
        text += [
            f"## {head}" if part is Accelerator else f"## `{head}`",
            about,
            _rows(rows, HERE / "machine_fields.csv", MACHINE_RANGES),
        ]
    return "\n\n".join(text) + "\n"


def space_table() -> str:
    """The fields of a search space."""
    told = _told(list(fields(Space, {})), HERE / "space_fields.csv")
    return _rows(told, HERE / "space_fields.csv", SPACE_RANGES)


def bundled_spaces() -> str:
    """Every bundled space as its file, with how many parameters a trial sets."""
    folder = resources.files("dse").joinpath("spaces")
    found = []
    for name in names():
        space, file = load(name), folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8").rstrip()
        found.append(f"### {name}\n\n{len(space.distributions())} parameters.\n\n```yaml\n{file}\n```")
    return "\n\n".join(found)


def _told(rows: list[Row], file: Path) -> list[Row]:
    told, known = meanings(file), [row.path for row in rows]
    if set(told) != set(known):
        odd = sorted(set(told) ^ set(known))
        raise ValueError(f"{file.name}: {', '.join(odd)}: in the specs or in the file, not in both")
    return rows


def _rows(rows: list[Row], file: Path, ranges: Mapping[str, str]) -> str:
    told = meanings(file)
    return table(
        HEADER,
        [
            (
                f"`{row.path}`",
                told[row.path][0],
                row.default,
                ranges.get(row.path, row.allowed),
                cell(told[row.path][1]),
            )
            for row in rows
        ],
    )
