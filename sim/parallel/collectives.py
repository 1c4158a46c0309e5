"""Collectives between chips in closed form: seconds, bytes on the wire, energy.

The alpha-beta model (Hockney 1994): a message costs alpha = ``link_latency_ns`` a hop plus its bytes over the bandwidth
of the channels it crosses; channels that several messages need at once are shared. An algorithm is three numbers: the
hops that wait for each other, the bytes that the busiest channel carries, and the bytes summed over all channels.
A chip posts messages to several peers back to back: alpha is latency, not occupancy.

Algorithms, for p chips and n bytes (Thakur, Rabenseifner and Gropp 2005; Chan et al. 2007)::

    ring    reduce-scatter, all-gather: (p-1) alpha + (p-1)/p n beta, all-reduce is both: bandwidth-optimal.
            On a line or a mesh of odd size the ring is folded: two hops a step, one direction (links carry both ways).
    direct  every chip sends to every other at once: one step, all-reduce two; on rings and meshes messages
            share channels
    tree    binomial: ceil(log2 p) steps of all n bytes, all-reduce twice that: for few bytes
    by_dimension   mesh: reduce-scatter along rows, all-reduce along columns, all-gather along rows
    scatter_all_gather   broadcast of many bytes (van de Geijn)

``n`` is: the vector of every chip (all_reduce, reduce_scatter), the gathered vector (all_gather), all that one chip
sends and keeps (all_to_all), the message (broadcast, point_to_point). The fastest algorithm is taken unless one is
named. Local additions and copies are not charged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sim.errors import InputError, nearest
from sim.parallel.network import Chips


@dataclass(frozen=True)
class Plan:
    """One algorithm: ``hops`` that follow each other, bytes on the busiest channel, bytes on all channels together."""

    hops: float
    channel_bytes: float
    wire_bytes: float

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.hops + other.hops,
            self.channel_bytes + other.channel_bytes,
            self.wire_bytes + other.wire_bytes,
        )

    def everywhere(self, copies: int) -> Plan:
        """As many of them at once, each over channels of its own."""
        return Plan(self.hops, self.channel_bytes, copies * self.wire_bytes)


@dataclass(frozen=True)
class Collective:
    """What one collective costs; ``seconds`` includes ``latency_seconds``."""

    kind: str
    algorithm: str
    seconds: float
    latency_seconds: float
    bytes_on_wire: float
    energy_pj: float


def all_reduce(chips: Chips, size_bytes: float, algorithm: str | None = None) -> Collective:
    """Every chip ends with the sum of all chips' vectors of ``size_bytes``."""
    n, p = _bytes(size_bytes), chips.count
    plans = {
        "ring": _ring(chips, n) + _ring(chips, n),
        "direct": _exchange(chips, n / p) + _exchange(chips, n / p),
        "tree": _tree(chips, n) + _tree(chips, n),
    }
    rows, cols = chips.shape
    if rows > 1 and cols > 1:
        along, across = chips.line(cols), chips.line(rows)
        columns = (_ring(across, n / cols) + _ring(across, n / cols)).everywhere(cols)
        plans["by_dimension"] = (_ring(along, n) + _ring(along, n)).everywhere(rows) + columns
    return _chosen("all_reduce", chips, plans, algorithm)


def reduce_scatter(chips: Chips, size_bytes: float, algorithm: str | None = None) -> Collective:
    """Every chip starts with a vector of ``size_bytes`` and ends with its 1/p of the sum."""
    return _half("reduce_scatter", chips, size_bytes, algorithm)


def all_gather(chips: Chips, size_bytes: float, algorithm: str | None = None) -> Collective:
    """Every chip starts with its 1/p and ends with all ``size_bytes``."""
    return _half("all_gather", chips, size_bytes, algorithm)


def all_to_all(chips: Chips, size_bytes: float, algorithm: str | None = None) -> Collective:
    """Every chip holds ``size_bytes`` and sends another 1/p of it to each other chip (experts, transposes)."""
    return _chosen("all_to_all", chips, {"direct": _exchange(chips, _bytes(size_bytes) / chips.count)}, algorithm)


def broadcast(chips: Chips, size_bytes: float, algorithm: str | None = None) -> Collective:
    """One chip's ``size_bytes`` to all."""
    n = _bytes(size_bytes)
    plans = {"tree": _tree(chips, n), "scatter_all_gather": _scatter(chips, n) + _ring(chips, n)}
    return _chosen("broadcast", chips, plans, algorithm)


def point_to_point(chips: Chips, size_bytes: float, hops: int = 1, sharing: int = 1) -> Collective:
    """``size_bytes`` from one chip to another ``hops`` channels away, while ``sharing`` such messages, each between
    chips of its own, need the same channels; the bytes on the wire are of this message only."""
    n = _bytes(size_bytes)
    return _chosen("point_to_point", chips, {"direct": Plan(hops, sharing * n, hops * n)}, None)


def hierarchical_all_reduce(inside: Chips, across: Chips, size_bytes: float) -> Collective:
    """All-reduce over ``across.count`` boxes of ``inside.count`` chips: reduce-scatter in every box, all-reduce between
    boxes of all parts (a box's ``across`` links carry every part), all-gather in every box."""
    steps = (
        reduce_scatter(inside, size_bytes),
        all_reduce(across, size_bytes),
        all_gather(inside, size_bytes),
    )
    copies = (across.count, 1, across.count)
    return Collective(
        "all_reduce",
        f"hierarchical ({', '.join(s.algorithm for s in steps)})",
        sum(s.seconds for s in steps),
        sum(s.latency_seconds for s in steps),
        sum(c * s.bytes_on_wire for c, s in zip(copies, steps, strict=True)),
        sum(c * s.energy_pj for c, s in zip(copies, steps, strict=True)),
    )


