"""What a machine makes of zeros: the ``sparsity`` section of a machine file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sim.sparsity.formats import Format, format_of
from sim.sparsity.formats.n_of_m import LARGEST_GROUP


class Part(BaseModel):
    """A section of a machine file: no unknown fields, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sparsity(Part):
    """How weight zeros are stored and what they buy.

    ``format``: how weights lie in memory (:mod:`sim.sparsity.formats`; a matrix that it would only enlarge is
    stored dense, and so is one that does not fit n:m). Its options: ``block`` ("4x4", "1x8") of ``block`` and
    ``ranks``; ``ranks`` ("UOP-CP"); ``index_bits`` of indices and pointers; ``word_bits`` that run-length pairs do
    not cross; ``code_bits``, the mean of a Huffman-coded value. ``decoders``: units in front of an array that
    decode it (as many as keep up if not given; fewer are smaller and stall). ``n_of_m``: structured support of a
    systolic array, e.g. "2:4". Lanes: ``orientation`` (who owns a lane: output or input features),
    ``barrier_depth`` (positions between barriers, or "full"), ``fifo_depth`` (tiles a lane may run ahead, 0 =
    barrier), ``assignment`` of features to lanes (:mod:`sim.sparsity.lane_order`), ``stealing`` (lanes of a group
    share the work between two barriers: :mod:`sim.sparsity.stealing`), ``empty_tile_cycles`` (cycles an all-zero
    tile costs). ``gating``: operands whose zero keeps a PE still for the MAC's cycles; saves energy, not time.
    ``block_skipping``: a systolic array passes over what it would do for an all-zero block of weights: a fold
    (weight stationary), or one step of the stream (the weights that enter all columns, or all rows, together).
    ``position_skipping``: the array takes only positions of K at which some input is not zero, of those that it
    works on together (a tier-1 tile's M, or the vectors that enter the array at a time).
    """

    format: str = "dense"
    n_of_m: str | None = None
    block: str | None = None
    ranks: str | None = None
    index_bits: int | None = Field(default=None, ge=1, le=64)
    word_bits: int | None = Field(default=None, ge=1, le=1024)
    code_bits: float | None = Field(default=None, ge=1, le=32)
    decoders: int | None = Field(default=None, ge=1, le=65536)
    orientation: Literal["output", "input"] = "output"
    barrier_depth: int | Literal["full"] = 64
    fifo_depth: int = Field(default=0, ge=0, le=1024)
    assignment: Literal["contiguous", "interleaved", "sorted", "balanced"] = "contiguous"
    stealing: Literal["none", "group"] = "none"
    empty_tile_cycles: Literal[0, 1] = 1
    block_skipping: bool = False
    position_skipping: bool = False
    gating: Literal["none", "weights", "inputs", "both"] = "none"

    @field_validator("n_of_m")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        n, _, m = str(value).partition(":")
        if not (n.isdecimal() and m.isdecimal() and 1 <= int(n) < int(m) <= LARGEST_GROUP):
            raise ValueError(f"n_of_m must look like '2:4' with 1 <= n < m <= {LARGEST_GROUP}")
        return f"{int(n)}:{int(m)}"

    @field_validator("block")
    @classmethod
    def _rectangle(cls, value: str | None) -> str | None:
        if value is None:
            return None
        rows, _, columns = str(value).partition("x")
        if not (rows.isdecimal() and columns.isdecimal() and int(rows) > 0 and int(columns) > 0):
            raise ValueError("block must look like '4x4' or '1x8' (outputs x inputs), both at least 1")
        return f"{int(rows)}x{int(columns)}"

    @field_validator("barrier_depth")
    @classmethod
    def _depth(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 1 << 20:
            raise ValueError("barrier_depth must be between 1 and 1048576, or 'full'")
        return value

    @model_validator(mode="after")
    def _free_drain(self) -> Sparsity:
        if self.empty_tile_cycles == 0 and self.fifo_depth:
            raise ValueError("empty_tile_cycles 0 needs fifo_depth 0 (a FIFO pops one tile a cycle)")
        if self.stealing != "none" and self.fifo_depth:
            raise ValueError("stealing 'group' needs fifo_depth 0 (lanes share what lies between two barriers)")
        return self

    @model_validator(mode="after")
    def _blocks(self) -> Sparsity:
        if self.block_skipping and self.n_of_m:
            raise ValueError("block_skipping and n_of_m do not go together: n:m weights leave no block empty")
        return self

    @model_validator(mode="after")
    def _storable(self) -> Sparsity:
        if (self.format == "n_of_m") != (self.n_of_m is not None):
            raise ValueError("format n_of_m and n_of_m ('2:4') go together")
        _ = self.storage
        return self

    @property
    def storage(self) -> Format:
        """The format of the weights with its options; :class:`InputError` if it has none by that name."""
        given: dict[str, Any] = {f: getattr(self, f) for f in ("ranks", "index_bits", "word_bits", "code_bits")}
        if self.block is not None:
            given["block"] = tuple(int(side) for side in self.block.split("x"))
        given |= dict(zip("nm", self.nm, strict=True)) if self.n_of_m else {}
        return format_of(self.format, **{name: value for name, value in given.items() if value is not None})

    @property
    def nm(self) -> tuple[int, int]:
        """(n, m) of the structured pattern, (0, 0) without one."""
        return tuple(int(x) for x in self.n_of_m.split(":")) if self.n_of_m else (0, 0)  # type: ignore[return-value]
