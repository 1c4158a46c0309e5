"""GGUF: typed metadata and tensor places, then tensors, many of them in quantised blocks.

The header is parsed here and every count in it checked against the file before anything is made of it (the package
``gguf`` trusts them); that package knows the block formats and dequantises. Layout: github.com/ggml-org/ggml,
docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from sim.errors import InputError
from workloads.checkpoint.container import READ_ERRORS, Container, Tensor, overlapping, reason
from workloads.checkpoint.decode import FLOATS

#: A vocabulary of 262,144 tokens with scores and merges takes 12 MB; decoded it takes up to 7 times as much.
MAX_HEADER = 64 << 20
MAX_STRINGS = 1 << 21
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_INTEGERS = ("I8", "I16", "I32", "I64")
#: Bytes of the shortest metadata entry (one-letter key, one-byte value) and of the shortest tensor entry.
_LEAST_FIELD, _LEAST_TENSOR = 8 + 1 + 4 + 1, 8 + 1 + 4 + 8 + 4 + 8


class Gguf(Container):
    """One GGUF file; ``metadata`` holds its values as plain Python values and NumPy arrays."""

    def __init__(self, path: Path) -> None:
        try:
            from gguf import GGML_QUANT_SIZES
        except ImportError:
            raise InputError(
                "reading GGUF checkpoints needs the package gguf: pip install 'sparchitect[llm]'"
            ) from None
        self.path = path
        self.files = (path,)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        formats = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
        try:
            with open(path, "rb") as stream:
                self._read_header(_Header(stream), formats)
        except READ_ERRORS as error:
            raise InputError(f"{path}: truncated or damaged GGUF file ({reason(error)})") from None

    def _stream(self, tensor: Tensor) -> IO[bytes]:
        return open(self.path, "rb")

    def _read_header(self, header: _Header, formats: dict[int, tuple[str, int, int]]) -> None:
        magic, version = header.take(4), header.whole(4)
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"version {version}; 2 and 3 are read, little-endian")
        tensors, fields = header.count(_LEAST_TENSOR), header.count(_LEAST_FIELD)
        for _ in range(fields):
            key = header.name()
            if key in self.metadata:
                raise ValueError(f"metadata {key!r} comes twice")
            self.metadata[key] = header.value(header.whole(4))
        places = {}
        for _ in range(tensors):
            name = header.name()
            if name in places:
                raise ValueError(f"tensor {name!r} comes twice")
            places[name] = header.place()
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r}, no power of two up to 2^20")
        data = -(-header.at // alignment) * alignment
        for name, (shape, kind, offset) in places.items():
            if kind not in formats:
                raise ValueError(f"tensor {name!r} is of unknown type {kind}")
            self.tensors[name] = _tensor(str(self.path), shape, *formats[kind], data + offset)
            end = data + offset + self.tensors[name].nbytes
            if shape[-1] % self.tensors[name].block_elements or offset % alignment or end > header.size:
                raise ValueError(f"tensor {name!r} of {shape} does not fit: it ends at {end} of {header.size} bytes")
        clash = overlapping((t.start, t.start + t.nbytes, name) for name, t in self.tensors.items())
        if clash is not None:
            raise ValueError(f"tensor {clash!r} overlaps another")


class _Header:
    """Reads from the front of a file; never asks for more than is left of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.at, self.strings = stream, 0, 0
        self.size = stream.seek(0, 2)
        stream.seek(0)

    @property
    def left(self) -> int:
        return min(self.size, MAX_HEADER) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            what = "the file" if self.size <= MAX_HEADER else f"the {MAX_HEADER} bytes a header may have"
            raise EOFError(f"{count} bytes wanted at {self.at}, {self.left} left of {what}")
        self.at += count
        raw = self.stream.read(count)
        if len(raw) != count:
            raise EOFError("the file ends inside its header")
        return raw

    def whole(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def count(self, least: int) -> int:
        """A number of things to come, each of at least ``least`` bytes."""
        number = self.whole(8)
        if number * least > self.left:
            raise EOFError(f"{number} entries claimed in {self.left} bytes")
        return number

    def name(self) -> str:
        raw = self.take(self.count(1))
        if not 0 < len(raw) < 1 << 16:
            raise ValueError(f"a name of {len(raw)} bytes")
        return raw.decode("utf-8")

    def text(self) -> str:
        return self.take(self.count(1)).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array(self.whole(4))
        return self.numbers(kind, 1)[0].item()

    def array(self, kind: int) -> list[str] | np.ndarray:
        if kind == _STRING:
            count = self.count(8)
            self.strings += count
            if self.strings > MAX_STRINGS:
                raise ValueError(f"{self.strings} strings; at most {MAX_STRINGS} are read")
            return [self.text() for _ in range(count)]
        return self.numbers(kind, self.count(1))

    def numbers(self, kind: int, count: int) -> np.ndarray:
        if kind not in _NUMBERS:
            raise ValueError(f"metadata of unknown type {kind} (arrays of arrays are not read)")
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), np.uint8 if kind == 7 else dtype).astype(dtype)

    def place(self) -> tuple[tuple[int, ...], int, int]:
        """(shape with the fastest dimension last, type, offset) of a tensor."""
        rank = self.whole(4)
        if not 1 <= rank <= 4:
            raise ValueError(f"a tensor of {rank} dimensions")
        shape = struct.unpack(f"<{rank}Q", self.take(8 * rank))[::-1]
        if not 0 < math.prod(shape) < 1 << 63:
            raise ValueError(f"a tensor of {shape}")
        return shape, self.whole(4), self.whole(8)


def _tensor(file: str, shape: tuple[int, ...], name: str, elements: int, size: int, start: int) -> Tensor:
    decode: Callable[[bytes], np.ndarray] | None = FLOATS.get(name)
    if decode is None and name not in _INTEGERS:
        decode = partial(_dequantise, name)
    return Tensor(shape, name, file, start, decode, size, elements)


def _dequantise(name: str, raw: bytes) -> np.ndarray:
    from gguf import GGMLQuantizationType, dequantize

    return dequantize(np.frombuffer(raw, np.uint8), GGMLQuantizationType[name])
