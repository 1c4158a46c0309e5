"""A tiny random Llama-like model in every format, and an independent reference forward pass in float64 with loops.

The reference shares no code with ``workloads``: scalar rotary embedding, explicit softmax, one token at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, D, FFN, HEADS, KV, HEAD_DIM, VOCAB = 2, 24, 32, 4, 2, 6, 256
THETA, EPS = 1000.0, 1e-5
SHAPES = {
    "attn_q": (HEADS * HEAD_DIM, D),
    "attn_k": (KV * HEAD_DIM, D),
    "attn_v": (KV * HEAD_DIM, D),
    "attn_output": (D, HEADS * HEAD_DIM),
    "ffn_gate": (FFN, D),
    "ffn_up": (FFN, D),
    "ffn_down": (D, FFN),
}


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors by GGUF name, Q and K in half-split order."""
    rng = np.random.default_rng(seed)
    tensors = {"token_embd.weight": rng.normal(0, 1, (VOCAB, D)), "output_norm.weight": rng.uniform(0.5, 1.5, D)}
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            tensors[f"blk.{layer}.{name}.weight"] = rng.normal(0, 0.6, shape)
        tensors[f"blk.{layer}.attn_norm.weight"] = rng.uniform(0.5, 1.5, D)
        tensors[f"blk.{layer}.ffn_norm.weight"] = rng.uniform(0.5, 1.5, D)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to Q and K: row 2i of a head comes from row i, row 2i + 1 from row i + d/2."""
    out = np.empty_like(weight)
    size = len(weight) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = weight[head * size + i]
            out[head * size + 2 * i + 1] = weight[head * size + i + size // 2]
    return out


def byte_tokens() -> list[str]:
    """The 256 visible characters that byte-level BPE writes bytes as."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = [], 0
    for byte in range(256):
        if byte in printable:
            letters.append(chr(byte))
        else:
            letters.append(chr(256 + extra))
            extra += 1
    return letters


def write_gguf(path: Path, weights: dict[str, np.ndarray], architecture: str = "llama", **changed: float) -> Path:
    """Write the tensors as a GGUF file with a byte-level tokenizer; ``changed`` overrides metadata."""
    import gguf

    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(int(changed.get("layers", LAYERS)))
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(changed.get("eps", EPS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(byte_tokens())
    writer.add_token_types([1] * 256)
    writer.add_token_merges([])
    for name, tensor in weights.items():
        if name.endswith("attn_q.weight"):
            tensor = interleave(tensor, HEADS)
        if name.endswith("attn_k.weight"):
            tensor = interleave(tensor, KV)
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


HF_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
HF_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def hf_tensors(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors under Hugging Face names."""
    found = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if parts[0] == "blk":
            found[f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.{parts[3]}"] = tensor
        else:
            found[f"{HF_OUTER[parts[0]]}.{parts[1]}"] = tensor
    return found


def hf_config(**changed: Any) -> dict[str, Any]:
    """The model's config.json."""
    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": D,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
        "rope_theta": THETA,
        "rms_norm_eps": EPS,
        "tie_word_embeddings": True,
    } | changed


def encode(tensor: np.ndarray, dtype: str) -> bytes:
    """Raw bytes of a float32 tensor in a safetensors dtype; bfloat16 and the FP8s by truncation."""
    if dtype == "BF16":
        return (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype == "F8_E5M2":
        return (tensor.astype("<f2").view("<u2") >> 8).astype("u1").tobytes()
    return tensor.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).tobytes()


def safetensors_bytes(tensors: Mapping[str, np.ndarray], dtype: str = "F32") -> bytes:
    """One safetensors file."""
    header, body = {"__metadata__": {"format": "pt"}}, []
    at = 0
    for name, tensor in tensors.items():
        body.append(encode(tensor, dtype))
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + len(body[-1])]}
        at += len(body[-1])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(body)


