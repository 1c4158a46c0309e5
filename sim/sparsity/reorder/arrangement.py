"""Masks under permutation: axes that several matrix sides share, and the order found for each so far.

An *axis* is one feature dimension of the network. Its *units* are what moves: single features, or features that must
move together (a rotary pair; one channel of every query head that reads the same KV head). Units stay inside their
*block* (a head). A side of a matrix belongs to an axis by a *layout*: positions [blocks, units, elements] of the side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

OUTPUT, INPUT = 0, 1
SIDES = ("output", "input")
"""Side of a mask (out x in): its rows are output features, its columns input features."""


@dataclass(frozen=True)
class Member:
    """One side of one mask on an axis; ``layout`` int64 [blocks, units, elements] holds every position once."""

    mask: int
    side: int
    layout: NDArray[np.int64]

    def permutation(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Old position of every new one, when slot s of block b takes unit ``order[b, s]``."""
        found = np.empty(self.layout.size, dtype=np.int64)
        moved = np.take_along_axis(self.layout, order[:, :, None], axis=1)
        found[self.layout.ravel()] = moved.ravel()
        return found


@dataclass(frozen=True)
class Axis:
    """A dimension and its sides. ``absorbed``: every reader and writer is among them, so that an order is free."""

    name: str
    members: tuple[Member, ...]
    absorbed: bool

    @property
    def blocks(self) -> int:
        return int(self.members[0].layout.shape[0])

    @property
    def units(self) -> int:
        """In each block."""
        return int(self.members[0].layout.shape[1])

    @property
    def identity(self) -> NDArray[np.int64]:
        return np.tile(np.arange(self.units), (self.blocks, 1))


@dataclass
class Arrangement:
    """Masks as they lie now, and how every axis was permuted to get there: ``orders[axis]`` [blocks, units].

    ``weights``: how often each mask is walked, relative to the others.
    """

    masks: list[NDArray[np.bool_]]
    axes: list[Axis]
    weights: list[float]
    orders: list[NDArray[np.int64]] = field(init=False)

    def __post_init__(self) -> None:
        self.orders = [axis.identity for axis in self.axes]

    def moved(self, axis: int, order: NDArray[np.int64]) -> dict[int, NDArray[np.bool_]]:
        """The masks that change when ``axis`` takes ``order`` on top of its present one."""
        found: dict[int, NDArray[np.bool_]] = {}
        for member in self.axes[axis].members:
            before = found.get(member.mask, self.masks[member.mask])
            found[member.mask] = np.take(before, member.permutation(order), axis=member.side)
        return found

    def take(self, axis: int, order: NDArray[np.int64]) -> None:
        """Permute ``axis`` by ``order`` on top of its present one."""
        for mask, now in self.moved(axis, order).items():
            self.masks[mask] = now
        self.orders[axis] = np.take_along_axis(self.orders[axis], order, axis=1)

    def snapshot(self) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.int64]]]:
        """What :meth:`restore` brings back."""
        return list(self.masks), list(self.orders)

    def restore(self, before: tuple[list[NDArray[np.bool_]], list[NDArray[np.int64]]]) -> None:
        self.masks, self.orders = list(before[0]), list(before[1])

    def permutation(self, mask: int, side: int) -> NDArray[np.int64]:
        """Old position of every new one on a side of a mask, all axes together."""
        found = np.arange(self.masks[mask].shape[side])
        for axis, order in zip(self.axes, self.orders, strict=True):
            for member in axis.members:
                if (member.mask, member.side) == (mask, side):
                    found = found[member.permutation(order)]
        return found


def alone(masks: list[NDArray[np.bool_]], sides: tuple[int, ...] = (OUTPUT, INPUT)) -> Arrangement:
    """Masks that share no axis: every side takes an order of its own, and none is absorbed."""
    axes = [
        Axis(f"{i}.{SIDES[side]}", (Member(i, side, whole_layout(mask.shape[side])),), absorbed=False)
        for i, mask in enumerate(masks)
        for side in sides
    ]
    return Arrangement(list(masks), axes, [1.0] * len(masks))


def whole_layout(size: int) -> NDArray[np.int64]:
    """Every feature by itself, anywhere."""
    return np.arange(size).reshape(1, size, 1)
