"""How the damage of a pruned matrix type spreads over the layers of the model.

Measuring every (layer, type, method, level) would take 5,670 runs. Instead every (layer, type) was measured alone,
pruned as a probe variant, and the output error of every variant in every matrix was computed. ΔNLL is quadratic in a
small output error, so the share of layer l in the ΔNLL of type t pruned as variant v is

    share[v, l, t] = s[l, t] e[v, l, t] / Σ_l s[l, t] e[v, l, t],        s = ΔNLL alone / e of the probe,

with e the squared relative output error and s the sensitivity of the layer. ΔNLL of single layers is small, so s is
drawn towards the type's mean as far as its scatter is what noise alone would give. Magnitude masks drop outliers, whose
loss costs more than its power: they have a probe of their own in the outer layers. ``d[layer, type, variant]`` is then
share · d[type, variant]; over all layers it sums to what was measured with the whole type pruned.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sim.errors import InputError
from workloads.calibration import BUNDLE
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import CHANNEL_VARIANTS, VARIANTS

OUTPUT_ERROR = BUNDLE / "layer_output_error.npz"
LAYER_ALONE = BUNDLE / "layer_alone.csv"
#: Standard error in nats of one ΔNLL alone (1,020 tokens, the same for both models): the rms of the negative ones.
NOISE = 0.002
#: Probe -> whose sensitivity it gives: variants whose names begin so. The first covers every layer, the next overrule.
PROBES = {"wanda_70": "", "magnitude_50": "magnitude"}
_DOWN, _GATE = MATRIX_TYPES.index("ffn_down"), MATRIX_TYPES.index("ffn_gate")


def sensitivity(error: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """s [layers, types] in nats, from e [layers, types] of a probe and its ΔNLL alone [layers, types]."""
    mean = np.maximum(alone.sum(axis=0), 0) / error.sum(axis=0)
    expected = mean * error
    scatter = ((alone - expected) ** 2).mean(axis=0)
    trust = np.maximum(0, 1 - NOISE**2 / np.maximum(scatter, NOISE**2))
    return np.maximum(expected + trust * (alone - expected), 0) / error


def shares(error: np.ndarray, sensitivities: np.ndarray) -> np.ndarray:
    """share [variants, layers, types] from e and s, both of that shape (or s without the variants).

    Sums to 1 over layers. FFN channels, whose error ends in ``ffn_down``, are given in ``ffn_gate``, the column of
    their joint ΔNLL; where nothing is pruned every layer has the same share.
    """
    weight = sensitivities * error
    for variant in CHANNEL_VARIANTS:
        weight[VARIANTS.index(variant), :, _GATE] = weight[VARIANTS.index(variant), :, _DOWN]
    total = weight.sum(axis=1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1), 1 / error.shape[1])


@lru_cache(maxsize=1)
def bundled_shares(error_path: Path = OUTPUT_ERROR, alone_path: Path = LAYER_ALONE) -> np.ndarray:
    """``shares`` of the bundle, [variants, layers, types]; InputError when its files are missing or do not fit."""
    again = "run python -m workloads.quality.measure_layers"
    try:
        table = pd.read_csv(alone_path)
        with np.load(error_path) as stored:
            error, variants = stored["relative_error"].astype(float), tuple(stored["variants"])
    except (OSError, ValueError, KeyError) as problem:
        raise InputError(f"measurements of single layers cannot be read ({problem}); {again}") from None
    if variants != VARIANTS or not set(PROBES) <= set(table["variant"]):
        raise InputError(f"{error_path} and {alone_path} do not hold the variants known here; {again}")
    found = np.empty_like(error)
    for probe, scope in PROBES.items():
        alone = table[table["variant"] == probe].pivot(index="layer", columns="matrix_type", values="delta_nll")
        layers = alone.index.to_numpy()
        own = sensitivity(error[VARIANTS.index(probe), layers], alone[list(MATRIX_TYPES)].to_numpy())
        of = [code for code, variant in enumerate(VARIANTS) if variant.startswith(scope)]
        found[np.ix_(of, layers)] = own
    return shares(error, found)
