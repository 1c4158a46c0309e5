"""Tables and progress for people: rich, on stderr where it moves, quiet when piped."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.errors import InputError

if TYPE_CHECKING:
    from dse.explore import Result
    from sim.trace import Trace

Tick = Callable[[str, int, int], None]


@contextmanager
def progress(quiet: bool = False, rate: bool = False) -> Iterator[Tick]:
    """A callback ``(what, done, total)`` that draws one bar a task on stderr; silent off a terminal or when
    ``quiet``. What stands before ": " in ``what`` is the task, what stands after it may change. ``rate``: also how many
    are done a second, not counting those done at the first call."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn("{task.fields[rate]}")] if rate else []),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("to go"),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        began: dict[str, tuple[float, int]] = {}

        def tick(what: str, done: int, total: int) -> None:
            task = what.partition(": ")[0]
            if task not in tasks:
                tasks[task] = bars.add_task(what, total=total, rate="")
                began[task] = time.monotonic(), done
            since, before = began[task]
            per_second = f"{(done - before) / max(time.monotonic() - since, 1e-9):,.0f}/s" if done > before else ""
            bars.update(tasks[task], description=what, completed=done, total=total, rate=per_second)

        yield tick


def pareto_table(result: Result) -> None:
    """Print the reported Pareto points and where the files are."""
    from rich.console import Console
    from rich.table import Table

    run = result.run
    console = Console(width=None if Console().is_terminal else 160)
    title = (
        f"{run['trials']} trials, {run['admissible_trials']} within constraints, {run['pareto_points']} Pareto points"
    )
    if len(result.reported) < run["pareto_points"]:
        title += f", {len(result.reported)} that span them:"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    names, rows = pareto_rows(result)
    for name in names:
        left = name in ("machine", "DRAM", "pruning")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "pruning", overflow="fold")
    for cells in rows:
        table.add_row(*cells)
    if result.reported.empty:
        console.print(f"{title}: {why_none(result.trials)}", highlight=False)
    else:
        console.print(table)
    console.print(
        f"perplexity: {run['arithmetic']}, predicted from measurements (dense {run['dense_perplexity']:.2f}); "
        f"hypervolume (log10) {run['hypervolume_log10']:.4f}",
        highlight=False,
    )
    console.print(
        "pruning: W Wanda, S SparseGPT, M magnitude, C FFN channels; % removed or n:m kept; others dense",
        highlight=False,
    )
    for name in ("pareto.csv", "pareto.pdf", "pareto.png", "trials.parquet", "run.json"):
        if (result.folder / name).is_file():
            console.print(f"  {result.folder / name}", highlight=False)


def pareto_rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """Names and cells of the reported Pareto points; a column "measured" where perplexity was measured again."""
    from workloads.recipe import Recipe

    measured = "perplexity_measured" in result.reported
    rows = []
    for row in result.reported.to_dict("records"):
        machine = result.space.machine({k[6:]: v for k, v in row.items() if k.startswith("param_") and v == v})
        rows.append(
            [
                row["machine"],
                f"{machine.array.rows}x{machine.array.cols}",
                f"{next(iter(machine.memory.values())).capacity_kib:g}",
                f"{machine.dram.standard} x{machine.dram.channels}",
                f"{row['latency_s'] * 1e3:.1f}",
                f"{row['prefill_s'] * 1e3:.1f}",
                f"{row['decode_s'] * 1e3:.2f}",
                f"{row['energy_per_token_pj'] * 1e-9:.2f}",
                f"{row['area_mm2']:.2f}",
                f"{row['perplexity']:.2f}",
                *([f"{row['perplexity_measured']:.2f}"] if measured else []),
                Recipe.parse(row["recipe"]).short,
            ]
        )
    names = ["machine", "array", "shared KiB", "DRAM", "latency ms", "prefill ms", "decode ms", "mJ/token", "mm2"]
    return [*names, "perplexity", *(["measured"] if measured else []), "pruning"], rows


def why_none(trials: pd.DataFrame) -> str:
    """What kept designs out, most frequent first."""
    found = trials["reason"][~trials["feasible"]].str.replace(r"[\d.]+", "N", regex=True).value_counts()
    parts = [
        f"{count} of {len(trials)} cannot run (like: {_example(trials, kind)})" for kind, count in found.head(2).items()
    ]
    for column in [c for c in trials if c.startswith("violation_")]:
        over = int((trials[column] > 0).sum())
        if over:
            parts.append(f"{over} break the limit on {column.removeprefix('violation_')}")
    return "; ".join(parts)


