"""Cut a trace over chips: whole layers to pipeline stages, and inside a stage every matrix over tensor-parallel chips.

Tensor parallelism after Shoeybi et al. 2019 (Megatron-LM), by ``matrix_type`` (GEMMs) and name (vector ops)::

    q, k, v, gate, up      N split: q by heads, k and v by KV heads (a KV head is copied where chips outnumber them)
    scores, values         heads split, and with them rotary_kv_append, softmax, attn_quantise
    swiglu, ffn_quantise   FFN channels split
    attn_output, ffn_down  K split; then an all-reduce of the M x N output
    lm_head                N split; then an all-gather of the logits
    embedding              d_model split; then an all-gather of the rows
    other GEMMs            N split, then an all-gather (a note says so); copied when N is smaller than the chips
    OP.rescale             the share of OP that the chip has: work beside a product is split as the product is
    other vector ops       copied: norms, residual adds, argmax

A vector op that is split takes its share of the work; each chip quantises its own slice with a scale of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sim.errors import InputError
from sim.parallel.zeros import ESTIMATE, INPUTS, OUTPUTS, Parts
from sim.sparsity.profile import Profile, ProfileTable
from sim.trace import Trace, sparse_columns

N_SPLIT = {"attn_q": "heads", "attn_k": "kv", "attn_v": "kv", "ffn_gate": "ffn", "ffn_up": "ffn"}
K_SPLIT = {"attn_output": "heads", "ffn_down": "ffn"}
PER_HEAD = ("attn_scores", "attn_values")
VECTORS = {
    "rotary_kv_append": "qkv", "kv_append": "qkv", "qkv_quantise": "qkv", "softmax": "heads", "attn_quantise": "heads",
    "swiglu": "ffn", "geglu": "ffn", "reglu": "ffn", "gelu": "ffn", "relu": "ffn", "silu": "ffn", "ffn_quantise": "ffn",
}  # fmt: skip
_PARTS = re.compile(r"_\d+$")  # ops in parts: windows of attention, sequences of a mixed batch, groups of experts
GATHERED = ("lm_head", "embedding")
RESCALE = "rescale"  # OP.rescale: vector work on the weights or partial sums of OP
LOOKUP = "lookup"  # OP.lookup: OP itself, as a vector op
KNOWN = {*N_SPLIT, *K_SPLIT, *PER_HEAD, *GATHERED}
GRAIN = 32  # features; parts are whole groups of the largest n:m pattern where there are enough
Range = tuple[int, int]


@dataclass(frozen=True)
class Transfer:
    """A collective after an op: ``kind`` all_reduce or all_gather, of ``size_bytes``."""

    kind: str
    size_bytes: float


@dataclass
class Shards:
    """``traces[r]``: what chip r runs, op for op as in the trace that was cut; ``transfers`` by op row."""

    traces: list[Trace]
    transfers: dict[int, Transfer]
    notes: list[str]


def stages(trace: Trace, count: int) -> list[Trace]:
    """Whole layers, in order, as evenly as possible; ops outside of layers stay with what runs before them.

    :class:`InputError` when there are fewer layers than stages, or a layer comes back after another one.
    """
    if count == 1:
        return [trace]
    layer = trace.ops["layer"].to_numpy(dtype=np.int64)
    order = [int(x) for x in pd.unique(layer) if x >= 0]
    if len(order) < count:
        raise InputError(f"pipeline must be <= the trace's {len(order)} layers, got {count}")
    place = {x: i * count // len(order) for i, x in enumerate(order)}
    stage, at = np.zeros(len(trace), dtype=np.int64), 0
    for i, x in enumerate(layer):
        at = place[int(x)] if x >= 0 else at
        stage[i] = at
    if (np.diff(stage) < 0).any():
        raise InputError("pipeline needs each layer's ops together, in the order they run: simulate the parts apart")
    parts = [trace.ops[stage == s].reset_index(drop=True) for s in range(count)]
    return [replace(trace, ops=ops, meta={**trace.meta, "stage": s}) for s, ops in enumerate(parts)]


def shards(trace: Trace, tensor: int) -> Shards:
    """``trace`` over ``tensor`` chips. :class:`InputError` when a layer has fewer attention heads than chips, and for
    products by table look-up."""
    if tensor == 1:
        return Shards([trace], {}, [])
    layers = {int(x): _Layer.of(ops, tensor) for x, ops in trace.ops.groupby("layer")}
    parts, transfers, unknown = Parts(trace), {}, set()
    ranks = [_Rank(r, trace, parts) for r in range(tensor)]
    gemms: dict[str, list[_Cut]] = {}
    for i, op in enumerate(trace.ops.to_dict("records")):
        owner, _, suffix = str(op["name"]).rpartition(".")
        if op["kind"] == "vector" and suffix == RESCALE and owner in gemms:
            cuts, transfer = [_beside(op, cut) for cut in gemms[owner]], None
        else:
            cuts, transfer = _rule(op, layers[int(op["layer"])], tensor)
        if op["kind"] == "gemm":
            gemms[op["name"]] = cuts
        if transfer is not None:
            transfers[i] = transfer
        if op["kind"] == "gemm" and op["matrix_type"] not in KNOWN:
            unknown.add(op["matrix_type"] or op["name"])
        for rank, cut in zip(ranks, cuts, strict=True):
            rank.add(op, cut, gathered=transfer is not None and transfer.kind == "all_gather")
    notes = [ESTIMATE] if parts.estimated else []
    if unknown:
        notes.append(f"no rule for {', '.join(sorted(unknown))}: outputs split, then all-gathered")
    if any(layer.copied_kv for layer in layers.values()):
        notes.append("more chips than KV heads: KV heads and their weights are copied")
    return Shards([rank.trace() for rank in ranks], transfers, notes)


def even(total: int, parts: int, grain: int = GRAIN) -> list[Range]:
    """0..total in as many contiguous ranges, as evenly as whole grains allow (single features when there are few)."""
    if total < parts:
        raise InputError(f"tensor must be <= the {total} features of every matrix that is split, got {parts}")
    grain = grain if total // parts >= grain else 1
    cuts = [total * i // parts // grain * grain for i in range(parts)] + [total]
    return list(pairwise(cuts))


@dataclass(frozen=True)
class _Layer:
    """How one layer's features fall to chips: ranges of features, one a chip, by what is cut; and heads."""

    ranges: dict[str, list[Range]]
    heads: list[Range]
    kv_heads: list[Range]
    all_kv_heads: int
    group: int

    def cuts(self, what: str | None, features: float) -> bool:
        """Whether the features called ``what`` are cut in this layer, and are as many as the op has."""
        return what in self.ranges and self.ranges[what][-1][1] == features

    @property
    def copied_kv(self) -> bool:
        return bool(self.kv_heads) and sum(b - a for a, b in self.kv_heads) > self.all_kv_heads

    @classmethod
    def of(cls, ops: pd.DataFrame, tensor: int) -> _Layer:
        size = {str(row.matrix_type): row for row in ops[ops["kind"] == "gemm"].itertuples()}
        ranges: dict[str, list[Range]] = {}
        ffn = next((int(size[t].n) for t in ("ffn_gate", "ffn_up") if t in size), 0)
        if "ffn_down" in size or ffn:
            ranges["ffn"] = even(ffn or int(size["ffn_down"].k), tensor)
        if "attn_scores" not in size or not {"attn_q", "attn_k"} <= set(size):
            for what, width in (("heads", "attn_q"), ("kv", "attn_k")):
                if width in size:
                    ranges[what] = even(int(size[width].n), tensor)
            return cls(ranges, [], [], 0, 1)
        dim = int(size["attn_scores"].k)
        heads, kv_heads = int(size["attn_q"].n) // dim, int(size["attn_k"].n) // dim
        mine, mine_kv = _heads(heads, kv_heads, tensor)
        ranges["heads"] = [(a * dim, b * dim) for a, b in mine]
        ranges["kv"] = [(a * dim, b * dim) for a, b in mine_kv]
        return cls(ranges, mine, mine_kv, kv_heads, heads // kv_heads)


def _heads(heads: int, kv_heads: int, tensor: int) -> tuple[list[Range], list[Range]]:
    """(query heads, KV heads) of each chip: whole groups, or parts of one group where chips outnumber the KV heads."""
    if heads < tensor:
        raise InputError(f"tensor must be <= the trace's {heads} attention heads, got {tensor}")
    group = heads // kv_heads
    if tensor <= kv_heads:
        kv = even(kv_heads, tensor, 1)
        return [(a * group, b * group) for a, b in kv], kv
    owner = [r * kv_heads // tensor for r in range(tensor)]
    if group < max(map(owner.count, owner)):
        raise InputError(f"tensor {tensor} leaves a chip without a head: {kv_heads} groups of {group} heads")
    inside = [even(group, owner.count(j), 1) for j in range(kv_heads)]
    mine = [(j * group + a, j * group + b) for j, ranges in enumerate(inside) for a, b in ranges]
    return mine, [(j, j + 1) for j in owner]


@dataclass(frozen=True)
class _Cut:
    """What a chip has of an op: ``numbers`` that change, the part of the mask (axis, start, stop), whether the input is
    cut too, and which share of the op's tensors it holds."""

    numbers: dict[str, float] = field(default_factory=dict)
    mask: tuple[int, int, int] | None = None
    cut_input: bool = False
    share: float = 1.0


def _rule(op: dict[str, Any], layer: _Layer, tensor: int) -> tuple[list[_Cut], Transfer | None]:
    """(what each chip has of the op, the collective after it)."""
    name = op["matrix_type"] or _PARTS.sub("", str(op["name"]).rsplit(".", 1)[-1])
    if op["kind"] == "vector":
        return _vector_rule(op, name, layer, tensor)
    written = op["batch"] * op["m"] * op["n"] * op["output_bits"] / 8
    if name in PER_HEAD and layer.heads:
        return [_per_head(op, layer, r) for r in range(tensor)], None
    if layer.cuts(K_SPLIT.get(name), op["k"]):
        cuts = [_part(op, "k", INPUTS, a, b) for a, b in layer.ranges[K_SPLIT[name]]]
        return cuts, Transfer("all_reduce", written)
    if layer.cuts(N_SPLIT.get(name), op["n"]):
        return [_part(op, "n", OUTPUTS, a, b) for a, b in layer.ranges[N_SPLIT[name]]], None
    if op["n"] < tensor:
        return [_Cut()] * tensor, None
    return [_part(op, "n", OUTPUTS, a, b) for a, b in even(int(op["n"]), tensor)], Transfer("all_gather", written)


def _part(op: dict[str, Any], dim: str, axis: int, start: int, stop: int) -> _Cut:
    share = (stop - start) / op[dim]
    scaled = ["stored_elements", "nonzeros", "weight_scale_bytes"] + (["input_elements"] if axis == INPUTS else [])
    numbers = {dim: stop - start} | {name: op[name] * share for name in scaled}
    return _Cut(numbers, (axis, start, stop), axis == INPUTS, share)


def _per_head(op: dict[str, Any], layer: _Layer, rank: int) -> _Cut:
    """A chip's share of an op with one GEMM a sequence and KV head, of the rows of all query heads of its group."""
    (a, b), (kv_a, kv_b) = layer.heads[rank], layer.kv_heads[rank]
    sequences, rows = op["batch"] / layer.all_kv_heads, op["m"] / layer.group
    per_group = (b - a) / (kv_b - kv_a)
    share = (b - a) / (layer.all_kv_heads * layer.group)
    return _Cut({"batch": sequences * (kv_b - kv_a), "m": rows * per_group}, None, True, share)


def _beside(op: dict[str, Any], product: _Cut) -> _Cut:
    """A chip's share of the work beside a product that it has ``product`` of."""
    return _Cut(_scaled(op, product.share), share=product.share) if product.numbers else _Cut()


def _vector_rule(op: dict[str, Any], name: str, layer: _Layer, tensor: int) -> tuple[list[_Cut], Transfer | None]:
    if name == LOOKUP:
        raise InputError(f"op {op['name']}: a product by table look-up cannot be cut over chips; tensor must be 1")
    if name == "embedding":
        share = 1 / tensor
        cut = _Cut(_scaled(op, share) | {"write_bytes": op["write_bytes"]}, share=share)
        return [cut] * tensor, Transfer("all_gather", op["write_bytes"])
    what = VECTORS.get(name)
    if what is None or (what != "ffn" and not layer.heads) or (what == "ffn" and "ffn" not in layer.ranges):
        return [_Cut()] * tensor, None
    if what == "ffn":
        ranges = layer.ranges["ffn"]
        shares = [(b - a) / ranges[-1][1] for a, b in ranges]
        return [_Cut(_scaled(op, s), None, True, s) for s in shares], None
    cuts = []
    for (a, b), (kv_a, kv_b) in zip(layer.heads, layer.kv_heads, strict=True):
        all_heads = layer.all_kv_heads * layer.group
        share, kv = (b - a) / all_heads, (kv_b - kv_a) / layer.all_kv_heads
        if what == "qkv":
            share = (b - a + 2 * (kv_b - kv_a)) / (all_heads + 2 * layer.all_kv_heads)
        numbers = _scaled(op, share) | {"dram_write_bytes": op["dram_write_bytes"] * kv}
        cuts.append(_Cut(numbers, None, True, share))
    return cuts, None


def _scaled(op: dict[str, Any], share: float) -> dict[str, float]:
    names = ("alu_ops", "special_function_ops", "read_bytes", "write_bytes", "dram_read_bytes", "dram_write_bytes")
    return {name: op[name] * share for name in names}


@dataclass
class _Rank:
    """Builds one chip's trace, op by op, with what is alive on that chip."""

    rank: int
    whole: Trace
    parts: Parts
    rows: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    left: tuple[float, float] = (-1.0, 0.0)  # alive after the op before: in the whole trace, on this chip

    def add(self, op: dict[str, Any], cut: _Cut, gathered: bool) -> None:
        row = {**op, **cut.numbers}
        if op["profile"] >= 0:
            at = int(op["profile"])
            key = cut.mask or (OUTPUTS, 0, int(op["n"]))
            found, mask = self.parts.profile(at, *key), self.parts.mask(at, *key)
            row |= sparse_columns(found) | {"profile": len(self.profiles)}
            self.profiles.append(found)
            if mask is not None:
                self.masks.append(mask)
        row |= self._alive(op, row, cut, gathered)
        self.left = (op["live_out_bytes"], row["live_out_bytes"])
        self.rows.append(row)

    def _alive(self, op: dict[str, Any], row: dict[str, Any], cut: _Cut, gathered: bool) -> dict[str, float]:
        """Bytes alive around the op on this chip: whole tensors where chips hold copies, a share of cut ones."""
        if not cut.numbers:
            return {}
        before = self.left[1] if op["live_in_bytes"] == self.left[0] else op["live_in_bytes"]
        written, mine = _written(op), _written(op if gathered else row)
        freed = op["live_in_bytes"] + written - op["live_out_bytes"]
        after = max(mine, before + mine - freed * (cut.share if cut.cut_input else 1.0))
        return {"live_in_bytes": before, "live_out_bytes": after}

    def trace(self) -> Trace:
        """The finished trace."""
        counts = [p.counts for p in self.profiles]
        return Trace(
            pd.DataFrame(self.rows, columns=list(self.whole.ops.columns)),
            ProfileTable.from_profiles(self.profiles) if self.profiles else None,
            {**self.whole.meta, "chip": self.rank},
            [c for c in counts if c is not None] if counts and all(c is not None for c in counts) else None,
            self.masks if self.masks and len(self.masks) == len(self.profiles) else None,
        )


def _written(op: dict[str, Any]) -> float:
    if op["kind"] == "vector":
        return float(op["write_bytes"])
    return float(op["batch"] * op["m"] * op["n"] * op["output_bits"] / 8)
