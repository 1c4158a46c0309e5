# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first simulation, and how to read its report
#
# A machine and a workload go in, a report comes out. This notebook reads one report line by line, recomputes each
# line, and then asks what would make the run faster. Every statement about a number is an `assert`.

# %%
import numpy as np
from IPython.display import display

import sparchitect as sp

# %% [markdown]
# The machine is a bundled one: a 32 × 32 weight-stationary systolic array at 7 nm, four buffers, four LPDDR4
# channels. The workload is one matrix product of an LLM layer: 128 tokens, 576 inputs, 1,536 outputs, all numbers 8
# bits wide.

# %%
machine = sp.accelerator("dense_ws")
m, k, n = 128, 576, 1536
report = sp.simulate(machine, sp.gemm(m=m, k=k, n=n, bits=8))
print(report)

# %% [markdown]
# ## Line 2: time, energy, area
# Cycles over the clock are the seconds; energy is given with and without leakage, because leakage rests on an
# assumption.

# %%
print(f"{report.cycles:,} cycles / {machine.clock_ghz} GHz = {report.seconds * 1e6:.1f} us")
print(f"{report.energy_pj * 1e-6:.1f} uJ, {report.energy_without_leakage_pj * 1e-6:.1f} uJ without leakage")
print(f"{report.area_mm2:.3f} mm2, of which the DRAM interface {report.area['dram_phy']:.3f} mm2")
assert np.isclose(report.seconds, report.cycles / (machine.clock_ghz * 1e9))
assert np.isclose(sum(report.energy.values()), report.energy_pj)
assert np.isclose(sum(report.area.values()), report.area_mm2)

# %% [markdown]
# ## `compute:` the roofline
# Two operations a multiply-accumulate. *Intensity* is operations per byte of DRAM; the machine *balances* where its
# peak operations and its peak bytes take equally long. Right of that point the array is the roof, left of it the
# DRAM.

# %%
macs = m * k * n
peak_ops = 2 * report.peak_macs_per_cycle * machine.clock_ghz * 1e9
dram_bytes_per_s = 25.6e9  # four channels of 6.4 GB/s
intensity, balance = 2 * macs / report.dram_bytes, peak_ops / dram_bytes_per_s
busy = macs / (report.peak_macs_per_cycle * report.cycles)
print(f"{2 * macs / report.seconds * 1e-12:.3f} of {peak_ops * 1e-12:.3f} TOPS, {100 * busy:.1f} % busy")
print(f"{intensity:.1f} op/B against a balance of {balance:.1f} op/B")
assert intensity > balance, "this product is compute bound"
assert np.isclose(busy, report.utilization, rtol=1e-4)
assert f"machine balances at {balance:.4g}" in " ".join(str(report).split())
display(sp.figure("roofline", report))

# %% [markdown]
# ## `cycles:` where every cycle went
# Each cycle has one cause, so the shares add up to all of them:
#
# | cause | the array waits because |
# |---|---|
# | `compute` | it does not wait |
# | `edge`, `imbalance` | the last tile is small; one lane has more nonzeros than the others |
# | `fill_drain` | operands enter and results leave an array that is not yet full or already empty |
# | `<level>_bandwidth`, `network_bandwidth` | a buffer or the wires between arrays are too slow |
# | `decode` | compressed weights are unpacked too slowly |
# | `dram_bandwidth`, `dram_latency` | bytes from outside are late |
# | `vector` | softmax, norms, activation functions run on the vector unit |
# | `dependency` | the first tile must arrive before work begins, the last result leave after it ends |

# %%
for cause, cycles in sorted(report.stalls.items(), key=lambda item: -item[1]):
    if cycles:
        print(f"{cause:<24} {cycles:>12,.0f} cycles  {100 * cycles / report.cycles:5.1f} %")
assert abs(sum(report.stalls.values()) - report.cycles) < 1
assert np.isclose(report.stalls["compute"], macs / report.peak_macs_per_cycle)

# %% [markdown]
# ## `moved:` bytes, level by level
# DRAM must at least deliver weights and inputs once and take the outputs once. What is above that is traffic that the
# mapping chose to pay.

# %%
compulsory = k * n + m * k + m * n
print(f"DRAM moved {report.dram_bytes:,.0f} B, the least possible is {compulsory:,} B")
assert report.dram_bytes >= compulsory

# %% [markdown]
# ## `mapping:` why
# The loop nest says it: which operand is fetched again, from where, how often. Read from the outside in; a level's
# line names the tiles it holds.

# %%
print(report.mapping)

# %% [markdown]
# Which operands move again follows from the nest, and the bytes of the report are those of the nest.

# %%
row = report.table.iloc[0]
again = (report.dram_bytes - compulsory) / (m * k)
print(f"mapping in one line: {row['mapping']}")
print(f"beyond the least possible: the inputs' {m * k:,} B another {again:.0f} times")
assert again == round(again), "the excess is whole reloads of the inputs"

# %% [markdown]
# ## `energy:` and `area:`
# The array is a small part of either: fetching from DRAM and the DRAM interface dominate an edge chip.

