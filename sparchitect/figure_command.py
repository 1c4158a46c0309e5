"""``sparchitect figure KIND``: figures for papers, each with the numbers in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparchitect import arguments, completion
from sparchitect.figure_arguments import (
    Assignment,
    Depth,
    Gemm,
    Json,
    Labels,
    Lanes,
    Machine,
    Machines,
    Metric,
    Out,
    Set,
    Study,
    Traces,
    Vary,
    Width,
    check,
    depth,
    draw,
    machines,
    reports,
    works,
)

figure_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=False,
    help="""Draw a figure for a paper.

    Writes OUT.pdf, OUT.png and OUT.csv (the numbers in it).

    \b
    Examples (T is smollm2_135m_wanda_50, S a folder of 'sparchitect explore'):
      roofline     -a dense_ws -a sparse_lanes --trace T
      latency      -a dense_ws -a sparse_lanes --trace T --by op
      energy       -a dense_ws -a sparse_lanes --trace T
      stalls       -a sparse_lanes --trace T
      traffic      -a dense_ws -a sparse_lanes --trace T
      area         -a dense_ws -a sparse_lanes
      sensitivity  -a dense_ws -a sparse_lanes --trace T --vary array.rows=8,16,32,64
      sparsity     -a dense_ws -a sparse_lanes --method wanda
      heatmap      -a dense_ws --trace T --vary array.rows=8,16,32 --vary array.cols=8,16,32
      gantt        -a dense_ws --trace T --op layer0.ffn_up --tiles 12
      mask         --trace traces/mine --op layer0.attn_q
      imbalance    --trace T --lanes 16 --barrier-depth 64
      pareto       S --x latency --y energy --colour perplexity
      hypervolume  S --study OTHER
      importance   S --metric latency
      speedup      --method wanda --method magnitude
      validation   --against gemmini
    """,
)


@figure_app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@figure_app.command()
def roofline(
    accelerator: Machines,
    trace: Traces = None,
    gemm: Gemm = None,
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Ops against every machine's roof."""
    check(out, width)
    draw("roofline", reports(accelerator, trace, gemm, set_), out, width, json_, labels=label)


