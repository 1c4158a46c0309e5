"""Traces for people: tables on a terminal, the same text plain when piped."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.trace_tools.columns import COLUMNS

if TYPE_CHECKING:
    from sim.trace import Trace

_MOST_OPS = 60
_MOST_CHANGES = 20
_WIDTH = 160  # of a table that is piped
_ROOM = 140  # for both halves of a summary
_WORK = ["ops", "runs", "MMACs", "useful", "weights kB", "KV kB", "other kB"]
_ZEROS = ["density", "bits/w", "bitmap", "out 16", "out 32", "in 16", "in 32"]


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if Console().is_terminal else _WIDTH)


def _table(left: list[str], right: list[str]) -> Any:
    """On a narrow terminal names are folded, numbers are never cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    return table


def written(path: Path, trace: Trace) -> str:
    """What was written and what to do next."""
    pruned = int((trace.ops["profile"] >= 0).sum())
    lines = [f"{path}: {len(trace)} ops, {trace.macs:,.0f} MACs, {pruned} with a mask"]
    lines += [f"  {note}" for note in _random(trace.meta)]
    if trace.meta.get("skipped_ops"):
        lines.append(f"  not charged: {', '.join(trace.meta['skipped_ops'])}")
    lines.append(f"  next: sparchitect simulate -a dense_ws --trace {shlex.quote(str(path))}")
    return "\n".join(lines)


def _random(meta: dict[str, Any]) -> list[str]:
    """That masks are random, where they are."""
    said = meta.get("random_zeros")
    if not isinstance(said, dict):
        return []
    return [f"{said.get('note')}: pattern {said.get('pattern')}, seed {said.get('seed')}, one mask a matrix shape"]


def summary_table(found: dict[str, Any], meta: dict[str, Any]) -> None:
    """Numbers by matrix type: work and DRAM bytes at least, then density, bits a weight, imbalance; side by side where
    there is room."""
    console, total = _console(), found["total"]
    console.print(
        f"{found['name']}: {total['gemm_ops']} GEMMs, {total['vector_ops']} vector ops, {total['macs']:,.0f} MACs",
        f"at least {total['dram_bytes_at_least']:,.0f} bytes from and to DRAM",
        *_random(meta),
        sep="\n",
        highlight=False,
    )
    parts = [(_WORK, _work), (_ZEROS, _zeros)]
    if console.width >= _ROOM:
        parts = [([*_WORK, *_ZEROS], lambda g: [*_work(g), *_zeros(g)])]
    for names, cells in parts:
        table = _table(["ops of"], names)
        for label, g in [*found["groups"].items(), ("total", total)]:
            table.add_row(label, *cells(g))
        console.print(table)
    console.print("out, in: imbalance of output and input lanes, 1 is even", highlight=False)


def _work(g: dict[str, Any]) -> list[str]:
    return [
        f"{g['gemm_ops'] + g['vector_ops']:,}",
        f"{g['executions']:,}",
        f"{g['macs'] / 1e6:,.1f}",
        _share(g["useful_macs"] / g["macs"] if g["macs"] else None),
        f"{g['weight_bytes'] / 1e3:,.1f}",
        f"{g['kv_bytes'] / 1e3:,.1f}",
        f"{(g['activation_bytes'] + g['vector_bytes']) / 1e3:,.1f}",
    ]


def _zeros(g: dict[str, Any]) -> list[str]:
    return [
        _share(g["density"]),
        *(_number(g[name]) for name in ("dense_bits_per_weight", "bitmap_bits_per_weight")),
        *(_number(g[f"imbalance_{o}_{lanes}"]) for o in ("output", "input") for lanes in (16, 32)),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def ops_table(trace: Trace) -> None:
    """The first ops, one line each."""
    table = _table(["op", "kind"], ["batch", "m", "n", "k", "w/a bits", "density", "repeats"])
    for op in trace.ops.head(_MOST_OPS).itertuples():
        gemm = op.kind == "gemm"
        sizes = [f"{v:g}" if gemm else "" for v in (op.batch, op.m, op.n, op.k)]
        bits = f"{op.weight_bits:g}/{op.activation_bits:g}" if gemm else ""
        density = _share(op.nonzeros / (op.n * op.k)) if gemm and op.n * op.k else ""
        table.add_row(str(op.name), str(op.kind), *sizes, bits, density, f"{op.repeats:g}")
    console = _console()
    console.print(f"{trace.name}: {len(trace)} ops", *_random(trace.meta), sep="\n", highlight=False)
    console.print(table)
    if len(trace) > _MOST_OPS:
        console.print(f"the first {_MOST_OPS} of {len(trace)} ops; --json has them all", highlight=False)


def one_op(row: dict[str, Any]) -> str:
    """Every column of an op with its unit."""
    lines = []
    for name, column in COLUMNS.items():
        value = row[name]
        shown = value if isinstance(value, str) else f"{value:,.12g}"
        lines.append(f"{name:<22}{shown:>24}  {column.unit if column.unit != 'text' else ''}".rstrip())
    return "\n".join(lines)


def differences(a: str, b: str, found: dict[str, Any]) -> str:
    """What differs, column by column with an example each."""
    if found["same"]:
        return f"{a} and {b} are the same"
    lines = [f"{a}: {found['ops'][0]} ops, {found['macs'][0]:,.0f} MACs"]
    lines.append(f"{b}: {found['ops'][1]} ops, {found['macs'][1]:,.0f} MACs")
    for side, names in ((a, found["only_in_a"]), (b, found["only_in_b"])):
        if names:
            more = f" and {len(names) - _MOST_CHANGES} more" if len(names) > _MOST_CHANGES else ""
            lines.append(f"only in {side}: {', '.join(names[:_MOST_CHANGES])}{more}")
    if found["reordered"]:
        lines.append("ops that both have run in another order")
    columns: dict[str, list[dict[str, Any]]] = {}
    for change in found["changed"]:
        columns.setdefault(change["column"], []).append(change)
    for column, changes in columns.items():
        first = changes[0]
        lines.append(f"{column}: {len(changes)} ops, {first['op']} {_plain(first['a'])} -> {_plain(first['b'])}")
    for what, (here, _) in found["parts"].items():
        lines.append(f"{what}: only in {a if here else b}")
    for key, (x, y) in found["meta"].items():
        lines.append(f"meta {key}: {_short(x)} -> {_short(y)}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return f"{value:,.12g}" if isinstance(value, int | float) else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
