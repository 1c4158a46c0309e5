"""One GEMM in SCALE-Sim 3.0.0, several times; runs in SCALE-Sim's own environment, prints one line of JSON.

    python scalesim_runner.py '{"m": 1, "n": 192, "k": 576, "calls": 2, "limit_s": 10}'

Weight stationary, 32 x 32, bandwidth mode CALC (no stalls), no traces written, quiet: its fastest way to cycles.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """[general]
run_name = gemm
[architecture_presets]
ArrayHeight: 32
ArrayWidth: 32
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 128
IfmapOffset: 0
FilterOffset: 100000000
OfmapOffset: 200000000
Dataflow: ws
ReadRequestBuffer: 64
WriteRequestBuffer: 64
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


def main(case: dict) -> dict:
    from scalesim.scale_sim import scalesim

    calls, cycles = [], None
    with tempfile.TemporaryDirectory() as folder:
        config, topology, layout = (Path(folder, name) for name in ("scale.cfg", "gemm.csv", "layout.csv"))
        config.write_text(CONFIG)
        topology.write_text(f"Layer,M,N,K,\ngemm,{case['m']},{case['n']},{case['k']},\n")
        layout.write_text("Layer,\n")
        while len(calls) < case["calls"] and (not calls or sum(calls) + calls[-1] < case["limit_s"]):
            start = time.perf_counter()
            tool = scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(config),
                topology=str(topology),
                layout=str(layout),
                input_type_gemm=True,
            )
            tool.run_scale(top_path=folder)
            calls.append(time.perf_counter() - start)
            _, cycles, stalls, *_ = tool.runner.single_layer_sim_object_list[0].get_compute_report_items()
    return {"calls_s": calls, "cycles": int(cycles), "stall_cycles": int(stalls)}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
