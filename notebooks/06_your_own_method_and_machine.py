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
# # Your own pruning method, your own machine
#
# A pruning method is one class, a machine is one page of YAML. Both are written here from nothing, checked, run on a
# real layer, and swept together.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import sparchitect as sp
from sim.sparsity import lanes
from workloads.calibration import bundled_windows, calibrate
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
from workloads.prune import prune_model
from workloads.pruning import Pattern, Pruned, PruningMethod, method, methods, parse_pattern, register
from workloads.pruning.hessian import output_error
from workloads.pruning.select import choose

pd.set_option("display.width", 140, "display.max_columns", 20)

# %% [markdown]
# ## A method
# Wanda keeps as many weights of every output, but inputs with large activations keep nearly all and others few: lanes
# that own inputs wait for the fullest. *EvenWanda* scales Wanda's scores until every input counts as much as every
# other (rows and columns of the scores to a mean of one, in turns, as Sinkhorn balances matrices), and then chooses
# like Wanda. An experiment, not a published method.


# %%
@register
class EvenWanda(PruningMethod):
    """Wanda's score |w| · ‖x‖, balanced over outputs and inputs, compared within each output."""

    name = "even_wanda"
    needs = "diagonal"  # of the Hessian XᵀX of the layer's inputs
    turns = 4

    def prune(self, weight: np.ndarray, hessian: np.ndarray | None, tokens: int, pattern: Pattern) -> Pruned:
        scores = np.abs(weight) * np.sqrt(np.diagonal(hessian) / np.float32(tokens))
        for _ in range(self.turns):
            for axis in (0, 1):
                mean = scores.mean(axis=axis, keepdims=True)
                scores = np.divide(scores, mean, out=np.zeros_like(scores), where=mean > 0)
        mask = choose(scores, pattern, per_row=True)
        return Pruned(mask, np.where(mask, weight, np.float32(0)))


print(", ".join(methods(PruningMethod)))
assert "even_wanda" in methods()

# %% [markdown]
# ## Does it keep its promises?
# A method must hit the sparsity exactly, keep n of every m, leave kept weights alone (this one does), change nothing
# that it was given, and give the same bytes again. A method that lives in `workloads/pruning/` gets these checks and
# more from `pytest tests/workloads/test_pruning_conformance.py`.


# %%
def conforms(name: str, shape: tuple[int, int] = (48, 256), tokens: int = 400) -> None:
    """The promises of ``PruningMethod`` on a random layer whose inputs differ in size."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, shape).astype(np.float32)
    x = (rng.normal(size=(tokens, shape[1])) * rng.lognormal(0, 1, shape[1])).astype(np.float32)
    hessian, pruner = x.T @ x, method(name)
    for text in ("0.3", "0.5", "0.7", "2:4", "4:8"):
        given = weight.copy(), hessian.copy()
        pattern = pruner.read(parse_pattern(text))
        first, again = (pruner.prune(weight, hessian, tokens, pattern) for _ in range(2))
        assert np.array_equal(first.mask, again.mask) and first.weight.tobytes() == again.weight.tobytes()
        assert np.array_equal(weight, given[0]) and np.array_equal(hessian, given[1])
        assert np.array_equal(first.weight, np.where(first.mask, weight, 0))
        if ":" in text:
            n, m = map(int, text.split(":"))
            assert (first.mask.reshape(-1, m).sum(axis=1) == n).all()
        else:
            kept = round((1 - float(text)) * shape[1])
            assert (abs(first.mask.sum(axis=1) - kept) <= 0.5).all()
        print(f"{name} {text}: sparsity {first.sparsity:.4f}")


conforms("even_wanda")

# %% [markdown]
# ## On a real layer
# Layer 14 of SmolLM2-135M, half of the weights, beside Wanda and magnitude. Imbalance: cycles of 16 lanes with a
# barrier every 64 positions, over those of even lanes. Error: the share of the layer's output that is lost, ‖X(W −
# W′)ᵀ‖² / ‖XWᵀ‖², on the calibration text.

# %%
LAYER, METHODS = 14, ("magnitude", "wanda", "even_wanda")
pruned = {name: prune_model(method=name, pattern="0.5", layers=[LAYER]) for name in METHODS}
checkpoint = open_checkpoint()
calibration = calibrate(checkpoint, bundled_windows()["calibration"])


def imbalance(model, orientation: str) -> float:
    """Lane cycles over those of even lanes, all matrices of the layer together."""
    walked = sum(lanes.walk(mask, 16, 64, orientation) for mask in model.masks.values())
    return walked / sum(mask.sum() / 16 for mask in model.masks.values())


def lost(model) -> float:
    """Share of the layer's output that pruning loses, mean over its matrices."""
    shares = []
    for t in MATRIX_TYPES:
        dense, hessian = checkpoint.matrix(LAYER, t), calibration.hessian(LAYER, t)
        shares.append(output_error(dense - model.weights[LAYER, t], hessian) / output_error(dense, hessian))
    return float(np.mean(shares))


table = pd.DataFrame(
    {
        name: {
            "output lanes": imbalance(model, "output"),
            "input lanes": imbalance(model, "input"),
            "output error, %": 100 * lost(model),
        }
        for name, model in pruned.items()
    }
).T
display(table.round(2))
assert table.loc["even_wanda", "input lanes"] < table.loc["wanda", "input lanes"] - 0.1
assert table.loc["even_wanda", "output error, %"] > table.loc["wanda", "output error, %"]

# %% [markdown]
# It does what it was made for, and it is not free: balance is bought with accuracy. Whether that is a good trade only
# the whole model's perplexity and a machine can tell.