@figure_app.command()
def latency(
    accelerator: Machines,
    trace: Traces = None,
    gemm: Gemm = None,
    by: Annotated[str, typer.Option(help="cause or op.", metavar="NAME")] = "cause",
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Stacked time, by cause or by op."""
    check(out, width)
    draw("latency", reports(accelerator, trace, gemm, set_), out, width, json_, by=by, labels=label)


@figure_app.command()
def energy(
    accelerator: Machines,
    trace: Traces = None,
    gemm: Gemm = None,
    by: Annotated[str, typer.Option(help="component or op.", metavar="NAME")] = "component",
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Stacked energy, by component or by op."""
    check(out, width)
    draw("energy", reports(accelerator, trace, gemm, set_), out, width, json_, by=by, labels=label)


@figure_app.command()
def stalls(
    accelerator: Machine,
    trace: Traces = None,
    gemm: Gemm = None,
    set_: Set = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Shares of the time by cause, op by op."""
    check(out, width)
    draw("stalls", reports([accelerator], trace, gemm, set_), out, width, json_)


@figure_app.command()
def traffic(
    accelerator: Machines,
    trace: Traces = None,
    gemm: Gemm = None,
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Bytes read and written, level by level."""
    check(out, width)
    draw("traffic", reports(accelerator, trace, gemm, set_), out, width, json_, labels=label)


@figure_app.command()
def area(
    accelerator: Machines,
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Stacked area, by component."""
    check(out, width)
    draw("area", machines(accelerator, set_), out, width, json_, labels=label)


@figure_app.command()
def sensitivity(
    accelerator: Machines,
    vary: Vary,
    trace: Traces = None,
    gemm: Gemm = None,
    metric: Metric = "latency",
    set_: Set = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """One field swept, a line a machine and trace."""
    check(out, width)
    grid, designs, work = arguments.grid(vary), machines(accelerator, set_), works(trace, gemm)
    draw("sensitivity", designs, out, width, json_, traces=work, grid=grid, metric=metric)


@figure_app.command()
def sparsity(
    accelerator: Machines,
    method: Annotated[str, typer.Option(help="magnitude, wanda or sparsegpt.", metavar="NAME")] = "wanda",
    phase: Annotated[str, typer.Option(help="prefill or decode.", metavar="NAME")] = "prefill",
    metric: Annotated[str, typer.Option(help="latency, energy or edp.", metavar="NAME")] = "latency",
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Gains are over this machine on dense weights; default: the first.",
            metavar="NAME",
            autocompletion=completion.machines,
        ),
    ] = None,
    set_: Set = None,
    label: Labels = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Gain of machines on a pruned model, against sparsity."""
    check(out, width)
    drawn = machines(accelerator, set_)
    known = [one.name for one in drawn] if label is None else label
    over = baseline if baseline is None or baseline in known else machines([baseline], set_)[0]
    options = {"method": method, "phase": phase, "metric": metric, "baseline": over, "labels": label}
    draw("sparsity", drawn, out, width, json_, **options)


@figure_app.command()
def heatmap(
    accelerator: Machine,
    vary: Vary,
    trace: Traces = None,
    gemm: Gemm = None,
    metric: Metric = "utilization",
    set_: Set = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Two fields swept, a cell a design."""
    check(out, width)
    grid, designs, work = arguments.grid(vary), machines([accelerator], set_), works(trace, gemm)
    draw("heatmap", designs, out, width, json_, trace=work, grid=grid, metric=metric)


@figure_app.command()
def gantt(
    accelerator: Machine,
    trace: Traces = None,
    gemm: Gemm = None,
    op: Annotated[str | None, typer.Option(help="A GEMM; default: the one that takes longest.", metavar="NAME")] = None,
    tiles: Annotated[int, typer.Option(help="Tiles to draw.", metavar="N")] = 24,
    first: Annotated[int, typer.Option(help="The first of them.", metavar="N")] = 1,
    set_: Set = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """When an op's tiles load, compute and store."""
    check(out, width)
    runs = reports([accelerator], trace, gemm, set_, engine="timeline")
    draw("gantt", runs, out, width, json_, op=op, tiles=tiles, first=first)


@figure_app.command()
def mask(
    trace: Annotated[str, typer.Option(help="A trace file with masks ('sparchitect prune').", metavar="FILE")],
    op: Annotated[str | None, typer.Option(help="Whose mask; default: the first.", metavar="NAME")] = None,
    lanes: Lanes = 16,
    barrier_depth: Depth = "64",
    orientation: Annotated[str, typer.Option(help="What lanes own: output or input.", metavar="NAME")] = "output",
    assignment: Assignment = "contiguous",
    rows: Annotated[int, typer.Option(help="Owners to draw.", metavar="N")] = 64,
    columns: Annotated[int, typer.Option(help="Positions to draw.", metavar="N")] = 256,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """A piece of a real mask and its lanes' loads."""
    check(out, width)
    options = {"op": op, "lanes": lanes, "barrier_depth": depth(barrier_depth), "orientation": orientation}
    options |= {"assignment": assignment, "rows": rows, "columns": columns}
    draw("mask", works([trace], None)[0], out, width, json_, **options)


@figure_app.command()
def imbalance(
    trace: Traces,
    lanes: Lanes = 16,
    barrier_depth: Depth = "64",
    orientation: Annotated[
        list[str] | None, typer.Option(help="output or input; repeat; default: both.", metavar="NAME")
    ] = None,
    assignment: Assignment = "contiguous",
    fifo_depth: Annotated[int, typer.Option(help="Tiles a lane may run ahead.", metavar="N")] = 0,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """How uneven all masks of a trace are for lanes."""
    check(out, width)
    options: dict[str, Any] = {"lanes": lanes, "barrier_depth": depth(barrier_depth), "assignment": assignment}
    options |= {"fifo_depth": fifo_depth} | ({"orientations": orientation} if orientation else {})
    draw("imbalance", works(trace, None), out, width, json_, **options)


@figure_app.command()
def pareto(
    study: Study,
    x: Annotated[str, typer.Option(help="latency, energy, area or perplexity.", metavar="NAME")] = "latency",
    y: Annotated[str, typer.Option(help="Another of them.", metavar="NAME")] = "energy",
    colour: Annotated[str, typer.Option(help="A third one.", metavar="NAME")] = "perplexity",
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """An exploration's front along two objectives."""
    check(out, width)
    draw("pareto", study, out, width, json_, x=x, y=y, colour=colour)


@figure_app.command()
def hypervolume(
    study: Study,
    other: Annotated[
        list[Path] | None, typer.Option("--study", help="Another exploration of the space; repeat.", metavar="DIR")
    ] = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """How the front grew with the trials."""
    check(out, width)
    draw("hypervolume", [study, *(other or [])], out, width, json_)


@figure_app.command()
def importance(
    study: Study,
    metric: Annotated[
        str, typer.Option(help="latency, energy, area, perplexity, or front.", metavar="NAME")
    ] = "latency",
    top: Annotated[int, typer.Option(help="Parameters to draw.", metavar="N")] = 12,
    method: Annotated[
        str, typer.Option(help="ped_anova, or fanova (needs scikit-learn).", metavar="NAME")
    ] = "ped_anova",
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Which parameters decide."""
    check(out, width)
    draw("importance", study, out, width, json_, metric=metric, top=top, method=method)


@figure_app.command()
def speedup(
    method: Annotated[
        list[str] | None, typer.Option(help="magnitude, wanda or sparsegpt; repeat; default: wanda.", metavar="NAME")
    ] = None,
    line: Annotated[
        list[str] | None, typer.Option(help="Only this line; repeat; default: all.", metavar="NAME")
    ] = None,
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Gain of real masks against sparsity, and the ideal."""
    check(out, width)
    draw("speedup", None, out, width, json_, methods=method or ["wanda"], lines=line)


@figure_app.command()
def validation(
    against: Annotated[
        str,
        typer.Option(help="rtl, gemmini, dram, eyeriss, eyeriss_v2, dstc, zigzag or surrogate.", metavar="NAME"),
    ] = "rtl",
    out: Out = None,
    width: Width = 3.5,
    json_: Json = False,
) -> None:
    """Predicted against reference."""
    check(out, width)
    draw("validation", None, out, width, json_, against=against)
