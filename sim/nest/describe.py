"""A nest as people write it: one line a loop, indented, with the tiles of each level above the loops that walk them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from sim.nest.count import ARRAY, Moves, accesses
from sim.nest.parts import OPERAND_DIMS, OPERANDS, REUSED_BY, Level
from sim.nest.room import tile_elements, width

if TYPE_CHECKING:
    from sim.nest.nest import Nest

COLUMNS = 100
NOTE_COLUMN = 40


def text(nest: Nest) -> str:
    """Lines of at most 100 columns. A loop's note says how often it turns and what becomes of the operand it does not
    index: ``weights stay in L`` (L is the innermost level whose tile it reuses) or ``weights again from L`` (L is the
    level that reads them once more for each turn). Footprints are those of one replica; loops of one turn are
    left out."""
    m, n, k = (nest.sizes[d] for d in "mnk")
    lines = [f"GEMM m {m} x k {k} . k {k} x n {n}: {nest.macs():,} MACs in {nest.steps():,} array steps"]
    indent = 0
    for place in range(len(nest.loops) + 1):
        for level in nest.levels:
            here = [x for x in OPERANDS if x in level.keeps and level.position(x) == place]
            if here:
                tiles = ", ".join(f"{x} {_kib(nest, level, x)}" for x in here)
                each = f" (each of those along {', '.join(level.per)})" if level.per else ""
                lines += _wrapped(f"{level.name}{each}: {tiles}", indent)
        if place < len(nest.loops):
            line = _loop_line(nest, place)
            if line:
                lines += _wrapped(line[0].ljust(max(0, NOTE_COLUMN - indent)) + "  # " + line[1], indent)
                indent += 2
    for dim, extent in nest.extents(len(nest.loops)).items():
        unroll = nest.spatial.get(dim)
        if unroll and unroll.factor > 1:
            lines += _wrapped(f"spatial {dim} in 0:{extent} over {unroll.factor} along {unroll.axis}", indent)
    return "\n".join(lines)


def moves(nest: Nest) -> str:
    """Elements read and written, a line a level and operand, in the directions of :class:`sim.nest.count.Moves`."""
    titles = ("level", "operand", *(field.replace("_", " ") for field in Moves._fields))
    rows = [titles, *((*place, *(f"{number:,}" for number in row)) for place, row in accesses(nest).items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
    cells = [
        [x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(zip(r, widths, strict=True))] for r in rows
    ]
    return "\n".join("  ".join(row) for row in cells)


def _loop_line(nest: Nest, place: int) -> tuple[str, str] | None:
    loop = nest.loops[place]
    extent = nest.extents(place)[loop.dim]
    turns = -(-extent // loop.tile)
    if turns == 1:
        return None
    reused = next(x for x in OPERANDS if REUSED_BY[x] == loop.dim)
    short = extent % loop.tile
    note = f"{turns} turns{f', last {short}' if short else ''}; {reused} {fate(nest, place, reused)}"
    return f"for {loop.dim} in 0:{extent}:{loop.tile}", note


def fate(nest: Nest, place: int, operand: str) -> str:
    """What the loop at ``place``, which does not index ``operand``, does to its tiles in the levels inside of it."""
    stops = [(level.name, level.position(operand)) for level in nest.chain(operand)]
    if operand in nest.latched:
        stops.append((ARRAY, len(nest.loops)))
    kept = [name for name, at in stops if at > place and not _cut_between(nest, operand, place + 1, at)]
    if kept:
        return f"stay in {kept[-1]}"
    return f"again from {[name for name, at in stops if at <= place][-1]}"


def _cut_between(nest: Nest, operand: str, start: int, stop: int) -> bool:
    """Whether a loop from ``start`` to before ``stop`` moves on to another tile of ``operand``."""
    return any(
        nest.loops[at].dim in OPERAND_DIMS[operand] and nest.loops[at].tile < nest.extents(at)[nest.loops[at].dim]
        for at in range(start, stop)
    )


def _kib(nest: Nest, level: Level, operand: str) -> str:
    kib = tile_elements(nest, level, operand) * width(nest, level, operand) / 8192
    return f"{kib:,.1f} KiB" if kib >= 0.1 else f"{kib * 1024:.3g} B"


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(
        line,
        COLUMNS,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
        replace_whitespace=False,
        drop_whitespace=True,
        break_on_hyphens=False,
    )
