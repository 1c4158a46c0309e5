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
FAST_TO_COMPILE = "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"


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


def compiled(build: Build, folder: Path) -> Path:
    """The binary of ``build``, made in a folder of its own below ``folder``.

    Raises:
        RuntimeError: Verilator or the compiler refused, with what they said. Warnings of Verilator count.
    """
    where = folder / build.name
    command = ["verilator", "--cc", "--exe", "--build", "-j", "1", "-O1", "-Wall", "-Wno-DECLFILENAME"]
    command += ["--prefix", "Varray", "--top-module", build.top, "--Mdir", str(where)]
    command += [f"-G{key}={value}" for key, value in build.parameters.items()]
    command += ["-CFLAGS", " ".join(f"-D{key}={value}" for key, value in build.defines.items())]
    command += [str(SOURCES / f"{name}.sv") for name in (build.top, *build.others)] + [str(SOURCES / build.bench)]
    made = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "MAKEFLAGS": FAST_TO_COMPILE}
    )
    if made.returncode:
        raise RuntimeError(f"{build.name} did not build:\n{made.stdout}{made.stderr}")
    return where / "Varray"


def run_all(jobs: Sequence[tuple[Build, str]], folder: Path, workers: int | None = None) -> list[list[list[str]]]:
    """Build every job and run it over its cases (text, one a line): the fields of every row it printed.

    Raises:
        RuntimeError: a build failed, or a run ended with an error or without one row a case.
    """

    def one(job: tuple[Build, str]) -> list[list[str]]:
        build, cases = job
        done = subprocess.run([compiled(build, folder)], input=cases, capture_output=True, text=True, check=False)
        rows = [line.split(",") for line in done.stdout.splitlines()]
        if done.returncode or len(rows) != len(cases.splitlines()):
            raise RuntimeError(f"{build.name} answered {len(rows)} of {len(cases.splitlines())} cases: {done.stderr}")
        return rows

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, jobs))
