"""StruPrune: FFN channels and heads by ADMM, one subproblem a module, budgets from a softmax of layer energy.

The scheme is the paper's, its constants are not known (stand-ins): group score ‖w_c‖ ‖x_c‖ of the columns c of
ffn_down (a column: one channel) and attn_output (a head's columns: one group); the closed-form mask keeps the best
groups; a layer keeps a share proportional to softmax(E / T) of its energy (``allocation.energy``); refit (a ridge
solve), mask and dual alternate, ρ growing by half a round, and a least-squares refit of the kept groups ends it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.checkpoint import ModelConfig
from workloads.pruning.allocation import MOST, energy, whole_counts
from workloads.pruning.alps import ScaledHessian
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.ffn_channels import CHANNEL_AXIS, cut_layer
from workloads.pruning.heads import refuse_no_head
from workloads.pruning.lines import ATTENTION, head_masks, refit_columns
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Channels, Heads, Pattern, Unstructured
from workloads.pruning.select import keep_largest, refuse_none, removed_count

ROUNDS, FIRST_RHO, GROWTH = 10, 0.1, 1.5


@register
class StruPrune(ModelMethod):
    """Group ADMM on ffn_down and attn_output: a bare share prunes channels and heads, 'ffn' or 'heads' one kind."""

    name = "struprune"
    takes = (Unstructured, Channels, Heads)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        ffn = () if isinstance(pattern, Heads) else tuple(CHANNEL_AXIS)
        return ffn if isinstance(pattern, Channels) else (*ATTENTION, *ffn)

    def fits(self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]) -> None:
        if isinstance(pattern, Heads):
            refuse_no_head(pattern, config, len(layers))
        else:
            refuse_none(pattern, config.ffn * len(layers), "FFN channels")

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        c = model.config
        found: dict[Key, Pruned] = {}
        if not isinstance(pattern, Heads):
            for layer, gone in budgets(model, "ffn_down", layers, c.ffn, pattern.sparsity).items():
                kept, down = prune_groups(model, layer, "ffn_down", 1, gone)
                found |= cut_layer(model, layer, np.flatnonzero(kept), down)
        if not isinstance(pattern, Channels):
            whole = isinstance(pattern, Heads) and pattern.whole_groups
            unit = c.heads // c.kv_heads if whole else 1
            for layer, gone in budgets(model, "attn_output", layers, c.heads // unit, pattern.sparsity).items():
                kept, output = prune_groups(model, layer, "attn_output", unit * c.head_dim, gone)
                for t, mask in head_masks(c, np.repeat(kept, unit)).items():
                    weight = output if t == "attn_output" else np.where(mask, model.matrix(layer, t), np.float32(0))
                    found[layer, t] = Pruned(mask, weight)
        return found


def budgets(model: DenseModel, matrix_type: str, layers: Sequence[int], groups: int, share: float) -> dict[int, int]:
    """How many of each layer's ``groups`` go: ``share`` of all, spread by the softmax of layer energy."""
    keys = [(layer, matrix_type) for layer in layers]
    shares = energy(model, keys, share)
    sizes = np.full(len(keys), groups)
    most = len(keys) * int(MOST * groups)
    wanted = np.array([shares[key] * groups for key in keys])
    counts = whole_counts(wanted, sizes, min(removed_count(share, groups * len(keys)), most))
    return dict(zip(layers, counts.tolist(), strict=True))


def prune_groups(
    model: DenseModel, layer: int, matrix_type: str, width: int, gone: int
) -> tuple[np.ndarray, np.ndarray]:
    """Groups of ``width`` columns that stay after ADMM, bool [groups], and the refitted matrix, out x in."""
    weight, hessian = model.matrix(layer, matrix_type), model.hessian(layer, matrix_type)
    scaled = ScaledHessian(hessian)
    w = weight * scaled.scale
    target = w @ scaled.h
    dual, sparse = np.zeros_like(w), w
    rho = FIRST_RHO
    for _ in range(ROUNDS):
        dual += (target + np.float32(rho) * (sparse - dual)) @ scaled.inverse(rho)
        # ‖w_c‖ in scaled inputs is ‖w_c‖ ‖x_c‖.
        score = np.einsum("oi,oi->i", dual, dual).reshape(-1, width).sum(axis=1)
        kept = keep_largest(score[None, :], gone)[0]
        sparse = dual * np.repeat(kept, width)
        dual -= sparse
        dual /= np.float32(GROWTH)
        rho *= GROWTH
    return kept, refit_columns(weight, hessian, np.repeat(kept, width))
