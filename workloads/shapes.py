"""The operations of a Llama-like decoder layer as a list of ops: shapes, bytes, and what is alive around each.

Execution order of one layer (9 GEMMs, 9 vector ops)::

    attn_norm · attn_q attn_k attn_v · rotary_kv_append · attn_scores softmax attn_values attn_quantise
    attn_output attn_add
    ffn_norm · ffn_gate ffn_up · swiglu ffn_quantise · ffn_down ffn_add

Norms quantise their output to activation bits (a scale per token); ``rotary_kv_append`` rotates q and k, quantises q, k
and v per head and appends k and v to the KV cache in DRAM; ``softmax`` ends in activation bits. All GEMMs leave
``vector_bits`` (their outputs, the residual stream, scores and logits), which is what vector ops read.

- Prefill: M = batch x tokens. Attention is the full tokens x positions score matrix: a causal model's masked half is
  computed and masked, and scores of all heads exist at once (no fused attention). K and V come back from DRAM.
- Decode: M = batch. ``context`` cached positions come from DRAM, exactly 2 kv_heads head_dim context bytes batch a
  layer; the new token's K and V are activations on chip until used (positions = context + 1).

Not charged: quantisation scales (16 bits a head vector would add 3 % to the KV bytes at head_dim 64), norm gains, and
rotary tables (on chip).
Sources: Touvron et al. 2023 (LLaMA), Ainslie et al. 2023 (grouped-query attention).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sim.errors import InputError, nearest
from sim.sparsity.profile import Profile
from sim.trace import Op, Sparsity
from sim.vector_ops import operations
from workloads.checkpoint import MATRIX_TYPES, ModelConfig

PHASES = ("prefill", "decode")
FFN_TYPES = ("ffn_gate", "ffn_up", "ffn_down")
#: (layer, matrix type) -> zeros of that matrix, None for dense.
SparsityOf = Callable[[int, str], Profile | Sparsity | None]
_TOKEN_ID_BYTES = 4


@dataclass(frozen=True)
class Numerics:
    """Bits of weights, GEMM inputs, KV cache, everything the vector unit reads (residual, scores), and accumulators."""

    weight_bits: int = 8
    activation_bits: int = 8
    kv_bits: int = 8
    vector_bits: int = 16
    accumulator_bits: int = 32

    def __post_init__(self) -> None:
        allowed = {"vector_bits": (16, 32), "accumulator_bits": (16, 24, 32, 40, 48)}
        for name, value in vars(self).items():
            choices = allowed.get(name, (4, 8, 16))
            if value not in choices:
                raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")

    @property
    def label(self) -> str:
        """Short name, as in ``w8a8kv8``."""
        return f"w{self.weight_bits}a{self.activation_bits}kv{self.kv_bits}"


@dataclass(frozen=True)
class Step:
    """What one run processes: ``tokens`` new positions a sequence after ``context`` cached ones."""

    phase: str
    batch: int
    tokens: int
    context: int

    @classmethod
    def of(cls, phase: str, batch: int = 1, tokens: int | None = None, context: int | None = None) -> Step:
        """Checked: prefill needs ``tokens`` (``context`` 0 unless a prompt continues), decode needs ``context``."""
        if phase not in PHASES:
            raise InputError(f"phase '{phase}' is unknown, {nearest(phase, PHASES)}")
        if phase == "prefill":
            if tokens is None:
                raise InputError("prefill needs tokens: the prompt length of each sequence, >= 1")
            return cls(
                phase,
                whole("batch", batch),
                whole("tokens", tokens),
                whole("context", 0 if context is None else context, least=0),
            )
        if context is None:
            raise InputError("decode needs context: the cached positions of each sequence, >= 0")
        if tokens not in (None, 1):
            raise InputError(f"decode makes one token a sequence: leave tokens out, got {tokens}")
        return cls(phase, whole("batch", batch), 1, whole("context", context, least=0))

    @property
    def positions(self) -> int:
        """Positions attended to: cached and new."""
        return self.context + self.tokens

    @property
    def fetched(self) -> int:
        """Positions whose K and V come from DRAM: all in prefill (new ones too), the cached ones in decode."""
        return self.context if self.phase == "decode" else self.positions


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value`` as an int; :class:`InputError` unless it is an integer in ``least``..``most``."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be an integer {limits}, got {value!r}")
    return number


@dataclass
class _Segment:
    """Ops in order, with the tensors each reads and writes (bytes); what is alive around each follows from that."""

    prefix: str
    layer: int
    bits: Numerics
    alive: dict[str, float]  # on entry
    steps: list[tuple[Op, Sequence[str], Mapping[str, float]]] = field(default_factory=list)

    def gemm(
        self,
        name: str,
        m: int,
        n: int,
        k: int,
        reads: Sequence[str],
        writes: str,
        batch: int = 1,
        sparsity: Profile | Sparsity | None = None,
        fetched: int | None = None,
    ) -> None:
        """``fetched``: elements of the KV cache that come from DRAM, a batch item; None when weights are stationary."""
        b = self.bits
        numbers = {
            "layer": self.layer, "batch": batch, "m": m, "n": n, "k": k,
            "weight_bits": b.weight_bits if fetched is None else b.kv_bits, "activation_bits": b.activation_bits,
            "output_bits": b.vector_bits, "accumulator_bits": b.accumulator_bits,
            "stored_elements": n * k if fetched is None else fetched,
        }  # fmt: skip
        source = "weights" if fetched is None else "kv"
        op = Op(self.prefix + name, "gemm", name, source, sparsity, numbers)
        self.steps.append((op, reads, {writes: batch * m * n * b.vector_bits / 8}))

    def vector(
        self,
        name: str,
        work: Sequence[tuple[str, float, float]],
        reads: Mapping[str, float],
        writes: Mapping[str, float],
        dram_read_bytes: float = 0,
        dram_write_bytes: float = 0,
    ) -> None:
        """``work``: (kind of ``vector_ops.csv``, elements, rows); ``reads`` and ``writes``: tensor to bytes."""
        counts = [operations(*item) for item in work]
        numbers = {
            "layer": self.layer,
            "alu_ops": sum(c[0] for c in counts), "special_function_ops": sum(c[1] for c in counts),
            "read_bytes": sum(reads.values()), "write_bytes": sum(writes.values()),
            "dram_read_bytes": dram_read_bytes, "dram_write_bytes": dram_write_bytes,
        }  # fmt: skip
        self.steps.append((Op(self.prefix + name, "vector", numbers=numbers), tuple(reads), writes))

    def ops(self) -> list[Op]:
        """The ops with ``live_in_bytes`` and ``live_out_bytes``; tensors nobody reads are what the segment leaves."""
        last = {tensor: i for i, (_, reads, _) in enumerate(self.steps) for tensor in reads}
        alive, found = dict(self.alive), []
        for i, (op, _, writes) in enumerate(self.steps):
            before = sum(alive.values())
            alive = {t: size for t, size in {**alive, **writes}.items() if last.get(t, len(self.steps)) > i}
            live = {"live_in_bytes": before, "live_out_bytes": sum(alive.values())}
            found.append(replace(op, numbers={**op.numbers, **live}))
        return found


def layer_ops(
    config: ModelConfig,
    layer: int,
    phase: str,
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
    bits: Numerics | None = None,
    ffn: int | None = None,
    sparsity: SparsityOf | None = None,
) -> list[Op]:
    """The 18 ops of decoder layer ``layer`` (from 0), residual stream in, residual stream out.

    ``ffn``: FFN channels kept in this layer (default: what the masks' shapes say, else the model's own); gate, up, down
    and what runs between them shrink with it. :class:`InputError` when a mask's shape is not out x in of its matrix.
    """
    step, bits = Step.of(phase, batch, tokens, context), bits or Numerics()
    masks = {t: sparsity(layer, t) if sparsity else None for t in MATRIX_TYPES}
    c = replace(config, ffn=_ffn_width(config, layer, ffn, masks))
    _check_shapes(c, layer, masks)
    rows, heads, kv_heads, dim = step.batch * step.tokens, c.heads, c.kv_heads, c.head_dim
    wide, narrow = bits.vector_bits / 8, bits.activation_bits / 8
    residual, query = rows * c.d_model, rows * heads * dim
    cache_bytes = rows * kv_heads * dim * bits.kv_bits / 8  # of K, and of V
    s = _Segment(f"layer{layer}.", layer, bits, {"x": residual * wide})

    def matrix(matrix_type: str, reads: str, writes: str) -> None:
        n, k = c.matrix_shape(matrix_type)
        s.gemm(matrix_type, rows, n, k, (reads,), writes, sparsity=masks[matrix_type])

    norm = [("rmsnorm", residual, rows), ("quantise", residual, rows)]
    s.vector("attn_norm", norm, {"x": residual * wide}, {"h": residual * narrow})
    for which in "qkv":
        matrix(f"attn_{which}", "h", which)
    new = {"k8": cache_bytes, "v8": cache_bytes} if step.phase == "decode" else {}
    vectors = rows * (heads + 2 * kv_heads)
    rotary = [("rotary", rows * (heads + kv_heads) * dim, 0), ("quantise", vectors * dim, vectors)]
    taken = {"q": query * wide, "k": rows * kv_heads * dim * wide, "v": rows * kv_heads * dim * wide}
    s.vector("rotary_kv_append", rotary, taken, {"q8": query * narrow, **new}, dram_write_bytes=2 * cache_bytes)

    group, grouped = step.batch * kv_heads, heads // kv_heads * step.tokens
    scores = group * grouped * step.positions
    s.gemm(
        "attn_scores", grouped, step.positions, dim, ("q8", *list(new)[:1]), "scores", group, None, step.fetched * dim
    )
    weigh = [("softmax", scores, group * grouped), ("causal_mask", scores if step.phase == "prefill" else 0, 0)]
    s.vector("softmax", weigh, {"scores": scores * wide}, {"p": scores * narrow})
    s.gemm("attn_values", grouped, dim, step.positions, ("p", *list(new)[1:]), "a", group, None, step.fetched * dim)
    s.vector("attn_quantise", [("quantise", query, rows)], {"a": query * wide}, {"a8": query * narrow})
    matrix("attn_output", "a8", "o")
    add = [("add", residual, 0)]
    s.vector("attn_add", add, {"x": residual * wide, "o": residual * wide}, {"y": residual * wide})

    hidden = rows * c.ffn
    s.vector("ffn_norm", norm, {"y": residual * wide}, {"f": residual * narrow})
    matrix("ffn_gate", "f", "gate")
    matrix("ffn_up", "f", "up")
    s.vector("swiglu", [("swiglu", hidden, 0)], {"gate": hidden * wide, "up": hidden * wide}, {"g": hidden * wide})
    s.vector("ffn_quantise", [("quantise", hidden, rows)], {"g": hidden * wide}, {"g8": hidden * narrow})
    matrix("ffn_down", "g8", "d")
    s.vector("ffn_add", add, {"y": residual * wide, "d": residual * wide}, {"z": residual * wide})
    return s.ops()


def embedding_ops(config: ModelConfig, step: Step, bits: Numerics) -> list[Op]:
    """The look-up: one row of ``vector_bits`` numbers a token from DRAM becomes the residual stream."""
    size = step.batch * step.tokens * config.d_model * bits.vector_bits / 8
    s = _Segment("", -1, bits, {})
    s.vector("embedding", [], {}, {"x": size}, dram_read_bytes=size)
    return s.ops()


def head_ops(config: ModelConfig, step: Step, bits: Numerics) -> list[Op]:
    """Final norm, ``lm_head`` (dense weights, vocabulary x d_model) and argmax, for the last token of each sequence."""
    wide, last = bits.vector_bits / 8, step.batch * config.d_model
    stream = last * step.tokens * wide
    logits = step.batch * config.vocab
    s = _Segment("", -1, bits, {"x": stream})
    norm = [("rmsnorm", last, step.batch), ("quantise", last, step.batch)]
    s.vector("final_norm", norm, {"x": last * wide}, {"h": last * bits.activation_bits / 8})
    s.gemm("lm_head", step.batch, config.vocab, config.d_model, ("h",), "logits")
    s.vector("argmax", [("argmax", logits, 0)], {"logits": logits * wide}, {"ids": step.batch * _TOKEN_ID_BYTES})
    return s.ops()


def _shape_of(given: Profile | Sparsity | None) -> tuple[int, ...] | None:
    if isinstance(given, Profile):
        return tuple(given.shape)
    return None if given is None or given.mask is None else tuple(given.mask.shape)


def _ffn_width(config: ModelConfig, layer: int, ffn: int | None, masks: Mapping[str, Profile | Sparsity | None]) -> int:
    if ffn is not None:
        return whole(f"layer {layer}: ffn width", ffn, most=config.ffn)
    for matrix_type in FFN_TYPES:
        shape = _shape_of(masks[matrix_type])
        if shape is not None and len(shape) == 2:
            width = shape[1] if matrix_type == "ffn_down" else shape[0]
            return whole(f"layer {layer}.{matrix_type}: ffn width", width, most=config.ffn)
    return config.ffn


def _check_shapes(config: ModelConfig, layer: int, masks: Mapping[str, Profile | Sparsity | None]) -> None:
    for matrix_type, given in masks.items():
        found, expected = _shape_of(given), config.matrix_shape(matrix_type)
        if found not in (None, expected):
            expected_text, found_text = (" x ".join(map(str, shape)) for shape in (expected, found))
            raise InputError(f"layer{layer}.{matrix_type}: mask must be out x in = {expected_text}, got {found_text}")
