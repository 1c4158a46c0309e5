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
# # How far to trust it
#
# Every part of the simulator that has something to be compared with, compared: RTL, an FPGA-simulated accelerator,
# other tools, a DRAM simulator, measured perplexities. All numbers are computed here, from data that the package
# carries. Each section ends with where the part is *wrong*; the pages under `docs/` say more.

# %%
from importlib import resources

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display

from validation import dram, engines, gemmini
from validation.rtl import arrays, zero_skip
from validation.sparseloop import dstc, eyeriss_v2
from validation.sparseloop.exercises import agreement
from validation.zigzag.compare import compare as compare_zigzag
from workloads.quality.evaluate import by_range, held_out_mixes, held_out_plans

found = []  # (part, against what, how far), for the table at the end

pd.set_option("display.width", 140, "display.max_columns", 20)

# %% [markdown]
# ## Cycles of arrays, against RTL
# Small SystemVerilog arrays, simulated cycle by cycle with Verilator: systolic in three dataflows, dense and 2:4, and
# zero-skipping lanes with their masks (`docs/rtl.md`).


# %%
def stored(name: str) -> pd.DataFrame:
    """A table that ``python -m validation.rtl`` measured."""
    with (resources.files("validation") / "data" / "rtl" / f"own_{name}.csv").open() as file:
        return pd.read_csv(file, dtype={"bits": str, "mask_key": str, "verilator": str})


systolic, lanes = stored("arrays_cycles"), stored("zero_skip_cycles")
masks = zero_skip.restored(stored("zero_skip_masks"))
off = systolic["cycles"] - arrays.predicted(systolic)
lanes_off = lanes["cycles"] - zero_skip.predicted(lanes, masks)
for part, wrong in (("systolic arrays", off), ("zero-skipping lanes", lanes_off)):
    found.append(
        (part, "own RTL", f"{(wrong == 0).sum():,} of {len(wrong):,} rows exact, worst {wrong.abs().max()} cycles off")
    )
    print(*found[-1], sep=", ")
    assert (wrong == 0).mean() > 0.97

# %% [markdown]
# **Where it is wrong.** Lanes that own inputs are exact only if they never wait for an accumulator, which costs an
# adder a lane. With fewer adders they wait, and the simulator does not know:

# %%
shared = stored("scatter_conflicts")
slower = (shared["cycles"] / shared["without_conflicts"])[shared["nnz_total"] > 0].groupby(shared["ports"]).median()
for adders, factor in slower.items():
    print(f"{adders} adders an accumulator: {factor:.2f} x the predicted cycles (median)")
assert slower.iloc[0] > 1.05 > slower.iloc[-1]

# %% [markdown]
# ## A whole accelerator: Gemmini
# 123 given mappings of 38 layers, against its RTL on FireSim. The fit of three latencies never sees the layer that it
# predicts. Timeloop's cycles for the same nests are beside it (`docs/gemmini.md`).

# %%
runs = gemmini.load_runs()
predicted, _ = gemmini.leave_one_shape_out(runs)
table = gemmini.table(runs, predicted)
display(table.round(2).rename_axis("error of cycles, %"))
ours, timeloop = table.loc["array and DMA, shape left out"], table.loc["Timeloop"]
found.append(("cycles of given mappings", "Gemmini RTL", f"{ours['mean']:.1f} % mean, {ours['p90']:.0f} % p90"))
assert ours["mean"] < 0.5 * timeloop["mean"]

# %%
fig, axis = plt.subplots(figsize=(4, 3.4), layout="constrained")
axis.loglog(runs["rtl"], runs["timeloop"], ".", color="0.7", label="Timeloop")
axis.loglog(runs["rtl"], predicted, ".", label="here, shape left out")
axis.axline((1e5, 1e5), (1e6, 1e6), color="black", linewidth=0.6)
axis.set(xlabel="cycles, RTL", ylabel="cycles, predicted")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **Where it is wrong.** Where the array decides, errors are small; where memory does, they are several times larger
# and mostly too few cycles: one cache level stands for two, and TLBs and DRAM pages are not modelled.

# %%
error = 100 * (predicted / runs["rtl"] - 1)
by_array = runs["tiles"] * runs["array"] > 0.8 * runs["rtl"]
for name, rows in (("array decides", by_array), ("memory decides", ~by_array)):
    print(f"{name}: {rows.sum()} rows, mean |error| {error[rows].abs().mean():.1f} %, mean {error[rows].mean():+.1f} %")
assert error[~by_array].abs().mean() > 1.5 * error[by_array].abs().mean()

# %% [markdown]
# ## Word counts and energies, against ZigZag
# ZigZag 3.9.1's 48 runs at ZigZag's own loop order (`docs/zigzag.md`).

# %%
zigzag = compare_zigzag()
rows, moved = zigzag.rows, zigzag.moved
words = (moved["words"] == moved["zigzag_words"]).mean()
same_rules = (100 * (rows["same_rules_pj"] / rows["zigzag_energy_pj"] - 1)).abs().max()
own_rules = 100 * (rows["energy_pj"] / rows["zigzag_energy_pj"] - 1)
print(
    f"word counts equal: {100 * words:.0f} % of {len(moved)}; energy by ZigZag's rules: {same_rules:.1e} % off at most"
)
print(f"energy of what really moves: {own_rules.min():+.2f} .. {own_rules.max():+.2f} %")
found.append(("traffic of given loop orders", "ZigZag 3.9.1", f"{100 * words:.0f} % of {len(moved)} counts equal"))
assert words == 1 and same_rules < 1e-6 and own_rules.abs().max() < 5

