"""FFN channel pruning: whole hidden channels leave gate, up and down, and the matrices really get smaller.

Score of channel j: ‖w_down[:, j]‖ · sqrt(mean a_j²), a = what enters ffn_down; the lowest share goes, layer by layer.
"""

from __future__ import annotations

import numpy as np

from workloads.checkpoint import ModelConfig
from workloads.pruning.base import ModelMethod, Pruned, register
from workloads.pruning.model import DenseModel, Key
from workloads.pruning.pattern import Channels, Pattern, Unstructured
from workloads.pruning.select import keep_largest, refuse_none, removed_count

#: The axis of each FFN matrix (out x in) along which hidden channels lie.
CHANNEL_AXIS = {"ffn_gate": 0, "ffn_up": 0, "ffn_down": 1}


def channel_scores(down: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """Score of every hidden channel [ffn]; ``down`` is out x in, ``mean_square`` the mean a² that enters it [ffn]."""
    return np.linalg.norm(down, axis=0) * np.sqrt(mean_square)


def kept_channels(down: np.ndarray, mean_square: np.ndarray, share: float) -> np.ndarray:
    """Sorted indices of the hidden channels that stay when ``share`` of them goes."""
    scores = channel_scores(down, mean_square)
    return np.flatnonzero(keep_largest(scores[None, :], removed_count(share, scores.size))[0])


def cut(weight: np.ndarray, matrix_type: str, kept: np.ndarray) -> np.ndarray:
    """gate, up or down (out x in) with only the kept hidden channels: a smaller matrix."""
    return np.ascontiguousarray(weight.take(kept, axis=CHANNEL_AXIS[matrix_type]))


def as_mask(shape: tuple[int, int], matrix_type: str, kept: np.ndarray) -> np.ndarray:
    """The same choice as a bool out x in mask of the uncut matrix."""
    line = np.zeros(shape[CHANNEL_AXIS[matrix_type]], bool)
    line[kept] = True
    return np.ascontiguousarray(np.broadcast_to(line[:, None] if CHANNEL_AXIS[matrix_type] == 0 else line, shape))


def cut_layer(model: DenseModel, layer: int, kept: np.ndarray, down: np.ndarray | None = None) -> dict[Key, Pruned]:
    """A layer's three FFN matrices with only the ``kept`` channels; ``down``: refitted ffn_down, out x in, uncut."""
    found = {}
    for t in CHANNEL_AXIS:
        weight = down if t == "ffn_down" and down is not None else model.matrix(layer, t)
        found[layer, t] = Pruned(as_mask(weight.shape, t, kept), cut(weight, t, kept))
    return found


class ChannelMethod(ModelMethod):
    """What methods share that only cut FFN channels: a bare share means channels, all three matrices go together."""

    needs = "diagonal"
    takes = (Channels, Unstructured)

    def together(self, pattern: Pattern) -> tuple[str, ...]:
        return tuple(CHANNEL_AXIS)

    def read(self, pattern: Pattern) -> Pattern:
        return Channels(super().read(pattern).sparsity)

    def fits(self, pattern: Pattern, config: ModelConfig, types: tuple[str, ...], layers: tuple[int, ...]) -> None:
        refuse_none(pattern, config.ffn * (self.stage or len(layers)), "FFN channels")


@register
class FFNChannels(ChannelMethod):
    """FFN channel pruning: whole hidden channels leave gate, up and down, and the matrices really get smaller."""

    name = "ffn_channels"
    stage = 1

    def prune(
        self, model: DenseModel, pattern: Pattern, types: tuple[str, ...], layers: tuple[int, ...]
    ) -> dict[Key, Pruned]:
        found: dict[Key, Pruned] = {}
        for layer in layers:
            down = model.matrix(layer, "ffn_down")
            found |= cut_layer(
                model, layer, kept_channels(down, model.mean_square(layer, "ffn_down"), pattern.sparsity)
            )
        return found
