"""Pruned variants of one checkpoint on disk: masks as packed bits, updated weights as float16, kept FFN channels.

All masks come from the dense model's calibration, so variants of different matrix types combine freely into recipes.
Everything lives in the user's cache, one folder a variant, each complete or absent (renamed into place).
"""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np

from sim.errors import InputError, nearest
from workloads.calibration import Calibration, Progress, calibrate
from workloads.checkpoint import MATRIX_TYPES, Checkpoint, open_checkpoint
from workloads.fetch import cache_dir
from workloads.pruning import ffn_channels, method
from workloads.recipe import CHANNEL_VARIANTS, DENSE, MATRIX_VARIANTS, VARIANTS, Recipe

#: Methods whose kept weights change; their weights are stored, rounded to float16.
UPDATING = ("sparsegpt",)


class VariantStore:
    """Masks and weights of every variant of ``checkpoint``; a variant is pruned the first time it is asked for."""

    def __init__(self, checkpoint: Checkpoint, calibration: Calibration, progress: Progress | None = None) -> None:
        self.checkpoint, self.calibration, self.progress = checkpoint, calibration, progress
        self.folder = cache_dir("variants", f"{checkpoint.sha256[:16]}_{calibration.windows_sha256[:16]}")
        self._load = lru_cache(maxsize=64)(self._load_file)

    def mask(self, variant: str, layer: int, matrix_type: str) -> np.ndarray:
        """Bool out x in, True = kept, of the uncut matrix (removed channels are whole False lines)."""
        shape = self.checkpoint.config.matrix_shape(matrix_type)
        if variant == DENSE:
            return np.ones(shape, bool)
        if variant in CHANNEL_VARIANTS:
            if matrix_type not in ffn_channels.CHANNEL_AXIS:
                return np.ones(shape, bool)
            return ffn_channels.as_mask(shape, matrix_type, self._load(variant, "kept")[layer])
        packed = self._load(variant, f"{matrix_type}.mask")[layer]
        return np.unpackbits(packed, axis=1, count=shape[1]).view(bool)

    def weight(self, variant: str, layer: int, matrix_type: str) -> np.ndarray:
        """Pruned matrix float32 out x in, zero where pruned; smaller than the dense one under FFN channels."""
        dense = self.checkpoint.matrix(layer, matrix_type)
        if variant == DENSE:
            return dense
        if variant in CHANNEL_VARIANTS:
            if matrix_type not in ffn_channels.CHANNEL_AXIS:
                return dense
            return ffn_channels.cut(dense, matrix_type, self._load(variant, "kept")[layer])
        if MATRIX_VARIANTS[variant][0] in UPDATING:
            return self._load(variant, f"{matrix_type}.weight")[layer].astype(np.float32)
        return dense * self.mask(variant, layer, matrix_type)

    def weights(self, recipe: Recipe):
        """The (layer, matrix type) -> weight function of a recipe, as ``transformer.token_nll`` takes it."""
        return lambda layer, matrix_type: self.weight(recipe[matrix_type], layer, matrix_type)

    def sparsity(self, recipe: Recipe) -> float:
        """Share of all prunable weights that the recipe removes, counted on the masks."""
        kept = total = 0
        for matrix_type, variant in zip(MATRIX_TYPES, recipe.variants, strict=True):
            rows, columns = self.checkpoint.config.matrix_shape(matrix_type)
            size = rows * columns * self.checkpoint.config.layers
            total += size
            kept += size if variant == DENSE else self._kept(variant, matrix_type)
        return 1 - kept / total

    def _kept(self, variant: str, matrix_type: str) -> int:
        if variant in CHANNEL_VARIANTS:
            rows, columns = self.checkpoint.config.matrix_shape(matrix_type)
            other = columns if ffn_channels.CHANNEL_AXIS[matrix_type] == 0 else rows
            return self._load(variant, "kept").size * other
        return int(np.bitwise_count(self._load(variant, f"{matrix_type}.mask")).sum(dtype=np.int64))

    def _load_file(self, variant: str, name: str) -> np.ndarray:
        self.ensure(variant)
        return np.load(self.folder / variant / f"{name}.npy", mmap_mode="r")

    def ensure(self, variant: str) -> Path:
        """Prune and store ``variant`` unless it is there; returns its folder."""
        if variant not in VARIANTS:
            raise InputError(f"variant {variant!r} is unknown: {nearest(variant, VARIANTS)}")
        final = self.folder / variant
        if variant == DENSE or final.is_dir():
            return final
        partial = self.folder / f".{variant}.{os.getpid()}.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            for name, array in self._prune(variant):
                np.save(partial / f"{name}.npy", array)
            if not final.is_dir():
                partial.rename(final)
        except FileExistsError:
            pass  # another process finished the same variant first
        except OSError:
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def _prune(self, variant: str):
        c = self.checkpoint.config
        if variant in CHANNEL_VARIANTS:
            share = CHANNEL_VARIANTS[variant].sparsity
            yield "kept", np.stack([self._kept_channels(layer, share) for layer in range(c.layers)])
            return
        name, pattern = MATRIX_VARIANTS[variant]
        pruner = method(name)
        masks: dict[str, list[np.ndarray]] = {t: [] for t in MATRIX_TYPES}
        weights: dict[str, list[np.ndarray]] = {t: [] for t in MATRIX_TYPES}
        for layer in range(c.layers):
            if self.progress is not None:
                self.progress(layer, c.layers, f"pruning {variant}")
            for t in MATRIX_TYPES:
                hessian = self.calibration.hessian(layer, t)
                pruned = pruner.prune(self.checkpoint.matrix(layer, t), hessian, self.calibration.tokens, pattern)
                masks[t].append(np.packbits(pruned.mask, axis=1))
                if name in UPDATING:
                    weights[t].append(pruned.weight.astype(np.float16))
        for t in MATRIX_TYPES:
            yield f"{t}.mask", np.stack(masks[t])
            if name in UPDATING:
                yield f"{t}.weight", np.stack(weights[t])

    def _kept_channels(self, layer: int, share: float) -> np.ndarray:
        down = self.checkpoint.matrix(layer, "ffn_down")
        kept = ffn_channels.kept_channels(down, self.calibration.mean_square(layer, "ffn_down"), share)
        return kept.astype(np.int32)


@lru_cache(maxsize=1)
def default_store() -> VariantStore:
    """The variants of SmolLM2-135M that the bundle was measured with (fetched, calibrated and pruned when missing)."""
    checkpoint = open_checkpoint()
    return VariantStore(checkpoint, calibrate(checkpoint))


def load_mask(variant: str, layer: int, matrix_type: str) -> np.ndarray:
    """Mask of a SmolLM2-135M matrix under ``variant``: bool out x in, True = kept."""
    return default_store().mask(variant, layer, matrix_type)