# %% [markdown]
# **Where it differs.** By its own rules ZigZag reads the zeros that partial sums start from; we do not. Stalls are
# not compared.

# %% [markdown]
# ## DRAM bandwidth, against a cycle-accurate simulator
# 823 saturated patterns of DRAMsim3; nothing is fitted (`docs/dram.md`).

# %%
patterns = dram.saturated()
dram_error = dram.errors(patterns)
display(dram.summary(patterns, dram_error, ["family"]))
size = 100 * dram_error.abs()
found.append(
    (
        "DRAM bandwidth",
        "DRAMsim3",
        f"{size.median():.1f} % median, {size.quantile(0.9):.1f} % p90, {size.max():.0f} % worst",
    )
)
assert size.median() < 2 and size.quantile(0.9) < 6

# %% [markdown]
# **Where it is wrong.** The worst patterns: mixes whose base addresses are not known, strides that visit few
# channels. And DRAMsim3 is a simulator, not silicon.

# %%
worst = patterns.assign(error_percent=100 * dram_error).loc[size.nlargest(4).index]
display(
    worst[
        ["family", "pattern", "mapping", "run_bytes", "stride", "read_fraction", "efficiency", "error_percent"]
    ].round(2)
)

# %% [markdown]
# ## Sparse accesses, against Sparseloop
# Counts of actual, gated and skipped accesses of its exercises, and two published designs (`docs/sparseloop.md`).

# %%
exercises = agreement()
reproduced = exercises[exercises["status"] == "reproduced"]
element, core = eyeriss_v2.compare(), dstc.compare()
core = core[(core["A_density"] < 1) | (core["B_density"] < 1)]
for design, table in (("Eyeriss v2 element, MobileNet", element), ("dual-side sparse tensor core", core)):
    means = {c.removesuffix("_error_percent"): table[c].abs().mean() for c in table if c.endswith("_error_percent")}
    print(f"{design}: mean |error| " + ", ".join(f"{who} {mean:.1f} %" for who, mean in means.items()))
    found.append(("sparse latency", design, f"{means['ours']:.1f} % mean"))
counts = f"{reproduced['equal'].sum()} of {reproduced['compared'].sum()} equal"
found.append(("gated and skipped accesses", "Sparseloop's exercises", counts))
print(f"{len(reproduced)} designs: {counts}")
assert (reproduced["equal"] == reproduced["compared"]).all()

# %% [markdown]
# **Where it is not shown.** Designs that were not attempted, or only in part, and why:

# %%
with pd.option_context("display.max_colwidth", 160):
    display(exercises[exercises["status"] != "reproduced"][["design", "status", "why", "equal", "compared"]])

# %% [markdown]
# ## The closed form, against the walk of every tile
# GEMMs of LLM layers on every bundled machine, both engines at the same mapping (`docs/simulator.md`).

# %%
gemms = engines.compare()
display(engines.summary(gemms).round(1).rename_axis("analytic over timeline - 1, %"))
apart = gemms["error"] if gemms["error"].abs().max() > 1 else 100 * gemms["error"]
found.append(
    (
        "analytic engine",
        "timeline engine",
        f"{abs(apart.median()):.1f} % median, {apart.min():.0f} to {apart.max():+.0f} %",
    )
)
assert abs(apart.median()) < 0.5 and apart.abs().max() < 20

# %% [markdown]
# **Where it is wrong.** GEMMs of few tiles, bursts, short last tiles. Check a design that matters with
# `engine="timeline"`.

# %%
display(gemms.loc[apart.abs().nlargest(4).index].round(2))

# %% [markdown]
# ## Perplexity, against measurements that the fit has not seen
# 45 recipes (one choice a matrix type), each predicted by a fit without it, and 40 plans (bands of layers) that were
# never fitted (`docs/accuracy.md`). Errors in nats a token: 0.05 nats are 5 % of perplexity.

# %%
mixes, plans = held_out_mixes(), held_out_plans()
display(by_range(mixes).round(3))
display(by_range(plans).round(3))
for name, table in (("recipes", mixes), ("layer-wise plans", plans)):
    last = by_range(table).iloc[-1]
    found.append(
        ("perplexity", f"held-out {name}", f"{last['median_abs_error']:.3f} nats median, rank {last['spearman']:.2f}")
    )
assert by_range(mixes).iloc[-1]["spearman"] > 0.95

# %% [markdown]
# **Where it is wrong.** Errors grow with the damage: beyond five times the dense perplexity the number says "bad",
# not how bad.

# %%
ranges = by_range(mixes)
assert ranges.iloc[2]["mean_abs_error"] > 5 * ranges.iloc[0]["mean_abs_error"]

# %% [markdown]
# ## In one table
# What none of this covers: a chip of this kind in silicon; energies and areas beyond the tables they come from
# (reports say what is scaled or assumed); fused attention; other models' perplexity than SmolLM2-135M's.

# %%
with pd.option_context("display.max_colwidth", 90):
    display(pd.DataFrame(found, columns=["part", "against", "how far"]))
assert len(found) == 11
