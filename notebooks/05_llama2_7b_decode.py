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
# # What if: decoding Llama-2-7B
#
# Three questions before anything is built. HBM, or more SRAM? 2:4, or unstructured? Weights of eight bits, or of
# four? Weights of this model are not at hand: its shapes are exact, its masks are drawn at random, and its
# perplexities are published ones. All three are labelled as what they are.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import sparchitect as sp
from sim.sparsity.profile import profile
from workloads import zoo
from workloads.published import perplexity, table
from workloads.quantise.choice import everywhere
from workloads.quantise.trace import average_bits, quantised

MODEL, CONTEXT, BATCHES = "llama2_7b", 1024, (1, 4, 16, 64)
config = zoo.config(MODEL)

pd.set_option("display.width", 140, "display.max_columns", 20)

# %% [markdown]
# ## The work
# One decoder layer, one token a sequence, 1,024 cached positions, all numbers 8 bits wide. The model is 32 such
# layers; embedding and head, 4 % of the weights, are left out.
#
# Half of the weights are zero in two ways: anywhere, or two of every four inputs. Drawn masks are as even as chance
# makes them; real ones are more even for some lanes and less for others, so what lanes reach below is a guess. Bytes do
# not depend on where the zeros are.

# %%
rng = np.random.default_rng(0)
PAIRS = np.array([[i in pair for i in range(4)] for pair in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]])


def anywhere(outputs: int, inputs: int) -> np.ndarray:
    """Bool out x in, each kept with probability one half."""
    return rng.random((outputs, inputs), dtype=np.float32) < 0.5