# %% [markdown]
# ## A machine
# A dictionary, or a YAML file with the same fields. Zero-skipping lanes that own inputs: an edge chip with one buffer
# per operand.

# %%
FIELDS = {
    "name": "input_lanes",
    "summary": "16 lanes that own inputs, eight tokens at a time",
    "technology": {"node_nm": 7, "library": "asap7"},
    "clock_ghz": 0.8,
    "array": {
        "kind": "lanes",
        "rows": 16,
        "cols": 8,
        "weight_bits": 8,
        "activation_bits": 8,
        "accumulator_bits": 32,
        "critical_path_ns": 0.7,
    },
    "sparsity": {
        "format": "bitmap",
        "orientation": "input",
        "barrier_depth": 64,
        "fifo_depth": 0,
        "assignment": "contiguous",
        "empty_tile_cycles": 1,
    },
    "memory": {
        "shared": {
            "keeps": ["weights", "inputs", "outputs"],
            "capacity_kib": 256,
            "bandwidth_gb_per_s": 51.2,
            "banks": 4,
            "double_buffered": True,
        },
        "weights": {
            "keeps": ["weights"],
            "capacity_kib": 32,
            "bandwidth_gb_per_s": 51.2,
            "banks": 4,
            "double_buffered": True,
        },
        "inputs": {
            "keeps": ["inputs"],
            "capacity_kib": 32,
            "bandwidth_gb_per_s": 51.2,
            "banks": 4,
            "double_buffered": True,
        },
        "sums": {
            "keeps": ["outputs"],
            "capacity_kib": 64,
            "bandwidth_gb_per_s": 102.4,
            "banks": 4,
            "double_buffered": True,
        },
    },
    "dram": {"standard": "lpddr4_3200", "channels": 2},
    "vector": {"lanes": 16, "special_function_lanes": 2},
    "sources": {"array": "assumed: an example", "memory": "assumed: an example", "dram": "assumed: two channels"},
}
machine = sp.accelerator(FIELDS)
print(f"{machine.name}: {machine.peak_tops:.2f} TOPS, {machine.config_hash()}")

# %% [markdown]
# A mistake is one line that names the field.

# %%
try:
    sp.accelerator({**FIELDS, "sparsity": {**FIELDS["sparsity"], "barier_depth": 64}})
    raise AssertionError("a field that does not exist must be refused")
except sp.InputError as error:
    print(error)
    assert "barrier_depth" in str(error)

# %% [markdown]
# ## Both together
# The matrices of the layer as one trace for each method, 128 tokens, on the new machine.


# %%
def layer_trace(name: str) -> sp.Trace:
    """The layer's seven GEMMs with its real masks, one after the other."""
    masks = pruned[name].masks
    return sp.llm(
        "smollm2_135m", phase="prefill", tokens=128, layers=1, sparsity=lambda _, t: sp.Sparsity(mask=masks[LAYER, t])
    )


traces = {name: layer_trace(name) for name in METHODS}
print(sp.simulate(machine, traces["even_wanda"]))

# %% [markdown]
# What lanes lose to waiting is the cause `imbalance`.

# %%
for name, trace in traces.items():
    report = sp.simulate(machine, trace)
    print(
        f"{name:<11} {report.seconds * 1e6:7.1f} us, {report.energy_pj * 1e-6:6.1f} uJ, "
        f"imbalance {100 * report.stalls['imbalance'] / report.cycles:4.1f} % of the cycles"
    )

# %% [markdown]
# Now sweep machine and method: who owns a lane, and how often lanes meet.

# %%
grid = {"sparsity.orientation": ["output", "input"], "sparsity.barrier_depth": [16, 64, 256, "full"]}
swept = pd.concat([sp.sweep(machine, trace, grid).assign(method=name) for name, trace in traces.items()])
assert swept["feasible"].all()
swept["us"] = swept["seconds"] * 1e6
shown = swept.pivot_table(index=["sparsity.orientation", "method"], columns="sparsity.barrier_depth", values="us")
display(shown[[16, 64, 256, "full"]].round(1).rename_axis(columns="barrier every ... positions; time in us"))
costs = swept.drop_duplicates(list(grid)).pivot_table(
    index="sparsity.orientation", columns="sparsity.barrier_depth", values="area_mm2"
)
display(costs[[16, 64, 256, "full"]].round(3).rename_axis(columns="area in mm2"))

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True, layout="constrained")
for axis, orientation in zip(axes, ("output", "input"), strict=True):
    for name in METHODS:
        axis.plot(
            ["16", "64", "256", "full"], shown.loc[orientation, name][[16, 64, 256, "full"]], "o-", ms=4, label=name
        )
    axis.set(xlabel="positions between barriers", title=f"{orientation} lanes")
axes[0].set_ylabel("time of the layer (us)")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# On input lanes the new method is faster than Wanda at every barrier; on output lanes Wanda is already even and
# nothing is won. The method is worth something only on the machine it was made for.

# %%
ours, wanda = (shown.xs(name, level="method") for name in ("even_wanda", "wanda"))
gain = wanda / ours
for orientation in ("output", "input"):
    low, high = gain.loc[orientation].min(), gain.loc[orientation].max()
    print(f"{orientation} lanes: even_wanda over wanda {low:.2f} x to {high:.2f} x")
assert (gain.loc["input"] > 1.03).all() and (abs(gain.loc["output"] - 1) < 0.03).all()

# %% [markdown]
# From here: put the class into a file of `workloads/pruning/` and the fields into `accel_models/data/`
# (CONTRIBUTING.md has the steps), and `sparchitect explore` can choose them.
