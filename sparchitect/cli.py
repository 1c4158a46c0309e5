"""The command line. Verbs are those of the Python names; bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sim.errors import InputError
from sim.version import __version__
from sparchitect import arguments, completion
from sparchitect.figure_command import figure_app
from sparchitect.import_command import import_app
from sparchitect.prune_command import prune
from sparchitect.report_command import report
from sparchitect.trace_command import trace_app
from sparchitect.validate_command import validate

app = typer.Typer(
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Choose hardware and pruning together: simulate LLM accelerators on really pruned layers, co-explore both.",
)

UsageError = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
"""What a wrong command line raises; typer brings its own copy of click or uses the installed one."""


class Interrupted(Exception):
    """Ctrl-C, with what the user can do next."""


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
Gemm = Annotated[str | None, typer.Option(help="One GEMM: M tokens, N outputs, K inputs.", metavar="MxNxK")]
TraceName = Annotated[
    str | None,
    typer.Option(
        help="A bundled trace's name, or a trace file.", metavar="NAME|FILE", autocompletion=completion.traces
    ),
]
Bits = Annotated[int | None, typer.Option(help="Operand bits of --gemm, 1 to 16 (default 8).", metavar="N")]
Objective = Annotated[
    str,
    typer.Option(
        help="What each op's mapping minimises: latency, energy, edp or traffic.",
        metavar="NAME",
        autocompletion=completion.objectives,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def _version(value: bool) -> None:
    if value:
        print(f"sparchitect {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog="Exit codes: 0 done; 1 checked, and something is wrong or differs; 2 bad input, one line on stderr; "
    "130 Ctrl-C; 141 the reader of a pipe left.",
)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def simulate(
    accelerator: Machine,
    gemm: Gemm = None,
    trace: TraceName = None,
    bits: Bits = None,
    density: Annotated[
        float | None, typer.Option(help="Weight density of --gemm, 0 to 1: a random mask is drawn.", metavar="D")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="analytic or timeline.", metavar="NAME", autocompletion=completion.engines)
    ] = "analytic",
    objective: Objective = "latency",
    mapping: Annotated[
        Path | None,
        typer.Option(help="Fixed mappings of ops by name, a YAML file; others are searched.", metavar="FILE"),
    ] = None,
    perfetto: Annotated[
        Path | None,
        typer.Option(
            help="Write the tiles' times for ui.perfetto.dev; needs --engine timeline.", metavar="FILE.json[.gz]"
        ),
    ] = None,
    nest: Annotated[bool, typer.Option("--nest", help="Print the loop nest of every GEMM, too.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a machine field; repeat.", metavar="PATH=VALUE")
    ] = None,
    json_: Json = False,
) -> None:
    """Simulate one machine on one GEMM or one trace.

    \b
    Examples:
      sparchitect simulate -a dense_ws --gemm 128x1536x576 --set array.rows=32
      sparchitect simulate -a sparse_lanes --trace smollm2_135m_wanda_50
      sparchitect simulate -a dense_ws --gemm 128x1536x576 --objective edp --nest
      sparchitect simulate -a dense_ws --gemm 128x1536x576 --mapping mine.yaml \\
        --engine timeline --perfetto tiles.json.gz
    """
    from accel_models import accelerator as load
    from sim.simulate import simulate as run

    if perfetto is not None and engine == "analytic":
        raise InputError("--perfetto draws the tiles of the timeline engine, add --engine timeline")
    if perfetto is not None and not perfetto.name.endswith((".json", ".json.gz")):
        raise InputError(f"--perfetto {perfetto}: must end in .json or .json.gz")
    machine = load(accelerator).override(arguments.assignments(set_ or []))
    fixed = None if mapping is None else _fixed(mapping)
    report = run(machine, _work(gemm, trace, bits, density), engine, objective, fixed)
    if perfetto is not None:
        report.save_perfetto(perfetto)
    if json_:
        print(arguments.one_json(report.to_dict() | ({"nest": report.mapping} if nest else {})))
        return
    print(repr(report))
    if nest:
        print(f"\n{report.mapping}")


def _fixed(path: Path) -> Any:
    from accel_models import plain_fields
    from sim.fixed import FixedMappings

    raw, _ = plain_fields(path, "no such mapping file")
    return FixedMappings.build(raw, where=str(path))


def _work(gemm: str | None, trace: str | None, bits: int | None, density: float | None) -> Any:
    from sim.trace import gemm as one
    from workloads.traces import load_trace

    if (gemm is None) == (trace is None):
        raise InputError("give exactly one of --gemm MxNxK and --trace NAME|FILE")
    if trace is not None:
        if bits is not None or density is not None:
            raise InputError("--bits and --density go with --gemm; a trace states its own")
        return load_trace(trace)
    m, n, k = arguments.shape(gemm or "")
    return one(m=m, n=n, k=k, bits=8 if bits is None else bits, sparsity=density)


@app.command()
def sweep(
    accelerator: Machine,
    vary: Annotated[
        list[str], typer.Option("--vary", help="Values of a field; repeat for a grid.", metavar="PATH=V1,V2,...")
    ],
    gemm: Gemm = None,
    trace: TraceName = None,
    bits: Bits = None,
    objective: Objective = "latency",
    out: Annotated[
        Path | None, typer.Option(help="Write the table here: .csv, or .parquet piece by piece.", metavar="FILE")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished sweep in --out.")] = False,
    effort: Annotated[
        str, typer.Option(help="full, or quick: fewer tile sizes, for large sweeps.", metavar="NAME")
    ] = "full",
    json_: Json = False,
) -> None:
    """Evaluate a grid of one machine's fields.

    A .parquet file may hold millions of designs: finished pieces survive Ctrl-C and are not evaluated again.

    \b
    Examples:
      sparchitect sweep -a dense_ws --gemm 128x1536x576 \\
        --vary array.rows=8,16,32 --vary memory.shared.capacity_kib=128,512
      sparchitect sweep -a dense_ws --trace smollm2_135m_dense --objective edp \\
        --vary array.rows=8,16,32,64 --vary clock_ghz=0.4,0.6,0.8,1 --out sweep.parquet
    """
    from accel_models import accelerator as load
    from dse.sweep import sweep as run
    from sparchitect.display import first_rows, progress, sweep_table, table_path, write_table

    grid = arguments.grid(vary)
    if out is not None:
        table_path(out)
    streamed = out is not None and out.suffix == ".parquet"
    if resume and not streamed:
        raise InputError("--resume needs --out FILE.parquet")
    machine, work = load(accelerator), _work(gemm, trace, bits, None)
    try:
        with progress(quiet=json_, rate=True) as tick:
            found = run(machine, work, grid, objective, out if streamed else None, resume, tick, effort)
    except KeyboardInterrupt:
        raise Interrupted(f"finished pieces are kept, go on with --resume --out {out}" if streamed else "") from None
    rows, total = first_rows(found) if isinstance(found, Path) else (found, len(found))
    if out is not None and not streamed:
        write_table(rows, out)
    if json_:
        more = {} if out is None else {"file": str(out), "designs_in_file": total}
        print(arguments.one_json({"designs": rows.to_dict("records"), **more}))
        return
    print(sweep_table(rows, list(grid)))
    if total > len(rows):
        print(f"the first {len(rows):,} of {total:,} designs; all are in {out}")


@app.command()
def explore(
    space: Annotated[
        str,
        typer.Argument(help="A bundled space's name, or its YAML file.", autocompletion=completion.spaces),
    ] = "edge_codesign",
    trials: Annotated[
        int, typer.Option(help="Designs to evaluate, those of a resumed study included.", metavar="N")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the sampler.", metavar="N")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the study; default: the next free results/SPACE_NNN.", metavar="DIR"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --out.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Re-measure reported perplexities on the real model.")
    ] = False,
    json_: Json = False,
) -> None:
    """Search machines and pruning together.

    Ends in a Pareto table and a figure; every file of the study is in one folder.

    \b
    Examples:
      sparchitect explore --trials 2000 --seed 1 --out results/mine
      sparchitect explore --trials 4000 --seed 1 --out results/mine --resume
    """
    from dse.explore import explore as run
    from dse.explore import free_folder
    from dse.space import load
    from sparchitect.display import explored, pareto_table, progress

    chosen = load(space)
    folder = free_folder(chosen.name) if out is None and not resume else out
    try:
        with progress(quiet=json_) as tick:
            result = run(chosen, trials=trials, seed=seed, out=folder, resume=resume, verify=verify, progress=tick)
    except KeyboardInterrupt:
        kept = folder is not None and (folder / "journal.log").is_file()
        raise Interrupted(f"finished trials are kept, go on with --resume --out {folder}" if kept else "") from None
    if json_:
        print(arguments.one_json(explored(result)))
    else:
        pareto_table(result)


@app.command("list")
def list_(json_: Json = False) -> None:
    """List what is bundled.

    Machines, traces, models, search spaces and pruning methods.

    \b
    Examples:
      sparchitect list
      sparchitect list --json
    """
    from sparchitect.display import inventory, listing

    found = inventory()
    if json_:
        print(arguments.one_json(found))
        return
    print(listing(found))


app.command()(prune)
app.command()(report)
app.command()(validate)
app.add_typer(trace_app, name="trace")
app.add_typer(figure_app, name="figure")
app.add_typer(import_app, name="import")


def main() -> None:
    """Entry point: run the app, turn every user error into one line and exit code 2."""
    sys.exit(_guard(lambda: app(standalone_mode=False)))


def _guard(run: Callable[[], Any]) -> int:
    try:
        code = run()
        sys.stdout.flush()
        if code == 130:  # how newer typers pass Ctrl-C on
            raise Interrupted
        return code if isinstance(code, int) else 0
    except InputError as error:
        return _refuse(str(error))
    except UsageError as error:
        return _refuse(error.format_message())
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort, Interrupted) as error:
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _left()
    except SystemExit as error:  # what typer makes of a broken pipe while a verb prints
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return _left()
    except MemoryError as error:
        return _refuse(f"not enough memory for this ({error})" if str(error) else "not enough memory for this")
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _left() -> int:
    """The reader left: nothing more may be written, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return 141


def _refuse(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
