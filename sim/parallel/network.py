"""Several equal chips and what connects them.

Topologies, with ``B = links_per_chip * link_gb_per_s`` what one chip can send at once (and receive at once)::

    ring         two neighbours, half the links to each; both directions carry data at once
    mesh         mesh_rows x mesh_cols without wrap-around; an inner chip's ports share its links equally
    all_to_all   every pair has a connection of its own, 1/(count - 1) of the links
    switch       every chip hangs on one non-blocking switch with all its links

A *channel* is one direction between neighbours (for a switch: a chip's way into it). A message waits
``link_latency_ns`` a hop (start-up, protocol, switch) and then streams through (cut-through).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sim.errors import InputError, nearest

Topology = Literal["ring", "mesh", "all_to_all", "switch"]
TOPOLOGIES: tuple[str, ...] = get_args(Topology)


class Chips(BaseModel):
    """``count`` equal chips; :class:`InputError` names the field, what is allowed and what was given.

    ``link_gb_per_s``: one direction of one link, as achieved (1 GB/s = 10^9 byte/s); ``energy_pj_per_bit``: of one bit
    that crosses one link, both ends together (a switch: into it and out again); ``mesh_rows`` and
    ``mesh_cols``: of a mesh, and only there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(gt=0, le=65536)
    topology: Topology
    link_gb_per_s: float = Field(gt=0, le=1e6)
    link_latency_ns: float = Field(ge=0, le=1e9)
    links_per_chip: int = Field(gt=0, le=1024)
    energy_pj_per_bit: float = Field(ge=0, le=1e4)
    mesh_rows: int | None = Field(default=None, gt=0)
    mesh_cols: int | None = Field(default=None, gt=0)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InputError(_describe(error)) from None

    @model_validator(mode="after")
    def _shape(self) -> Chips:
        given = (self.mesh_rows, self.mesh_cols)
        if self.topology != "mesh" and given != (None, None):
            raise ValueError(f"mesh_rows and mesh_cols are for topology mesh, got {self.topology}")
        if self.topology == "mesh" and (None in given or self.mesh_rows * self.mesh_cols != self.count):
            raise ValueError(f"mesh_rows x mesh_cols must be count {self.count}, got {given[0]} x {given[1]}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the mesh; one row of chips for the others."""
        return self.mesh_rows or 1, self.mesh_cols or self.count

    @property
    def ports(self) -> int:
        """Channels out of a chip (of an inner chip of a mesh); 0 when there is nobody to talk to."""
        if self.count == 1:
            return 0
        if self.topology == "mesh":
            return sum(min(2, size - 1) for size in self.shape)
        return {"ring": min(2, self.count - 1), "all_to_all": self.count - 1, "switch": 1}[self.topology]

    @property
    def injection_gb_per_s(self) -> float:
        """What one chip can send at once over all its links."""
        return self.links_per_chip * self.link_gb_per_s

    @property
    def channel_gb_per_s(self) -> float:
        """Bandwidth of one channel."""
        return self.injection_gb_per_s / max(self.ports, 1)

    def group(self, size: int) -> Chips:
        """``size`` neighbouring chips by themselves, over the same channels.

        Part of a ring is a line; part of a mesh is a part of one row, or whole rows. :class:`InputError` when groups of
        that size do not tile the chips.
        """
        if size < 1 or self.count % size:
            raise InputError(f"a group must divide the {self.count} chips, got {size}")
        if size == self.count:
            return self
        if self.topology in ("all_to_all", "switch"):
            return self._over_same_channels(size, self.topology)
        cols = self.shape[1]
        if self.topology == "mesh" and cols % size and size % cols:
            raise InputError(f"a group of {size} chips is neither part of a mesh row of {cols} nor whole rows")
        height = max(1, size // cols) if self.topology == "mesh" else 1
        return self._over_same_channels(size, "mesh", height, size // height)

    def line(self, size: int) -> Chips:
        """``size`` chips in a row over the same channels: one dimension of a mesh."""
        return self._over_same_channels(size, "mesh", 1, size)

    def _over_same_channels(self, count: int, topology: str, rows: int | None = None, cols: int | None = None) -> Chips:
        shape = {"count": count, "topology": topology, "mesh_rows": rows, "mesh_cols": cols}
        found = self.model_copy(update=shape)
        link = self.channel_gb_per_s * max(found.ports, 1) / self.links_per_chip
        return found.model_copy(update={"link_gb_per_s": link})

    def __str__(self) -> str:
        where = f"mesh {self.shape[0]} x {self.shape[1]}" if self.topology == "mesh" else self.topology
        return f"{self.count} chips, {where}, {self.injection_gb_per_s:g} GB/s out of each"


def _describe(error: ValidationError) -> str:
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    name = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"chips: unknown field '{name}', {nearest(name, Chips.model_fields)}"
    if first["type"] == "missing":
        return f"chips: field '{name}' is missing"
    if first["type"] == "value_error":
        return f"chips: {first['ctx']['error']}"
    hint = f", {nearest(first['input'], TOPOLOGIES)}" if name == "topology" else ""
    return f"chips: {name} {first['msg'].replace('Input should be', 'must be')}, got {first['input']!r}{hint}"
