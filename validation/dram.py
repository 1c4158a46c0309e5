"""The DRAM models beside a cycle-accurate simulator (DRAMsim3 2021-04-05), over every saturated row of its runs.

    python -m validation.dram             # closed form: error per pattern, map and device family; latency
    python -m validation.dram --leave-out # and its sizes chosen without each device family in turn
    python -m validation.dram --counted   # and the command-by-command scheduler on the same rows (a minute)

Truth: ``validation/data/tech/dram_efficiency.csv`` and ``dram_load_latency.csv``. One simulator is not silicon. Its
mixes and copies run from base addresses that are not in the file, so whether two of their streams meet in one bank is
not known here: the closed form takes the chance of it, the scheduler the mean over four draws.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from sim.memory.dram import load_ratio
from sim.memory.dram_controller import achieved
from sim.memory.dram_efficiency import DEFAULT_CONTROLLER, Controller, efficiency
from sim.memory.dram_timing import TIMINGS

_DATA = Path(__file__).parent / "data" / "tech"

DEVICES = {
    "DDR4-3200": "ddr4_3200",
    "DDR4-3200-1R": "ddr4_3200_1r",
    "DDR4-2400": "ddr4_2400",
    "LPDDR4-3200-x16": "lpddr4_3200",
    "LPDDR4-2400x64": "lpddr4_2400_x64",
    "LPDDR3-1866x64": "lpddr3_1866_x64",
    "HBM2-1ch": "hbm2",
    "HBM2-8ch": "hbm2",
    "HBM1-1ch": "hbm1",
    "HBM1-8ch": "hbm1",
    "GDDR6-12Gbps-x16": "gddr6_12gbps_x16",
    "GDDR6-shipped": "gddr6_shipped",
}
"""Device of the truth file to device of ``sim/memory/data/dram_timing.csv``."""
ADDRESS_MAPS = {"bgih": "bank_group", "shiph": "page", "ship": "page_plain"}
PATTERNS = {"seq": "sequential", "mix": "mix", "copy": "copy", "rand": "random"}
_WHOLE_STREAM_BYTES = 1 << 20  # a sequential stream has no run length
_WRITE_FRACTIONS = np.array([0, 1 / 3, 1 / 2, 1])
CONTROLLERS = tuple(
    Controller(fifo=fifo, read_queue=reads, write_buffer=writes)
    for fifo in (32, 64, 128)
    for reads in (16, 32, 64)
    for writes in (16, 32, 64)
)
"""Sizes half and twice those DRAMsim3 was run with: what a fit would choose from."""

Model = Callable[[pd.Series], float]


@functools.cache
def _rows() -> pd.DataFrame:
    rows = pd.read_csv(_DATA / "dram_efficiency.csv").rename(columns={"offered_load_pct(0=saturating)": "offered_pct"})
    rows["family"] = rows["device"].str.extract(r"^([A-Z]+\d)", expand=False).str.replace(r"^HBM\d", "HBM", regex=True)
    asked = 1 - rows["read_fraction"].to_numpy()
    rows["write_fraction"] = _WRITE_FRACTIONS[np.abs(asked[:, None] - _WRITE_FRACTIONS).argmin(1)]
    return rows


def saturated() -> pd.DataFrame:
    """The truth's saturated rows, with ``family`` and ``write_fraction`` (as asked for, not as sampled)."""
    rows = _rows()
    return rows[rows["offered_pct"] == 0].reset_index(drop=True)


def _pattern(row: pd.Series) -> dict[str, object]:
    return {
        "run_bytes": row["run_bytes"] or _WHOLE_STREAM_BYTES,
        "write_fraction": row["write_fraction"],
        "address_map": ADDRESS_MAPS[row["mapping"]],
        "channels": row["channels"],
        "locality": PATTERNS.get(row["pattern"], int(row["stride"])),
    }


def closed_form(row: pd.Series, controller: Controller = DEFAULT_CONTROLLER) -> float:
    """Efficiency of a truth row by the closed form."""
    return float(efficiency(TIMINGS[DEVICES[row["device"]]], controller=controller, **_pattern(row)))


