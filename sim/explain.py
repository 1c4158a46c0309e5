"""The chosen mappings, explained: the loop nest of every op as people write it (:mod:`sim.nest`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.mapping import _AXES, T_K, T_M, T_N, T_ORDER, TIER_COLUMNS
from sim.memory.keepers import fits, held_bytes
from sim.nest import Level, Loop, Nest, Unroll
from sim.search import M_BUFFERS, M_BYPASS, M_NEST, M_SINGLE, M_SPLIT_M
from sim.spec import Accelerator
from sim.trace import Trace

if TYPE_CHECKING:
    from sim.analytic import Detail

_SPATIAL = {"ws": ("k", "n"), "os": ("m", "n"), "is": ("k", "m")}


def tiles_of(mapping: NDArray[np.float64], tiers: int) -> list[tuple[tuple[int, int, int], int]]:
    """((tile m, n, k), loop order code) of every tier of a chosen mapping."""
    found = []
    for tier in range(tiers):
        at = M_NEST + tier * TIER_COLUMNS
        sizes = (int(mapping[at + T_M]), int(mapping[at + T_N]), int(mapping[at + T_K]))
        found.append((sizes, int(mapping[at + T_ORDER])))
    return found


def in_one_line(mapping: NDArray[np.float64], sizes: NDArray[np.float64], tiers: int) -> str:
    """The loops of all tiers, outermost first, e.g. ``for n in 0:1536:512 | for k in 0:576:192 [64x512x576 ...]``."""
    outside = tuple(int(x) for x in sizes)
    parts, tiles = [], []
    split = mapping[M_SPLIT_M : M_SPLIT_M + 3]
    for tier, (tile, order) in enumerate(tiles_of(mapping, tiers)):
        if tier == 1:
            outside = tuple(int(np.ceil(o / s)) for o, s in zip(outside, split, strict=True))
        loops = [f"for {'mnk'[a]} in 0:{outside[a]}:{tile[a]}" for a in _AXES[order] if tile[a] < outside[a]]
        parts.append(", ".join(loops) if loops else "one tile")
        tiles.append("x".join(str(t) for t in tile))
        outside = tile
    over = "".join(f", {d} over {int(s)} arrays" for d, s in zip("mnk", split, strict=True) if s > 1)
    return f"{' | '.join(parts)} [{' | '.join(tiles)}, {int(mapping[M_BUFFERS])} buffers{over}]"


@dataclass(frozen=True)
class Nests(Mapping[str, Nest]):
    """Op name to its loop nest; printed, ops of one mapping share a nest."""

    machine: Accelerator
    trace: Trace
    detail: Detail

    def _gemms(self) -> list[int]:
        return [i for i, kind in enumerate(self.trace.ops["kind"]) if kind == "gemm"]

    def __iter__(self) -> Iterator[str]:
        return iter(str(self.trace.ops["name"].iloc[i]) for i in self._gemms())

    def __len__(self) -> int:
        return len(self._gemms())

    def __getitem__(self, name: str) -> Nest:
        for i in self._gemms():
            if self.trace.ops["name"].iloc[i] == name:
                return self.nest(i)
        raise KeyError(name)

    def nest(self, i: int) -> Nest:
        """The nest of the trace's op ``i``: one batch item, one array's share inside tier 1."""
        machine, mapping = self.machine, self.detail.mappings[i]
        op = self.trace.ops.iloc[i]
        tiers = machine.tiers
        tiles = tiles_of(mapping, len(tiers))
        loops = [Loop("mnk"[a], tile[a]) for tile, order in tiles for a in _AXES[order]]
        sizes = {d: int(op[d]) for d in "mnk"}
        split = mapping[M_SPLIT_M : M_SPLIT_M + 3]
        if (split > 1).any():  # inside tier 1: the first array's share
            share = [min(t, int(np.ceil(sizes[d] / s))) for d, t, s in zip("mnk", tiles[0][0], split, strict=True)]
            loops = loops[:3] + [Loop(x.dim, min(x.tile, share["mnk".index(x.dim)])) for x in loops[3:]]
        resident_in, resident_out = bool(self.detail.states[i] & 1), self.detail.states[i] > 1
        nest_table = np.zeros((len(tiers) + 1, 3))
        for t, (tile, _) in enumerate(tiles):
            nest_table[t + 1] = tile
        levels = [Level("dram", at=0)]
        slot = 0
        for t, names in enumerate(tiers):
            for name in names:
                keeps = [o for o in machine.memory[name].keeps if t == 0 or self._holds(i, slot, nest_table, t + 1, o)]
                resident = {"inputs": resident_in and t == 0, "outputs": resident_out and t == 0}
                places = {o: 0 if resident.get(o) else 3 * (t + 1) for o in keeps}
                if keeps:
                    levels.append(Level(name, keeps=tuple(keeps), at=places))
                slot += 1
        down, across = _SPATIAL[machine.array.dataflow]
        if machine.array.kind == "lanes":
            down, across = ("n" if machine.sparsity.orientation == "output" else "k"), "m"
        if machine.array.kind == "outer_product":
            down, across = "m", "n"
        inner = dict(zip("mnk", tiles[-1][0], strict=True))
        spatial = {
            down: Unroll("rows", min(machine.array.rows, inner[down])),
            across: Unroll("cols", min(machine.array.cols, inner[across])),
        }
        bits = {
            "weights": int(op["weight_bits"]),
            "inputs": int(op["activation_bits"]),
            "outputs": int(op["output_bits"]),
            "partial_sums": int(op["accumulator_bits"]),
        }
        return Nest(sizes, loops, levels, spatial, bits=bits)

    def _holds(self, i: int, slot: int, nest: NDArray[np.float64], tier: int, operand: str) -> bool:
        detail, mapping = self.detail, self.detail.mappings[i]
        room = held_bytes(detail.kernel, self.trace.numeric()[i], detail.sparse[i], slot, nest, tier)
        how = fits(detail.kernel, slot, room)
        held = how == 2 or (how == 1 and mapping[M_SINGLE] > 0)
        passed = (int(mapping[M_BYPASS]) >> (tier - 2)) & 1
        return bool(held and not (operand == "outputs" and passed))

    def text(self) -> str:
        """All nests, one under the other."""
        found: dict[str, list[str]] = {}
        for i in self._gemms():
            found.setdefault(self.nest(i).text(), []).append(str(self.trace.ops["name"].iloc[i]))
        parts = []
        for nest, names in found.items():
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            parts.append(f"{shown}:\n{nest}")
        return "\n\n".join(parts)
