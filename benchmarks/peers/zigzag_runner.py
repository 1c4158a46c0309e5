"""One GEMM in ZigZag 3.9.1, several times; runs in ZigZag's own environment, prints one line of JSON.

    python zigzag_runner.py '{"m": 1, "n": 192, "k": 576, "calls": 2, "limit_s": 10, "count": true}'

Its own machine ``tpu_like`` with its own spatial mapping, latency objective, default search (loma, six loop factors).
``count``: run once more and count the mappings that its cost model evaluates (``extra_s``, in no call's time).
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path


def main(case: dict) -> dict:
    import zigzag
    from zigzag.api import get_hardware_performance_zigzag
    from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage

    logging.disable(logging.CRITICAL)
    inputs = Path(zigzag.__file__).parent / "inputs"
    layer = {
        "id": 0,
        "name": "gemm",
        "operator_type": "Gemm",
        "equation": "O[b][k]+=I[b][c]*W[c][k]",
        "loop_dims": ["B", "C", "K"],
        "loop_sizes": [case["m"], case["k"], case["n"]],
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"I": 0, "W": 0},
    }

    def run(folder: str):
        return get_hardware_performance_zigzag(
            [dict(layer)],
            str(inputs / "hardware" / "tpu_like.yaml"),
            str(inputs / "mapping" / "tpu_like.yaml"),
            opt="latency",
            dump_folder=folder,
            loma_show_progress_bar=False,
        )

    calls = []
    while len(calls) < case["calls"] and (not calls or sum(calls) + calls[-1] < case["limit_s"]):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            _, latency, found = run(folder)
            calls.append(time.perf_counter() - start)
    evaluated, start = 0, time.perf_counter()
    if case["count"]:
        plain = CostModelStage.run

        def counted(self):
            nonlocal evaluated
            evaluated += 1
            return plain(self)

        CostModelStage.run = counted
        with tempfile.TemporaryDirectory() as folder:
            run(folder)
    best = found[0][1][0][0]
    return {
        "calls_s": calls,
        "extra_s": time.perf_counter() - start,
        "cycles": float(latency),
        "ideal_cycles": float(best.ideal_cycle),
        "mappings": evaluated,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
