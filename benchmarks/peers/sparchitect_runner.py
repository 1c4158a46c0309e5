"""One GEMM in Sparchitect, several times; prints one line of JSON, as the runners of the peers do.

    python sparchitect_runner.py '{"m": 1, "n": 192, "k": 576, "calls": 20, "machine": "dense_ws"}'

A call reads the machine file, makes the GEMM, searches its mapping and writes the whole report, as a peer's call does.
Calls of the analytic engine; then, in no call's time (``extra_s``), as many of the timeline engine and one count of the
mappings.
"""

import json
import sys
import time
from pathlib import Path


def main(case: dict) -> dict:
    import sparchitect as sp

    sizes = {axis: case[axis] for axis in "mnk"}

    def timed(engine: str) -> tuple[float, float, float]:
        start = time.perf_counter()
        machine, trace = sp.accelerator(case["machine"]), sp.gemm(**sizes)
        ready = time.perf_counter()
        report = sp.simulate(machine, trace, engine=engine)
        cycles = float(report.cycles)
        done = time.perf_counter()
        report.to_json()
        return time.perf_counter() - start, done - ready, cycles

    calls = [timed("analytic") for _ in range(case["calls"])]
    start = time.perf_counter()
    walks = [timed("timeline") for _ in range(1 + case["calls"])][1:]
    from candidate_count import count_candidates

    mappings = count_candidates(sp.accelerator(case["machine"]), sp.gemm(**sizes))
    return {
        "calls_s": [seconds for seconds, _, _ in calls],
        "simulate_s": [seconds for _, seconds, _ in calls[1:]],
        "timeline_s": [seconds for seconds, _, _ in walks],
        "extra_s": time.perf_counter() - start,
        "cycles": calls[0][2],
        "timeline_cycles": walks[0][2],
        "mappings": int(mappings["nests"].sum()),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    print(json.dumps(main(json.loads(sys.argv[1]))))