def two_of_four(outputs: int, inputs: int) -> np.ndarray:
    """Bool out x in, two of every four consecutive inputs kept."""
    return PAIRS[rng.integers(0, len(PAIRS), (outputs, inputs // 4), dtype=np.int8)].reshape(outputs, inputs)


first = sp.llm(MODEL, phase="decode", context=CONTEXT, layers=1).ops.set_index("matrix_type")
shapes = {t: (int(first.loc[t, "n"]), int(first.loc[t, "k"])) for t in first.index if t.startswith(("attn_q", "ffn_"))}
shapes |= dict.fromkeys(("attn_k", "attn_v", "attn_output"), shapes["attn_q"])
drawn = {}
for name, draw in (("50 %", anywhere), ("2:4", two_of_four)):
    by_shape = {shape: profile(draw(*shape)) for shape in set(shapes.values())}
    drawn[name] = {t: by_shape[shape] for t, shape in shapes.items()}
    print(name, {shape: round(p.density, 4) for shape, p in by_shape.items()})
weights = sum(n * k for n, k in shapes.values())
print(f"{weights * 1e-6:.0f} M weights a layer, {config.layers} layers: {weights * config.layers * 1e-9:.2f} G")
assert 0.95 < weights * config.layers / 6.738e9 < 1


# %%
def work(batch: int, zeros: str = "dense", bits: int = 8) -> sp.Trace:
    """One layer's decode step; ``zeros``: dense, 50 % or 2:4; 4 bits: a 16-bit scale for 128 inputs."""
    chosen = drawn.get(zeros)
    trace = sp.llm(
        MODEL, phase="decode", batch=batch, context=CONTEXT, layers=1,
        sparsity=(lambda layer, t: chosen[t]) if chosen else None,
    )  # fmt: skip
    trace.ops["sparsity_label"] = trace.ops["sparsity_label"].replace("mask", f"random mask, {zeros}, seed 0")
    if bits == 4:
        choices = {key: c for key, c in everywhere(config, "rtn:bits=4,group=128").items() if key[0] == 0}
        trace = quantised(trace, choices)
    return trace


print("bits a weight, without those that say where zeros are:")
for zeros, bits in (("dense", 8), ("50 %", 8), ("2:4", 8), ("dense", 4), ("50 %", 4)):
    print(f"W{bits} {zeros:<5}: {average_bits(work(1, zeros, bits)):.3f}")

# %% [markdown]
# ## The machine
# A systolic array whose 512 columns take 512 weights a cycle, so that it can keep up with HBM; a small array would
# itself be the limit. 1 MiB of SRAM, eight channels of LPDDR4.

# %%
ours = {
    "array.cols": 512,
    "memory.shared.capacity_kib": 1024,
    "memory.shared.bandwidth_gb_per_s": 819.2,
    "memory.shared.banks": 64,
    "memory.weight_buffer.capacity_kib": 256,
    "memory.weight_buffer.bandwidth_gb_per_s": 819.2,
    "memory.weight_buffer.banks": 64,
    "memory.accumulator.capacity_kib": 512,
    "memory.accumulator.bandwidth_gb_per_s": 3276.8,
    "memory.accumulator.banks": 128,
    "dram.channels": 8,
    "vector.lanes": 256,
    "vector.special_function_lanes": 32,
}
dense = sp.accelerator("dense_ws").override(ours)
narrow = sp.simulate(dense.override({"array.cols": 32, "dram.standard": "hbm2"}), work(1))
step = sp.simulate(dense, work(1))
print(step)
print(f"with 32 columns and HBM the largest cause is {max(narrow.stalls, key=narrow.stalls.get)}")
assert max(narrow.stalls, key=narrow.stalls.get) == "fill_drain", "an array that loads 32 weights a cycle wastes HBM"

# %% [markdown]
# ## HBM, or more SRAM?
# Every step reads all weights once. A buffer helps only if it holds them from one step to the next.


# %%
def row(label: str, machine: sp.Accelerator, batch: int, zeros: str = "dense", bits: int = 8) -> dict:
    """Time and energy a token of the whole model, area, and the share of the time that DRAM's bandwidth adds."""
    report = sp.simulate(machine, work(batch, zeros, bits))
    return {
        "design": label,
        "batch": batch,
        "ms a step": report.seconds * config.layers * 1e3,
        "tokens/s": batch / (report.seconds * config.layers),
        "mJ a token": report.energy_pj * config.layers * 1e-9 / batch,
        "mm2": report.area_mm2,
        "DRAM waits, %": 100 * report.stalls["dram_bandwidth"] / report.cycles,
    }


memories = {
    "LPDDR4 x8, 1 MiB": dense,
    "LPDDR4 x8, 8 MiB": dense.override({"memory.shared.capacity_kib": 8 << 10}),
    "LPDDR4 x8, 32 MiB": dense.override({"memory.shared.capacity_kib": 32 << 10}),
    "HBM2 x8, 1 MiB": dense.override({"dram.standard": "hbm2"}),
}
memory = pd.DataFrame([row(label, machine, batch) for label, machine in memories.items() for batch in BATCHES])
times = memory.pivot(index="design", columns="batch", values="ms a step").loc[list(memories)]
display(memory[memory["batch"] == 1].round(2))
display(times.round(1).rename_axis("ms a step, by batch"))
sram, hbm = times.iloc[0] / times.iloc[2], times.iloc[0] / times.iloc[3]
areas = memory.drop_duplicates("design").set_index("design")["mm2"].loc[list(memories)]
added = areas - areas.iloc[0]
print(f"32 x the SRAM: {sram[1]:.2f} x at batch 1, {sram[64]:.2f} x at batch 64, for {added.iloc[2]:.1f} mm2 more")
print(f"HBM:           {hbm[1]:.2f} x at batch 1, {hbm[64]:.2f} x at batch 64, for {added.iloc[3]:.1f} mm2 more")
assert sram[1] < 1.05 and hbm[1] > 3
assert weights > (32 << 20), "one layer alone is larger than the largest buffer tried"

# %%
rates = memory.pivot(index="batch", columns="design", values="tokens/s")[list(memories)]
fig, axis = plt.subplots(figsize=(4.8, 3), layout="constrained")
for (label, values), marker in zip(rates.items(), "os^D", strict=True):
    axis.loglog(values.index, values, marker + "-", ms=4, label=label)
axis.set(xlabel="batch (sequences)", ylabel="tokens a second", xticks=BATCHES, xticklabels=BATCHES)
axis.minorticks_off()
axis.legend(frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# ## 2:4, or unstructured?
# Three machines with the same number of multipliers and HBM. *Bitmap*: the dense array, weights stored as a bitmap,
# zeros filled in front of it. *2:4*: an array that stores and multiplies two of four. *Lanes*: skips any zero.

# %%
hbm2 = {**ours, "dram.standard": "hbm2"}
lanes = {key: value for key, value in hbm2.items() if not key.startswith("array")} | {
    "array.rows": 512,
    "memory.input_buffer.bandwidth_gb_per_s": 819.2,
    "memory.input_buffer.banks": 64,
}
machines = {
    "dense": (sp.accelerator("dense_ws").override(hbm2), "dense"),
    "bitmap": (sp.accelerator("dense_ws").override({**hbm2, "sparsity.format": "bitmap"}), "50 %"),
    "2:4": (sp.accelerator("nm_24").override(hbm2), "2:4"),
    "lanes": (sp.accelerator("sparse_lanes").override(lanes), "50 %"),
}
sparse = pd.DataFrame([row(label, m, batch, zeros) for label, (m, zeros) in machines.items() for batch in BATCHES])
steps = sparse.pivot(index="design", columns="batch", values="ms a step").loc[list(machines)]
gain = steps.loc["dense"] / steps
display(steps.round(2).rename_axis("ms a step, by batch"))
display(gain.round(2).rename_axis("speed-up over dense, by batch"))
display(sparse[sparse["batch"] == 1].round(2))
bits = {"bitmap": 8 / 2 + 1, "2:4": (2 * 8 + 2 * 2) / 4}
print(f"bits a weight: bitmap {bits['bitmap']:g}, 2:4 {bits['2:4']:g}")
assert bits["bitmap"] == bits["2:4"]

# %% [markdown]
# What each costs in quality is published. The label says where; nothing is interpolated here.

# %%
quality = {
    "dense": perplexity(MODEL, "dense", sequence_length=4096, source="locuslab/wanda"),
    "Wanda 50 %": perplexity(MODEL, "wanda", "unstructured", 0.5, sequence_length=4096, source="locuslab/wanda"),
    "Wanda 2:4": perplexity(MODEL, "wanda", "2:4", sequence_length=4096, source="locuslab/wanda"),
    "SparseGPT 2:4": perplexity(MODEL, "sparsegpt", "2:4", sequence_length=4096, source="locuslab/wanda"),
    "MaskLLM 2:4 (trained)": perplexity(MODEL, "MaskLLM(learned)", "2:4", sequence_length=4096),
}
for name, number in quality.items():
    print(f"{name:<22} {number}")
ppl = {name: number.ppl for name, number in quality.items()}
assert all(number.label == "published" for number in quality.values())
assert ppl["dense"] < ppl["Wanda 50 %"] < ppl["MaskLLM 2:4 (trained)"] < ppl["SparseGPT 2:4"] < ppl["Wanda 2:4"]

# %% [markdown]
# ## Eight bits, or four?
# Four-bit weights with a 16-bit scale for every 128 inputs, multiplied by the same 8-bit multipliers.

# %%
options = {
    "W8 dense": (*machines["dense"], 8),
    "W8 50 % bitmap": (*machines["bitmap"], 8),
    "W8 2:4": (*machines["2:4"], 8),
    "W4 dense": (*machines["dense"], 4),
    "W4 50 % bitmap": (*machines["bitmap"], 4),
}
widths = pd.DataFrame(
    [row(label, machine, batch, *rest) for label, (machine, *rest) in options.items() for batch in (1, 64)]
)
both = widths.pivot(index="design", columns="batch", values=["ms a step", "mJ a token", "DRAM waits, %"])
display(both.loc[list(options)].round(2))
ms = widths.pivot(index="design", columns="batch", values="ms a step").loc[list(options)]
print("at batch 1, over W8 dense: " + ", ".join(f"{d} {ms.loc['W8 dense', 1] / ms.loc[d, 1]:.2f} x" for d in options))

# %% [markdown]
# Four bits and half of the weights together are no faster than four bits alone. The last columns say why: the array
# hardly waits for DRAM any more. It still takes every weight, zeros too, 512 a cycle. Twice the columns show what the
# bytes are worth.

# %%
wide = {"array.cols": 1024}
wider = {d: row(d, m.override(wide), 1, *rest)["ms a step"] for d, (m, *rest) in options.items() if d.startswith("W4")}
for design, time in wider.items():
    print(f"{design:<15} 512 columns {ms.loc[design, 1]:.1f} ms, 1,024 columns {time:.1f} ms")
waits = widths.pivot(index="design", columns="batch", values="DRAM waits, %")[1]
assert waits["W4 50 % bitmap"] < 5 < 30 < waits["W8 dense"]
assert abs(ms.loc["W4 50 % bitmap", 1] / ms.loc["W4 dense", 1] - 1) < 0.05
assert wider["W4 50 % bitmap"] < 0.9 * wider["W4 dense"] < ms.loc["W4 dense", 1]

# %% [markdown]
# Is there a published perplexity for this model at four bits? The table is asked, not guessed.

# %%
known = table()
four = known[known["model"].str.contains("LLaMA-2-7B") & (known["weight_bits"] < 16)]
print(
    "published rows with fewer than 16 bits:",
    len(four),
    "- the quality of W4 and W8 is unknown here" if four.empty else "",
)

# %% [markdown]
# ## What follows
# Sentences made from the numbers above, so that they cannot say anything else.

# %%
within = {"W8 dense": "dense", "W8 50 % bitmap": "Wanda 50 %", "W8 2:4": "SparseGPT 2:4"}
allowed = [d for d, q in within.items() if ppl[q] <= 1.3 * ppl["dense"]]
fastest = ms.loc[allowed, 1].idxmin()
kv_share = 2 * CONTEXT * config.kv_heads * config.head_dim * 64 / weights
faster = ms.loc["W8 dense", 1] / ms[1]
both_wide = ms.loc["W8 dense", 1] / wider["W4 50 % bitmap"]
conclusions = [
    f"Buy bandwidth: HBM decodes {hbm[1]:.1f} x as fast at batch 1, 32 times the SRAM {sram[1]:.2f} x.",
    f"Bitmap and 2:4 move the same bytes: {gain.loc['bitmap', 1]:.2f} x and {gain.loc['2:4', 1]:.2f} x at batch 1.",
    f"Without training, zeros in 2:4 cost perplexity {ppl['SparseGPT 2:4']:.2f}, anywhere {ppl['Wanda 50 %']:.2f}.",
    f"At batch 64 the KV cache is {kv_share:.1f} x a layer's 8-bit weights: the bitmap is worth "
    f"{gain.loc['bitmap', 64]:.2f} x there.",
    f"Four bits dense are {faster['W4 dense']:.2f} x, half of the weights at eight bits "
    f"{faster['W8 50 % bitmap']:.2f} x, both {faster['W4 50 % bitmap']:.2f} x, on twice the columns {both_wide:.2f} x.",
    f"Of what has a published perplexity (16-bit weights) within 1.3 x of dense, {fastest} is fastest at batch 1.",
]
print("\n".join(f"- {sentence}" for sentence in conclusions))
assert abs(gain.loc["bitmap", 1] / gain.loc["2:4", 1] - 1) < 0.1
assert gain.loc["bitmap", 64] < gain.loc["bitmap", 1] and kv_share > 1
assert ms.loc["W4 dense", 1] < ms.loc["W8 50 % bitmap", 1] < ms.loc["W8 dense", 1]

# %% [markdown]
# Random masks, one layer, published perplexities of 16-bit weights and of one method each: good enough to choose what
# to study next, not to quote as a result.

# %%
for note in sp.simulate(machines["lanes"][0], work(1, "50 %")).notes:
    if "mask" in note or "estimate" in note:
        print("-", note)