def counted(row: pd.Series) -> float:
    """Efficiency of a truth row by the scheduler; of streams, whose base addresses are not known, the mean of four."""
    seeds = range(4 if row["pattern"] in ("mix", "copy") else 1)
    device = TIMINGS[DEVICES[row["device"]]]
    return float(np.mean([achieved(device, seed=seed, **_pattern(row)).efficiency for seed in seeds]))


def errors(rows: pd.DataFrame, model: Model = closed_form) -> pd.Series:
    """Relative error of a model on each row."""
    return rows.apply(model, axis=1) / rows["efficiency"] - 1


def summary(rows: pd.DataFrame, error: pd.Series, by: list[str]) -> pd.DataFrame:
    """Rows, median, mean, 90th percentile and largest absolute error in per cent for each group, and for all."""
    size = 100 * error.abs()
    groups = [(key, part) for key, part in size.groupby([rows[name] for name in by])] + [(("all",), size)]
    return pd.DataFrame(
        [
            dict(zip(by, key, strict=False))
            | {
                "rows": len(part),
                "median %": part.median(),
                "mean %": part.mean(),
                "p90 %": part.quantile(0.9),
                "max %": part.max(),
            }
            for key, part in groups
        ]
    ).round(1)


def leave_family_out() -> pd.DataFrame:
    """The controller that fits all families but one best: the error on that one with it, and with the known sizes."""
    rows = saturated()
    error = {size: errors(rows, functools.partial(closed_form, controller=size)).abs() for size in CONTROLLERS}
    found = []
    for family in sorted(rows["family"].unique()):
        out = rows["family"] == family
        chosen = min(CONTROLLERS, key=lambda size, kept=~out: error[size][kept].mean())
        row = {"left out": family, "fifo": chosen.fifo, "reads": chosen.read_queue, "writes": chosen.write_buffer}
        for name, size in (("chosen", chosen), ("known", DEFAULT_CONTROLLER)):
            left = 100 * error[size][out]
            row |= {
                f"median % {name}": left.median(),
                f"mean % {name}": left.mean(),
                f"p90 % {name}": left.quantile(0.9),
            }
        found.append(row)
    return pd.DataFrame(found).round(1)


def unloaded_latency() -> pd.DataFrame:
    """Low-load rows (5 % offered, reads): the latency sum at the row's own hit rate beside the simulator, ns."""
    rows = _rows()
    rows = rows[(rows["offered_pct"] == 5) & (rows["write_fraction"] == 0)].reset_index(drop=True)
    model = [TIMINGS[DEVICES[d]].unloaded_read_ns(h) for d, h in zip(rows["device"], rows["row_hit_rate"], strict=True)]
    return rows.assign(model_ns=model, error=np.array(model) / rows["avg_latency_ns"] - 1)


def loaded_latency() -> pd.DataFrame:
    """Rows under load: the latency over its 5 % value, by the product's table and by the simulator."""
    rows = pd.read_csv(_DATA / "dram_load_latency.csv", na_values=["None"]).dropna(subset=["latency_at_5pct_ns"])
    model = load_ratio(rows["utilisation_of_saturated_bw"].to_numpy())
    truth = rows["avg_read_latency_ns"] / rows["latency_at_5pct_ns"]
    return rows.assign(model_ratio=model, ratio=truth, error=model / truth - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leave-out", action="store_true", help="choose the controller's sizes without each family")
    parser.add_argument("--counted", action="store_true", help="run the scheduler on the same rows too")
    asked = parser.parse_args()
    rows = saturated()
    models = {"Closed form": closed_form}
    if asked.counted:
        models["Scheduler"] = counted
    for name, model in models.items():
        error = errors(rows, model)
        print(f"{name}: achieved bandwidth, error against DRAMsim3\n")
        print(_text(summary(rows, error, ["pattern", "mapping", "family"])))
        print(_text(summary(rows, error, ["device"])))
    if asked.leave_out:
        print("Controller sizes chosen without a family, error on it\n")
        print(_text(leave_family_out()))
    print("Read latency, error against DRAMsim3\n")
    for name, found in {"unloaded": unloaded_latency(), "loaded, over its 5 % value": loaded_latency()}.items():
        print(f"{name}\n{_text(summary(found, found['error'], ['device']))}")


def _text(table: pd.DataFrame) -> str:
    return table.fillna("").to_string(index=False) + "\n"


if __name__ == "__main__":
    main()
