"""The decoder in a GGUF file: its dimensions from the metadata, its matrices by llama.cpp's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim.errors import InputError
from workloads.checkpoint.contents import Contents, check_dimensions, check_outer, find_names, structure_gap
from workloads.checkpoint.gguf_file import Gguf
from workloads.checkpoint.model import ModelConfig
from workloads.checkpoint.names import GGUF


def read_gguf(path: Path) -> Contents:
    """Open a GGUF file. Llama alone can be run; of other architectures with known names the matrices are read."""
    file = Gguf(path)
    family = file.metadata.get("general.architecture")
    if not isinstance(family, str):
        raise InputError(f"{path}: general.architecture must be a name, got {str(family)[:80]!r}")
    config = _config(file, family)
    names, prefix = find_names(file, GGUF, config)
    gap = _gap(file, family) or structure_gap(file, names, prefix, config)
    divisors = None
    if not gap:
        check_outer(file, names.outer, config)
        if "rope_freqs.weight" in file.tensors:
            divisors = file.read("rope_freqs.weight")
            if divisors.shape != (config.head_dim // 2,):
                raise InputError(f"{path}: rope_freqs.weight is {divisors.shape}, expected {(config.head_dim // 2,)}")
    return Contents(
        file,
        config,
        names,
        prefix,
        gap,
        names.outer,
        interleaved=family == "llama",  # llama.cpp's LlamaModel.permute
        rope_divisors=divisors,
        metadata=file.metadata,
    )


def _gap(file: Gguf, family: str) -> str:
    if family != "llama":
        return f"general.architecture is {family!r} and the forward pass runs 'llama' alone"
    scaling = file.metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        return f"rotary scaling {scaling!r} is not supported"
    return ""


def _config(file: Gguf, family: str) -> ModelConfig:
    path = file.path
    if file.metadata.get(f"{family}.expert_count", 0):
        raise InputError(f"{path}: a mixture of experts; only dense decoders are read")
    if file.metadata.get("split.count", 1) != 1:
        raise InputError(f"{path}: one of several parts; join them with llama.cpp's gguf-split --merge")

    def number(key: str, kind: type = int, default: Any = None) -> Any:
        value = file.metadata.get(f"{family}.{key}", default)
        allowed = int if kind is int else int | float
        if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value < 1e18:
            raise InputError(f"{path}: {family}.{key} must be one positive number, got {str(value)[:80]}")
        return kind(value)

    heads, d_model = number("attention.head_count"), number("embedding_length")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise InputError(f"{path}: no tensor token_embd.weight; not a Llama-like model")
    config = ModelConfig(
        name=str(file.metadata.get("general.name", path.stem)),
        layers=number("block_count"),
        d_model=d_model,
        ffn=number("feed_forward_length"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", default=heads),
        head_dim=number("attention.key_length", default=d_model // heads),
        vocab=embedding.shape[0],
        rope_theta=number("rope.freq_base", float, 10000.0),
        norm_eps=number("attention.layer_norm_rms_epsilon", float, None if family == "llama" else 1e-6),
        tied_embeddings="output.weight" not in file.tensors,
    )
    check_dimensions(config, str(path))
    return config
