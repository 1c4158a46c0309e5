"""safetensors: eight bytes of header length, a JSON header of names, dtypes, shapes and offsets, then raw tensors.

Read without the package of that name, whose NumPy side knows no bfloat16. What it refuses is refused here too (its
README, "Format"): offsets that overlap, leave holes or leave the file, duplicate names, headers beyond a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from sim.errors import InputError
from workloads.checkpoint.container import Container, Tensor, overlapping
from workloads.checkpoint.decode import FLOATS
from workloads.checkpoint.json_file import json_object, read_json

#: Of all shards together. Decoded JSON takes up to 30 times its text; headers of 100,000 tensors have 10 MB.
MAX_HEADER = 16 << 20
MAX_SHARDS = 10_000
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_SHARD = re.compile(r"[^/\\:\0]+\.safetensors")


class Safetensors(Container):
    """One file, or the shards that an ``*.index.json`` names (all in its own folder)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.name.endswith(".json"):
            self.files = (path,)
            self.tensors = read_header(path)
            return
        home = _weight_map(path)
        shards = sorted(set(home.values()))
        if len(shards) > MAX_SHARDS:
            raise InputError(f"{path}: names {len(shards)} shards, more than {MAX_SHARDS}")
        self.files = tuple(path.with_name(shard) for shard in shards)
        for file in self.files:
            if not file.is_file():
                raise InputError(f"{path}: shard {file.name} is missing")
        if (length := sum(map(header_length, self.files))) > MAX_HEADER:
            raise InputError(f"{path}: headers of {length} bytes in all shards; at most {MAX_HEADER} are read")
        headers = {shard: read_header(path.with_name(shard)) for shard in shards}
        self.tensors = {}
        for name, shard in home.items():
            if name not in headers[shard]:
                raise InputError(f"{path}: shard {shard} holds no tensor {name[:80]!r}")
            self.tensors[name] = headers[shard][name]

    def _stream(self, tensor: Tensor) -> IO[bytes]:
        return open(tensor.file, "rb")


def _weight_map(path: Path) -> dict[str, str]:
    home = read_json(path, MAX_HEADER).get("weight_map")
    if not isinstance(home, dict) or not home:
        raise InputError(f"{path}: no weight_map of tensor names to shards")
    for shard in home.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise InputError(f"{path}: shard {str(shard)[:80]!r} is no name of a safetensors file in the same folder")
    return home


def header_length(path: Path) -> int:
    """Bytes of the JSON header of one file; InputError when there cannot be so many, or more than are read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size = path.stat().st_size
    length = int.from_bytes(_begin(path, 0, 8), "little")
    if size < 8 or length > size - 8:
        raise InputError(f"{path}: truncated or damaged safetensors file (header of {length} bytes in {size})")
    if length > MAX_HEADER:
        raise InputError(f"{path}: a safetensors header of {length} bytes; at most {MAX_HEADER} are read")
    return length


def _begin(path: Path, start: int, count: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            return stream.read(count)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. Raises InputError for anything that is not one well-formed file."""
    length = header_length(path)
    size = path.stat().st_size
    text = _begin(path, 8, length)
    header = json_object(text, f"{path}: damaged safetensors header")
    header.pop("__metadata__", None)
    if not header:
        raise InputError(f"{path}: damaged safetensors header: no tensors")
    found = {name: _tensor(path, name, entry, 8 + length) for name, entry in header.items()}
    clash = overlapping((t.start, t.start + t.nbytes, name) for name, t in found.items())
    if clash is not None:
        raise InputError(f"{path}: damaged safetensors header: tensor {clash[:80]!r} overlaps another")
    stored = 8 + length + sum(t.nbytes for t in found.values())
    ends = max(t.start + t.nbytes for t in found.values())
    if ends > size:
        raise InputError(f"{path}: truncated safetensors file: {size} bytes of {ends}")
    if stored != size:
        raise InputError(f"{path}: damaged safetensors file: its tensors take {stored} of {size} bytes")
    return found


def _tensor(path: Path, name: str, entry: Any, data: int) -> Tensor:
    def bad(what: str) -> InputError:
        return InputError(f"{path}: damaged safetensors header: tensor {name[:80]!r}: {what}")

    if not isinstance(entry, Mapping):
        raise bad("no object of dtype, shape and data_offsets")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise bad(f"dtype {str(dtype)[:40]!r} is unknown")
    if not _naturals(shape) or len(shape) > 8:
        raise bad("shape must be at most 8 integers >= 0")
    if not _naturals(offsets) or len(offsets) != 2:
        raise bad("data_offsets must be two integers >= 0")
    tensor = Tensor(tuple(shape), dtype, str(path), data + offsets[0], FLOATS.get(dtype), _BYTES[dtype])
    if offsets[1] - offsets[0] != tensor.nbytes:
        raise bad(f"data_offsets span {offsets[1] - offsets[0]} bytes, its shape and dtype {tensor.nbytes}")
    return tensor


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
