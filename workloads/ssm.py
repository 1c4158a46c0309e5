"""State-space layers: Mamba's selective scan, and Mamba-2 as chunked matrix products (SSD) or as a recurrence.

The state (``inner x state`` numbers a sequence and layer) and the last ``conv - 1`` inputs of the convolution are all
that is kept: read from DRAM where a sequence continues, written back after the pass, at ``vector_bits``. A scan keeps
the state on chip. SSD pads the last chunk; its chunk's scores and states exist at once and stay on chip.
Sources: Gu and Dao 2023 (Mamba, arXiv:2312.00752), Dao and Gu 2024 (Mamba-2, arXiv:2405.21060, listing 1).
"""

from __future__ import annotations

from workloads.layer import Layer
from workloads.segment import Work
from workloads.steps import Sequences


def ssm_ops(layer: Layer, reads: str, writes: str) -> None:
    """From the quantised tensor ``reads`` to the output projection ``writes``."""
    s, ops, rows = layer.model.ssm, layer.ops, layer.rows
    wide, narrow, inner = layer.wide, layer.narrow, rows * layer.model.ssm.inner
    layer.matrix("ssm_in", reads, "zx")
    taps = s.conv_channels * (s.conv - 1) * wide
    conv: list[Work] = [("mac", rows * s.conv_channels * s.conv, 0), ("silu", rows * s.conv_channels, 0)]
    given = {"z": inner * wide, "u": rows * (s.in_width - s.inner) * wide}
    if s.version == 1:
        conv.append(("quantise", inner, rows))
        given["u8"] = inner * narrow
    ops.vector("ssm_conv", conv, {"zx": rows * s.in_width * wide}, given, *_kept(layer, taps))
    if s.version == 1:
        _scan(layer)
        gate: list[Work] = []
    else:
        groups = layer.step.sequences
        for i, g in enumerate(groups):
            (_update if g.tokens == 1 else _chunks)(layer, g, f"_{i}" if len(groups) > 1 else "")
        gate = [("rmsnorm", inner, rows)]
    outputs = {t: size for _, _, given in ops.steps for t, size in given.items() if t.startswith("y")}
    work: list[Work] = [("silu", inner, 0), ("mul", inner, 0), *gate, ("quantise", inner, rows)]
    ops.vector("ssm_gate", work, {**outputs, "z": inner * wide}, {"g8": inner * narrow})
    layer.matrix("ssm_out", "g8", writes)


def _kept(layer: Layer, size: float, only: Sequences | None = None) -> tuple[float, float]:
    """(DRAM reads, DRAM writes) of ``size`` bytes a sequence that are kept from pass to pass."""
    groups = layer.step.sequences if only is None else (only,)
    return size * sum(g.count for g in groups if g.context), size * sum(g.count for g in groups)


def _scan(layer: Layer) -> None:
    s, ops, rows, wide = layer.model.ssm, layer.ops, layer.rows, layer.wide
    inner, low, bc = rows * s.inner, rows * s.rank, rows * 2 * s.state
    layer.matrix("ssm_x", "u8", "xbc")
    ops.vector(
        "ssm_dt_quantise", [("quantise", low, rows)], {"xbc": (low + bc) * wide},
        {"dt8": low * layer.narrow, "bc": bc * wide},
    )  # fmt: skip
    layer.matrix("ssm_dt", "dt8", "dt")
    work: list[Work] = [("add", inner, 0), ("softplus", inner, 0), ("selective_scan", inner * s.state, inner)]
    taken = {"u": inner * wide, "bc": bc * wide, "dt": inner * wide}
    ops.vector("ssm_scan", work, taken, {"y": inner * wide}, *_kept(layer, s.inner * s.state * wide))


def _steps(layer: Layer, g: Sequences) -> list[Work]:
    """dt of every head: bias, softplus, decay."""
    heads = g.rows * layer.model.ssm.heads
    return [("add", heads, 0), ("softplus", heads, 0), ("decay", heads, 0)]


def _update(layer: Layer, g: Sequences, tag: str) -> None:
    s, wide = layer.model.ssm, layer.wide
    inner = g.rows * s.inner
    work: list[Work] = [*_steps(layer, g), ("ssd_update", inner * s.state, inner)]
    taken = {"u": g.rows * (s.in_width - s.inner) * wide}
    state = s.inner * s.state * wide
    layer.ops.vector("ssm_update" + tag, work, taken, {"y" + tag: inner * wide}, *_kept(layer, state, g))


def _chunks(layer: Layer, g: Sequences, tag: str) -> None:
    """SSD: scores inside chunks, states of chunks, states passed on, what they add to the outputs."""
    s, ops, wide, narrow = layer.model.ssm, layer.ops, layer.wide, layer.narrow
    q = min(s.chunk, g.tokens)
    chunks = g.count * -(-g.tokens // q)
    width, rows = s.inner // s.heads, chunks * q
    inner, states, pairs = rows * s.inner, chunks * s.inner * s.state, chunks * s.heads * q * q
    prepare: list[Work] = [*_steps(layer, g), ("mul", inner, 0), ("quantise", rows * s.conv_channels, rows)]
    ops.vector(
        "ssd_quantise" + tag, prepare, {"u": g.rows * (s.in_width - s.inner) * wide},
        {"xbc8": rows * s.conv_channels * narrow, "skip": inner * wide},
    )  # fmt: skip

    def product(name: str, batch: int, m: int, n: int, k: int, reads: tuple[str, ...], writes: str) -> None:
        ops.gemm(name + tag, m, n, k, reads, writes, batch, None, 0, "activations", name)

    product("ssd_scores", chunks * s.groups, q, q, s.state, ("xbc8",), "cb")
    mask: list[Work] = [("ssd_mask", pairs, 0), ("quantise", pairs, rows * s.heads)]
    ops.vector("ssd_mask" + tag, mask, {"cb": chunks * s.groups * q * q * wide}, {"l8": pairs * narrow})
    product("ssd_diagonal", chunks * s.heads, q, width, q, ("l8", "xbc8"), "inside")
    product("ssd_states", chunks * s.heads, width, s.state, q, ("xbc8",), "st")
    carry: list[Work] = [("mac", states, 0), ("quantise", states, chunks * s.inner)]
    state = s.inner * s.state * wide
    ops.vector("ssd_pass" + tag, carry, {"st": states * wide}, {"st8": states * narrow}, *_kept(layer, state, g))
    product("ssd_carried", chunks * s.heads, q, width, s.state, ("xbc8", "st8"), "before")
    taken = {"inside": inner * wide, "before": inner * wide, "skip": inner * wide}
    ops.vector("ssd_sum" + tag, [("mac", inner, 0), ("mac", inner, 0)], taken, {"y" + tag: g.rows * s.inner * wide})
