"""Speed and memory of Sparchitect on one machine of ours and one decoder layer.

    python benchmarks/speed.py            # prints the table
    python benchmarks/speed.py --write    # and puts it into docs/benchmarks.md

Each measurement runs in a process of its own (:mod:`measures`), all with one fresh Numba cache that the first of them
fills. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from page import duration, number, surroundings, table, write

PHASES = ("prefill", "decode")


def measured(name: str, cache: str, **arguments: Any) -> dict[str, Any]:
    """Result of one measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("measures.py")), name, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
    if done.returncode:
        raise SystemExit(f"{name} {arguments} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(designs: int, allowed_s: float) -> dict[str, Any]:
    """Everything, by name and phase."""
    with tempfile.TemporaryDirectory() as cache:
        found: dict[str, Any] = {"empty": measured("first_calls", cache), "filled": measured("first_calls", cache)}
        for phase in PHASES:
            found[phase] = {
                "warm": measured("warm", cache, phase=phase, calls=200),
                "sweep": measured("sweep", cache, phase=phase, designs=designs, allowed_s=allowed_s),
                "quick": measured("sweep", cache, phase=phase, designs=designs, allowed_s=allowed_s, effort="quick"),
                "loss": measured("quick_loss", cache, phase=phase),
                "unlike": measured("unlike", cache, phase=phase, designs=300),
            }
    return found


def speeds(found: dict[str, Any]) -> str:
    """Table of the layer's measurements, one column a phase."""
    lines = {
        "GEMMs / vector ops of the layer": lambda p: f"{p['warm']['gemms']} / {p['warm']['vector_ops']}",
        "candidate mappings of a GEMM": lambda p: _range(p["warm"]["nests"]),
        "... of which outermost tilings × orders": lambda p: _range(p["warm"]["rows"]),
        "designs in the sweep": lambda p: f"{p['sweep']['designs']:,} ({p['sweep']['geometries']} geometries)",
        "... of them feasible": lambda p: f"{100 * p['sweep']['feasible']:.0f} %",
        "`sp.sweep`, all of them": lambda p: duration(p["sweep"]["seconds"]),
        "**designs a second**": lambda p: f"**{number(p['sweep']['designs'] / p['sweep']['seconds'])}**",
        "op mappings found a second": lambda p: number(
            p["sweep"]["designs"] * p["warm"]["gemms"] / p["sweep"]["seconds"]
        ),
        "candidate mappings covered a second": lambda p: number(p["sweep"]["nests"] / p["sweep"]["seconds"]),
        "candidate mappings of a GEMM, quick": lambda p: _range(p["warm"]["quick_nests"]),
        '`sp.sweep(effort="quick")`, all of them': lambda p: (
            f"{p['quick']['designs']:,} in {duration(p['quick']['seconds'])}"
        ),
        "**designs a second, quick**": lambda p: f"**{number(p['quick']['designs'] / p['quick']['seconds'])}**",
        "... slower mappings found: median, p90, worst": lambda p: " / ".join(
            f"{p['loss'][name]:.2g} %" for name in ("p50", "p90", "p100")
        ),
        "peak memory of that process": lambda p: f"{p['sweep']['peak_mib']:.0f} MiB",
        "... before the sweep": lambda p: f"{p['sweep']['base_mib']:.0f} MiB",
        "designs a second, no two of one geometry": lambda p: number(p["unlike"]["designs"] / p["unlike"]["seconds"]),
        "`sp.simulate`, the layer, analytic engine": lambda p: duration(p["warm"]["layer_s"]),
        "`sp.simulate`, the layer, timeline engine": lambda p: duration(p["warm"]["timeline_s"]),
        "tiles that it walks": lambda p: f"{p['warm']['tiles']:,}",
        "timeline tiles a second (walk alone)": lambda p: number(p["warm"]["tiles"] / p["warm"]["walk_s"]),
    }
    return table(["", *PHASES], [[name, *(line(found[phase]) for phase in PHASES)] for name, line in lines.items()])


def _range(ends: list[int]) -> str:
    low, high = ends
    return f"{low:,} to {high:,}"


def starts(found: dict[str, Any]) -> str:
    """Table of first calls: compiled into an empty cache, then loaded by a second process."""
    names = {
        "import": "`import sparchitect`, a machine, a trace",
        "simulate": "first `sp.simulate` of a GEMM",
        "layer": "then of a layer",
        "timeline": "then by the timeline engine",
        "sweep": "then `sp.sweep`",
    }
    rows = [[title, duration(found["empty"][name]), duration(found["filled"][name])] for name, title in names.items()]
    total = [duration(sum(found[which].values())) for which in ("empty", "filled")]
    return table(["in one process, in this order", "empty Numba cache", "filled"], [*rows, ["together", *total]])


def singles(warm: dict[str, Any]) -> str:
    """Table of one GEMM's calls."""
    names = {
        "again_s": "the same machine and trace objects again",
        "gemm_s": "a GEMM not seen before, M from 1 to 200",
        "machine_s": "a machine not seen before",
        "report_s": "a GEMM not seen before, report printed",
    }
    title = f"one `sp.simulate` of an M × 4096 × 4096 GEMM ({warm['gemm_nests']:,} candidate mappings at M = 128)"
    return table([title, "median of 200"], [[names[key], duration(warm[key])] for key in names])


def text(found: dict[str, Any], where: str) -> str:
    """Both tables and the single-call latency, as they stand in the page."""
    prefill = found["prefill"]
    return "\n".join(
        [
            f"Measured {where} Kernels ran on {prefill['sweep']['threads']} threads in sweeps, on one elsewhere.",
            "",
            speeds(found),
            "",
            singles(prefill["warm"]),
            "",
            starts(found),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="refresh docs/benchmarks.md")
    parser.add_argument("--designs", type=int, default=100_000, help="at least so many, if they fit the time allowed")
    parser.add_argument("--allowed-s", type=float, default=60.0, help="seconds that one sweep may take by its pilot")
    options = parser.parse_args()
    where = surroundings(["sparchitect", "numba", "numpy"])
    page_text = text(measure(options.designs, options.allowed_s), where)
    print(page_text)
    if options.write:
        write("speed", page_text)
