"""What :mod:`speed` measures, each in a process of its own: ``python measures.py NAME '{"phase": "prefill"}'`` prints
one line of JSON. Time that is reported never holds compilation, except under ``first_calls``."""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import sys
import time
from typing import Any

STEPS: dict[str, list[float]] = {
    "array.rows": [16, 32, 48, 64, 96, 128],
    "array.cols": [16, 32, 48, 64, 96, 128],
    "memory.shared.capacity_kib": [256, 512, 1024, 2048, 4096, 8192],
    "memory.shared.bandwidth_gb_per_s": [25.6, 51.2, 76.8, 102.4, 153.6, 204.8, 256.0, 307.2],
    "dram.bandwidth_gb_per_s": [12.8, 19.2, 25.6, 38.4, 51.2, 76.8, 102.4, 204.8],
    "clock_ghz": [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3],
}
GEOMETRY = ("array.rows", "array.cols", "memory.shared.capacity_kib")
MODEL, TOKENS = "llama2_7b", 2048


def layer(phase: str):
    """One decoder layer of Llama-2-7B: 2048 tokens at once, or one token after 2048."""
    import sparchitect as sp

    tokens = {"tokens": TOKENS} if phase == "prefill" else {"context": TOKENS}
    return sp.llm(MODEL, phase=phase, layers=1, **tokens)


