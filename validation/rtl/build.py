"""Build the SystemVerilog arrays of this folder with Verilator and run them over a list of cases."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sim.errors import InputError

SOURCES = Path(__file__).parent
FAST_TO_COMPILE = ("OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0")


@dataclass(frozen=True)
class Build:
    """One simulation binary: a top module with its parameters, and the C++ bench that drives it.

    Attributes:
        top: SystemVerilog module and file name. others: further SystemVerilog files it needs.
        bench: C++ file. parameters: of the top module. defines: of the bench.
    """

    top: str
    bench: str
    parameters: Mapping[str, int]
    defines: Mapping[str, int]
    others: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """A folder name that no other build has."""
        return "_".join([self.top, *(f"{key}{value}" for key, value in self.parameters.items())])

    @property
    def source(self) -> str:
        """The RTL file that a measured row names."""
        return f"validation/rtl/{self.top}.sv"


def missing_tools() -> str:
    """What this machine lacks to simulate RTL, in words; empty when nothing."""
    wanted = {"verilator": ["verilator"], "make": ["make"], "a C++ compiler (g++ or clang++)": ["g++", "clang++"]}
    absent = [words for words, names in wanted.items() if not any(shutil.which(name) for name in names)]
    return f"needs {' and '.join(absent)} on PATH" if absent else ""


def verilator_version() -> str:
    """For example ``5.006``.

    Raises:
        InputError: no Verilator, make or C++ compiler on PATH.
    """
    if missing_tools():
        raise InputError(f"simulating RTL {missing_tools()}: install them (Debian: apt-get install verilator g++ make)")
    shown = subprocess.run(["verilator", "--version"], capture_output=True, text=True, check=True).stdout
    return shown.split()[1]


def compiled(build: Build, folder: Path, runtime: Path | None = None) -> Path:
    """The binary of ``build``, made in a folder of its own below ``folder``.

    ``runtime``: a binary made before, whose compiled simulation library is taken over (more than half of the work).

    Raises:
        RuntimeError: Verilator or the compiler refused, with what they said.
    """
    where = folder / build.name
    where.mkdir(parents=True, exist_ok=True)
    command = ["verilator", "--cc", "--exe", "-O1", "-Wno-fatal"]
    command += ["--prefix", "Varray", "--top-module", build.top, "--Mdir", str(where)]
    command += [f"-G{key}={value}" for key, value in build.parameters.items()]
    command += ["-CFLAGS", " ".join(f"-D{key}={value}" for key, value in build.defines.items())]
    command += [str(SOURCES / f"{name}.sv") for name in (build.top, *build.others)] + [str(SOURCES / build.bench)]
    _succeed(build, command)
    for library in runtime.parent.glob("verilated*.o") if runtime else ():
        shutil.copy(library, where)
    _succeed(build, ["make", "-C", str(where), "-f", "Varray.mk", *FAST_TO_COMPILE, "Varray"])
    return where / "Varray"


def _succeed(build: Build, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{build.name} did not build:\n{done.stdout}{done.stderr}")


def run_all(jobs: Sequence[tuple[Build, str]], folder: Path, workers: int | None = None) -> list[list[list[str]]]:
    """Build every job and run it over its cases (text, one a line): the fields of every row it printed.

    Raises:
        RuntimeError: a build failed, or a run ended with an error or without one row a case.
    """

    runtime = compiled(jobs[0][0], folder)

    def one(job: tuple[Build, str]) -> list[list[str]]:
        build, cases = job
        binary = runtime if build is jobs[0][0] else compiled(build, folder, runtime)
        done = subprocess.run([binary], input=cases, capture_output=True, text=True, check=False)
        rows = [line.split(",") for line in done.stdout.splitlines()]
        if done.returncode or len(rows) != len(cases.splitlines()):
            raise RuntimeError(f"{build.name} answered {len(rows)} of {len(cases.splitlines())} cases: {done.stderr}")
        return rows

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, jobs))
