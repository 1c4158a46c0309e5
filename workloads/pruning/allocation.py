"""How a budget of removed weights is spread over matrices: the same share everywhere, or more where it costs less.

Every rule returns whole numbers of units (weights, or blocks of a block pattern) that add up to the budget exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sim.errors import InputError, nearest
from workloads.pruning.hessian import output_error
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Blocks, Pattern, Unstructured
from workloads.pruning.select import choose, removed_count
from workloads.pruning.wanda import wanda_scores

#: No matrix loses more than this share.
MOST = 0.95
#: OWL: an outlier is this many times the mean score; shares stay within ± SPREAD of the mean.
OUTLIER, SPREAD = 5.0, 0.08
#: Temperature of the softmax over standardised log energies (the paper's is not known: a stand-in).
TEMPERATURE = 10.0
#: Sensitivity and latency keep every matrix this close to the mean share: relative errors of single matrices say little
#: about matrices that are nearly gone.
REACH = 0.15

Shares = dict[Key, float]


def uniform(model: DenseModel, keys: Sequence[Key], share: float) -> Shares:
    """The same share of every matrix."""
    return dict.fromkeys(keys, share)


def outlier_density(model: DenseModel, key: Key, times: float = OUTLIER) -> float:
    """The share of a matrix's Wanda scores above ``times`` their mean."""
    scores = wanda_scores(model.matrix(*key), model.hessian(*key), model.tokens)
    return float(np.mean(scores > np.float32(times) * scores.mean()))


def owl(model: DenseModel, keys: Sequence[Key], share: float) -> Shares:
    """Outlier-weighted layers (Yin et al. 2024, "OWL", from memory): layers with more outlier scores keep more.

    Densities of a layer's matrices are averaged by size, stretched to a range of 2 · SPREAD and centred on ``share``.
    """
    density: dict[int, float] = {}
    for layer in sorted({layer for layer, _ in keys}):
        own = [key for key in keys if key[0] == layer]
        density[layer] = float(
            np.average([outlier_density(model, key) for key in own], weights=[model.size(k) for k in own])
        )
    found = np.array(list(density.values()))
    spread = np.ptp(found)
    keep = (found - found.min()) / spread * 2 * SPREAD if spread else np.zeros_like(found)
    by_layer = dict(zip(density, share - (keep - keep.mean()), strict=True))
    return {key: by_layer[key[0]] for key in keys}


def energy(model: DenseModel, keys: Sequence[Key], share: float) -> Shares:
    """Kept share of a layer ∝ softmax(E / T) of its output energy (StruPrune's rule; E, T are stand-ins).

    E is the logarithm of Σ‖XWᵀ‖² over the layer's matrices, standardised over layers.
    """
    layers = sorted({layer for layer, _ in keys})
    total = {
        layer: sum(output_error(model.matrix(*k), model.hessian(*k)) for k in keys if k[0] == layer) for layer in layers
    }
    logs = np.log(np.maximum(list(total.values()), np.finfo(float).tiny))
    standard = (logs - logs.mean()) / max(logs.std(), 1e-12)
    weight = np.exp(standard / TEMPERATURE)
    keep = dict(zip(layers, (1 - share) * weight / weight.mean(), strict=True))
    return {key: 1 - keep[key[0]] for key in keys}


def sensitivity(model: DenseModel, keys: Sequence[Key], share: float) -> Shares:
    """The next weights go where they add the least to the relative output error, matrices weighted by their size."""
    return _greedy(model, keys, share, lambda key, gone: gone * model.size(key))


def latency(model: DenseModel, keys: Sequence[Key], share: float) -> Shares:
    """As ``sensitivity``, but least error for the time saved, as ``model.latency`` tells it for unstructured shares."""

    def saved(key: Key, share: float) -> float:
        outputs, inputs = model.config.matrix_shape(key[1])
        return model.latency(outputs, inputs, None) - model.latency(outputs, inputs, Unstructured(share))

    return _greedy(model, keys, share, saved)