def peak_mib() -> float:
    """Largest resident set of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def first_calls() -> dict[str, float]:
    """Seconds to import and to call each entry point for the first time, in order: what one compiles (or loads), the
    next one need not."""
    start = time.perf_counter()
    import sparchitect as sp

    machine, gemm = sp.accelerator("dense_ws"), sp.gemm(m=128, k=4096, n=4096)
    grid = {"array.rows": STEPS["array.rows"][:2]}
    steps = {
        "import": lambda: None,
        "simulate": lambda: sp.simulate(machine, gemm).cycles,
        "layer": lambda: sp.simulate(machine, layer("prefill")).cycles,
        "timeline": lambda: sp.simulate(machine, gemm, engine="timeline").cycles,
        "sweep": lambda: sp.sweep(machine, gemm, grid),
    }
    found = {}
    for name, call in steps.items():
        call()
        found[name] = time.perf_counter() - start
        start = time.perf_counter()
    return found


def sweep(phase: str, designs: int, allowed_s: float, effort: str = "full") -> dict[str, Any]:
    """``sp.sweep`` over the grid of :data:`STEPS`. Where a pilot (two steps a rate) says that ``designs`` would take
    longer than ``allowed_s``, fewer clocks are taken."""
    import numba
    from candidate_count import count_candidates

    import sparchitect as sp
    from sim.designs import Designs

    machine, trace = sp.accelerator("dense_ws"), layer(phase)
    sp.sweep(machine, trace, {"array.rows": STEPS["array.rows"][:2]}, effort=effort)
    base_mib = peak_mib()
    rates = [name for name in STEPS if name not in GEOMETRY]
    start = time.perf_counter()
    pilot = len(sp.sweep(machine, trace, STEPS | {name: STEPS[name][::4] for name in rates}, effort=effort))
    speed = pilot / (time.perf_counter() - start)
    a_clock = len(list(itertools.product(*STEPS.values()))) // len(STEPS["clock_ghz"])
    clocks = max(1, min(-(-designs // a_clock), int(allowed_s * speed / a_clock), len(STEPS["clock_ghz"])))
    grid = STEPS | {"clock_ghz": STEPS["clock_ghz"][:clocks]}
    start = time.perf_counter()
    table = sp.sweep(machine, trace, grid, effort=effort)
    seconds = time.perf_counter() - start
    peak = peak_mib()
    shapes = list(itertools.product(*(STEPS[name] for name in GEOMETRY)))
    columns = {name: [shape[i] for shape in shapes] for i, name in enumerate(GEOMETRY)}
    each = Designs.from_grid(machine, columns)
    nests = [int(count_candidates(each.take([i]), trace, effort)["nests"].sum()) for i in range(len(shapes))]
    return {
        "designs": len(table),
        "geometries": len(shapes),
        "feasible": float(table["feasible"].mean()),
        "seconds": seconds,
        "threads": numba.get_num_threads(),
        "ops": len(trace),
        "nests": sum(nests) * len(table) // len(shapes),
        "base_mib": base_mib,
        "peak_mib": peak,
    }


def quick_loss(phase: str) -> dict[str, float]:
    """Per cent by which the layer is slower with quick mappings than with full ones: percentiles over two steps a
    rate of the grid of :data:`STEPS`."""
    import numpy as np

    import sparchitect as sp

    machine, trace = sp.accelerator("dense_ws"), layer(phase)
    grid = STEPS | {name: STEPS[name][::4] for name in STEPS if name not in GEOMETRY}
    quick, full = (sp.sweep(machine, trace, grid, effort=effort)["cycles"] for effort in ("quick", "full"))
    return {f"p{p}": float(np.nanpercentile(100 * (quick / full - 1), p)) for p in (50, 90, 100)}


def unlike(phase: str, designs: int) -> dict[str, Any]:
    """``sp.evaluate`` of designs that share no geometry, drawn between the ends of the same steps: what a sampler asks
    for, and no table of candidates serves two of them."""
    import numpy as np

    import sparchitect as sp
    from sim.designs import Designs

    machine, trace = sp.accelerator("dense_ws"), layer(phase)
    sp.sweep(machine, trace, {"array.rows": STEPS["array.rows"][:2]})
    shapes = list(itertools.product(range(16, 129, 8), range(16, 129, 8), range(256, 8193, 256)))
    drawn = np.random.default_rng(0).choice(len(shapes), designs, replace=False)
    columns = {name: [shapes[i][at] for i in drawn] for at, name in enumerate(GEOMETRY)}
    start = time.perf_counter()
    sp.evaluate(Designs.from_grid(machine, columns), trace)
    return {"designs": designs, "seconds": time.perf_counter() - start}


def warm(phase: str, calls: int) -> dict[str, Any]:
    """Median seconds of calls on things not seen before (tables remembered for a machine or a trace do not help, its
    kernels are loaded): GEMMs of as many M, with and without the whole report, as many machines, the layer by both
    engines; tiles that the timeline walks, and the seconds of the walk alone; candidates of the layer's GEMMs."""
    from candidate_count import count_candidates

    import sparchitect as sp
    from sim import analytic, timeline
    from sim.designs import Designs

    machine, trace = sp.accelerator("dense_ws"), layer(phase)
    gemms = [sp.gemm(m=m, k=4096, n=4096) for m in range(1, calls + 1)]
    machines = [machine.override({"memory.shared.capacity_kib": 512 + i}) for i in range(calls)]
    layers = [layer(phase) for _ in range(20)]
    for engine in ("analytic", "timeline"):
        str(sp.simulate(machine, sp.gemm(m=16, k=64, n=64), engine=engine))

    def median(call, over) -> float:
        found = []
        for thing in over:
            start = time.perf_counter()
            call(thing)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    designs = Designs.from_machines([machine])
    detail = analytic.run_detailed(designs, trace)
    walked = timeline.run_detailed(designs, trace, detail, machine.dma)
    counts = count_candidates(machine, trace)
    quick = count_candidates(machine, trace, "quick")["nests"]
    alike = sp.gemm(m=128, k=4096, n=4096)
    return {
        "gemm_s": median(lambda gemm: sp.simulate(machine, gemm).cycles, gemms),
        "again_s": median(lambda _: sp.simulate(machine, alike).cycles, gemms),
        "report_s": median(lambda gemm: str(sp.simulate(machine, gemm)), gemms),
        "machine_s": median(lambda other: sp.simulate(other, alike).cycles, machines),
        "layer_s": median(lambda trace: sp.simulate(machine, trace).cycles, layers),
        "timeline_s": median(lambda trace: sp.simulate(machine, trace, engine="timeline").cycles, layers),
        "walk_s": median(lambda trace: timeline.run_detailed(designs, trace, detail, machine.dma), layers),
        "tiles": sum(len(event.times) for event in walked.events if event.kind == "gemm"),
        "gemms": len(counts),
        "vector_ops": len(trace) - len(counts),
        "rows": [int(counts["rows"].min()), int(counts["rows"].max())],
        "nests": [int(counts["nests"].min()), int(counts["nests"].max())],
        "quick_nests": [int(quick.min()), int(quick.max())],
        "gemm_nests": int(count_candidates(machine, alike)["nests"].sum()),
    }


MEASURES = {measure.__name__: measure for measure in (first_calls, sweep, quick_loss, unlike, warm)}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](**json.loads(sys.argv[2]))))
