"""``sparchitect prune``: a real model, pruned, measured and written as a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparchitect import arguments, completion

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def prune(
    method: Annotated[
        str,
        typer.Option(
            help="A method; 'sparchitect list' names them.", metavar="NAME", autocompletion=completion.methods
        ),
    ] = "wanda",
    pattern: Annotated[
        str,
        typer.Option(
            help='Share removed ("0.5"), n:m kept ("2:4"), "0.5 1x16", "rank 32 + 0.5", "heads 0.25", "ffn 0.1", '
            '"layers 0.1", "diagonal 4".',
            metavar="P",
        ),
    ] = "0.5",
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Matrix type, or all, attn, ffn; repeat. Default: all seven.", metavar="TYPE"),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option(help="How the share is spread: uniform, owl, energy, sensitivity or latency.", metavar="NAME"),
    ] = "uniform",
    sequential: Annotated[
        bool | None,
        typer.Option(
            "--sequential/--no-sequential",
            help="Calibrate each layer behind the pruned ones, or on the dense model; default: as published.",
        ),
    ] = None,
    calibration_tokens: Annotated[
        int, typer.Option(help="Tokens of text the method is calibrated on, >= 512.", metavar="N")
    ] = 8192,
    windows: Annotated[
        Path | None,
        typer.Option(help="Token ids n x length to calibrate on, in place of our text.", metavar="FILE.npy"),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Token ids n x length to measure perplexity on.", metavar="FILE.npy")
    ] = None,
    arithmetic: Annotated[
        str,
        typer.Option(help="Of the perplexity, and of the trace: w8a8kv8, w4a8kv8, float, ...", metavar="NAME"),
    ] = "w8a8kv8",
    model: Annotated[
        Path | None, typer.Option(help="GGUF, safetensors, npz file or HF folder; default: SmolLM2.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Trace to write; default: traces/MODEL_METHOD_PATTERN.", metavar="FILE")
    ] = None,
    phase: Annotated[str, typer.Option(help="prefill, or one decode step.", metavar="NAME")] = "prefill",
    tokens: Annotated[int, typer.Option(help="Tokens of the prefill.", metavar="N")] = 128,
    context: Annotated[int, typer.Option(help="Cached positions of the decode step.", metavar="N")] = 512,
    evaluate: Annotated[bool, typer.Option(help="Measure perplexity of the pruned model (minutes).")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the choice of calibration windows.", metavar="N")] = 0,
    json_: Json = False,
) -> None:
    """Prune a real model into a trace.

    Measures the perplexity of the pruned model and writes a trace with exact lane profiles.

    \b
    Examples:
      sparchitect prune --method wanda --pattern 2:4
      sparchitect prune --method sparsegpt --pattern 0.6 --allocation owl --sequential
      sparchitect prune --method sevedo --pattern "rank 32 + 0.5" --arithmetic w4a8kv8
      sparchitect prune --method ffn_channels --pattern 0.2 --no-evaluate --out traces/narrow
      sparchitect prune --model mini --windows ids.npy --no-evaluate
      sparchitect simulate -a sparse_lanes --trace traces/narrow
    """
    from sparchitect.display import progress, pruned
    from workloads.token_windows import read_windows
    from workloads.traces import prune_to_trace

    ids, measured_ids = (None if path is None else read_windows(path) for path in (windows, evaluation))
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
            allocation=allocation,
            sequential=sequential,
            calibration_tokens=calibration_tokens,
            windows=ids,
            evaluation=measured_ids,
            arithmetic=arithmetic,
        )
    if json_:
        print(arguments.one_json({"trace": str(path), **trace.meta}))
        return
    print(pruned(path, trace))
