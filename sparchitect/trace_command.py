"""``sparchitect trace``: build, import, show, validate and compare trace files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InputError, nearest
from sparchitect import arguments, completion

if TYPE_CHECKING:
    from sim.trace import Trace

trace_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=False,
    help="Build, import, show, validate and compare trace files.",
)

Source = Annotated[
    str,
    typer.Argument(
        help="A trace file, or a bundled trace's name.", metavar="FILE|NAME", autocompletion=completion.traces
    ),
]
Out = Annotated[Path, typer.Option(help="Trace to write: FILE.parquet, and npz files beside it.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
_PART = re.compile(r"(\d+)x(\d+)(?:@(\d+))?")
_BITS = ("weight_bits", "activation_bits", "kv_bits")


@trace_app.command()
def build(
    model: Annotated[str, typer.Argument(help="A model's name, or its config.json.", autocompletion=completion.models)],
    out: Out,
    phase: Annotated[
        str, typer.Option(help="prefill, decode, request, mixed, speculative, diffusion or encode.", metavar="NAME")
    ] = "prefill",
    tokens: Annotated[int | None, typer.Option(help="Tokens of a sequence.", metavar="N")] = None,
    context: Annotated[int | None, typer.Option(help="Cached positions of a sequence.", metavar="N")] = None,
    batch: Annotated[int, typer.Option(help="Sequences.", metavar="N")] = 1,
    layers: Annotated[
        int | None, typer.Option(help="Only the first N layers, without embedding and head.", metavar="N")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of weights, activations and KV cache.", metavar="N")] = None,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of weights.", metavar="N")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="Bits of GEMM inputs.", metavar="N")] = None,
    kv_bits: Annotated[int | None, typer.Option(help="Bits of the KV cache.", metavar="N")] = None,
    kv_kept: Annotated[float | None, typer.Option(help="Share of cached positions still fetched.", metavar="S")] = None,
    chunk: Annotated[int | None, typer.Option(help="Tokens of a prefill chunk.", metavar="N")] = None,
    new_tokens: Annotated[int | None, typer.Option(help="Tokens a request generates.", metavar="N")] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="Sequences of a mixed pass: count x tokens @ cached; repeat.", metavar="CxT[@P]"),
    ] = None,
    draft: Annotated[str | None, typer.Option(help="Draft model of speculative decoding.", metavar="MODEL")] = None,
    gamma: Annotated[int | None, typer.Option(help="Tokens the draft guesses a round.", metavar="N")] = None,
    acceptance: Annotated[float | None, typer.Option(help="Chance that a guess is accepted.", metavar="P")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising passes of diffusion.", metavar="N")] = None,
    block: Annotated[int | None, typer.Option(help="Block length of diffusion.", metavar="N")] = None,
    routing: Annotated[
        list[str] | None, typer.Option(help="How tokens fall to experts; repeat.", metavar="FIELD=VALUE")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Random zeros in the layers' weights, for want of a checkpoint: 2:4, or a share removed."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of --pattern (default 0).", metavar="N")] = None,
    json_: Json = False,
) -> None:
    """Write the trace of a model from its shapes.

    \b
    Examples:
      sparchitect trace build smollm2_135m --tokens 128 --out dense
      sparchitect trace build llama3_8b --phase decode --context 2048 --batch 8 --weight-bits 4 --out decode
      sparchitect trace build smollm2_135m --tokens 128 --pattern 2:4 --out random
    """
    from workloads.llm import llm
    from workloads.random_zeros import with_random_zeros

    if bits is not None and (weight_bits, activation_bits, kv_bits) != (None, None, None):
        raise InputError("--bits sets all three, leave out --weight-bits, --activation-bits and --kv-bits")
    asked = {
        **dict(zip(_BITS, (weight_bits, activation_bits, kv_bits) if bits is None else (bits,) * 3, strict=True)),
        **{"tokens": tokens, "context": context, "layers": layers, "kv_kept": kv_kept, "chunk": chunk},
        **{"new_tokens": new_tokens, "draft": draft, "gamma": gamma, "acceptance": acceptance},
        **{"steps": steps, "block": block, "mix": [_sequences(word) for word in mix] if mix else None},
        **{"routing": arguments.assignments(routing) if routing else None},
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if pattern is None and seed is not None:
        raise InputError("--seed is of --pattern, which is missing")
    made = llm(model, phase=phase, batch=batch, **given)
    _written(made if pattern is None else with_random_zeros(made, pattern, seed or 0), out, json_)


def _sequences(word: str) -> tuple[int, int, int]:
    found = _PART.fullmatch(word.strip())
    if found is None:
        raise InputError(f"--mix must read COUNTxTOKENS@CACHED, like 8x1@512, got '{word}'")
    return int(found[1]), int(found[2]), int(found[3] or 0)


@trace_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", metavar="FILE.onnx")],
    out: Out,
    dim: Annotated[
        list[str] | None, typer.Option(help="Size of a named dimension; repeat.", metavar="NAME=SIZE")
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of all numbers: 4, 8 or 16.", metavar="N")] = 8,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of weights, 1 to 16.", metavar="N")] = None,
    unknown: Annotated[
        str, typer.Option(help="Ops that are not known: refuse, or skip (they cost nothing).", metavar="NAME")
    ] = "refuse",
    fuse: Annotated[bool, typer.Option(help="Join elementwise ops that follow each other.")] = True,
    json_: Json = False,
) -> None:
    """Write the trace of an ONNX model.

    Zeros of its weights become masks, so that it is simulated with its own zeros.

    \b
    Examples:
      sparchitect trace import model.onnx --dim batch=1 --dim tokens=128 --out mine
      sparchitect simulate -a sparse_lanes --trace mine
    """
    from workloads.importers import from_onnx

    sizes = {name: _size(value, name) for name, value in arguments.assignments(dim or []).items()}
    _written(from_onnx(file, dims=sizes, bits=bits, weight_bits=weight_bits, unknown=unknown, fuse=fuse), out, json_)


def _size(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"--dim {name} must be a whole number >= 1, got {value!r}")
    return value


def _written(trace: Trace, out: Path, json_: bool) -> None:
    from sim.trace_tools.summary import summary
    from sparchitect.trace_display import written
    from workloads.traces import save

    path = save(trace, Path(out))
    if json_:
        print(arguments.one_json({"trace": str(path), "total": summary(trace)["total"], "meta": trace.meta}))
    else:
        print(written(path, trace))


@trace_app.command()
def show(
    source: Source,
    summary: Annotated[bool, typer.Option("--summary", help="Numbers by matrix type instead of ops.")] = False,
    op: Annotated[str | None, typer.Option(help="Only this op, every column.", metavar="NAME")] = None,
    json_: Json = False,
) -> None:
    """Show the ops of a trace, or its numbers by matrix type.

    \b
    Examples:
      sparchitect trace show smollm2_135m_wanda_50 --summary
      sparchitect trace show mine.parquet --op layer0.attn_q
    """
    from sim.trace_tools.summary import summary as numbers
    from sparchitect.trace_display import one_op, ops_table, summary_table

    if summary and op is not None:
        raise InputError("--summary is of the whole trace, leave out --op")
    trace = _read(source)
    if summary:
        found = numbers(trace)
        if json_:
            print(arguments.one_json(found))
        else:
            summary_table(found, trace.meta)
        return
    rows = trace.ops.to_dict("records") if op is None else [_named(trace, op)]
    if json_:
        print(arguments.one_json({"name": trace.name, "meta": trace.meta, "ops": rows}))
    elif op is None:
        ops_table(trace)
    else:
        print(one_op(rows[0]))


def _named(trace: Trace, name: str) -> dict[str, Any]:
    found = trace.ops[trace.ops["name"] == name]
    if found.empty:
        raise InputError(f"--op '{name}': no such op, {nearest(name, trace.ops['name'])[:200]}")
    return {str(column): value for column, value in found.iloc[0].to_dict().items()}


@trace_app.command()
def validate(source: Source, json_: Json = False) -> None:
    """Check a trace against the rules of the format.

    One line a violation; exit code 0 if there is none, 1 if there are, 2 if it is no trace at all.

    \b
    Example:
      sparchitect trace validate mine.parquet
    """
    from sim.trace_tools.validate import violations

    trace = _read(source)
    found = violations(trace)
    if json_:
        print(arguments.one_json({"trace": source, "valid": not found, "ops": len(trace), "violations": found}))
    else:
        print("\n".join(found) if found else f"{source}: valid, {len(trace)} ops")
    raise typer.Exit(1 if found else 0)


@trace_app.command()
def diff(
    a: Annotated[
        str,
        typer.Argument(help="A trace file, or a bundled trace's name.", metavar="A", autocompletion=completion.traces),
    ],
    b: Annotated[str, typer.Argument(help="Another.", metavar="B", autocompletion=completion.traces)],
    meta: Annotated[bool, typer.Option(help="Compare what is said about the trace, too.")] = True,
    json_: Json = False,
) -> None:
    """Say how two traces differ.

    Compares ops, columns, masks, and what is said about the trace.
    Exit code 0 if they are the same, 1 if they differ, 2 if one is no trace.

    \b
    Example:
      sparchitect trace diff smollm2_135m_dense smollm2_135m_wanda_50 --no-meta
    """
    from sim.trace_tools.diff import diff as compare
    from sparchitect.trace_display import differences

    found = compare(_read(a), _read(b), with_meta=meta)
    if json_:
        print(arguments.one_json({"a": a, "b": b, **found}))
    else:
        print(differences(a, b, found))
    raise typer.Exit(0 if found["same"] else 1)


def _read(source: str) -> Trace:
    """A bundled trace, or a file read without trust."""
    from sim.trace_tools.reading import read
    from workloads.traces import bundled_traces, load_trace

    path = Path(source)
    there = path.name and any(p.is_file() for p in (path, path.with_name(path.name + ".parquet")))
    if source in bundled_traces() or not there or (path.is_file() and path.suffix != ".parquet"):
        return load_trace(source)
    return read(path)