# %%
display(sp.figure("energy", report), sp.figure("area", report))
assert report.energy["dram"] > report.energy["array"]
assert report.area["dram_phy"] > report.area["array"]

# %% [markdown]
# ## `notes:` what is assumed
# Prices that are scaled, estimated or assumed say so in every report, and the report knows which version and machine
# made it.

# %%
for note in report.notes:
    print("-", note)
print({key: report.provenance[key] for key in ("version", "config_hash")})
assert report.notes

# %% [markdown]
# ## What would help?
# The line `limit:` names the largest cause and the single changes that shorten the run most. It is not a rule of
# thumb: each change was mapped anew. So doing it must give the number that was promised.

# %%
doubled = sp.simulate(machine.override({"array.rows": 64}), sp.gemm(m=m, k=k, n=n))
left = doubled.cycles / report.cycles
print(f"64 rows instead of 32: {left:.2f} of the time")
assert f"array.rows 32 -> 64: {left:.2f} of the time" in " ".join(str(report).split())

# %% [markdown]
# Twice the array is not half the time: something else begins to limit.

# %%
largest = max(doubled.stalls, key=lambda cause: doubled.stalls[cause] if cause != "compute" else 0)
display(sp.figure("latency", [report, doubled], labels=["32 rows", "64 rows"]))
print(f"after compute, the largest cause is now {largest}: {100 * doubled.stalls[largest] / doubled.cycles:.0f} %")
assert left > 0.5

# %% [markdown]
# ## A whole model
# SmolLM2-135M, pruned to half by Wanda, on zero-skipping lanes: 128 tokens of a prompt, and one decode step. The
# trace holds 210 real masks.

# %%
lanes = sp.accelerator("sparse_lanes")
prompt = sp.simulate(lanes, sp.load_trace("smollm2_135m_wanda_50"))
step = sp.simulate(lanes, sp.load_trace("smollm2_135m_wanda_50_decode"))
print(step)

# %% [markdown]
# A decode step reads every weight for one token. Its array is hardly used, and DRAM is busy nearly all the time: the
# label `edge` says that a tile of one token fills one of 32 columns, but filling them would not help, because DRAM
# comes next.

# %%
peak_bytes = step.seconds * dram_bytes_per_s
print(f"prompt: {100 * prompt.utilization:.0f} % of the array busy; step: {100 * step.utilization:.0f} %")
print(f"step: DRAM in use {100 * step.dram_bytes / peak_bytes:.0f} % of the time")
assert step.utilization < 0.05 < prompt.utilization
assert step.dram_bytes / peak_bytes > 0.8

# %% [markdown]
# ## One what-if
# `override` changes fields by their path in the machine file. More DRAM channels for the decode step:

# %%
steps = sp.sweep(lanes, sp.load_trace("smollm2_135m_wanda_50_decode"), {"dram.channels": [1, 2, 4, 8]})
steps = steps.assign(ms=steps["seconds"] * 1e3, mJ=steps["energy_pj"] * 1e-9)
display(steps[["dram.channels", "ms", "mJ", "area_mm2"]].round(3))
again = sp.simulate(lanes.override({"dram.channels": 8}), sp.load_trace("smollm2_135m_wanda_50_decode"))
assert np.isclose(again.seconds, steps["seconds"].iloc[-1]), "a sweep's row is that design's report"
assert steps["seconds"].is_monotonic_decreasing and steps["area_mm2"].is_monotonic_increasing

# %% [markdown]
# The first channels halve the time; the last one does not, and it costs area. Where a knob stops paying is what a
# sweep shows.

# %%
gain = (steps["ms"].shift() / steps["ms"]).dropna()
print("gain of each doubling:", ", ".join(f"{g:.2f}" for g in gain))
assert gain.iloc[0] > 1.8 > gain.iloc[-1]

# %% [markdown]
# ## The other engine
# The report came from closed forms, which take all tiles of an op as alike. The second engine walks every tile at its
# true size; it is the reference for the first. Here K was cut, and finished sums leave the accumulator with the last
# tile along K only: a burst through a buffer that is nearly always busy. The closed form spreads it evenly and reads
# a little fast. With 128 inputs K is one tile, all tiles are alike, and so are the engines.


# %%
def engines(inputs: int) -> tuple[int, int]:
    """Cycles of the product by either engine, at the mapping that the search chose."""
    work = sp.gemm(m=m, k=inputs, n=n)
    return sp.simulate(machine, work).cycles, sp.simulate(machine, work, engine="timeline").cycles


for inputs in (576, 128):
    closed, walked = engines(inputs)
    print(f"k = {inputs}: analytic {closed:,} cycles, timeline {walked:,} cycles, {100 * (closed / walked - 1):+.2f} %")
    assert abs(closed / walked - 1) < (1e-4 if inputs == 128 else 0.05)

# %% [markdown]
# The walk can be looked at: the first tiles here, all of them in ui.perfetto.dev.

# %%
walk = sp.simulate(machine, sp.gemm(m=m, k=k, n=n), engine="timeline")
display(sp.figure("gantt", walk))
path = walk.save_perfetto("run.json.gz")
print(f"{path}: {path.stat().st_size:,} B")