def _example(trials: pd.DataFrame, kind: str) -> str:
    reasons = trials["reason"][~trials["feasible"]]
    return str(reasons[reasons.str.replace(r"[\d.]+", "N", regex=True) == kind].iloc[0])


def sweep_table(table: pd.DataFrame, varied: list[str]) -> str:
    """The columns people look at first, as text."""
    shown = table[[*varied, "cycles", "seconds", "energy_pj", "area_mm2", "dram_bytes", "feasible", "reason"]]
    return shown.to_string(index=False, max_rows=60)


def first_rows(path: Path, most: int = 100_000) -> tuple[pd.DataFrame, int]:
    """The first rows of a sweep's Parquet file (all, if they are no more than ``most``), and how many it holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, groups = pq.ParquetFile(path), []
    for number in range(file.num_row_groups):
        groups.append(file.read_row_group(number))
        if sum(g.num_rows for g in groups) >= most:
            break
    return pa.concat_tables(groups).to_pandas().head(most), file.metadata.num_rows


def table_path(path: Path) -> None:
    """Refuse a path that :func:`write_table` cannot write, before any work is done."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {path}: must end in .csv or .parquet")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write .csv or .parquet, whole or not at all."""
    table_path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror})") from None
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def explored(result: Result) -> dict[str, Any]:
    """An exploration as ``--json`` prints it: the folder, the run, and the reported Pareto points."""
    return {"folder": str(result.folder), "run": result.run, "pareto": result.reported.to_dict("records")}


def inventory() -> dict[str, dict[str, str]]:
    """What is bundled: kind -> name -> one-line summary."""
    from accel_models import summaries
    from dse import space
    from sim.memory.dram import STANDARDS
    from workloads.pruning import ffn_channels, method, methods
    from workloads.traces import bundled_traces
    from workloads.zoo import models

    return {
        "machines": summaries(),
        "traces": bundled_traces(),
        "DRAM standards": {
            name: f"{row['peak_gb_per_s']:g} GB/s a channel, {row['energy_pj_per_bit']:g} pJ/bit"
            for name, row in sorted(STANDARDS.items())
        },
        "models": models(),
        "spaces": {name: space.load(name).summary for name in space.names()},
        "pruning methods": {name: _first_line(type(method(name))) for name in methods()}
        | {"ffn_channels": _first_line(ffn_channels)},
    }


def pruned(path: Path, trace: Trace) -> str:
    """A pruned model's trace in a few lines: what was done, what it cost in quality, what to do next."""
    meta = trace.meta
    share = f"{meta['realised_sparsity']:.1%} of the model's prunable weights removed"
    lines = [
        f"{meta['model_file']}: {meta['method']} {meta['pattern']} on {', '.join(meta['pruned_types'])}; {share}",
    ]
    if "perplexity" in meta:
        lines.append(
            f"  perplexity {meta['perplexity']:.2f}, dense {meta['dense_perplexity']:.2f} "
            f"({meta['arithmetic']}, {meta['perplexity_tokens']} tokens)"
        )
    if "perplexity_of" in meta:
        lines.append(f"  perplexity is of {meta['perplexity_of']}; the trace has the factors apart")
    masked = trace.ops[trace.ops["profile"] >= 0]
    machine = "nm_24" if len(masked) and (masked["group4_max"] <= 2).all() else "sparse_lanes"
    work = f"{meta['tokens']}-token prefill" if meta["phase"] == "prefill" else f"decode step at {meta['context']}"
    lines += [
        f"  {path}: {work}, {len(trace)} ops",
        f"  next: sparchitect simulate -a {machine} --trace {shlex.quote(str(path))}",
    ]
    return "\n".join(lines)


def listing(found: dict[str, dict[str, str]]) -> str:
    """An inventory for people; prefill and decode traces of one name share a line."""
    lines = []
    for kind, entries in found.items():
        lines += [*([""] if lines else []), f"{kind}:"]
        shown = {
            n: s for n, s in entries.items() if not (n.endswith("_decode") and n.removesuffix("_decode") in entries)
        }
        for name, summary in shown.items():
            label = f"{name}[_decode]" if f"{name}_decode" in entries else name
            lines.append(f"  {label:<36} {summary}".rstrip())
    return "\n".join(lines)


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]
