"""The same GEMMs in SCALE-Sim 3.0.0, ZigZag 3.9.1 and Sparchitect: seconds and cycles side by side.

    python benchmarks/against_peers.py            # prints the tables
    python benchmarks/against_peers.py --write    # and puts them into docs/benchmarks.md

The peers are installed by pip into environments of their own under --cache (once, about a minute and 1 GB). Every GEMM
runs ``--rounds`` times in every tool, each time in a new process, the tools in turn so that other load meets all alike.
``call``: median seconds of the simulation call inside a process, from reading the machine file to written results, but
for the process's first call where there is time for more than one; ``simulate``: what of our call is the simulation.
``process``: from start to exit with one call.
About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from page import duration, number, surroundings, table, write
from peers.environments import CACHE, REQUIREMENTS, python_of

PEERS = Path(__file__).parent / "peers"
ROWS = COLS = 32  # of every machine here
LONGEST = 70_000  # array cycles that SCALE-Sim is asked to step through
CASES = (  # model, matrix, M, N, K
    ("SmolLM2-135M", "k", 1, 192, 576),
    ("SmolLM2-135M", "k", 128, 192, 576),
    ("SmolLM2-135M", "k", 512, 192, 576),
    ("SmolLM2-135M", "q", 1, 576, 576),
    ("SmolLM2-135M", "q", 128, 576, 576),
    ("SmolLM2-135M", "up", 512, 1536, 576),
    ("Llama-2-7B", "q", 1, 4096, 4096),
    ("Llama-2-7B", "q", 128, 4096, 4096),
)
OURS = {"scalesim": "dense_ws", "zigzag": str(PEERS / "tpu_like.yaml")}


def run(python: Path | str, runner: str, case: dict[str, Any]) -> dict[str, Any]:
    """A runner's answer with ``process_s``, the time of the process if it had made one call."""
    command = [str(python), str(PEERS / f"{runner}_runner.py"), json.dumps(case)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{runner} on {case} failed:\n{done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer | {"process_s": seconds - sum(answer["calls_s"][1:]) - answer.get("extra_s", 0.0)}


def summed(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last round's results with the medians of all rounds: ``call_s``, ``process_s``, and ours
    ``simulate_s``, ``walk_s``; ``mappings`` of the round that counted them."""
    calls = [seconds for answer in rounds for seconds in (answer["calls_s"][1:] or answer["calls_s"])]
    walks = [seconds for answer in rounds for seconds in answer.get("timeline_s", [])]
    inner = [seconds for answer in rounds for seconds in answer.get("simulate_s", [])]
    return rounds[-1] | {
        "call_s": median(calls),
        "walk_s": median(walks) if walks else None,
        "simulate_s": median(inner) if inner else None,
        "process_s": median(answer["process_s"] for answer in rounds),
        "mappings": max(answer.get("mappings", 0) for answer in rounds),
    }


def measure(pythons: dict[str, Path], rounds: int, limit_s: float) -> list[dict[str, Any]]:
    """One record a case: ``case``, and by peer the peer's and our summary (none where the peer is not asked)."""
    from sim.compute.systolic import cycles

    found = []
    for peer in pythons:  # bytecode and kernels that a new environment, or changed code, still has to compile
        case = dict(zip("mnk", CASES[0][2:], strict=True))
        run(pythons[peer], peer, case | {"calls": 1, "limit_s": limit_s, "count": False})
        run(sys.executable, "sparchitect", case | {"calls": 1, "machine": OURS[peer]})
    for model, matrix, m, n, k in CASES:
        sizes = {"m": m, "n": n, "k": k}
        same = int(cycles("ws", ROWS, COLS, m, n, k, convention="scalesim"))
        asked = [peer for peer in pythons if peer != "scalesim" or same <= LONGEST]
        answers: dict[str, list[dict[str, Any]]] = {}
        for turn in range(rounds):
            for peer in asked:
                case = sizes | {"calls": 3, "limit_s": limit_s, "count": turn == 0}
                answers.setdefault(peer, []).append(run(pythons[peer], peer, case))
                case = sizes | {"calls": 20, "machine": OURS[peer]}
                answers.setdefault(f"ours_{peer}", []).append(run(sys.executable, "sparchitect", case))
        record = {name: summed(given) for name, given in answers.items()}
        record |= {"case": (f"{model} {matrix}", m, n, k), "same_convention": same}
        print(f"{model} {matrix} {m} x {n} x {k}: done", file=sys.stderr)
        found.append(record)
    return found


def seconds_table(found: list[dict[str, Any]], peer: str, name: str) -> str:
    """Seconds of the peer and of both our engines, and the ratios."""
    rows = []
    for record in found:
        label, m, n, k = record["case"]
        if peer not in record:
            continue
        theirs, ours = record[peer], record[f"ours_{peer}"]
        rows.append(
            [
                label,
                f"{m} × {n} × {k}",
                duration(theirs["call_s"]),
                duration(ours["call_s"]),
                f"{number(theirs['call_s'] / ours['call_s'])} ×",
                duration(ours["simulate_s"]),
                duration(ours["walk_s"]),
                f"{number(theirs['call_s'] / ours['walk_s'])} ×",
                duration(theirs["process_s"]),
                duration(ours["process_s"]),
                f"{number(theirs['process_s'] / ours['process_s'])} ×",
            ]
        )
    header = [
        "GEMM",
        "M × N × K",
        f"{name}, call",
        "analytic, call",
        "ratio",
        "of it, simulate",
        "timeline, call",
        "ratio",
    ]
    return table([*header, f"{name}, process", "ours, process", "ratio"], rows)


def scalesim_cycles(found: list[dict[str, Any]]) -> str:
    """Cycles by SCALE-Sim, by us in its convention, and by us with memories."""
    rows = []
    for record in found:
        if "scalesim" in record:
            label, m, n, k = record["case"]
            theirs, ours = record["scalesim"], record["ours_scalesim"]
            numbers = (theirs["cycles"], record["same_convention"], ours["cycles"], ours["timeline_cycles"])
            rows.append([label, f"{m} × {n} × {k}", *(f"{value:,.0f}" for value in numbers)])
    header = [
        "GEMM",
        "M × N × K",
        "SCALE-Sim",
        'ours, `convention="scalesim"`',
        "ours with memories, analytic",
        "timeline",
    ]
    return table(header, rows)


def zigzag_cycles(found: list[dict[str, Any]]) -> str:
    """Cycles and mappings of ZigZag and of us on its machine."""
    rows = []
    for record in found:
        if "zigzag" in record:
            label, m, n, k = record["case"]
            theirs, ours = record["zigzag"], record["ours_zigzag"]
            ideal = m * n * k / (ROWS * COLS)
            numbers = (theirs["ideal_cycles"], ideal, theirs["cycles"], ours["cycles"], ours["timeline_cycles"])
            rows.append(
                [
                    label,
                    f"{m} × {n} × {k}",
                    *(f"{value:,.0f}" for value in numbers),
                    f"{100 * (ours['cycles'] / theirs['cycles'] - 1):+.0f} %",
                    f"{theirs['mappings']:,}",
                    f"{ours['mappings']:,}",
                ]
            )
    header = ["GEMM", "M × N × K", "ideal: ZigZag", "ours", "latency: ZigZag", "ours, analytic", "timeline", "analytic"]
    return table([*header, "mappings: ZigZag", "ours"], rows)


def text(found: list[dict[str, Any]], where: str, rounds: int) -> str:
    """All tables as they stand in the page."""
    left_out = [
        f"{record['case'][0]} {' × '.join(map(str, record['case'][1:]))} ({record['same_convention']:,} cycles)"
        for record in found
        if "scalesim" not in record
    ]
    installed = "; ".join(" ".join(given) for given in REQUIREMENTS.values())
    return "\n".join(
        [
            f"Measured {where} Peers: {installed}. Processes a tool and GEMM: {rounds}, one at a time, tools in turn; "
            "medians.",
            "",
            "### SCALE-Sim",
            "",
            seconds_table(found, "scalesim", "SCALE-Sim"),
            "",
            scalesim_cycles(found),
            "",
            f"Left out, since SCALE-Sim steps through every cycle of the array: {', '.join(left_out)}.",
            "",
            "### ZigZag",
            "",
            seconds_table(found, "zigzag", "ZigZag"),
            "",
            zigzag_cycles(found),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="refresh docs/benchmarks.md")
    parser.add_argument("--rounds", type=int, default=3, help="processes for every tool and GEMM")
    parser.add_argument("--limit-s", type=float, default=3.0, help="further calls of a peer while they fit this")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the peers' environments")
    options = parser.parse_args()
    where = surroundings(["sparchitect", "numba", "numpy"])
    pythons = {peer: python_of(peer, options.cache) for peer in REQUIREMENTS}
    page_text = text(measure(pythons, options.rounds, options.limit_s), where, options.rounds)
    print(page_text)
    if options.write:
        write("peers", page_text)
