"""What was found in a checkpoint's files: the container, the names in it, the dimensions and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError
from workloads.checkpoint.container import Container
from workloads.checkpoint.model import ModelConfig
from workloads.checkpoint.names import Names, Piece, pieces, scheme, stored_shape

#: Beyond what any model has: a header that claims more is damaged.
_MOST = {"layers": 1000, "d_model": 1 << 17, "ffn": 1 << 20, "heads": 1 << 12, "kv_heads": 1 << 12, "head_dim": 1 << 14}


@dataclass(frozen=True)
class Contents:
    """A checkpoint as its format's reader found it, shapes checked.

    ``outer``: names of the norms ("{}" for the layer), embedding and head, complete unless there is a ``gap``.
    ``interleaved``: Q and K have their rows permuted for interleaved rotary embedding, as GGUF has them for llama.
    """

    container: Container
    config: ModelConfig
    names: Names
    prefix: str
    gap: str
    outer: Mapping[str, str]
    interleaved: bool = False
    rope_divisors: np.ndarray | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config_file: Path | None = None
    tokenizer_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that define the model, config.json with them."""
        return (*self.container.files, *([self.config_file] if self.config_file else []))

    def pieces(self, layer: int) -> dict[str, Piece]:
        """Where the matrices of a layer lie."""
        return pieces(self.names, self.prefix, self.config, layer)

    def matrix(self, piece: Piece, matrix_type: str) -> np.ndarray:
        """A matrix as a new float32 array, out x in, heads in half-split order."""
        if piece.transposed:
            weight = np.ascontiguousarray(self.container.read(piece.name)[:, piece.start : piece.stop].T)
        else:
            weight = self.container.read(piece.name, piece.start, piece.stop)
        if self.interleaved and matrix_type in ("attn_q", "attn_k"):
            heads = self.config.heads if matrix_type == "attn_q" else self.config.kv_heads
            weight = undo_rope_permutation(weight, heads)
        return weight

    def bias(self, piece: Piece) -> np.ndarray | None:
        """The bias of a matrix, float32 [out], as stored; None when it has none."""
        tensor = self.container.tensors.get(piece.bias)
        if tensor is None:
            return None
        if tensor.shape != (piece.outputs,):
            raise InputError(f"{self.container.path}: tensor {piece.bias} is {tensor.shape}, expected {piece.outputs}")
        return self.container.read(piece.bias, piece.start, piece.stop)


def undo_rope_permutation(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (out) of a GGUF Q or K matrix from interleaved pairs (0, 1), (2, 3) … to halves (0, d/2), (1, d/2 + 1) …"""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def check_dimensions(config: ModelConfig, where: str) -> None:
    """InputError for dimensions no model has or that do not go together."""
    for field_name, most in _MOST.items():
        value = getattr(config, field_name)
        if not 1 <= value <= most:
            raise InputError(f"{where}: {field_name} must be in 1..{most}, got {value}")
    if config.heads % config.kv_heads or config.head_dim % 2:
        heads = f"{config.heads} heads, {config.kv_heads} KV heads of {config.head_dim}"
        raise InputError(f"{where}: {heads} do not fit together")


def find_names(container: Container, schemes: tuple[Names, ...], config: ModelConfig) -> tuple[Names, str]:
    """Naming scheme and prefix of a file whose dimensions are checked; checks every matrix, InputError if none fits."""
    found = scheme(container.tensors, schemes, config)
    if found is None:
        raise InputError(f"{container.path}: no matrices of a decoder that is known (Llama-like, Phi-3, OPT, GPT-2)")
    expected = {}
    for layer in range(config.layers):
        for matrix_type, piece in pieces(*found, config, layer).items():
            expected[piece.name] = stored_shape(piece, matrix_type, config)
    check_shapes(container, expected)
    return found


def check_shapes(container: Container, expected: Mapping[str, tuple[int, ...]]) -> None:
    """InputError for a tensor that is missing or of another shape."""
    for name, shape in expected.items():
        tensor = container.tensors.get(name)
        if tensor is None:
            raise InputError(f"{container.path}: no tensor {name}; not a complete model")
        if tensor.shape != shape:
            raise InputError(f"{container.path}: tensor {name} is {tensor.shape}, expected {shape}")


def check_outer(container: Container, outer: Mapping[str, str], config: ModelConfig) -> None:
    """``check_shapes`` of everything the forward pass reads beside the matrices."""
    table = (config.vocab, config.d_model)
    expected = {outer["output_norm"]: (config.d_model,), outer["embedding"]: table}
    if not config.tied_embeddings:
        expected[outer["head"]] = table
    for layer in range(config.layers):
        for which in ("attn_norm", "ffn_norm"):
            expected[outer[which].format(layer)] = (config.d_model,)
    check_shapes(container, expected)


def structure_gap(container: Container, names: Names, prefix: str, config: ModelConfig) -> str:
    """What the tensors themselves hold that the forward pass does not know; empty when it knows all."""
    if "attn_norm" not in names.outer or not any("ffn_gate" in types for types in names.linears.values()):
        return "its FFN has no gate, or its norms are not Llama's"
    for layer in range(config.layers):
        for piece in pieces(names, prefix, config, layer).values():
            if piece.bias in container.tensors:
                return f"{piece.bias} is a bias, which the forward pass does not know"
    for name in (f"{prefix}layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight"):
        if name in container.tensors:
            return "queries and keys are normalised, which the forward pass does not know"
    return ""
