"""Trace files from anyone, read without trust: what cannot be a trace is one :class:`InputError`, never a traceback."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError, nearest
from sim.trace import FORMAT_VERSION, LATER, NUMBERS, TEXTS, Trace

PARTS = ("profiles", "counts", "masks")
_LARGEST_BYTES = 4 * 2**30  # of one array: the packed masks of 34 billion weights
_MOST_OPS = 10_000_000
_UNREADABLE = (
    OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError, MemoryError,
    NotImplementedError, RecursionError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What pyarrow, zipfile and NumPy raise on bytes that are not what they say."""


def read(path: str | Path) -> Trace:
    """The trace in a file, checked to be one: a table with the columns of this version, arrays of their own size.

    Rules on values are :func:`sim.trace_tools.validate.violations`'s.

    Raises:
        InputError: no such file, not readable, another version, columns missing or unknown.
    """
    table = Path(path)
    table = table if table.suffix == ".parquet" else table.with_name(table.name + ".parquet")
    if not table.is_file():
        raise InputError(f"trace '{path}': no file {table}")
    for what in PARTS:
        part = table.with_name(f"{table.stem}.{what}.npz")
        if part.is_file():
            _guarded(path, part, _check_arrays)
    _guarded(path, table, _check_table)
    return _guarded(path, table, Trace.load)


def _guarded(path: str | Path, file: Path, work: Any) -> Any:
    import pyarrow as pa

    try:
        return work(file)
    except InputError:
        raise
    except (*_UNREADABLE, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()
        raise InputError(f"trace '{path}': {file.name} cannot be read ({reason[0] if reason else 'damaged'})") from None


def _check_table(file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_metadata(file).num_rows
    if rows > _MOST_OPS:
        raise InputError(f"trace '{file}': at most {_MOST_OPS:,} ops, got {rows:,}")
    schema = pq.read_schema(file)
    stored = (schema.metadata or {}).get(b"sparchitect")
    if stored is None:
        raise InputError(f"trace '{file}': a Parquet table, but not a trace (no 'sparchitect' in its schema)")
    meta = json.loads(stored)
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if isinstance(version, bool) or version != FORMAT_VERSION:
        raise InputError(f"trace '{file}': format_version must be {FORMAT_VERSION}, got {version!r}")
    known = (*TEXTS, *NUMBERS)
    for name in schema.names:
        if name not in known:
            raise InputError(f"trace '{file}': column '{name}' is unknown, {nearest(name, known)}")
        if schema.names.count(name) > 1:
            raise InputError(f"trace '{file}': column '{name}' is there twice")
    for name in known:
        if name not in schema.names and name not in LATER:
            raise InputError(f"trace '{file}': column '{name}' is missing")
    for name in schema.names:
        kind = schema.field(name).type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (text if name in TEXTS else number or pa.types.is_null(kind)):
            raise InputError(
                f"trace '{file}': column '{name}' must hold {'text' if name in TEXTS else 'numbers'}, got {kind}"
            )
    pq.read_table(file, columns=list(TEXTS)).validate(full=True)  # text is UTF-8


def _check_arrays(file: Path) -> None:
    """Every array is as large as its header says, and no larger than a trace may need."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as stream:
                if np.lib.format.read_magic(stream) != (1, 0):
                    raise ValueError(f"{entry.filename} is not an array of version 1.0")
                shape, _, kind = np.lib.format.read_array_header_1_0(stream)
                if kind.kind not in "iu":
                    raise ValueError(f"{entry.filename} must hold whole numbers, got {kind}")
                size = int(np.prod([int(s) for s in shape], dtype=object)) * kind.itemsize
                if any(s < 0 for s in shape) or stream.tell() + size != entry.file_size or size > _LARGEST_BYTES:
                    raise ValueError(f"{entry.filename} says {size} bytes, holds {entry.file_size - stream.tell()}")
