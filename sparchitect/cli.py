"""The command line. Verbs are those of the Python names; bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from sim.errors import InputError
from sim.version import __version__
from sparchitect import arguments

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Choose hardware and pruning together: simulate LLM accelerators on really pruned layers, co-explore both.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def _version(value: bool) -> None:
    if value:
        print(f"sparchitect {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="A machine's name, or its YAML file.")],
    gemm: Annotated[str | None, typer.Option(help="One GEMM, MxNxK.", metavar="MxNxK")] = None,
    trace: Annotated[str | None, typer.Option(help="A bundled trace's name, or a trace file.")] = None,
    bits: Annotated[int, typer.Option(help="Operand bits of --gemm: 4, 8 or 16.")] = 8,
    density: Annotated[float | None, typer.Option(help="Weight density of --gemm: a random mask is drawn.")] = None,
    engine: Annotated[str, typer.Option(help="analytic or timeline.")] = "analytic",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a machine field.", metavar="PATH=VALUE")
    ] = None,
    json_: Json = False,
) -> None:
    """Simulate one machine on one GEMM or one trace.

    sparchitect simulate -a dense_ws --gemm 128x1536x576 --set array.rows=32
    """
    from accel_models import accelerator as load
    from sim.simulate import simulate as run

    machine = load(accelerator).override(arguments.assignments(set_ or []))
    report = run(machine, _work(gemm, trace, bits, density), engine)
    print(report.to_json() if json_ else repr(report))


def _work(gemm: str | None, trace: str | None, bits: int, density: float | None) -> Any:
    from sim.trace import gemm as one
    from workloads.traces import load_trace

    if (gemm is None) == (trace is None):
        raise InputError("give exactly one of --gemm MxNxK and --trace NAME|FILE")
    if trace is not None:
        return load_trace(trace)
    m, n, k = arguments.shape(gemm or "")
    return one(m=m, n=n, k=k, bits=bits, sparsity=density)


@app.command()
def sweep(
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="A machine's name, or its YAML file.")],
    vary: Annotated[
        list[str], typer.Option("--vary", help="Values of a field; repeat for a grid.", metavar="PATH=V1,V2,...")
    ],
    gemm: Annotated[str | None, typer.Option(help="One GEMM, MxNxK.", metavar="MxNxK")] = None,
    trace: Annotated[str | None, typer.Option(help="A bundled trace's name, or a trace file.")] = None,
    bits: Annotated[int, typer.Option(help="Operand bits of --gemm: 4, 8 or 16.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write the table here (.csv or .parquet).")] = None,
    json_: Json = False,
) -> None:
    """Evaluate a grid of one machine's fields.

    sparchitect sweep -a dense_ws --gemm 128x1536x576 --vary array.rows=8,16,32 --vary
    memory.shared.capacity_kib=128,512
    """
    from accel_models import accelerator as load
    from dse.sweep import sweep as run
    from sparchitect.display import sweep_table, write_table

    table = run(load(accelerator), _work(gemm, trace, bits, None), arguments.grid(vary))
    if out is not None:
        write_table(table, out)
    print(
        json.dumps(json.loads(table.to_json(orient="records")))
        if json_
        else sweep_table(table, list(arguments.grid(vary)))
    )


@app.command()
def explore(
    space: Annotated[str, typer.Argument(help="A space's YAML file or a bundled name.")] = "edge_codesign",
    trials: Annotated[int, typer.Option(help="Designs to evaluate, resumed ones included.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study (default: next free results/<space>_NNN).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --out.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Re-measure reported perplexities on the real model.")
    ] = False,
    json_: Json = False,
) -> None:
    """Search machines and pruning together; ends in a Pareto table and a figure.

    sparchitect explore --trials 2000 --seed 1 --out results/mine
    """
    from dse.explore import explore as run
    from sparchitect.display import pareto_table, progress

    with progress(quiet=json_) as tick:
        result = run(space, trials=trials, seed=seed, out=out, resume=resume, verify=verify, progress=tick)
    if json_:
        points = json.loads(result.reported.to_json(orient="records"))
        print(json.dumps({"folder": str(result.folder), "run": result.run, "pareto": points}))
        return
    pareto_table(result)


@app.command("list")
def list_(json_: Json = False) -> None:
    """List bundled machines, traces, models, spaces and pruning methods."""
    from sparchitect.display import inventory

    found = inventory()
    if json_:
        print(json.dumps(found))
        return
    for kind, entries in found.items():
        print(f"{kind}:")
        for name, summary in entries.items():
            print(f"  {name:<34} {summary}".rstrip())


@app.command()
def prune(
    method: Annotated[str, typer.Option(help="magnitude, wanda, sparsegpt or ffn_channels.")] = "wanda",
    pattern: Annotated[
        str, typer.Option(help='Sparsity ("0.5"), n:m ("2:4"), or share of FFN channels ("0.1").')
    ] = "0.5",
    types: Annotated[list[str] | None, typer.Option("--type", help="Matrix type; repeat. Default: all seven.")] = None,
    model: Annotated[Path | None, typer.Option(help="A Llama-like GGUF file (default: SmolLM2-135M by pip).")] = None,
    out: Annotated[Path | None, typer.Option(help="Trace to write (default: traces/MODEL_METHOD_PATTERN).")] = None,
    phase: Annotated[str, typer.Option(help="Trace of a prefill or of a decode step.")] = "prefill",
    tokens: Annotated[int, typer.Option(help="Tokens of the prefill.")] = 128,
    context: Annotated[int, typer.Option(help="Cached positions of the decode step.")] = 512,
    evaluate: Annotated[bool, typer.Option(help="Measure perplexity of the pruned model.")] = True,
    seed: Annotated[int, typer.Option(help="Recorded; the bundled methods draw nothing.")] = 0,
    json_: Json = False,
) -> None:
    """Prune a real model, measure its perplexity, and write a trace with exact lane profiles.

    sparchitect prune --method wanda --pattern 2:4
    """
    from sparchitect.display import progress
    from workloads.traces import prune_to_trace

    with progress(quiet=json_) as tick:
        path, trace = prune_to_trace(
            model=model,
            method=method,
            pattern=pattern,
            types=types,
            out=out,
            phase=phase,
            tokens=tokens,
            context=context,
            evaluate=evaluate,
            seed=seed,
            progress=tick,
        )
    if json_:
        print(json.dumps({"trace": str(path), **trace.meta}))
        return
    print(f"trace: {path}")
    for key, value in trace.meta.items():
        print(f"  {key}: {value}")


def main() -> None:
    """Entry point: run the app, turn every user error into one line and exit code 2."""
    sys.exit(_guard(lambda: app(standalone_mode=False)))


def _guard(run: Callable[[], Any]) -> int:
    try:
        code = run()
        return code if isinstance(code, int) else 0
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        print(f"error: {' '.join(error.format_message().split())}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("interrupted: finished trials are kept, go on with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
