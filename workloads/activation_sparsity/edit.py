"""A method at work in the forward pass: drops what it says, token by token, and counts what stays."""

from __future__ import annotations

import numpy as np

from workloads.activation_sparsity.base import Keep
from workloads.activation_sparsity.unions import NEIGHBOURS, TEXTS, union_density
from workloads.checkpoint import INPUTS

#: First tokens of every text that keep all their inputs: the attention sink, whose activations are massive.
DENSE_TOKENS = 1


class SparseInputs:
    """An ``Edit`` for ``token_nll``: inputs that ``keep`` does not keep are zero.

    Args:
        keep: what stays.
        dense_tokens: first tokens of every window that stay whole; they are not counted either.
        texts: windows of the run to count densities over; 0 counts nothing.
        tensors: the inputs that are sparsified; others stay whole and uncounted.

    ``densities``: a row a (layer, tensor, or matrix type where matrices have masks of their own): density, and that of
    the unions over ``tokens_V`` neighbours and ``texts_V`` texts.
    """

    def __init__(
        self, keep: Keep, dense_tokens: int = DENSE_TOKENS, texts: int = 0, tensors: tuple[str, ...] = INPUTS
    ) -> None:
        self.keep, self.dense_tokens, self.texts, self.tensors = keep, dense_tokens, texts, tensors
        self.densities: list[dict[str, float | int | str]] = []
        self._waiting: dict[tuple[int, str], list[np.ndarray]] = {}

    def __call__(self, layer: int, name: str, x: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        if name not in self.tensors:
            return x
        kept = self.keep(layer, name, x)
        if isinstance(kept, np.ndarray):
            return self._drop(layer, name, x, kept)
        return {t: self._drop(layer, t, x, mask) for t, mask in kept.items()}

    def _drop(self, layer: int, where: str, x: np.ndarray, kept: np.ndarray) -> np.ndarray:
        if self.texts:
            self._count(layer, where, kept[self.dense_tokens :])
        whole = np.arange(len(x)) < self.dense_tokens
        return np.where(kept | whole[:, None], x, np.float32(0))

    def _count(self, layer: int, where: str, kept: np.ndarray) -> None:
        texts = self._waiting.setdefault((layer, where), [])
        texts.append(kept)
        if len(texts) < self.texts:
            return
        masks = np.stack(self._waiting.pop((layer, where)))
        row: dict[str, float | int | str] = {"layer": layer, "tensor": where, "density": float(masks.mean())}
        row |= {f"tokens_{v}": union_density(masks, v) for v in NEIGHBOURS if v <= masks.shape[1]}
        row |= {f"texts_{v}": union_density(masks, v, across=True) for v in TEXTS if v <= self.texts}
        self.densities.append(row)
