"""What published models call their matrices: tables from names to (layer, matrix type), one a naming scheme.

A scheme is chosen by the names a file holds, whatever the file says it is: pruning needs the matrices alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads.checkpoint.container import Tensor
from workloads.checkpoint.model import MATRIX_TYPES, ModelConfig

_QKV = ("attn_q", "attn_k", "attn_v")
_GATE_UP = ("ffn_gate", "ffn_up")


@dataclass(frozen=True)
class Names:
    """A naming scheme. ``linears``: linear layer -> the matrix types stacked along its outputs.

    ``outer``: names of the norms of a layer (``attn_norm``, ``ffn_norm``), ``output_norm``, ``embedding`` and ``head``,
    where the scheme has them as the forward pass wants them. ``transposed``: stored in x out.
    """

    prefixes: tuple[str, ...]
    layer: str
    linears: Mapping[str, tuple[str, ...]]
    outer: Mapping[str, str]
    transposed: bool = False


@dataclass(frozen=True)
class Piece:
    """One matrix inside a tensor ``name``: its outputs ``start`` to ``stop`` of ``outputs``."""

    name: str
    start: int
    stop: int
    outputs: int
    transposed: bool

    @property
    def bias(self) -> str:
        """The tensor of biases beside the weights."""
        return self.name.removesuffix("weight") + "bias"


_HF_OUTER = {
    "attn_norm": "layers.{}.input_layernorm.weight",
    "ffn_norm": "layers.{}.post_attention_layernorm.weight",
    "output_norm": "norm.weight",
    "embedding": "embed_tokens.weight",
}
_ATTENTION = {"self_attn.q_proj": _QKV[:1], "self_attn.k_proj": _QKV[1:2], "self_attn.v_proj": _QKV[2:]}
_DOWN = {"mlp.down_proj": ("ffn_down",)}
LLAMA = Names(
    ("model.", "", "model.language_model.", "language_model.model."),
    "layers.{}.",
    {
        **_ATTENTION,
        "self_attn.o_proj": ("attn_output",),
        "mlp.gate_proj": _GATE_UP[:1],
        "mlp.up_proj": _GATE_UP[1:],
        **_DOWN,
    },
    _HF_OUTER,
)
PHI3 = Names(
    ("model.", ""),
    "layers.{}.",
    {"self_attn.qkv_proj": _QKV, "self_attn.o_proj": ("attn_output",), "mlp.gate_up_proj": _GATE_UP, **_DOWN},
    _HF_OUTER,
)
OPT = Names(
    ("model.decoder.", "decoder."),
    "layers.{}.",
    {**_ATTENTION, "self_attn.out_proj": ("attn_output",), "fc1": ("ffn_up",), "fc2": ("ffn_down",)},
    {"embedding": "embed_tokens.weight"},
)
GPT2 = Names(
    ("transformer.", ""),
    "h.{}.",
    {"attn.c_attn": _QKV, "attn.c_proj": ("attn_output",), "mlp.c_fc": ("ffn_up",), "mlp.c_proj": ("ffn_down",)},
    {"embedding": "wte.weight"},
    transposed=True,
)
_GGUF_OUTER = {
    "attn_norm": "blk.{}.attn_norm.weight",
    "ffn_norm": "blk.{}.ffn_norm.weight",
    "output_norm": "output_norm.weight",
    "embedding": "token_embd.weight",
    "head": "output.weight",
}
_GGUF_FUSED = {"attn_qkv": _QKV, "attn_output": ("attn_output",)}
GGUF_LLAMA = Names(("",), "blk.{}.", {t: (t,) for t in MATRIX_TYPES}, _GGUF_OUTER)
GGUF_PHI3 = Names(("",), "blk.{}.", {**_GGUF_FUSED, "ffn_up": _GATE_UP, "ffn_down": ("ffn_down",)}, _GGUF_OUTER)
GGUF_GPT2 = Names(("",), "blk.{}.", {**_GGUF_FUSED, "ffn_up": ("ffn_up",), "ffn_down": ("ffn_down",)}, _GGUF_OUTER)

HUGGING_FACE = (LLAMA, PHI3, OPT, GPT2)
GGUF = (GGUF_LLAMA, GGUF_PHI3, GGUF_GPT2)


def scheme(tensors: Mapping[str, Tensor], schemes: tuple[Names, ...], config: ModelConfig) -> tuple[Names, str] | None:
    """(scheme, prefix) that names the most linears of layer 0, of those that name as many the one whose shapes fit."""
    best, most = None, (0, False)
    for names in schemes:
        for prefix in names.prefixes:
            first = pieces(names, prefix, config, 0)
            present = [piece for piece in first.values() if piece.name in tensors]
            fits = all(
                tensors[piece.name].shape == stored_shape(piece, t, config)
                for t, piece in first.items()
                if piece.name in tensors
            )
            score = (len({piece.name for piece in present}) * 100 // len(names.linears), fits)
            if present and score > most:
                best, most = (names, prefix), score
    return best


def pieces(names: Names, prefix: str, config: ModelConfig, layer: int) -> dict[str, Piece]:
    """Where each matrix of a layer lies, by matrix type."""
    found = {}
    for linear, types in names.linears.items():
        name = f"{prefix}{names.layer.format(layer)}{linear}.weight"
        sizes = [config.matrix_shape(t)[0] for t in types]
        start = 0
        for t, size in zip(types, sizes, strict=True):
            found[t] = Piece(name, start, start + size, sum(sizes), names.transposed)
            start += size
    return found


def stored_shape(piece: Piece, matrix_type: str, config: ModelConfig) -> tuple[int, int]:
    """The shape of the tensor that holds a matrix."""
    shape = (piece.outputs, config.matrix_shape(matrix_type)[1])
    return shape[::-1] if piece.transposed else shape
