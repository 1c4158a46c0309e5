"""Run the notebooks in the interpreter that runs this file, and say what each took.

    python notebooks/run.py              # all: wall and CPU seconds of each; exit code 1 if a cell fails
    python notebooks/run.py 01 05        # some, by the beginning of their names
    python notebooks/run.py --write      # and store the outputs, figures included, in each .ipynb
    python notebooks/run.py --pair       # only write each .ipynb from its .py, the source, without outputs

Needs ``pip install 'sparchitect[notebooks]'``. Notebooks run in an empty temporary folder: what a cell writes is gone
afterwards.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from traitlets import default

FOLDER = Path(__file__).parent
LIMIT_S = 180  # CPU seconds that a notebook may take
WAIT_S = 1200  # wall seconds to wait for it: a shared machine may be several times slower
LANGUAGE = {"name": "python"}


@dataclass(frozen=True)
class Run:
    """One execution: ``wall_s`` with the start of the kernel, ``cpu_s`` of the kernel and what it started."""

    notebook: NotebookNode
    wall_s: float
    cpu_s: float


class ThisInterpreter(AsyncKernelManager):
    """Starts "python3" as the interpreter we run in, whatever the user has installed under that name."""

    @default("kernel_spec_manager")
    def _no_installed_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def sources() -> list[Path]:
    """The .py of every notebook, in the order they are read."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def paired(source: Path) -> NotebookNode:
    """The notebook of a percent-format .py: no outputs, cell ids by position, so that it is the same every time."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata["language_info"] = LANGUAGE
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(source: Path, folder: Path, wait_s: float = WAIT_S) -> Run:
    """Run every cell in ``folder``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised. TimeoutError: longer than ``wait_s`` in all.
    """
    started, used = time.monotonic(), _children_cpu_s()

    def left(cell: NotebookNode | None = None) -> int:
        return max(1, int(wait_s - (time.monotonic() - started)))

    client = NotebookClient(
        paired(source),
        kernel_manager_class=ThisInterpreter,
        timeout_func=left,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    done = client.execute(env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")})
    done.metadata["language_info"] = LANGUAGE
    for output in (o for cell in done.cells for o in cell.get("outputs", ())):
        if "image/png" in output.get("data", ()):
            output["data"]["image/png"] = _palette(output["data"]["image/png"])
            output["data"].pop("text/plain", None)  # an object's address, another one every time
    return Run(done, time.monotonic() - started, _children_cpu_s() - used)


def _palette(picture: str) -> str:
    """A PNG (base64) in 256 colours: what is drawn has fewer, and the file is a third."""
    written = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks and print what each took.")
    parser.add_argument("names", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--write", action="store_true", help="store outputs in the .ipynb of each that runs through")
    parser.add_argument("--pair", action="store_true", help="run nothing, write the .ipynb of each .py without outputs")
    chosen = parser.parse_args(arguments)
    found = [s for s in sources() if not chosen.names or s.name.startswith(tuple(chosen.names))]
    if not found:
        parser.error(f"no notebook begins with {' or '.join(chosen.names)}")
    failed = False
    for source in found:
        if chosen.pair:
            nbformat.write(paired(source), source.with_suffix(".ipynb"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = execute(source, Path(folder))
            except Exception as error:  # a cell's error, a dead kernel, a time-out: the next notebook still runs
                failed = True
                print(f"{source.stem}: FAILED\n{error}", flush=True)
                continue
        print(f"{source.stem:<40} {run.wall_s:6.1f} s wall {run.cpu_s:6.1f} s CPU", flush=True)
        if chosen.write:
            nbformat.write(run.notebook, source.with_suffix(".ipynb"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
