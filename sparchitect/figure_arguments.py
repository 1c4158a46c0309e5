"""What the kinds of ``sparchitect figure`` share: options, and words to machines, traces and reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InputError
from sparchitect import arguments, completion

if TYPE_CHECKING:
    from sim.report import Report
    from sim.spec import Accelerator
    from sim.trace import Trace

Machines = Annotated[
    list[str],
    typer.Option(
        "--accelerator",
        "-a",
        help="A machine's name, or its YAML file; repeat.",
        metavar="NAME",
        autocompletion=completion.machines,
    ),
]
Machine = Annotated[
    str,
    typer.Option(
        "--accelerator",
        "-a",
        help="A machine's name, or its YAML file.",
        metavar="NAME|FILE",
        autocompletion=completion.machines,
    ),
]
Traces = Annotated[
    list[str] | None,
    typer.Option(
        "--trace",
        help="A bundled trace's name, or a trace file; repeat.",
        metavar="NAME",
        autocompletion=completion.traces,
    ),
]
Gemm = Annotated[str | None, typer.Option(help="Instead: one int8 GEMM.", metavar="MxNxK")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field of every machine; repeat.", metavar="PATH=VALUE")
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="A name for each run, in order; repeat.", metavar="TEXT")
]
Vary = Annotated[list[str], typer.Option("--vary", help="Values of a field.", metavar="PATH=V1,V2,...")]
Metric = Annotated[str, typer.Option(help="latency, energy, edp, area, traffic or utilization.", metavar="NAME")]
Study = Annotated[Path, typer.Argument(help="Folder of an exploration.", metavar="DIR")]
Lanes = Annotated[int, typer.Option(help="Lanes of a group.", metavar="N")]
Depth = Annotated[str, typer.Option(help="Positions between barriers, or full.", metavar="N|full")]
Assignment = Annotated[str, typer.Option(help="Which owners meet in a group.", metavar="NAME")]
Out = Annotated[Path | None, typer.Option(help="File name without its ending; default: figures/KIND.", metavar="STEM")]
Width = Annotated[float, typer.Option(help="Inches: 3.5 (a column) or 7.16 (the page).", metavar="W")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def check(out: Path | None, width: float) -> None:
    """Refuse a bad width or path before any work."""
    from dse.figures.base import checked_stem, checked_width

    checked_width(width)
    if out is not None:
        checked_stem(out)


def draw(kind: str, data: Any, out: Path | None, width: float, json_: bool, **options: Any) -> None:
    """Make a figure, write it, say where it is."""
    from dse.figures.base import checked_stem
    from validation.figures import figure

    stem = checked_stem(out if out is not None else Path("figures") / kind)
    made = figure(kind, data, out=stem, width=width, **options)
    paths = [f"{stem}{suffix}" for suffix in (".pdf", ".png", ".csv")]
    if json_:
        print(arguments.one_json({"kind": kind, "files": paths[:2], "numbers": paths[2], "rows": len(made.numbers)}))
    else:
        print("\n".join(paths))


def machines(names: list[str], set_: list[str] | None) -> list[Accelerator]:
    """Machines by name or file, fields overridden."""
    from accel_models import accelerator

    fields = arguments.assignments(set_ or [])
    return [accelerator(name).override(fields) for name in names]


def works(traces: list[str] | None, gemm: str | None) -> list[Trace]:
    """Traces by name or file, or the one GEMM."""
    from sim.trace import gemm as one
    from workloads.traces import load_trace

    if bool(traces) == (gemm is not None):
        raise InputError("give --trace NAME|FILE, or --gemm MxNxK")
    if gemm is not None:
        m, n, k = arguments.shape(gemm)
        return [one(m=m, n=n, k=k)]
    return [load_trace(name) for name in traces or []]


def reports(
    names: list[str], traces: list[str] | None, gemm: str | None, set_: list[str] | None, engine: str = "analytic"
) -> list[Report]:
    """Every machine on every trace."""
    from sim.simulate import simulate

    designs, work = machines(names, set_), works(traces, gemm)
    return [simulate(machine, trace, engine) for machine in designs for trace in work]


def depth(text: str) -> int | str:
    """A barrier depth: a number, or what the model makes of another word."""
    return int(text) if text.isdecimal() and len(text) < 10 else text
