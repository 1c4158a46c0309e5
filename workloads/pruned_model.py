"""What pruning a checkpoint returns: masks, weights, realised sparsity, perplexity and where it all came from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.sparsity.packing import Packed
from workloads.checkpoint import ModelConfig
from workloads.perplexity import Measurement
from workloads.pruning import Pruned
from workloads.pruning.model import Key

Mask = np.ndarray | Packed


@dataclass(frozen=True)
class PrunedModel:
    """A pruned checkpoint. ``masks[layer, type]``: of the uncut matrix (out x in), for pruned matrices only; of the
    sparse part where a matrix became factors. bool arrays, or ``Packed`` bits when only masks were kept.
    ``realised_sparsity``: zeros of the masks over all prunable weights.

    ``weights`` holds the pruned matrices (float32; cut smaller where FFN channels went). ``details`` holds what each
    method returned, with factors, orders and stored bits where there are some. Both are empty when only masks were
    kept. ``perplexity`` and ``dense_perplexity`` are None unless they were asked for.
    """

    masks: dict[Key, Mask]
    weights: dict[Key, np.ndarray] = field(repr=False)
    realised_sparsity: float
    perplexity: Measurement | None
    dense_perplexity: Measurement | None
    provenance: dict[str, Any]
    config: ModelConfig
    details: dict[Key, Pruned] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        p = self.provenance
        m = self.perplexity
        quality = f", perplexity {m.ppl:.2f} ({m.arithmetic})" if m else ""
        what = f"{p['model']}, {p['method']} {p['pattern']}"
        return f"PrunedModel({what}, sparsity {self.realised_sparsity:.4f}{quality})"

    def save(self, path: Path | str) -> Path:
        """Write the masks (packed bits) and the provenance as one npz, complete or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        arrays = {f"{layer}/{t}": np.packbits(unpacked(mask), axis=1) for (layer, t), mask in self.masks.items()}
        columns = {f"{layer}/{t}": mask.shape[1] for (layer, t), mask in self.masks.items()}
        about = json.dumps({**self.provenance, "in_features": columns})
        try:
            with open(partial, "wb") as stream:
                np.savez_compressed(stream, provenance=about, **arrays)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        return path


def load_masks(path: Path | str) -> tuple[dict[Key, np.ndarray], dict[str, Any]]:
    """Masks (bool out x in) and provenance that ``PrunedModel.save`` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            provenance = json.loads(str(stored["provenance"]))
            masks = {}
            for name, columns in provenance.pop("in_features").items():
                layer, _, matrix_type = name.partition("/")
                masks[int(layer), matrix_type] = np.unpackbits(stored[name], axis=1, count=columns).view(bool)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a file of pruned masks ({type(error).__name__})") from None
    return masks, provenance


def unpacked(mask: Mask) -> np.ndarray:
    """A mask as bool out x in."""
    return mask.unpacked() if isinstance(mask, Packed) else mask