def _half(kind: str, chips: Chips, size_bytes: float, algorithm: str | None) -> Collective:
    n = _bytes(size_bytes)
    plans = {"ring": _ring(chips, n), "direct": _exchange(chips, n / chips.count)}
    rows, cols = chips.shape
    if rows > 1 and cols > 1:
        columns = _ring(chips.line(rows), n / cols).everywhere(cols)
        plans["by_dimension"] = _ring(chips.line(cols), n).everywhere(rows) + columns
    return _chosen(kind, chips, plans, algorithm)


def _bytes(size_bytes: float) -> float:
    if not 0 <= size_bytes < math.inf:
        raise InputError(f"size_bytes must be >= 0 and finite, got {size_bytes}")
    return float(size_bytes)


def _ring(chips: Chips, n: float) -> Plan:
    """Reduce-scatter or all-gather of n bytes around a ring of all chips."""
    p = chips.count
    if p == 1:
        return Plan(0, 0.0, 0.0)
    sent = (p - 1) / p * n
    rows, cols = chips.shape
    folded = chips.topology == "mesh" and p > 2 and (min(rows, cols) == 1 or p % 2 == 1)
    if folded:
        return Plan(2 * (p - 1), sent, 2 * p * sent)
    return Plan(p - 1, sent / min(2, chips.ports), p * sent)


def _exchange(chips: Chips, chunk: float) -> Plan:
    """Every chip sends ``chunk`` bytes to each other chip, by shortest paths (mesh: along the row first)."""
    p = chips.count
    if p == 1:
        return Plan(0, 0.0, 0.0)
    if chips.topology == "switch":
        return Plan(1, (p - 1) * chunk, p * (p - 1) * chunk)
    if chips.topology == "all_to_all":
        return Plan(1, chunk, p * (p - 1) * chunk)
    if chips.topology == "ring":
        crossing = p * p // 4 * chunk  # hops of one chip's messages
        return Plan(p // 2, crossing / chips.ports, p * crossing)
    rows, cols = chips.shape
    busiest = max(rows * (cols * cols // 4), cols * (rows * rows // 4))
    hops = rows * rows * cols * (cols * cols - 1) // 3 + cols * cols * rows * (rows * rows - 1) // 3
    return Plan(rows + cols - 2, busiest * chunk, hops * chunk)


def _tree(chips: Chips, n: float) -> Plan:
    """Broadcast, or reduction, of n bytes along a binomial tree (mesh: along one row, then along all columns)."""
    rows, cols = chips.shape
    if chips.topology in ("switch", "all_to_all"):
        steps = _log2(chips.count)
        return Plan(steps, steps * n, (chips.count - 1) * n)
    crossed = _line_tree_hops(cols) + cols * _line_tree_hops(rows)
    return Plan(rows + cols - 2, (_log2(rows) + _log2(cols)) * n, crossed * n)


def _scatter(chips: Chips, n: float) -> Plan:
    """One chip (a corner of a mesh) sends 1/p of n bytes to each other chip."""
    p = chips.count
    if p == 1:
        return Plan(0, 0.0, 0.0)
    if chips.topology in ("switch", "all_to_all"):
        return Plan(1, (p - 1) / p * n / chips.ports, (p - 1) / p * n)
    if chips.topology == "ring":
        return Plan(p // 2, -(-(p - 1) // chips.ports) / p * n, p * p // 4 / p * n)
    rows, cols = chips.shape
    hops = rows * cols * (cols - 1) // 2 + cols * rows * (rows - 1) // 2
    return Plan(rows + cols - 2, max((cols - 1) * rows, rows - 1) / p * n, hops / p * n)


def _log2(count: int) -> int:
    return (count - 1).bit_length()


def _line_tree_hops(count: int) -> int:
    """Channels that a binomial broadcast crosses on a line: at distance d, every 2d-th chip sends d further."""
    return sum(d * len(range(0, count - d, 2 * d)) for d in (1 << s for s in range(_log2(count))))


def _chosen(kind: str, chips: Chips, plans: Mapping[str, Plan], algorithm: str | None) -> Collective:
    """The fastest plan, or the one asked for; nothing at all on one chip."""
    if algorithm is not None and algorithm not in plans:
        known = ", ".join(plans)
        raise InputError(
            f"{kind}: algorithm must be one of {known} here, got '{algorithm}', {nearest(algorithm, plans)}"
        )
    if chips.count == 1:
        return Collective(kind, "none", 0.0, 0.0, 0.0, 0.0)
    found = [
        Collective(
            kind,
            name,
            plan.hops * chips.link_latency_ns * 1e-9 + plan.channel_bytes / (chips.channel_gb_per_s * 1e9),
            plan.hops * chips.link_latency_ns * 1e-9,
            plan.wire_bytes,
            8 * plan.wire_bytes * chips.energy_pj_per_bit,
        )
        for name, plan in plans.items()
        if algorithm in (None, name)
    ]
    return min(found, key=lambda c: (c.seconds, c.bytes_on_wire))
