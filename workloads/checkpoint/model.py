"""What a Llama-like decoder is made of: its dimensions, its prunable matrices and what enters them."""

from __future__ import annotations

from dataclasses import dataclass

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