def write_hf(
    folder: Path, tensors: Mapping[str, np.ndarray], dtype: str = "F32", shards: int = 1, **changed: Any
) -> Path:
    """A Hugging Face folder of tensors under the names given; ``changed`` overrides config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(**changed)), encoding="utf-8")
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
        return folder
    home = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(home.values()):
        (folder / shard).write_bytes(safetensors_bytes({n: tensors[n] for n in home if home[n] == shard}, dtype))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": home}), encoding="utf-8")
    return folder


def write_npz(path: Path, tensors: Mapping[str, np.ndarray], compressed: bool = False, **changed: Any) -> Path:
    """An npz of the tensors with its config inside."""
    save = np.savez_compressed if compressed else np.savez
    save(path, **tensors, config=np.array(json.dumps(hf_config(**changed))))
    return path


def quantise(x: np.ndarray) -> tuple[list[int], float]:
    """A vector as int8 values and a scale."""
    scale = max(abs(float(v)) for v in x) / 127
    return [round(float(v) / scale) if scale else 0 for v in x], scale


def _times(weight: np.ndarray, x: np.ndarray, int8: bool) -> np.ndarray:
    if not int8:
        return np.array([math.fsum(float(a) * float(b) for a, b in zip(row, x, strict=True)) for row in weight])
    values, scale = quantise(x)
    out = []
    for row in weight:
        whole, row_scale = quantise(row)
        out.append(sum(a * b for a, b in zip(whole, values, strict=True)) * row_scale * scale)
    return np.array(out)


def _norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / math.sqrt(sum(float(v) ** 2 for v in x) / len(x) + EPS) * gain


def _rotate(x: np.ndarray, position: int) -> np.ndarray:
    out = np.empty_like(x)
    half = HEAD_DIM // 2
    for i in range(half):
        angle = position * THETA ** (-2 * i / HEAD_DIM)
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def _cached(x: np.ndarray, int8: bool) -> np.ndarray:
    if not int8:
        return x
    values, scale = quantise(x)
    return np.array(values) * scale


def reference_nll(weights: dict[str, np.ndarray], tokens: np.ndarray, int8: bool = False) -> np.ndarray:
    """NLL of every next token of one window, token by token with a KV cache, in float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    cache: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {layer: [] for layer in range(LAYERS)}
    nll = []
    for position, token in enumerate(tokens):
        h = w["token_embd.weight"][token].copy()
        for layer in range(LAYERS):
            blk = {name: w[f"blk.{layer}.{name}.weight"] for name in (*SHAPES, "attn_norm", "ffn_norm")}
            x = _norm(h, blk["attn_norm"])
            q = _times(blk["attn_q"], x, int8).reshape(HEADS, HEAD_DIM)
            k = _times(blk["attn_k"], x, int8).reshape(KV, HEAD_DIM)
            v = _times(blk["attn_v"], x, int8).reshape(KV, HEAD_DIM)
            k = np.stack([_cached(_rotate(head, position), int8) for head in k])
            v = np.stack([_cached(head, int8) for head in v])
            cache[layer].append((k, v))
            mixed = []
            for head in range(HEADS):
                group = head // (HEADS // KV)
                turned = _cached(_rotate(q[head], position), int8)
                scores = [float(turned @ keys[group]) / math.sqrt(HEAD_DIM) for keys, _ in cache[layer]]
                raised = [math.exp(s - max(scores)) for s in scores]
                values = [values[group] for _, values in cache[layer]]
                probabilities = _cached(np.array(raised) / sum(raised), int8)
                mixed.append(sum(p * v for p, v in zip(probabilities, values, strict=True)))
            h += _times(blk["attn_output"], np.concatenate(mixed), int8)
            x = _norm(h, blk["ffn_norm"])
            gate = _times(blk["ffn_gate"], x, int8)
            up = _times(blk["ffn_up"], x, int8)
            inner = np.array([g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)])
            h += _times(blk["ffn_down"], inner, int8)
        logits = _times(w["token_embd.weight"], _norm(h, w["output_norm.weight"]), int8)
        if position + 1 < len(tokens):
            top = max(logits)
            nll.append(top + math.log(sum(math.exp(v - top) for v in logits)) - logits[tokens[position + 1]])
    return np.array(nll)
