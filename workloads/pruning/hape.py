"""HAPE: structures chosen by loss for the time they save, the time as a simulator tells it, stage by stage.

The stages are the paper's, the formulas stand-ins. (1) A table of time saved for every structure (heads, FFN channels,
2:4) at several ratios, from ``latency(out, in, pattern)`` of the shapes that stay. (2) Loss: the module's relative
output error ‖X(W - W')ᵀ‖² / ‖XWᵀ‖², on the calibration data. (3) A stage of consecutive layers solves one knapsack for
its part of the target. (4) The paper compiles and measures candidates again in the loop: left out, the callable is the
measurement. (5) What stays of ffn_down and attn_output is refitted by least squares (a stand-in for block
reconstruction).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.errors import InputError
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.ffn_channels import CHANNEL_AXIS, cut_layer, kept_channels
from workloads.pruning.heads import kept_heads
from workloads.pruning.hessian import output_error
from workloads.pruning.knapsack import cheapest
from workloads.pruning.lines import ATTENTION, head_masks, refit_columns
from workloads.pruning.model import DenseModel, Key, Latency
from workloads.pruning.pattern import Heads, NofM, Pattern, Unstructured
from workloads.pruning.wanda import Wanda

#: Consecutive layers of a stage.
STAGE = 5
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TWO_FOUR = NofM(2, 4)
FFN = tuple(CHANNEL_AXIS)


@dataclass(frozen=True)
class Option:
    """One way to prune the attention or the FFN of one layer. ``kept``: heads bool [heads], or channels; None: all."""

    layer: int
    types: tuple[str, ...]
    loss: float
    saved: float
    kept: np.ndarray | None = None
    pattern: NofM | None = None


@register
class HAPE(ModelMethod):
    """Heads, FFN channels or 2:4 a layer by knapsacks over stages; the share is of the dense matrices' *time*."""

    name = "hape"
    stage = STAGE
    takes = (Unstructured,)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        return (*ATTENTION, *FFN)

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        time = lru_cache(maxsize=None)(model.latency)
        found: dict[Key, Pruned] = {}
        for start in range(0, len(layers), STAGE):
            stage = layers[start : start + STAGE]
            menus = [menu for layer in stage for menu in (_attention(model, layer, time), _ffn(model, layer, time))]
            target = pattern.sparsity * len(stage) * _time(model, (*ATTENTION, *FFN), time)
            choice = cheapest(
                [np.array([o.loss for o in menu]) for menu in menus],
                [np.array([max(o.saved, 0.0) for o in menu]) for menu in menus],
                target,
            )
            if choice is None:
                share = f"{pattern.sparsity:.0%}"
                raise InputError(
                    f"hape: no choice of heads, channels and 2:4 saves {share} of the time of layers {stage}"
                )
            for menu, number in zip(menus, choice, strict=True):
                found |= _apply(model, menu[number])
        return found


def _time(model: DenseModel, types: tuple[str, ...], time: Latency, pattern: Pattern | None = None) -> float:
    return sum(time(*model.config.matrix_shape(t), pattern) for t in types)


def _two_four(model: DenseModel, layer: int, types: tuple[str, ...], time: Latency) -> Option:
    wanda, loss = Wanda(), 0.0
    for t in types:
        weight, hessian = model.matrix(layer, t), model.hessian(layer, t)
        gone = weight - wanda.prune(weight, hessian, model.tokens, TWO_FOUR).weight
        loss += output_error(gone, hessian) / max(output_error(weight, hessian), 1e-30)
    saved = _time(model, types, time) - _time(model, types, time, TWO_FOUR)
    return Option(layer, types, loss, saved, pattern=TWO_FOUR)


def _attention(model: DenseModel, layer: int, time: Latency) -> list[Option]:
    dense = _time(model, ATTENTION, time)
    options = [Option(layer, ATTENTION, 0.0, 0.0), _two_four(model, layer, ATTENTION, time)]
    for share in RATIOS:
        kept = kept_heads(model, layer, Heads(share))
        masks = head_masks(model.config, kept)
        left = sum(time(*_left(mask), None) for mask in masks.values())
        loss = _lost(model, layer, "attn_output", masks["attn_output"][0])
        options.append(Option(layer, ATTENTION, loss, dense - left, kept))
    return options


def _ffn(model: DenseModel, layer: int, time: Latency) -> list[Option]:
    dense, c = _time(model, FFN, time), model.config
    options = [Option(layer, FFN, 0.0, 0.0), _two_four(model, layer, FFN, time)]
    down, mean_square = model.matrix(layer, "ffn_down"), model.mean_square(layer, "ffn_down")
    for share in RATIOS:
        kept = kept_channels(down, mean_square, share)
        left = 2 * time(len(kept), c.d_model, None) + time(c.d_model, len(kept), None)
        line = np.isin(np.arange(c.ffn), kept)
        options.append(Option(layer, FFN, _lost(model, layer, "ffn_down", line), dense - left, kept))
    return options


def _left(mask: np.ndarray) -> tuple[int, int]:
    """(out, in) of what a mask of whole lines leaves."""
    return int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())


def _lost(model: DenseModel, layer: int, matrix_type: str, kept: np.ndarray) -> float:
    """Relative output error without the other columns, before the refit."""
    weight, hessian = model.matrix(layer, matrix_type), model.hessian(layer, matrix_type)
    gone = np.flatnonzero(~kept)
    return output_error(weight[:, gone], hessian[np.ix_(gone, gone)]) / max(output_error(weight, hessian), 1e-30)


def _apply(model: DenseModel, option: Option) -> dict[Key, Pruned]:
    layer = option.layer
    if option.pattern is not None:
        wanda = Wanda()
        return {
            (layer, t): wanda.prune(model.matrix(layer, t), model.hessian(layer, t), model.tokens, option.pattern)
            for t in option.types
        }
    if option.kept is None:
        return {}
    if option.types == FFN:
        down = refit_columns(model.matrix(layer, "ffn_down"), model.hessian(layer, "ffn_down"), option.kept)
        return cut_layer(model, layer, option.kept, down)
    found: dict[Key, Pruned] = {}
    for t, mask in head_masks(model.config, option.kept).items():
        weight = np.where(mask, model.matrix(layer, t), np.float32(0))
        if t == "attn_output":
            weight = refit_columns(model.matrix(layer, t), model.hessian(layer, t), mask[0])
        found[layer, t] = Pruned(mask, weight)
    return found