def error_curve(model: DenseModel, key: Key, shares: np.ndarray) -> np.ndarray:
    """‖X(W - W')ᵀ‖² / ‖XWᵀ‖² of Wanda's masks at every one of ``shares``."""
    weight, hessian = model.matrix(*key), model.hessian(*key)
    scores, total = wanda_scores(weight, hessian, model.tokens), output_error(weight, hessian)
    gone = (np.where(choose(scores, Unstructured(s), per_row=True), np.float32(0), weight) for s in shares)
    return np.array([output_error(w, hessian) / total if total > 0 else 0.0 for w in gone])


def _greedy(model: DenseModel, keys: Sequence[Key], share: float, gain: Callable[[Key, float], float]) -> Shares:
    """Segments of all matrices' error curves in order of error per gain, until the budget of weights is used up."""
    points = np.unique(np.clip(share + np.linspace(-REACH, REACH, 7), 0, MOST))
    segments = []
    for key in keys:
        errors = np.maximum.accumulate(error_curve(model, key, points)) * model.size(key)
        gains = np.array([gain(key, s) if s else 0.0 for s in points])
        rate = np.diff(errors) / np.maximum(np.diff(gains), 1e-30)
        # A segment can only go after those before it.
        for place, price in enumerate(np.maximum.accumulate(rate)):
            segments.append((price, place, key))
    found = dict.fromkeys(keys, float(points[0]))
    left = (share - points[0]) * sum(model.size(key) for key in keys)
    steps = np.diff(points)
    for _, place, key in sorted(segments):
        step = min(steps[place], left / model.size(key))
        found[key] += step
        left -= step * model.size(key)
    return found


ALLOCATIONS: dict[str, Callable[[DenseModel, Sequence[Key], float], Shares]] = {
    "uniform": uniform,
    "owl": owl,
    "energy": energy,
    "sensitivity": sensitivity,
    "latency": latency,
}


def whole_counts(wanted: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray:
    """Whole numbers that add up to ``budget``, near ``wanted`` (shifted by one share for all), 0 … MOST of ``sizes``.

    Raises InputError when the budget is more than MOST of all.
    """
    most = np.floor(MOST * sizes)
    if budget > most.sum():
        raise InputError(f"{budget} of {int(sizes.sum())} cannot be removed: at most {MOST:.0%} of every matrix goes")
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if np.clip(wanted + middle * sizes, 0, most).sum() < budget:
            low = middle
        else:
            high = middle
    exact = np.clip(wanted + high * sizes, 0, most)
    counts = np.floor(exact).astype(np.int64)
    short = budget - int(counts.sum())
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[:short]] += 1
    return counts


def allocate(name: str, model: DenseModel, keys: Sequence[Key], pattern: Pattern) -> dict[Key, Pattern]:
    """A pattern for every matrix; together they remove what ``pattern`` everywhere would, to the weight (or block).

    ``name``: uniform, owl, energy, sensitivity or latency. Raises InputError for other names, and for patterns that
    are no share.
    """
    if name not in ALLOCATIONS:
        raise InputError(f"allocation {name!r} is unknown: {nearest(name, ALLOCATIONS)}")
    if name == "uniform":
        return dict.fromkeys(keys, pattern)
    if not isinstance(pattern, Unstructured | Blocks):
        raise InputError(f"allocation {name} spreads a share of weights or blocks; pattern '{pattern}' fixes it")
    sizes = np.array([_units(model.config.matrix_shape(key[1]), pattern) for key in keys])
    shares = ALLOCATIONS[name](model, keys, pattern.sparsity)
    wanted = np.array([shares[key] for key in keys]) * sizes
    counts = whole_counts(wanted, sizes, removed_count(pattern.sparsity, int(sizes.sum())))
    return {key: replace(pattern, sparsity=count / size) for key, count, size in zip(keys, counts, sizes, strict=True)}


def _units(shape: tuple[int, int], pattern: Unstructured | Blocks) -> int:
    """Weights of a matrix, or blocks."""
    rows, columns = (pattern.rows, pattern.columns) if isinstance(pattern, Blocks) else (1, 1)
    return -(-shape[0] // rows) * -(-shape[1] // columns)
