"""The second input contract: a :class:`Trace`, the work an accelerator runs, one row an op, in order.

GEMM convention: ``M x K . K x N``; stationary operand ``K x N`` (weights, or the KV cache), activations ``M x K``.
Masks are out x in, so ``in = K`` and ``out = N``. ``batch`` independent GEMMs of that shape make one op (heads).
A trace on disk is ``NAME.parquet`` (the table, with ``meta`` in the schema), ``NAME.profiles.npz`` (exact lane cycles
of every mask), and, if kept, ``NAME.counts.npz`` (row and column counts) and ``NAME.masks.npz`` (packed masks).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sim.errors import InputError
from sim.memo import FrameMemo
from sim.sparsity.profile import Counts, Profile, ProfileTable, profile, save_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Value = TypeVar("_Value")

FORMAT_VERSION = 1
GEMM, VECTOR = 0, 1
SOURCES = ("weights", "kv", "activations")

NUMBERS: dict[str, float] = {
    "layer": -1,
    "batch": 1,
    "m": 0,
    "n": 0,
    "k": 0,
    "weight_bits": 8,
    "activation_bits": 8,
    "output_bits": 8,
    "accumulator_bits": 32,
    "stored_elements": 0,  # elements of the stationary operand fetched from DRAM, one batch item (K*N for weights)
    "input_elements": 0,  # input elements fetched from DRAM per pass over the inputs, one batch item; 0 means M*K
    "nonzeros": 0,  # of the stationary operand, one batch item
    "group4_max": 4,  # most nonzeros in any aligned group of 4 / 8 / 16 / 32 inputs: which n:m the mask fits
    "group8_max": 8,
    "group16_max": 16,
    "group32_max": 32,
    "profile": -1,  # row in the trace's profile table
    "alu_ops": 0,  # vector unit
    "special_function_ops": 0,
    "read_bytes": 0,  # activations a vector op reads and writes
    "write_bytes": 0,
    "dram_read_bytes": 0,  # always from or to DRAM (embedding rows, KV append)
    "dram_write_bytes": 0,
    "live_in_bytes": 0,  # all activations alive while the op's input waits, and after its output exists
    "live_out_bytes": 0,
    "repeats": 1,
    "input_density": 1,  # share of inputs that are not zero at run time
    "input_union": 0,  # share of the positions of K that any of the M vectors uses; 0: not known, zeros independent
    "weight_scale_bytes": 0,  # scales and zero points of a quantised stationary operand, one batch item
}
"""Numeric columns of the op table and their defaults; bytes are of 8 bits."""

LATER = ("input_elements", "input_density", "input_union", "weight_scale_bytes")
"""Columns that the first files of this version lack; they take their defaults."""

TEXTS = ("name", "kind", "matrix_type", "weight_source", "sparsity_label")
_AFTER_KIND = (
    "input_density",
    "input_union",
    "weight_scale_bytes",
)  # columns that no kernel reads but :mod:`sim.sparse_ops` folds in
_ORDER = [*(name for name in NUMBERS if name not in _AFTER_KIND), "kind", *_AFTER_KIND]
_POSITION = {name: i for i, name in enumerate(_ORDER)}


@dataclass(frozen=True)
class Sparsity:
    """Zeros of one op's weights: a real mask (out x in), or a density to draw a Bernoulli mask from, or "n:m"."""

    mask: NDArray[np.bool_] | None = None
    density: float | None = None
    n_of_m: str | None = None
    seed: int = 0

    def draw(self, outputs: int, inputs: int) -> tuple[NDArray[np.bool_], str]:
        """The mask (out x in) and a label that says where it came from."""
        given = [v is not None for v in (self.mask, self.density, self.n_of_m)]
        if sum(given) != 1:
            raise InputError("sparsity: give exactly one of mask, density, n_of_m")
        rng = np.random.default_rng(self.seed)
        if self.mask is not None:
            mask = np.asarray(self.mask, dtype=bool)
            if mask.shape != (outputs, inputs):
                raise InputError(f"sparsity.mask must be out x in = {outputs} x {inputs}, got {mask.shape}")
            return mask, "mask"
        if self.density is not None:
            if not 0 <= self.density <= 1:
                raise InputError(f"sparsity.density must be between 0 and 1, got {self.density}")
            return rng.random(
                (outputs, inputs)
            ) < self.density, f"Bernoulli mask, density {self.density}, seed {self.seed}"
        n, _, m = str(self.n_of_m).partition(":")
        if not (n.isdecimal() and m.isdecimal() and 0 < int(n) < int(m)):
            raise InputError(f"sparsity.n_of_m must look like '2:4', got '{self.n_of_m}'")
        groups = -(-inputs // int(m))
        order = rng.random((outputs, groups, int(m))).argsort(axis=-1)
        mask = (order < int(n)).reshape(outputs, groups * int(m))[:, :inputs]
        return mask, f"random {n}:{m} mask, seed {self.seed}"


@dataclass(frozen=True)
class Op:
    """One GEMM (``kind="gemm"``) or vector op (``kind="vector"``); fields as in :data:`NUMBERS`."""

    name: str
    kind: str = "gemm"
    matrix_type: str = ""
    weight_source: str = "weights"
    sparsity: Sparsity | Profile | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The op as a table row, defaults filled in, dense weights assumed; checks ranges."""
        unknown = set(self.numbers) - set(NUMBERS)
        if unknown:
            raise InputError(f"op {self.name}: unknown field '{sorted(unknown)[0]}'")
        row: dict[str, Any] = {**NUMBERS, **self.numbers}
        if self.kind == "gemm":
            for dim in ("batch", "m", "n", "k"):
                if row[dim] < 1:
                    raise InputError(f"op {self.name}: {dim} must be >= 1, got {row[dim]:g}")
            row["nonzeros"] = self.numbers.get("nonzeros", row["n"] * row["k"])
            row["stored_elements"] = self.numbers.get("stored_elements", row["n"] * row["k"])
        elif self.kind != "vector":
            raise InputError(f"op {self.name}: kind must be gemm or vector, got '{self.kind}'")
        if self.weight_source not in SOURCES:
            raise InputError(
                f"op {self.name}: weight_source must be one of {', '.join(SOURCES)}, got '{self.weight_source}'"
            )
        return row | {
            "name": self.name,
            "kind": self.kind,
            "matrix_type": self.matrix_type,
            "weight_source": self.weight_source,
            "sparsity_label": "dense",
        }


@dataclass
class Trace:
    """Ops in order (``ops``), profiles of their masks, and ``meta`` (model, phase, method, seed, checksums,
    quality)."""

    ops: pd.DataFrame
    profiles: ProfileTable | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    counts: list[Counts] | None = None
    masks: list[NDArray[np.bool_]] | None = None
    _memo: FrameMemo = field(default_factory=FrameMemo, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def name(self) -> str:
        return str(self.meta.get("name", "trace"))

    @classmethod
    def from_ops(cls, ops: Sequence[Op], meta: dict[str, Any] | None = None, keep_masks: bool = True) -> Trace:
        """Build the table; masks are profiled here, once each."""
        rows, profiles, masks = [], [], []
        for op in ops:
            row = op.row()
            if op.sparsity is not None:
                if isinstance(op.sparsity, Profile):
                    found, label = op.sparsity, "mask"
                else:
                    mask, label = op.sparsity.draw(int(row["n"]), int(row["k"]))
                    found = profile(mask)
                    masks.append(mask)
                row |= sparse_columns(found) | {"profile": len(profiles), "sparsity_label": label}
                profiles.append(found)
            rows.append(row)
        table = pd.DataFrame(rows, columns=[*TEXTS, *NUMBERS])
        return cls(
            table,
            ProfileTable.from_profiles(profiles) if profiles else None,
            dict(meta or {}),
            [p.counts for p in profiles] if profiles else None,
            masks if keep_masks and len(masks) == len(profiles) and masks else None,
        )

    def numeric(self) -> NDArray[np.float64]:
        """[ops, len(NUMBERS) + 1] float64 for the kernels: :data:`NUMBERS` and the kind code, as :func:`position`."""
        return self.remembered("numeric", self._numeric).copy()

    def _numeric(self) -> NDArray[np.float64]:
        kind = (self.ops["kind"] == "vector").to_numpy()
        columns = [kind if name == "kind" else self.ops[name].to_numpy() for name in _ORDER]
        return np.column_stack([c.astype(np.float64) for c in columns])  # selecting columns as a frame costs more

    def remembered(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """``make()``, a function of this trace alone, computed once and again when the trace has changed."""
        return self._memo.get(self.ops, (self.profiles, self.masks, self.counts), key, make)

    def snapshot(self) -> Trace:
        """This trace as it is now, whatever happens to ``ops`` later; made once."""
        return self.remembered("snapshot", lambda: replace(self, ops=self.ops.copy()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memo": FrameMemo()}

    @property
    def macs(self) -> float:
        """Dense MACs of all GEMMs."""
        o = self.ops
        return float((o["batch"] * o["m"] * o["n"] * o["k"] * o["repeats"])[o["kind"] == "gemm"].sum())

    def save(self, path: str | Path) -> Path:
        """Write ``NAME.parquet`` and its npz files (temporary names first, the parquet renamed last)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = _parquet(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        stem = target.with_suffix("")
        for what in ("profiles", "counts", "masks"):
            _sibling(stem, what).unlink(missing_ok=True)
        if self.profiles is not None:
            self.profiles.save(_sibling(stem, "profiles"))
        if self.counts is not None:
            Counts.save_many(self.counts, _sibling(stem, "counts"))
        if self.masks is not None:
            packed = {f"bits{i}": np.packbits(m) for i, m in enumerate(self.masks)}
            shapes = np.array([m.shape for m in self.masks], dtype=np.int64)
            save_arrays(_sibling(stem, "masks"), shapes=shapes, **packed)
        table = pa.Table.from_pandas(self.ops, preserve_index=False)
        meta = json.dumps({"format_version": FORMAT_VERSION, **self.meta}, sort_keys=True)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"sparchitect": meta.encode()})
        temporary = target.with_suffix(".parquet.tmp")
        pq.write_table(table, temporary)
        os.replace(temporary, target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace; :class:`InputError` when missing, unreadable or of another version."""
        import pyarrow.parquet as pq

        target = _parquet(path)
        if not target.is_file():
            raise InputError(f"trace '{path}': no file {target}")
        try:
            table = pq.read_table(target)
            meta = json.loads((table.schema.metadata or {})[b"sparchitect"])
            ops = table.to_pandas()
            found = set(ops.columns)
            known = {*TEXTS, *NUMBERS}
            if meta.pop("format_version") != FORMAT_VERSION or not known - {*LATER} <= found <= known:
                raise InputError(f"trace '{path}': not a version {FORMAT_VERSION} trace")
            ops = ops.reindex(columns=[*TEXTS, *NUMBERS]).fillna({name: NUMBERS[name] for name in known - found})
            stem = target.with_suffix("")
            profiles = ProfileTable.load(_sibling(stem, "profiles")) if _sibling(stem, "profiles").is_file() else None
            counts = Counts.load_many(_sibling(stem, "counts")) if _sibling(stem, "counts").is_file() else None
            masks = _read_masks(_sibling(stem, "masks")) if _sibling(stem, "masks").is_file() else None
        except InputError:
            raise
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"trace '{path}': cannot be read ({str(error).splitlines()[0]})") from None
        wanted = int(ops["profile"].max()) + 1 if len(ops) else 0
        if wanted > (len(profiles) if profiles is not None else 0):
            raise InputError(f"trace '{path}': {_sibling(stem, 'profiles').name} is missing or has too few profiles")
        return cls(ops, profiles, meta, counts, masks)


def sparse_columns(found: Profile) -> dict[str, float]:
    """The op columns that a mask decides: nonzeros and which n:m patterns it fits."""
    groups = {f"group{g}_max": float(found.group_max[g]) for g in (4, 8, 16, 32)}
    return {"nonzeros": float(found.nonzeros), **groups}


def _parquet(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".parquet" else path.with_name(path.name + ".parquet")


def _sibling(stem: Path, what: str) -> Path:
    return stem.with_name(f"{stem.name}.{what}.npz")


def _read_masks(path: Path) -> list[NDArray[np.bool_]]:
    with np.load(path, allow_pickle=False) as data:
        shapes = data["shapes"]
        return [
            np.unpackbits(data[f"bits{i}"], count=int(r * c)).reshape(r, c).astype(bool)
            for i, (r, c) in enumerate(shapes)
        ]


def position(name: str) -> int:
    """Column of ``name`` in :meth:`Trace.numeric`."""
    return _POSITION[name]


def gemm(
    m: int,
    k: int,
    n: int,
    bits: int = 8,
    sparsity: Sparsity | float | str | NDArray[np.bool_] | None = None,
    batch: int = 1,
    weight_bits: int | None = None,
    group: int | None = None,
    scale_bits: int = 16,
    input_density: float = 1.0,
) -> Trace:
    """A one-op trace. ``sparsity``: a mask (out x in), a density, "n:m", or a :class:`Sparsity`; default dense.

    ``bits``: of activations and outputs, and of weights where ``weight_bits`` does not say otherwise; 1 to 16 (an array
    of fixed width takes no more than its own). ``group``: inputs of an output feature that share a scale (and zero
    point) of ``scale_bits``, stored with the weights: 4-bit weights in groups of 128 are 4.125 bits a weight.
    ``input_density``: share of inputs that are not zero at run time, which arrays may gate (``sparsity.gating``).

    Raises:
        InputError: a size, width or group out of range.
    """
    if isinstance(sparsity, str):
        sparsity = Sparsity(n_of_m=sparsity)
    elif isinstance(sparsity, int | float):
        sparsity = Sparsity(density=float(sparsity))
    elif isinstance(sparsity, np.ndarray):
        sparsity = Sparsity(mask=sparsity)
    weight_bits = bits if weight_bits is None else weight_bits
    for label, value in (("bits", bits), ("weight_bits", weight_bits)):
        if value not in range(1, 17) or isinstance(value, bool):
            raise InputError(f"{label} must be an integer between 1 and 16, got {value}")
    for label, value in (("m", m), ("k", k), ("n", n), ("batch", batch), ("group", group), ("scale_bits", scale_bits)):
        if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
            raise InputError(f"{label} must be an integer >= 1, got {value}")
    if not 0 <= input_density <= 1:
        raise InputError(f"input_density must be between 0 and 1, got {input_density}")
    numbers = {
        "m": m,
        "n": n,
        "k": k,
        "batch": batch,
        "weight_bits": weight_bits,
        "activation_bits": bits,
        "output_bits": bits,
        "live_in_bytes": batch * m * k * bits / 8,
        "live_out_bytes": batch * m * n * bits / 8,
        "input_density": input_density,
        "weight_scale_bytes": n * -(-k // group) * scale_bits / 8 if group else 0.0,
    }
    op = Op(f"gemm_{m}x{n}x{k}", sparsity=sparsity, numbers=numbers)
    return Trace.from_ops([op], {"name": op.name})
