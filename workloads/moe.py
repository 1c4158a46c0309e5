"""Mixture of experts: router, dispatch, the experts that were hit, combination, and shared experts.

Experts of like load are one op with one batch item an expert: its own weights, its own rows. Experts run one group
after another on one machine; the busiest and the mean load in the trace's ``meta`` tell what a barrier between chips
would cost. Sources: Shazeer et al. 2017; Dai et al. 2024 (DeepSeekMoE: shared experts, fine-grained experts).
"""

from __future__ import annotations

from workloads.feed_forward import feed_forward_ops
from workloads.layer import Layer
from workloads.routing import Routing, grouped, loads
from workloads.segment import Work


def moe_ops(layer: Layer, reads: str, writes: str, routing: Routing) -> None:
    """From the quantised tensor ``reads`` to the summed outputs ``writes``."""
    e, ops, rows, d = layer.model.moe, layer.ops, layer.rows, layer.model.d_model
    wide, narrow, copies = layer.wide, layer.narrow, layer.rows * e.top_k
    layer.matrix("moe_router", reads, "logits")
    choose: list[Work] = [("softmax", rows * e.experts, rows), ("argmax", rows * e.experts * e.top_k, 0)]
    ops.vector("moe_route", choose, {"logits": rows * e.experts * wide}, {"weights": copies * wide})
    move: list[Work] = [("im2col", copies * d, 0)]
    ops.vector("moe_dispatch", move, {reads: rows * d * narrow}, {"routed": copies * d * narrow})
    found = loads(e, rows, routing, layer.index)
    if routing.offloaded:
        elements = sum(n * k for kind, (n, k) in layer.shapes.items() if kind.startswith("expert_")) * len(found)
        size = elements * layer.bits.weight_bits / 8 * routing.offloaded * routing.slowdown
        ops.vector("expert_fetch", [], {}, {}, dram_read_bytes=size)
    groups = grouped(found, routing.classes)
    outputs: dict[str, float] = {}
    for i, (experts, tokens) in enumerate(groups):
        tag = f"_{i}" if len(groups) > 1 else ""
        feed_forward_ops(layer, ("routed",), "e" + tag, "expert", tokens, experts, tag)
        outputs["e" + tag] = experts * tokens * d * wide
    combine: list[Work] = [("mac", copies * d, 0)]
    if e.shared_width:
        feed_forward_ops(layer, (reads,), "shared", "shared")
        outputs["shared"] = rows * d * wide
        combine.append(("add", rows * d, 0))
    if e.shared_gate:
        layer.matrix("shared_router", reads, "shared_weight")
        outputs["shared_weight"] = rows * wide
        combine += [("sigmoid", rows, 0), ("mul", rows * d, 0)]
    ops.vector("moe_combine", combine, {**outputs, "weights": copies * wide}, {writes: rows * d * wide})
