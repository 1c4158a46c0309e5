"""``sparchitect import``: machines and workloads of other simulators."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparchitect import arguments

if TYPE_CHECKING:
    from sparchitect.peers import Imported

import_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=False,
    help="Import machines and workloads of SCALE-Sim and ZigZag.",
)

Out = Annotated[Path, typer.Option(help="Folder for the machine file and the trace.", metavar="DIR")]
Clock = Annotated[float, typer.Option(help="Clock; neither simulator states one.", metavar="GHZ")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


@import_app.command()
def scalesim(
    config: Annotated[Path, typer.Argument(help="A configuration.", metavar="FILE.cfg")],
    topology: Annotated[
        Path | None, typer.Argument(help="A topology: convolutions, or GEMMs.", metavar="[TOPO.csv]")
    ] = None,
    out: Out = Path("imported"),
    clock_ghz: Clock = 1.0,
    json_: Json = False,
) -> None:
    """Write a SCALE-Sim configuration as a machine, a topology as a trace.

    Versions 2 and 3. What has no counterpart is refused or told, a line each.

    \b
    Examples:
      sparchitect import scalesim scale.cfg resnet18.csv
      sparchitect simulate -a imported/scale.yaml --trace imported/resnet18
    """
    from sparchitect.peers import from_scalesim, scalesim_cycles

    found = from_scalesim(config, topology, clock_ghz)
    extra: dict[str, Any] = {}
    if found.trace is not None:
        extra["scalesim_compute_cycles"] = scalesim_cycles(found.machine, found.trace)
    _written(found, out, extra, json_)


@import_app.command()
def zigzag(
    accelerator: Annotated[Path, typer.Argument(help="An accelerator.", metavar="ARCH.yaml")],
    workload: Annotated[Path | None, typer.Option(help="A workload, a list of layers.", metavar="FILE.yaml")] = None,
    out: Out = Path("imported"),
    clock_ghz: Clock = 1.0,
    json_: Json = False,
) -> None:
    """Write a ZigZag accelerator as a machine, a workload as a trace.

    Version 3. What has no counterpart is refused or told, a line each.

    \b
    Examples:
      sparchitect import zigzag tpu_like.yaml --workload resnet18.yaml
      sparchitect simulate -a imported/tpu_like.yaml --trace imported/resnet18
    """
    from sparchitect.peers import from_zigzag

    _written(from_zigzag(accelerator, workload, clock_ghz), out, {}, json_)


def _written(found: Imported, out: Path, extra: dict[str, Any], json_: bool) -> None:
    paths = found.save(out)
    machine, trace = paths[0], paths[1] if found.trace is not None else None
    if json_:
        files = {"machine": str(machine), "trace": None if trace is None else str(trace)}
        fields = found.machine.model_dump(mode="json")
        print(arguments.one_json({**files, "fields": fields, "notices": found.notices, **extra}))
        return
    array = found.machine.array
    print(f"{machine}: {array.rows} x {array.cols}, {array.dataflow}, {len(found.machine.memory)} memories")
    work = "--gemm 128x1536x576"
    if found.trace is not None and trace is not None:
        print(f"{trace}: {_ops(found)} ops, {found.trace.macs:,.0f} MACs")
        work = f"--trace {shlex.quote(str(trace))}"
    for counts in extra.values():
        print(f"  SCALE-Sim 3.0.0 counts {sum(counts.values()):,} compute cycles for it")
    for notice in found.notices:
        print(f"  {notice}")
    print(f"  next: sparchitect simulate -a {shlex.quote(str(machine))} {work}")


def _ops(found: Imported) -> int:
    assert found.trace is not None
    return int((found.trace.ops["name"] != "fence").sum())
